import type { Client } from './client.ts'
import { CliError } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { printTable } from './print-table.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

interface SecretKey {
  readonly key_id: string
  readonly standing: 'current' | 'older' | 'missing'
  readonly sealed: Readonly<Record<string, number>>
}

interface Secrets {
  readonly source: 'file' | 'settings'
  readonly keys: readonly SecretKey[]
  readonly rotation: {
    readonly state: 'running' | 'finished' | 'failed'
    readonly resealed: number
    readonly unreadable: number
    readonly keys_removed: number
  } | null
}

const SEALED = {
  enrollment_keys: 'ENROLLMENT KEYS',
  answers: 'ANSWERS',
  second_factors: 'SECOND FACTORS',
  sign_ins: 'SIGN-INS',
} as const

/** The server is asked so often how far it is. */
const LOOK_MS = 500
/** In a row, without anything having changed. */
const MAX_LOOKS = 240

const status = (client: Client) => client.get<Secrets>('/api/secrets')
const countOf = (key: SecretKey) => Object.values(key.sealed).reduce((sum, count) => sum + count, 0)
const countOfAll = (keys: readonly SecretKey[]) => keys.reduce((sum, key) => sum + countOf(key), 0)
const withStanding = (secrets: Secrets, standing: SecretKey['standing']) =>
  secrets.keys.filter((key) => key.standing === standing)

function printSecrets(terminal: Terminal, secrets: Secrets): void {
  const { out } = terminal
  printTable(terminal, secrets.keys, 'There is no key.', [
    { title: 'KEY', cell: (key) => printable(key.key_id) },
    {
      title: 'STANDING',
      cell: (key) =>
        out.style(
          key.standing === 'current' ? 'green' : key.standing === 'missing' ? 'red' : 'dim',
          printable(key.standing),
        ),
    },
    ...Object.entries(SEALED).map(([kind, title]) => ({
      title,
      cell: (key: SecretKey) => String(key.sealed[kind] ?? 0),
      align: 'right' as const,
    })),
  ])
  const lost = countOfAll(withStanding(secrets, 'missing'))
  if (lost > 0)
    terminal.err.write(
      `Sealed with a key that this server does not have: ${lost}. Give the key back as BEACON_SECRET_KEY_PREVIOUS; ` +
        'without it, make those keys and second factors anew.\n',
    )
}

export async function showSecrets(terminal: Terminal, options: OperatorOptions): Promise<void> {
  const secrets = await status(connect(options, terminal))
  if (options.json) return printJson(terminal, secrets)
  printSecrets(terminal, secrets)
  const { source, rotation } = secrets
  printLines(terminal, [
    '',
    `The key is ${source === 'file' ? 'in secret.key in the data folder' : 'given by BEACON_SECRET_KEY'}.`,
  ])
  if (rotation?.state === 'running')
    printLines(terminal, [`A rotation is under way. Sealed anew so far: ${rotation.resealed}.`])
}

interface RotateOptions extends OperatorOptions {
  readonly keepOld?: boolean
  readonly dryRun?: boolean
  readonly wait: boolean
  readonly yes?: boolean
}

export async function rotateSecrets(terminal: Terminal, options: RotateOptions): Promise<void> {
  const client = connect(options, terminal)
  if (options.dryRun) {
    const secrets = await status(client)
    if (options.json) printJson(terminal, secrets)
    else plan(terminal, options, secrets)
    return
  }
  const fate = options.keepOld ? 'The old key stays.' : 'The old key will be gone, and backups need it.'
  await confirm(terminal, options.yes, `Take a new secret key? ${fate}`)
  const taken = await client.post<Secrets>('/api/secrets/rotate', { keep_old: options.keepOld ?? false })
  const secrets = options.wait ? await untilSealed(terminal, client, options, taken) : taken
  if (options.json) printJson(terminal, secrets)
  else report(terminal, options, secrets)
}

function plan(terminal: Terminal, options: RotateOptions, secrets: Secrets): void {
  const known = secrets.keys.filter(({ standing }) => standing !== 'missing')
  const older = withStanding(secrets, 'older')
  const count = secrets.source === 'file' ? countOfAll(known) : countOfAll(older)
  const gone = options.keepOld ? 'no key would be taken away' : 'the keys before it would be taken away'
  printSecrets(terminal, secrets)
  printLines(terminal, [
    '',
    secrets.source === 'file'
      ? `A new key would be taken, and ${gone}. To be sealed anew: ${count}. Nothing was changed.`
      : `To be sealed anew with BEACON_SECRET_KEY: ${count}. Nothing was changed.`,
  ])
}

/** Waits until nothing is sealed with an older key and none is left that should go, whichever server does the work. */
async function untilSealed(
  terminal: Terminal,
  client: Client,
  options: RotateOptions,
  taken: Secrets,
): Promise<Secrets> {
  const { clock, err } = terminal
  const stays = options.keepOld || taken.source === 'settings'
  let left: number | undefined
  for (let looks = 0; looks < MAX_LOOKS; looks++) {
    const secrets = await status(client)
    const older = withStanding(secrets, 'older')
    const before = left
    left = countOfAll(older)
    const { rotation } = secrets
    if (rotation?.state === 'failed')
      throw new CliError('the server could not seal everything anew: its log tells why; run this again')
    if (rotation?.state !== 'running') {
      if (left === 0 && (stays || older.length === 0)) return secrets
      if (left > 0 && rotation?.unreadable === left) return secrets
    }
    if (left !== before) {
      looks = 0
      if (!options.json) err.write(`still sealed with an older key: ${left}\n`)
    }
    await clock.sleep(LOOK_MS)
  }
  throw new CliError(`still sealed with an older key: ${left}; run this again`)
}

function report(terminal: Terminal, options: RotateOptions, secrets: Secrets): void {
  const [current] = secrets.keys
  if (!options.wait) {
    printLines(terminal, [
      `The new key ${printable(current!.key_id)} is in use. "beacon secrets status" tells when the rest is done.`,
    ])
    return
  }
  const older = withStanding(secrets, 'older')
  const unreadable = countOfAll(older)
  printLines(terminal, [
    `The key ${printable(current!.key_id)} is in use. Sealed with it: ${countOf(current!)}.`,
    ...(older.length === 0 ? ['No older key is left.'] : []),
    ...(older.length > 0 && unreadable === 0
      ? [
          secrets.source === 'settings'
            ? 'Nothing is sealed with an older key: take BEACON_SECRET_KEY_PREVIOUS out of the settings.'
            : 'The older key stays, as asked; nothing is sealed with it.',
        ]
      : []),
    ...(unreadable > 0
      ? [`Do not open although their key is here: ${unreadable}. They were changed or copied.`]
      : []),
  ])
}
