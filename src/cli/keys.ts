import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { ensurePlaces, findFleet, findSite } from './places.ts'
import { printTable } from './print-table.ts'
import type { Fleet, Key, RevokedKey, Site } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { age, countOf, duration, hoursOf, labelsOf, printable, when } from './text.ts'

interface CreateOptions extends OperatorOptions {
  readonly site: string
  readonly fleet: string
  readonly name: string
  readonly maxUses?: string
  readonly expiresIn?: string
  readonly label?: readonly string[]
  readonly allowCidr?: readonly string[]
  readonly requireApproval?: boolean
  readonly onExisting?: string
  readonly notRetrievable?: boolean
  readonly createMissing?: boolean
}

/** What the options say of the new key; what they leave out is the server's to decide. */
function requestOf(options: CreateOptions): Record<string, unknown> {
  const given: Record<string, unknown> = {
    name: options.name,
    max_uses: options.maxUses === undefined ? undefined : countOf(options.maxUses, '--max-uses'),
    expires_in_hours: options.expiresIn === undefined ? undefined : hoursOf(options.expiresIn),
    labels: options.label && labelsOf(options.label),
    allowed_cidrs: options.allowCidr,
    require_approval: options.requireApproval,
    on_existing: options.onExisting,
    retrievable: options.notRetrievable ? false : undefined,
  }
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
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
  const key = await client.post<Key>('/api/enrollment-keys', {
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
    ? `until ${when(key.expires_at)} (${duration(Date.parse(key.expires_at) - clock.now())})`
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

interface ListOptions extends OperatorOptions {
  readonly limit?: string
  readonly all?: boolean
  readonly reveal?: boolean
}

const DEFAULT_LIMIT = 100

export async function listKeys(terminal: Terminal, options: ListOptions): Promise<void> {
  const limit = options.all ? undefined : countOf(options.limit ?? String(DEFAULT_LIMIT), '--limit')
  const client = connect(options, terminal)
  const keys = await client.list<Key>('/api/enrollment-keys', {}, limit)
  if (options.json) return printJson(terminal, keys)
  const sites = await client.list<Site>('/api/sites')
  const fleets = await client.list<Fleet>('/api/fleets')
  const siteNames = new Map(sites.items.map(({ id, name }) => [id, name]))
  const fleetNames = new Map(fleets.items.map(({ id, name }) => [id, name]))
  const { out } = terminal
  const now = terminal.clock.now()
  printTable(
    terminal,
    keys.items,
    'There are no keys yet. Make one with: beacon keys create --site <site> --fleet <fleet> --name <name>',
    [
      { title: 'NAME', cell: (key) => printable(key.name), minWidth: 8 },
      {
        title: 'STATUS',
        cell: (key) => out.style(key.status === 'active' ? 'green' : 'dim', printable(key.status)),
      },
      { title: 'USES', cell: (key) => `${key.uses}/${key.max_uses}`, align: 'right' },
      {
        title: 'SITE',
        cell: (key) => printable(siteNames.get(key.site_id) ?? key.site_id),
        minWidth: 6,
        dropOrder: 2,
      },
      {
        title: 'FLEET',
        cell: (key) => printable(fleetNames.get(key.fleet_id) ?? key.fleet_id),
        minWidth: 6,
        dropOrder: 1,
      },
      {
        title: 'EXPIRES',
        cell: (key) => (key.expires_at ? expiry(Date.parse(key.expires_at) - now) : 'never'),
        align: 'right',
        dropOrder: 3,
      },
      { title: 'LAST USED', cell: (key) => age(key.last_used_at, now), align: 'right', dropOrder: 4 },
      options.reveal
        ? { title: 'KEY', cell: (key: Key) => printable(key.key_value ?? 'not retrievable') }
        : { title: 'ID', cell: (key: Key) => key.id },
    ],
  )
  if (keys.next_cursor) terminal.err.write(`There are more than ${keys.items.length}: --all shows them.\n`)
}

const expiry = (ms: number) => (ms > 0 ? `in ${duration(ms)}` : `${duration(-ms)} ago`)

interface RevokeOptions extends OperatorOptions {
  readonly cascade?: string
  readonly yes?: boolean
}

export async function revokeKey(terminal: Terminal, id: string, options: RevokeOptions): Promise<void> {
  if (options.cascade !== undefined && options.cascade !== 'revoke_robots')
    throw new CliError('--cascade takes revoke_robots', EXIT.usage)
  const client = connect(options, terminal)
  const robots = options.cascade ? ' and cut off every robot it admitted' : ''
  await confirm(terminal, options.yes, `Revoke the key ${id}${robots}?`)
  const key = await client.post<RevokedKey>(
    `/api/enrollment-keys/${encodeURIComponent(id)}/revoke`,
    options.cascade ? { cascade: options.cascade } : {},
  )
  if (options.json) return printJson(terminal, key)
  const cut = options.cascade ? `; ${key.robots_revoked} robots are cut off` : ''
  printLines(terminal, [`key "${printable(key.name)}" is revoked${cut}`])
}
