import type { Client, Page, Query } from './client.ts'
import { CliError } from './failure.ts'
import { connect } from './operator.ts'
import { tableLines } from './print-table.ts'
import { changesBetween, type RobotChange } from './robot-changes.ts'
import { paintState, robotColumns } from './robot-table.ts'
import { type FilterOptions, fleetNamesOf, robotQuery } from './robots.ts'
import { Screen } from './screen.ts'
import type { Robot } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { countOf, duration, printable, printableJson } from './text.ts'

const POLL_MS = 1_000
/** So that a server that is away is not hammered by everyone who waits for it. */
const RETRY_MS = 2_000
const DEFAULT_LIMIT = '500'

interface WatchOptions extends FilterOptions {
  readonly limit?: string
}

/** What a watcher shows its person. */
interface View {
  look(robots: Page<Robot>, fleetNames: ReadonlyMap<string, string>): void
  away(why: string): void
  back(awayMs: number): void
  close(): void
}

/** A change in one line for a person. */
export function changeLine(terminal: Terminal, { change, robot, before }: RobotChange): string {
  const { out } = terminal
  const time = out.style('dim', new Date(terminal.clock.now()).toISOString().slice(11, 19))
  const name = printable(robot.name)
  const state = `${paintState(out, robot.connection)} (${printable(robot.connection_reason)})`
  if (change === 'appeared')
    return `${time} ${name}: ${state}, health ${paintState(out, robot.health)}, ${paintState(out, robot.lifecycle)}`
  if (change === 'gone') return `${time} ${name}: no longer in the list`
  const parts = Object.entries(before).map(([field, value]) => {
    const now = robot[field as keyof typeof before]
    const after = field === 'connection' ? state : paintState(out, now)
    return `${field} ${paintState(out, value)} → ${after}`
  })
  return `${time} ${name}: ${parts.join(', ')}`
}

function lineView(terminal: Terminal, json: boolean): View {
  let known: ReadonlyMap<string, Robot> = new Map()
  return {
    look({ items }) {
      const at = new Date(terminal.clock.now()).toISOString()
      for (const change of changesBetween(known, items))
        terminal.out.write(`${json ? printableJson({ at, ...change }) : changeLine(terminal, change)}\n`)
      known = new Map(items.map((robot) => [robot.id, robot]))
    },
    away: (why) => terminal.err.write(`${printable(why)}; waiting for it\n`),
    back: (awayMs) => terminal.err.write(`the server is back after ${duration(awayMs)}\n`),
    close() {},
  }
}

function summary(terminal: Terminal, { items, next_cursor }: Page<Robot>): string {
  const count = (connection: string) => items.filter((robot) => robot.connection === connection).length
  const states = ['online', 'stale', 'offline', 'unseen']
    .filter((state) => count(state) > 0)
    .map((state) => `${count(state)} ${paintState(terminal.out, state)}`)
  const more = next_cursor ? `the first ${items.length} robots` : `${items.length} robots`
  return [more, ...states].join(', ')
}

function screenView(terminal: Terminal, url: string): View {
  const screen = new Screen(terminal.out)
  let table: string[] = []
  let header = ''
  let notice = ''
  const draw = () => screen.draw([header, notice, ...table])
  return {
    look(robots, fleetNames) {
      header = `${terminal.out.style('bold', printable(url))}  ${summary(terminal, robots)}  (Ctrl-C ends)`
      notice = ''
      table = tableLines(terminal, robots.items, robotColumns(terminal.out, fleetNames, terminal.clock.now()))
      draw()
    },
    away(why) {
      notice = terminal.out.style('yellow', `${printable(why)}; waiting for it, what is below is old`)
      draw()
    },
    back() {},
    close() {
      screen.close()
      if (table.length > 0) terminal.out.write(`${table.join('\n')}\n`)
    },
  }
}

/** Looks again and again until interrupted. Only failures that waiting may mend are waited out. */
async function watch(
  client: Client,
  query: Query,
  limit: number,
  terminal: Terminal,
  view: View,
): Promise<void> {
  const interrupted = terminal.interruption()
  let fleetNames = await fleetNamesOf(client)
  let awaySince: number | undefined
  let first = true
  while (!interrupted.aborted) {
    try {
      const robots = await client.list<Robot>('/api/robots', query, limit)
      if (robots.items.some((robot) => !fleetNames.has(robot.fleet_id)))
        fleetNames = await fleetNamesOf(client)
      if (awaySince !== undefined) view.back(terminal.clock.monotonic() - awaySince)
      awaySince = undefined
      if (!interrupted.aborted) view.look(robots, fleetNames)
    } catch (error) {
      if (!(error instanceof CliError) || first || !error.passing) throw error
      if (awaySince === undefined) view.away(error.message)
      awaySince ??= terminal.clock.monotonic()
    }
    first = false
    await terminal.clock.sleep(awaySince === undefined ? POLL_MS : RETRY_MS, interrupted).catch(() => {})
  }
}

export async function watchRobots(terminal: Terminal, options: WatchOptions): Promise<void> {
  const limit = countOf(options.limit ?? DEFAULT_LIMIT, '--limit')
  const client = connect(options, terminal)
  const query = await robotQuery(client, options)
  const view =
    terminal.out.isTerminal && !options.json
      ? screenView(terminal, client.url)
      : lineView(terminal, options.json === true)
  try {
    await watch(client, query, limit, terminal, view)
  } finally {
    view.close()
  }
}
