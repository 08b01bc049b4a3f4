import type { Client, Page } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { printTable } from './print-table.ts'
import { robotColumns } from './robot-table.ts'
import { fleetNamesOf } from './robots.ts'
import type { Credential, Fleet, RevokedCredential, Robot, Site } from './shapes.ts'
import type { Column } from './table.ts'
import type { Terminal } from './terminal.ts'
import { age, countOf, duration, labelsOf, printable, remaining } from './text.ts'

/** What the commands for enrollment keys and provisioning tokens have in common. */

export interface PolicyOptions extends OperatorOptions {
  readonly label?: readonly string[]
  readonly allowCidr?: readonly string[]
  readonly requireApproval?: boolean
  readonly onExisting?: string
}

/** What the options say of the robots that come with a credential. */
export function policiesOf(options: PolicyOptions): Record<string, unknown> {
  return {
    labels: options.label && labelsOf(options.label),
    allowed_cidrs: options.allowCidr,
    require_approval: options.requireApproval,
    on_existing: options.onExisting,
  }
}

/** The fields that something was said of; the others are the server's to decide. */
export function said(given: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
}

const DEFAULT_LIMIT = '100'

export interface ListOptions extends OperatorOptions {
  readonly limit?: string
  readonly all?: boolean
  readonly sort?: string
}

export function limitOf(options: ListOptions): number | undefined {
  return options.all ? undefined : countOf(options.limit ?? DEFAULT_LIMIT, '--limit')
}

/** Prints a page of credentials as a table that ends in the column given. */
export async function printCredentials<Shown extends Credential>(
  terminal: Terminal,
  client: Client,
  page: Page<Shown>,
  { whenEmpty, uses, last }: { whenEmpty: string; uses: (shown: Shown) => string; last: Column<Shown> },
): Promise<void> {
  const sites = await client.list<Site>('/api/sites')
  const fleets = await client.list<Fleet>('/api/fleets')
  const siteNames = new Map(sites.items.map(({ id, name }) => [id, name]))
  const fleetNames = new Map(fleets.items.map(({ id, name }) => [id, name]))
  const { out } = terminal
  const now = terminal.clock.now()
  printTable(terminal, page.items, whenEmpty, [
    { title: 'NAME', cell: (shown) => printable(shown.name), minWidth: 8 },
    {
      title: 'STATUS',
      cell: (shown) => out.style(shown.status === 'active' ? 'green' : 'dim', printable(shown.status)),
    },
    { title: 'USES', cell: uses, align: 'right' },
    {
      title: 'SITE',
      cell: (shown) => printable(siteNames.get(shown.site_id) ?? shown.site_id),
      minWidth: 6,
      dropOrder: 2,
    },
    {
      title: 'FLEET',
      cell: (shown) => printable(fleetNames.get(shown.fleet_id) ?? shown.fleet_id),
      minWidth: 6,
      dropOrder: 1,
    },
    {
      title: 'EXPIRES',
      cell: (shown) => (shown.expires_at ? expiry(Date.parse(shown.expires_at) - now) : 'never'),
      align: 'right',
      dropOrder: 3,
    },
    { title: 'LAST USED', cell: (shown) => age(shown.last_used_at, now), align: 'right', dropOrder: 4 },
    last,
  ])
  if (page.next_cursor) terminal.err.write(`There are more than ${page.items.length}: --all shows them.\n`)
}

const expiry = (ms: number) => (ms > 0 ? `in ${remaining(ms)}` : `${duration(-ms)} ago`)

export interface RevokeOptions extends OperatorOptions {
  readonly cascade?: string
  readonly yes?: boolean
}

/** Revokes the credential of this path and id, which people call `noun`. */
export async function revokeCredential(
  terminal: Terminal,
  { path, noun }: { path: string; noun: string },
  id: string,
  options: RevokeOptions,
): Promise<void> {
  if (options.cascade !== undefined && options.cascade !== 'revoke_robots')
    throw new CliError('--cascade takes revoke_robots', EXIT.usage)
  const client = connect(options, terminal)
  const robots = options.cascade ? ' and cut off every robot it admitted or whose token came with it' : ''
  await confirm(terminal, options.yes, `Revoke the ${noun} ${id}${robots}?`)
  const revoked = await client.post<RevokedCredential>(
    `${path}/${encodeURIComponent(id)}/revoke`,
    options.cascade ? { cascade: options.cascade } : {},
  )
  if (options.json) return printJson(terminal, revoked)
  const cut = options.cascade ? `; ${revoked.robots_revoked} robots are cut off` : ''
  printLines(terminal, [`${noun} "${printable(revoked.name)}" is revoked${cut}`])
  if (revoked.robots_out_of_reach)
    terminal.err.write(
      `${revoked.robots_out_of_reach} more robots keep their tokens: they are where you may not change robots.\n`,
    )
}

/** Lists the robots that hang on a credential. */
export async function listCredentialRobots(
  terminal: Terminal,
  path: string,
  id: string,
  options: ListOptions,
): Promise<void> {
  const client = connect(options, terminal)
  const robots = await client.list<Robot>(`${path}/${encodeURIComponent(id)}/robots`, {}, limitOf(options))
  if (options.json) return printJson(terminal, robots)
  const columns = robotColumns(terminal.out, await fleetNamesOf(client), terminal.clock.now())
  printTable(terminal, robots.items, 'No robots hang on it.', columns)
  if (robots.next_cursor)
    terminal.err.write(`There are more than ${robots.items.length}: --all shows them.\n`)
}
