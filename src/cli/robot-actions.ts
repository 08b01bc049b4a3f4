import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { findRobot } from './robots.ts'
import type { Robot } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

interface ActionOptions extends OperatorOptions {
  readonly yes?: boolean
}

interface Action {
  readonly path: string
  /** Asked before; undefined: nothing is lost by doing it. */
  readonly question?: (name: string) => string
  readonly done: (name: string) => string
}

async function act(
  terminal: Terminal,
  wanted: string,
  options: ActionOptions,
  action: Action,
): Promise<void> {
  const client = connect(options, terminal)
  const robot = await findRobot(client, wanted)
  const name = printable(robot.name)
  if (action.question) await confirm(terminal, options.yes, action.question(name))
  const after = await client.post<Robot>(`/api/robots/${robot.id}/${action.path}`)
  if (options.json) printJson(terminal, after)
  else printLines(terminal, [action.done(name)])
}

export function revokeToken(terminal: Terminal, wanted: string, options: ActionOptions): Promise<void> {
  return act(terminal, wanted, options, {
    path: 'revoke-token',
    question: (name) => `Revoke the token of ${name} and close its connection?`,
    done: (name) => `the token of ${name} is revoked; the robot has to enrol again`,
  })
}

export function approve(terminal: Terminal, wanted: string, options: ActionOptions): Promise<void> {
  return act(terminal, wanted, options, { path: 'approve', done: (name) => `${name} is approved` })
}

export function retire(terminal: Terminal, wanted: string, options: ActionOptions): Promise<void> {
  return act(terminal, wanted, options, {
    path: 'retire',
    question: (name) => `Retire ${name} for good?`,
    done: (name) => `${name} is retired`,
  })
}
