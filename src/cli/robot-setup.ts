import { said } from './credentials.ts'
import { CliError } from './failure.ts'
import { confirm, connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { findFleet, findSite } from './places.ts'
import { findRobot } from './robots.ts'
import type { Robot, SetupToken } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { labelsOf, printable, remaining } from './text.ts'

interface CreateOptions extends OperatorOptions {
  readonly site?: string
  readonly fleet: string
  readonly label?: readonly string[]
}

/** Makes a robot's record before its machine is there. */
export async function createRobot(terminal: Terminal, name: string, options: CreateOptions): Promise<void> {
  const labels = options.label && labelsOf(options.label)
  const client = connect(options, terminal)
  const site = options.site === undefined ? undefined : await findSite(client, options.site)
  const fleet = await findFleet(client, options.fleet, site)
  const robot = await client.post<Robot>('/api/robots', said({ fleet_id: fleet.id, name, labels }))
  if (options.json) return printJson(terminal, robot)
  printLines(terminal, [
    `robot "${printable(robot.name)}" is in "${printable(fleet.name)}": ${robot.id}`,
    `Bind a machine to it with: beacon robots setup-token ${robot.id}`,
  ])
}

interface AskingOptions extends OperatorOptions {
  readonly yes?: boolean
}

/** Makes a setup token for a robot; one that has a token already is asked about first. */
export async function createSetupToken(
  terminal: Terminal,
  wanted: string,
  options: AskingOptions,
): Promise<void> {
  const client = connect(options, terminal)
  const robot = await findRobot(client, wanted)
  const name = printable(robot.name)
  if (robot.token_issued_at && !robot.token_revoked_at)
    await confirm(
      terminal,
      options.yes,
      `${name} has a token, which stops once the setup token is redeemed. Make one?`,
    )
  const made = await client.post<SetupToken>(`/api/robots/${robot.id}/setup-token`)
  if (options.json) return printJson(terminal, made)
  // The first answer was lost on the way, and the second no longer holds what is shown only once.
  if (!made.setup_token || !made.setup_command)
    throw new CliError('the token was made, but its value was lost; make another, and this one stops')
  const left = remaining(Date.parse(made.expires_at) - terminal.clock.now())
  printLines(terminal, [
    `For ${left}, whoever uses this first is ${name}:`,
    '',
    `  ${terminal.out.style('bold', printable(made.setup_token))}`,
    '',
    'Nobody can read it again. On the machine:',
    '',
    `  ${printable(made.setup_command)}`,
  ])
}

/** Deletes the record of a robot that is retired. */
export async function deleteRobot(terminal: Terminal, wanted: string, options: AskingOptions): Promise<void> {
  const client = connect(options, terminal)
  const robot = await findRobot(client, wanted)
  const name = printable(robot.name)
  await confirm(terminal, options.yes, `Delete the record of ${name} with its timeline for good?`)
  await client.delete(`/api/robots/${robot.id}`)
  if (options.json) return printJson(terminal, { id: robot.id, deleted: true })
  printLines(terminal, [`the record of ${name} is gone`])
}
