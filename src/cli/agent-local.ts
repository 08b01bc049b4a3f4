import type { Command } from 'commander'
import type { LocalCommand } from '../../agent/local/commands.ts'
import type { AgentOutput } from '../../agent/main.ts'

interface LocalFlags {
  readonly config?: string
  readonly json?: boolean
  readonly ttl?: string
  readonly level?: string
  readonly code?: string
  readonly data?: string
}

const CODES = `
Values end 300 seconds after they were set, unless they are set again; faults stand until they are cleared.
Exit codes: 0 fine, 1 refused or no agent runs, 2 usage.`

const CONFIG = 'file of the identity whose agent is asked (BEACON_CONFIG)'
const LEVEL = 'debug, info, warn, error or fatal'

/** Adds what a robot's own software and its scripts tell the running agent: `metric`, `event` and `fault`. */
export function addLocalCommands(agent: Command, output: () => AgentOutput): void {
  const ask = async (flags: LocalFlags, command: LocalCommand | (() => LocalCommand)) => {
    const { askRunning } = await import('../../agent/main.ts')
    const build = typeof command === 'function' ? command : () => command
    process.exitCode = await askRunning(flags, process.env, output(), build, flags.json === true)
  }
  const local = (parent: Command, usage: string, description: string) =>
    parent
      .command(usage)
      .description(description)
      .option('--config <path>', CONFIG)
      .option('--json', 'answer with JSON')
      .addHelpText('after', CODES)

  const metric = agent.command('metric').description("numbers of the robot's own, told with each heartbeat")
  local(metric, 'set <name=value...>', 'set metrics')
    .option('--ttl <seconds>', 'how long they stand unless they are set again (default 300)')
    .action(async (assignments: string[], flags: LocalFlags) => {
      const { setMetrics } = await import('../../agent/local/commands.ts')
      await ask(flags, () => setMetrics(assignments, flags.ttl))
    })
  local(metric, 'unset <name...>', 'take metrics back').action(async (names: string[], flags: LocalFlags) => {
    const { unsetMetrics } = await import('../../agent/local/commands.ts')
    await ask(flags, () => unsetMetrics(names))
  })

  local(agent, 'event [message]', "put an event on the robot's timeline")
    .requiredOption('--code <code>', 'what kind of event it is, for programs')
    .option('--level <level>', `${LEVEL} (default info)`)
    .option('--data <json>', 'a JSON object that goes with it')
    .action(async (message: string | undefined, flags: LocalFlags & { code: string }) => {
      const { sendEvent } = await import('../../agent/local/commands.ts')
      await ask(flags, () => sendEvent({ ...flags, message: message ?? '' }))
    })

  const fault = agent.command('fault').description('what is wrong with the robot, until it is cleared')
  local(fault, 'raise [message]', 'raise a fault, or change one that stands')
    .requiredOption('--code <code>', 'which fault it is, for programs')
    .option('--level <level>', `${LEVEL} (default error)`)
    .option('--ttl <seconds>', 'let it end by itself, unless it is raised again')
    .action(async (message: string | undefined, flags: LocalFlags & { code: string }) => {
      const { raiseFault } = await import('../../agent/local/commands.ts')
      await ask(flags, () => raiseFault({ ...flags, message: message ?? '' }))
    })
  local(fault, 'clear <code>', 'end a fault').action(async (code: string, flags: LocalFlags) => {
    const { clearFault } = await import('../../agent/local/commands.ts')
    await ask(flags, () => clearFault(code))
  })
  local(fault, 'list', "the faults that the robot's own software raised").action(
    async (flags: LocalFlags) => {
      const { listFaults } = await import('../../agent/local/commands.ts')
      await ask(flags, listFaults)
    },
  )
}
