import { createInterface } from 'node:readline/promises'
import { type Command, Option } from 'commander'
import { CHECKS, type Check } from '../../agent/check.ts'
import type { AgentOutput } from '../../agent/main.ts'
import type { AgentFlags } from '../../agent/settings.ts'
import { addLocalCommands } from './agent-local.ts'
import { addRos2Command } from './agent-ros2.ts'
import { addServiceCommands } from './agent-service.ts'

const DEFAULTS = `
Each flag can also be set in the environment, by the name in brackets. A flag outranks the environment, which outranks
agent.toml. The identity is kept in $XDG_CONFIG_HOME/roboflare/agent.toml, else ~/.config/roboflare/agent.toml; for root
in /etc/beacon/agent.toml. Once it is enrolled, a robot needs no key and sends none, unless its token is refused: then it
enrols anew when the key file holds another key than the one it enrolled with. A setup token that was not used yet gives
an enrolled robot new credentials.

Exit codes: 0 fine, 1 error, 2 usage, 3 credential refused for good, 5 identity conflict.`

const CONFIG = 'file of the identity (BEACON_CONFIG)'

export const AGENT_DESCRIPTION = "the robot's side: enrol this machine and keep it connected"

/** Adds `beacon agent …`. */
export function addAgentCommands(program: Command): void {
  fillAgent(program.command('agent').description(AGENT_DESCRIPTION))
}

/** Gives `beacon agent`, or an agent of its own, its commands. The agent itself is loaded only when one is used. */
export function fillAgent(agent: Command): void {
  agent
    .command('run')
    .description('enrol if need be, then stay connected and send heartbeats until stopped')
    .option('--enrollment-key <key>', 'key or provisioning token to enrol with (BEACON_ENROLLMENT_KEY)')
    .option('--enrollment-key-file <file>', 'file that holds the key (BEACON_ENROLLMENT_KEY_FILE)')
    .option('--setup-token <token>', 'token that an operator made for this one robot (BEACON_SETUP_TOKEN)')
    .option('--setup-token-file <file>', 'file that holds it (BEACON_SETUP_TOKEN_FILE)')
    .option('--name <name>', 'name the robot asks for (BEACON_NAME)')
    .option('--server <url>', 'address of the control plane (BEACON_SERVER; default http://127.0.0.1:8080)')
    .option('--config <path>', CONFIG)
    .option('--heartbeat-seconds <seconds>', 'beat faster than the server asks (BEACON_HEARTBEAT_SECONDS)')
    .option('--ca-file <file>', 'certificates in PEM form to trust besides the system’s (BEACON_CA_FILE)')
    .option('--adopt', 'take over an identity whose disk was moved from another machine (BEACON_ADOPT=true)')
    .option('--log-level <level>', 'debug, info, warn, error or silent (BEACON_LOG_LEVEL; default info)')
    .addHelpText('after', DEFAULTS)
    .action(async (flags: AgentFlags) => {
      // Over the command line that ps shows, for the key may stand in it; and out of what our children inherit.
      process.title = 'beacon agent run'
      const env = { ...process.env }
      delete process.env.BEACON_ENROLLMENT_KEY
      delete process.env.BEACON_SETUP_TOKEN
      for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete process.env[name]
      const { spareMemory } = await import('../../agent/frugality.ts')
      spareMemory(process.execArgv, process.env.NODE_OPTIONS)
      const { runAgent } = await import('../../agent/main.ts')
      // Not only the code: a sensor that hangs in the kernel must not keep the process.
      process.exit(await runAgent(flags, env, output()))
    })

  agent
    .command('status')
    .description('tell who this robot is and how its connection does')
    .option('--json', 'answer with JSON')
    .addOption(
      new Option(
        '--check <what>',
        'exit with 1 unless the agent is live (it runs and answers) or ready (connected, and acknowledged of late)',
      ).choices(CHECKS),
    )
    .option('--config <path>', CONFIG)
    .action(async (flags: AgentFlags & { json?: boolean; check?: Check }) => {
      const { showStatus } = await import('../../agent/main.ts')
      const asked = { asJson: flags.json === true, check: flags.check }
      process.exitCode = await showStatus(flags, process.env, output(), asked)
    })

  agent
    .command('doctor')
    .description('look at everything that the agent needs, and say what to do about what is wrong')
    .option('--json', 'answer with JSON')
    .option('--server <url>', 'address of the control plane (BEACON_SERVER)')
    .option('--enrollment-key-file <file>', 'file that holds the key (BEACON_ENROLLMENT_KEY_FILE)')
    .option('--setup-token-file <file>', 'file that holds a setup token (BEACON_SETUP_TOKEN_FILE)')
    .option('--ca-file <file>', 'certificates in PEM form to trust besides the system’s (BEACON_CA_FILE)')
    .option('--config <path>', CONFIG)
    .addHelpText('after', '\nChanges nothing. Exit codes: 0 nothing failed, 1 something failed.')
    .action(async (flags: AgentFlags & { json?: boolean }) => {
      const { examineAgent } = await import('../../agent/main.ts')
      // Not only the code: a name that is still being looked up must not keep the process.
      const code = await examineAgent(flags, process.env, output(), flags.json === true)
      await new Promise((written) => process.stdout.write('', written))
      process.exit(code)
    })

  addLocalCommands(agent, output)

  addRos2Command(agent, output)

  addServiceCommands(agent, output)

  agent
    .command('forget')
    .description('remove the identity of this robot from this machine')
    .option('--config <path>', CONFIG)
    .option(
      '--image',
      'make this disk one to copy: keep settings and keys, so that each copy enrols by itself',
    )
    .option('--yes', 'do not ask')
    .action(async (flags: AgentFlags & { yes?: boolean; image?: boolean }) => {
      const { forgetAgent, forgetForCopies } = await import('../../agent/main.ts')
      const confirm = async (question: string) => flags.yes === true || askOnTerminal(question)
      const forget = flags.image ? forgetForCopies : forgetAgent
      process.exitCode = await forget(flags, process.env, output(), confirm)
    })
}

/** Where nobody can be asked, the command itself is the answer. */
async function askOnTerminal(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return true
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await lines.question(`${question} [y/N] `)).trim())
  } finally {
    lines.close()
  }
}

function output(): AgentOutput {
  // A log that nobody reads any more must not end a robot's connection.
  process.stderr.on('error', () => {})
  return {
    answers: { write: (line) => void process.stdout.write(line), isTerminal: process.stdout.isTTY === true },
    log: { write: (line) => void process.stderr.write(line), isTerminal: process.stderr.isTTY === true },
  }
}
