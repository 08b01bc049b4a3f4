import {
  type ListOptions,
  limitOf,
  type PolicyOptions,
  policiesOf,
  printCredentials,
  said,
} from './credentials.ts'
import { CliError } from './failure.ts'
import { connect, printJson, printLines } from './operator.ts'
import { ensurePlaces, findFleet, findSite } from './places.ts'
import type { Key } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { countOf, hoursOf, printable, remaining, when } from './text.ts'

export const KEYS = { path: '/api/enrollment-keys', noun: 'key' }

interface CreateOptions extends PolicyOptions {
  readonly site: string
  readonly fleet: string
  readonly name: string
  readonly maxUses?: string
  readonly expiresIn?: string
  readonly notRetrievable?: boolean
  readonly createMissing?: boolean
}

/** What the options say of the new key; what they leave out is the server's to decide. */
function requestOf(options: CreateOptions): Record<string, unknown> {
  return said({
    name: options.name,
    max_uses: options.maxUses === undefined ? undefined : countOf(options.maxUses, '--max-uses'),
    expires_in_hours: options.expiresIn === undefined ? undefined : hoursOf(options.expiresIn),
    ...policiesOf(options),
    retrievable: options.notRetrievable ? false : undefined,
  })
}

export async function createKey(terminal: Terminal, options: CreateOptions): Promise<void> {
  const request = requestOf(options)
  const client = connect(options, terminal)
  const { site, fleet } = options.createMissing
    ? await ensurePlaces(client, options)
    : await findSite(client, options.site).then(async (found) => ({
        site: found,
        fleet: await findFleet(client, options.fleet, found),
      }))
  const key = await client.post<Key>(KEYS.path, {
    ...request,
    site_id: site.id,
    fleet_id: fleet.id,
  })
  if (options.json) return printJson(terminal, key)
  // The first answer was lost on the way, and the second no longer holds what is shown only once.
  if (key.key_value === null || key.setup_command === null)
    throw new CliError(
      `the key was made, but its value was lost; make another, and: beacon keys revoke ${key.id}`,
    )
  const { out, clock } = terminal
  const robots = key.max_uses === 1 ? '1 robot' : `${key.max_uses} robots`
  const until = key.expires_at
    ? `until ${when(key.expires_at)} (${remaining(Date.parse(key.expires_at) - clock.now())})`
    : 'for ever'
  printLines(terminal, [
    `Key "${printable(key.name)}" admits ${robots} to ${printable(site.name)} / ${printable(fleet.name)} ${until}:`,
    '',
    `  ${out.style('bold', printable(key.key_value))}`,
    '',
    'On each robot:',
    '',
    `  ${printable(key.setup_command)}`,
    '',
    `Revoke it with: beacon keys revoke ${key.id}`,
  ])
}

interface KeyListOptions extends ListOptions {
  readonly reveal?: boolean
}

export async function listKeys(terminal: Terminal, options: KeyListOptions): Promise<void> {
  const limit = limitOf(options)
  const client = connect(options, terminal)
  const keys = await client.list<Key>(KEYS.path, { sort: options.sort }, limit)
  if (options.json) return printJson(terminal, keys)
  await printCredentials(terminal, client, keys, {
    whenEmpty:
      'There are no keys yet. Make one with: beacon keys create --site <site> --fleet <fleet> --name <name>',
    uses: (key) => `${key.uses}/${key.max_uses}`,
    last: options.reveal
      ? { title: 'KEY', cell: (key) => printable(key.key_value ?? 'not retrievable') }
      : { title: 'ID', cell: (key) => key.id },
  })
}
