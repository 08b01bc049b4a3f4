import { relative } from 'node:path'
import { tableLines } from '../print-table.ts'
import { changesBetween } from '../robot-changes.ts'
import { robotColumns } from '../robot-table.ts'
import { changeLine } from '../robots-watch.ts'
import { Screen } from '../screen.ts'
import type { Robot } from '../shapes.ts'
import type { Terminal } from '../terminal.ts'
import type { DemoFolder } from './folder.ts'

/** What the demo shows of itself. */
export interface DemoView {
  /** A step of the way to a running demo. */
  step(text: string): void
  robots(robots: readonly Robot[], fleetNames: ReadonlyMap<string, string>): void
  close(): void
}

export interface Surroundings {
  readonly url: string
  readonly ownerToken: string
  readonly folder: DemoFolder
}

/** Where to look, and how to talk to the demo's server. */
function introduction(terminal: Terminal, { url, ownerToken, folder }: Surroundings): string[] {
  const { out } = terminal
  return [
    `  page             ${out.style('underline', `${url}/`)} ("First time here?" takes the owner token)`,
    `  API, to read     ${out.style('underline', `${url}/docs`)}`,
    `  ready to serve?  ${out.style('underline', `${url}/readyz`)}`,
    `  owner token      ${ownerToken}`,
    `  logs             ${relative('.', folder.logFile('*'))}`,
    '',
    'In another terminal, here:',
    `  export BEACON_URL=${url} BEACON_API_KEY=$(cat ${relative('.', folder.ownerTokenFile)})`,
    '  npx beacon robots inspect warehouse-bot-01',
    '  curl -H "Authorization: Bearer $BEACON_API_KEY" $BEACON_URL/metrics',
  ]
}

/** A live picture on a terminal, one line per change elsewhere. */
export function createView(terminal: Terminal, surroundings: () => Surroundings | undefined): DemoView {
  return terminal.out.isTerminal ? pictureView(terminal, surroundings) : lineView(terminal, surroundings)
}

function lineView(terminal: Terminal, surroundings: () => Surroundings | undefined): DemoView {
  let known: ReadonlyMap<string, Robot> | undefined
  return {
    step: (text) => terminal.out.write(`${text}\n`),
    robots(robots) {
      const around = surroundings()
      if (!known && around) terminal.out.write(`${introduction(terminal, around).join('\n')}\n\n`)
      for (const change of changesBetween(known ?? new Map(), robots))
        terminal.out.write(`${changeLine(terminal, change)}\n`)
      known = new Map(robots.map((robot) => [robot.id, robot]))
    },
    close() {},
  }
}

function pictureView(terminal: Terminal, surroundings: () => Surroundings | undefined): DemoView {
  const screen = new Screen(terminal.out)
  let table: string[] = []
  return {
    step: (text) => terminal.out.write(`${text}\n`),
    robots(robots, fleetNames) {
      const around = surroundings()
      table = tableLines(terminal, robots, robotColumns(terminal.out, fleetNames, terminal.clock.now()))
      screen.draw([
        `${terminal.out.style('bold', 'Beacon demo')}: a server, its own PostgreSQL and three robots. Ctrl-C stops all of it.`,
        '',
        ...table,
        '',
        ...(around ? introduction(terminal, around) : []),
      ])
    },
    close() {
      screen.close()
      if (table.length > 0) terminal.out.write(`${table.join('\n')}\n\n`)
      table = []
    },
  }
}
