// Before all that it is to act upon.
import './agent-frugality.ts'
import { Command, CommanderError } from 'commander'
import { agentVersion } from '../../agent/version.ts'
import { AGENT_DESCRIPTION, fillAgent } from './agent.ts'
import { EXIT } from './failure.ts'

// `beacon agent …` as a program of its own, without the control plane: deploy/agent/bundle.mjs makes one file of it.
const program = new Command('beacon-agent')
  .description(AGENT_DESCRIPTION)
  .version(agentVersion, '--version', 'print the version')
  .helpOption('-h, --help', 'print this help')
  .helpCommand('help [command]', 'print the help of a command')
  .exitOverride()
fillAgent(program)
for (const command of [program, ...program.commands])
  command.showHelpAfterError('"beacon-agent --help" tells what there is.')

try {
  await program.parseAsync()
} catch (error) {
  // Commander has said what is wrong by now; only help and --version that were asked for are no mistake.
  if (!(error instanceof CommanderError)) throw error
  process.exitCode = error.exitCode === 0 ? EXIT.fine : EXIT.usage
}
