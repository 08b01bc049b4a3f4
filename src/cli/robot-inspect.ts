import { connect, type OperatorOptions, printJson } from './operator.ts'
import { tableLines } from './print-table.ts'
import { paintState } from './robot-table.ts'
import { findRobot } from './robots.ts'
import type { Robot, RobotEvent } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { age, countOf, printable, printableJson } from './text.ts'

interface InspectOptions extends OperatorOptions {
  readonly events?: string
}

/** Values as they read best in one line: text as it is, everything else as JSON. */
function readable(value: unknown): string {
  return typeof value === 'string' ? printable(value) : printableJson(value)
}

/** An object's facts as `path value` lines, nested ones with a dotted path; empty ones are left out. */
function factsOf(object: object, prefix = ''): { name: string; value: string }[] {
  return Object.entries(object).flatMap(([key, value]: [string, unknown]) => {
    const name = `${prefix}${printable(key)}`
    if (value === null || value === undefined) return []
    if (typeof value === 'object' && !Array.isArray(value)) return factsOf(value, `${name}.`)
    return [{ name, value: readable(value) }]
  })
}

function withAge(fact: { name: string; value: string }, now: number): { name: string; value: string } {
  if (!/(_at|_since|\.at|\.since)$/.test(fact.name)) return fact
  return { ...fact, value: `${fact.value} (${age(fact.value, now)} ago)` }
}

const factColumns = [
  { title: '', cell: ({ name }: { name: string }) => `  ${name}` },
  { title: '', cell: ({ value }: { value: string }) => value, minWidth: 20 },
]

/** A block of facts without the line of titles. */
function factLines(terminal: Terminal, facts: readonly { name: string; value: string }[]): string[] {
  return tableLines(terminal, facts, factColumns).slice(1)
}

export async function inspectRobot(
  terminal: Terminal,
  wanted: string,
  options: InspectOptions,
): Promise<void> {
  const limit = countOf(options.events ?? '10', '--events')
  const client = connect(options, terminal)
  const robot = await findRobot(client, wanted)
  const events = await client.list<RobotEvent>(`/api/robots/${robot.id}/events`, {}, limit)
  if (options.json) return printJson(terminal, { robot, events: events.items })
  const { out } = terminal
  const now = terminal.clock.now()
  const { heartbeat, ...identity }: Robot = robot
  const lines = [
    `${out.style('bold', printable(robot.name))}  ${paintState(out, robot.connection)} (${printable(robot.connection_reason)})  health ${paintState(out, robot.health)}  ${paintState(out, robot.lifecycle)}`,
    '',
    ...factLines(
      terminal,
      factsOf(identity).map((fact) => withAge(fact, now)),
    ),
    '',
    out.style('bold', 'Latest heartbeat'),
    ...(heartbeat
      ? factLines(
          terminal,
          factsOf(heartbeat).map((fact) => withAge(fact, now)),
        )
      : ['  none yet']),
    '',
    out.style('bold', 'Last events'),
    ...(events.items.length === 0
      ? ['  none']
      : tableLines(terminal, events.items, [
          { title: '  WHEN', cell: (event) => `  ${age(event.at, now)} ago`, align: 'right' },
          { title: 'LEVEL', cell: (event) => paintState(out, event.level), dropOrder: 1 },
          { title: 'EVENT', cell: (event) => printable(event.code) },
          { title: 'MESSAGE', cell: (event) => printable(event.message), minWidth: 16 },
        ])),
  ]
  out.write(`${lines.join('\n')}\n`)
}
