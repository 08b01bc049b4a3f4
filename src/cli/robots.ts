import type { Client, Query } from './client.ts'
import { CliError } from './failure.ts'
import { connect, type OperatorOptions, printJson } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { printTable } from './print-table.ts'
import { robotColumns } from './robot-table.ts'
import type { Fleet, Robot } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { countOf } from './text.ts'

export interface FilterOptions extends OperatorOptions {
  readonly site?: string
  readonly fleet?: string
  readonly connection?: readonly string[]
  readonly health?: readonly string[]
  readonly lifecycle?: readonly string[]
  readonly label?: readonly string[]
  readonly credential?: string
  readonly query?: string
  readonly sort?: string
}

/** The query that the filter options stand for; sites and fleets may be named or given by id. */
export async function robotQuery(client: Client, options: FilterOptions): Promise<Query> {
  const site = options.site === undefined ? undefined : await findSite(client, options.site)
  const fleet = options.fleet === undefined ? undefined : await findFleet(client, options.fleet, site)
  return {
    site: site?.id,
    fleet: fleet?.id,
    connection: options.connection,
    health: options.health,
    lifecycle: options.lifecycle,
    label: options.label,
    credential: options.credential,
    q: options.query,
    sort: options.sort,
  }
}

export async function fleetNamesOf(client: Client): Promise<ReadonlyMap<string, string>> {
  const fleets = await client.list<Fleet>('/api/fleets')
  return new Map(fleets.items.map(({ id, name }) => [id, name]))
}

interface ListOptions extends FilterOptions {
  readonly limit?: string
  readonly all?: boolean
}

const DEFAULT_LIMIT = '100'

export async function listRobots(terminal: Terminal, options: ListOptions): Promise<void> {
  const limit = options.all ? undefined : countOf(options.limit ?? DEFAULT_LIMIT, '--limit')
  const client = connect(options, terminal)
  const robots = await client.list<Robot>('/api/robots', await robotQuery(client, options), limit)
  if (options.json) return printJson(terminal, robots)
  const columns = robotColumns(terminal.out, await fleetNamesOf(client), terminal.clock.now())
  printTable(terminal, robots.items, 'No robots.', columns)
  if (robots.next_cursor)
    terminal.err.write(`There are more than ${robots.items.length}: --all shows them.\n`)
}

const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** The robot with this id or name. */
export async function findRobot(client: Client, wanted: string): Promise<Robot> {
  if (ID.test(wanted)) return client.get<Robot>(`/api/robots/${wanted}`)
  const { items } = await client.list<Robot>('/api/robots', { q: wanted })
  const named = items.filter(({ name }) => name === wanted)
  if (named.length === 1) return named[0]!
  if (named.length === 0) throw new CliError(`there is no robot "${wanted}"`)
  throw new CliError(
    `${named.length} robots are called "${wanted}"; name one by its id: ${named.map(({ id }) => id).join(', ')}`,
  )
}
