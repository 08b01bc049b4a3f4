import type { Client, Query } from './client.ts'
import { type ListOptions, limitOf, said } from './credentials.ts'
import { CliError, EXIT } from './failure.ts'
import { confirm, connect, printJson, printLines } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { printTable } from './print-table.ts'
import { findRobot, fleetNamesOf } from './robots.ts'
import type { Decisions, WaitingRobot } from './shapes.ts'
import { NOTHING } from './table.ts'
import type { Terminal } from './terminal.ts'
import { age, hoursOf, printable, remaining } from './text.ts'

export interface FilterOptions extends ListOptions {
  readonly site?: string
  readonly fleet?: string
  readonly credential?: string
  readonly label?: readonly string[]
  readonly query?: string
  readonly olderThan?: string
}

const HOUR_MS = 3_600_000

function waitedSince(terminal: Terminal, olderThan: string): string {
  const hours = hoursOf(olderThan)
  if (hours === null) throw new CliError('--older-than takes a time like 24h or 2d', EXIT.usage)
  return new Date(terminal.clock.now() - hours * HOUR_MS).toISOString()
}

/** What the filter options stand for; undefined: none was given. */
async function filterOf(
  terminal: Terminal,
  client: Client,
  options: FilterOptions,
): Promise<Record<string, unknown> | undefined> {
  const olderThan = options.olderThan === undefined ? undefined : waitedSince(terminal, options.olderThan)
  const site = options.site === undefined ? undefined : await findSite(client, options.site)
  const fleet = options.fleet === undefined ? undefined : await findFleet(client, options.fleet, site)
  const filter = said({
    site: site?.id,
    fleet: fleet?.id,
    credential: options.credential,
    label: options.label,
    q: options.query,
    older_than: olderThan,
  })
  return Object.keys(filter).length === 0 ? undefined : filter
}

export async function listApprovals(terminal: Terminal, options: FilterOptions): Promise<void> {
  const limit = limitOf(options)
  const client = connect(options, terminal)
  const filter = (await filterOf(terminal, client, options)) as Query | undefined
  const robots = await client.list<WaitingRobot>('/api/approvals', filter, limit)
  if (options.json) return printJson(terminal, robots)
  const fleetNames = await fleetNamesOf(client)
  const now = terminal.clock.now()
  printTable(terminal, robots.items, 'No robot waits for approval.', [
    { title: 'NAME', cell: (robot) => printable(robot.name), minWidth: 10 },
    {
      title: 'FLEET',
      cell: (robot) => printable(fleetNames.get(robot.fleet_id) ?? robot.fleet_id),
      minWidth: 6,
      dropOrder: 2,
    },
    { title: 'KNOWN', cell: (robot) => (robot.is_new ? 'new' : 'known'), dropOrder: 3 },
    {
      title: 'HOST',
      cell: (robot) => printable(robot.fingerprint.hostname ?? NOTHING),
      minWidth: 6,
      dropOrder: 4,
    },
    { title: 'ADDRESS', cell: (robot) => printable(robot.address ?? NOTHING), dropOrder: 5 },
    {
      title: 'CAME WITH',
      cell: (robot) => printable(robot.credential?.name ?? NOTHING),
      minWidth: 6,
      dropOrder: 6,
    },
    { title: 'WAITS', cell: (robot) => age(robot.pending_since, now), align: 'right' },
    {
      title: 'LEFT',
      cell: (robot) => remaining(Math.max(0, Date.parse(robot.expires_at) - now)),
      align: 'right',
      dropOrder: 7,
    },
    { title: 'ID', cell: (robot) => robot.id, dropOrder: 8 },
  ])
  if (robots.next_cursor)
    terminal.err.write(`There are more than ${robots.items.length}: --all shows them.\n`)
}

interface DecideOptions extends FilterOptions {
  readonly dryRun?: boolean
  readonly yes?: boolean
}

const WORDS = {
  approve: { question: 'Approve', done: 'approved', would: 'would be approved' },
  deny: { question: 'Deny', done: 'denied', would: 'would be denied' },
} as const

/** Robots that a question names; of more it tells the number. */
const NAMED = 5
/** Ids that one request takes. */
const IDS_PER_REQUEST = 500

/** Approves or denies the robots named, or those that the filter finds; `--all` stands for all that wait. */
export async function decideApprovals(
  terminal: Terminal,
  decision: 'approve' | 'deny',
  wanted: readonly string[],
  options: DecideOptions,
): Promise<void> {
  const client = connect(options, terminal)
  const filter = await filterOf(terminal, client, options)
  const ways = [wanted.length > 0, filter !== undefined, options.all === true].filter(Boolean).length
  if (ways !== 1) throw new CliError('name the robots, or give a filter, or --all: one of these', EXIT.usage)
  const path = `/api/approvals/${decision}`
  const ids: string[] = []
  for (const name of wanted) ids.push((await findRobot(client, name)).id)
  const which = wanted.length > 0 ? { ids } : { filter: filter ?? {} }

  const total: { robots: Decisions['robots'][number][]; skipped: Decisions['skipped'][number][] } = {
    robots: [],
    skipped: [],
  }
  for (let more = true; more; ) {
    const found = await client.post<Decisions>(path, { ...which, dry_run: true })
    total.skipped.push(...found.skipped)
    if (options.dryRun) {
      if (options.json) return printJson(terminal, found)
      return tell(terminal, found, WORDS[decision].would, found.more)
    }
    if (found.robots.length === 0) break
    await confirm(terminal, options.yes, question(decision, found))
    // Exactly those that were asked about: others may have come meanwhile.
    for (let start = 0; start < found.robots.length; start += IDS_PER_REQUEST) {
      const some = found.robots.slice(start, start + IDS_PER_REQUEST).map(({ id }) => id)
      const done = await client.post<Decisions>(path, { ids: some })
      total.robots.push(...done.robots)
      total.skipped.push(...done.skipped)
    }
    more = found.more
  }
  if (options.json) return printJson(terminal, { dry_run: false, ...total, more: false })
  tell(terminal, total, WORDS[decision].done, false)
  if (wanted.length > 0 && total.skipped.length > 0)
    throw new CliError(`${counted(total.skipped.length)} did not wait for approval`)
}

const counted = (count: number) => (count === 1 ? '1 robot' : `${count} robots`)

function question(decision: 'approve' | 'deny', { robots, more }: Decisions): string {
  const names = robots.slice(0, NAMED).map(({ name }) => printable(name))
  const others = robots.length > NAMED ? ` and ${robots.length - NAMED} others` : ''
  const first = more ? 'the first ' : ''
  const removed = robots.filter(({ outcome }) => outcome === 'removed').length
  const gone = removed > 0 ? `; the records of ${removed} go` : ''
  return `${WORDS[decision].question} ${first}${counted(robots.length)} (${names.join(', ')}${others})${gone}?`
}

function tell(terminal: Terminal, { robots }: Pick<Decisions, 'robots'>, what: string, more: boolean): void {
  if (robots.length === 0) {
    terminal.err.write('No robot that waits was found.\n')
    return
  }
  printLines(
    terminal,
    robots.map(
      ({ name, outcome }) =>
        `${printable(name)} ${outcome === 'restored' ? `${what}; it is what it was before, without its new token` : what}`,
    ),
  )
  if (more) terminal.err.write('There are more.\n')
}
