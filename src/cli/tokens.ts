import type { Client } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { printTable } from './print-table.ts'
import type { Terminal } from './terminal.ts'
import { age, countOf, duration, printable, remaining, when } from './text.ts'
import { expiryOf, overlapOf } from './token-times.ts'

/** What the commands read of a token. */
interface Token {
  readonly id: string
  readonly kind: 'personal' | 'fleet'
  readonly name: string
  readonly prefix: string
  readonly last_four: string
  readonly scopes: readonly string[] | null
  readonly user_name: string | null
  readonly status: string
  readonly expires_at: string | null
  readonly last_used_at: string | null
  readonly last_used_ip: string | null
  readonly replaced_by: string | null
}

interface NewToken extends Token {
  /** Null in a repeated answer. */
  readonly token: string | null
}

interface RotatedToken extends NewToken {
  readonly old: { readonly id: string; readonly expires_at: string }
}

interface WhoseOptions extends OperatorOptions {
  readonly fleet?: string
  readonly site?: string
}

/** Where the tokens of a fleet are, or those of people. */
async function pathOf(client: Client, { fleet, site }: WhoseOptions): Promise<string> {
  if (fleet === undefined) {
    if (site !== undefined) throw new CliError('--site names the site of --fleet', EXIT.usage)
    return '/api/tokens'
  }
  const within = site === undefined ? undefined : await findSite(client, site)
  return `/api/fleets/${(await findFleet(client, fleet, within)).id}/tokens`
}

function without<Value extends object>(given: Value): Partial<Value> {
  return Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  ) as Partial<Value>
}

/** Says the value of a token to the person who has to write it down: the one time that it can be read. */
function printNew(terminal: Terminal, token: NewToken, lines: readonly string[]): void {
  if (token.token === null)
    throw new CliError(
      `the token was made, but its value was lost; make another, and: beacon tokens revoke ${token.id}`,
    )
  const until = token.expires_at
    ? `until ${when(token.expires_at)} (${remaining(Date.parse(token.expires_at) - terminal.clock.now())})`
    : 'for ever'
  printLines(terminal, [
    `Token "${printable(token.name)}" works ${until}, and is shown only now:`,
    '',
    `  ${terminal.out.style('bold', printable(token.token))}`,
    '',
    `It may: ${printable((token.scopes ?? ['all that its owner may']).join(', '))}`,
    ...lines,
  ])
}

interface CreateOptions extends WhoseOptions {
  readonly name: string
  readonly scope?: readonly string[]
  readonly expiresIn?: string
  readonly allowFrom?: readonly string[]
}

export async function createToken(terminal: Terminal, options: CreateOptions): Promise<void> {
  const body = {
    ...without({ name: options.name, scopes: options.scope, allowed_cidrs: options.allowFrom }),
    ...(options.expiresIn === undefined ? {} : expiryOf(options.expiresIn)),
  }
  const client = connect(options, terminal)
  const token = await client.post<NewToken>(await pathOf(client, options), body)
  if (options.json) return printJson(terminal, token)
  const fleet = token.kind === 'fleet' ? ' --fleet <fleet>' : ''
  printNew(terminal, token, [`Revoke it with: beacon tokens revoke ${token.id}${fleet}`])
}

interface ListOptions extends WhoseOptions {
  readonly user?: string
  readonly everybody?: boolean
  readonly status?: string
  readonly sort?: string
  readonly limit?: string
  readonly all?: boolean
}

const DEFAULT_LIMIT = 100

export async function listTokens(terminal: Terminal, options: ListOptions): Promise<void> {
  if (options.fleet !== undefined && (options.user !== undefined || options.everybody))
    throw new CliError('tokens of a fleet belong to nobody: --fleet stands alone', EXIT.usage)
  const limit = options.all ? undefined : countOf(options.limit ?? String(DEFAULT_LIMIT), '--limit')
  const client = connect(options, terminal)
  const query = without({
    user: options.user,
    all: options.everybody ? 'true' : undefined,
    status: options.status,
    sort: options.sort,
  })
  const tokens = await client.list<Token>(await pathOf(client, options), query, limit)
  if (options.json) return printJson(terminal, tokens)
  const { out } = terminal
  const now = terminal.clock.now()
  const expiry = ({ expires_at: at }: Token) => {
    if (at === null) return 'never'
    const left = Date.parse(at) - now
    return left > 0 ? `in ${remaining(left)}` : `${duration(-left)} ago`
  }
  printTable(
    terminal,
    tokens.items,
    'There are no tokens. Make one with: beacon tokens create --name <name>',
    [
      { title: 'NAME', cell: (token) => printable(token.name), minWidth: 8 },
      {
        title: 'STATUS',
        cell: (token) => out.style(token.status === 'active' ? 'green' : 'dim', printable(token.status)),
      },
      {
        title: 'OWNER',
        cell: (token) => (token.user_name === null ? '-' : printable(token.user_name)),
        minWidth: 6,
        dropOrder: 4,
        hiddenWhenEmpty: true,
      },
      { title: 'TOKEN', cell: (token) => printable(`${token.prefix}…${token.last_four}`), dropOrder: 5 },
      {
        title: 'SCOPES',
        cell: (token) => printable((token.scopes ?? ['all']).join(' ')),
        minWidth: 10,
        dropOrder: 2,
      },
      { title: 'EXPIRES', cell: expiry, align: 'right', dropOrder: 1 },
      { title: 'LAST USED', cell: (token) => age(token.last_used_at, now), align: 'right', dropOrder: 3 },
      { title: 'FROM', cell: (token) => printable(token.last_used_ip ?? '-'), dropOrder: 6 },
      { title: 'ID', cell: (token) => token.id },
    ],
  )
  if (tokens.next_cursor)
    terminal.err.write(`There are more than ${tokens.items.length}: --all shows them.\n`)
}

interface RevokeOptions extends WhoseOptions {
  readonly yes?: boolean
}

export async function revokeToken(terminal: Terminal, id: string, options: RevokeOptions): Promise<void> {
  const client = connect(options, terminal)
  const path = await pathOf(client, options)
  await confirm(
    terminal,
    options.yes,
    id === 'self' ? 'Revoke the token that you use now?' : `Revoke the token ${printable(id)}?`,
  )
  const token = await client.post<Token>(`${path}/${encodeURIComponent(id)}/revoke`)
  if (options.json) return printJson(terminal, token)
  printLines(terminal, [`token "${printable(token.name)}" is revoked`])
  // Whoever had it may have rotated it: after a leak the other has to go, too.
  if (token.replaced_by)
    terminal.err.write(`It was rotated before: ${printable(token.replaced_by)} took its place, and stays.\n`)
}

interface RotateOptions extends WhoseOptions {
  readonly overlap?: string
  readonly expiresIn?: string
}

export async function rotateToken(terminal: Terminal, id: string, options: RotateOptions): Promise<void> {
  const body = {
    ...(options.overlap === undefined ? {} : overlapOf(options.overlap)),
    ...(options.expiresIn === undefined ? {} : expiryOf(options.expiresIn)),
  }
  const client = connect(options, terminal)
  const path = await pathOf(client, options)
  const token = await client.post<RotatedToken>(`${path}/${encodeURIComponent(id)}/rotate`, body)
  if (options.json) return printJson(terminal, token)
  const left = Date.parse(token.old.expires_at) - terminal.clock.now()
  printNew(terminal, token, [
    left > 0
      ? `The old one works until ${when(token.old.expires_at)} (${remaining(left)}).`
      : 'The old one works no longer.',
  ])
}
