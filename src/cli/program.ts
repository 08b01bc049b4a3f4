import { Command, CommanderError } from 'commander'
import { version } from '../package.ts'
import { addAgentCommands } from './agent.ts'
import { addApprovalCommands } from './commands/approvals.ts'
import { addAuditCommands } from './commands/audit.ts'
import { addDemoCommand } from './commands/demo.ts'
import { addKeyCommands } from './commands/keys.ts'
import { addLoginCommands } from './commands/login.ts'
import { addPlaceCommands } from './commands/places.ts'
import { addProvisioningTokenCommands } from './commands/provisioning-tokens.ts'
import { addRobotCommands } from './commands/robots.ts'
import { addSecretCommands } from './commands/secrets.ts'
import { addSecurityCommands } from './commands/security.ts'
import { addServerCommand } from './commands/server.ts'
import { addTokenCommands } from './commands/tokens.ts'
import { addUserCommands } from './commands/users.ts'
import { CliError, EXIT } from './failure.ts'
import type { Terminal } from './terminal.ts'
import { printable } from './text.ts'

const EXAMPLES = `
Examples:
  beacon demo                                         a server and three robots, here and now
  beacon server                                       the control plane on http://127.0.0.1:8080
  beacon keys create --site hamburg --fleet pickers --name first --create-missing
  beacon agent run --enrollment-key rf_enroll_…       on the robot
  beacon robots watch                                 who is there, live
  beacon login                                        be somebody, and keep a token for the commands above

Operator commands read BEACON_URL and BEACON_API_KEY, or what "beacon login" kept. Exit codes: 0 fine, 1 error, 2 usage, 3 credential refused,
4 server unreachable. "beacon <command> --help" tells more.`

/** The command line, described but not run. `finish` takes the exit code of commands that run for long. */
function createProgram(terminal: Terminal, finish: (exitCode: number) => void): Command {
  const program = new Command('beacon')
    .description('Beacon, the WebSocket control plane for robot fleets')
    .version(version, '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .helpCommand('help [command]', 'print the help of a command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.out.write(text),
      writeErr: (text) => terminal.err.write(text),
      getOutHelpWidth: () => terminal.out.columns ?? 100,
      getErrHelpWidth: () => terminal.err.columns ?? 100,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .addHelpText('after', EXAMPLES)
  addServerCommand(program, finish)
  addAgentCommands(program)
  addKeyCommands(program, terminal)
  addProvisioningTokenCommands(program, terminal)
  addApprovalCommands(program, terminal)
  addRobotCommands(program, terminal)
  addPlaceCommands(program, terminal)
  addLoginCommands(program, terminal)
  addUserCommands(program, terminal)
  addTokenCommands(program, terminal)
  addSecurityCommands(program, terminal)
  addSecretCommands(program, terminal)
  addAuditCommands(program, terminal, finish)
  addDemoCommand(program, terminal, finish)
  tellOfHelp(program)
  return program
}

/** Has each command say after a mistake where its own help is. */
function tellOfHelp(command: Command, parents: readonly string[] = []): void {
  const path = [...parents, command.name()]
  command.showHelpAfterError(`"${path.join(' ')} --help" tells what there is.`)
  for (const child of command.commands) tellOfHelp(child, path)
}

/** Runs one command line and answers with the exit code, or undefined when the command set the process's own. */
export async function run(argv: readonly string[], terminal: Terminal): Promise<number | undefined> {
  let exitCode: number | undefined
  const program = createProgram(terminal, (code) => {
    exitCode = code
  })
  try {
    await program.parseAsync(argv, { from: 'user' })
    return exitCode
  } catch (error) {
    // Commander has printed its own message by now; only help and --version that were asked for are no mistake.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.fine : EXIT.usage
    if (!(error instanceof CliError)) throw error
    terminal.err.write(`${terminal.err.style('red', 'error:')} ${printable(error.message)}\n`)
    return error.exitCode
  }
}
