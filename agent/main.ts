import { existsSync, statSync } from 'node:fs'
import { accountHome } from './account-home.ts'
import { type Check, checked, checkLine } from './check.ts'
import { examine } from './doctor/doctor.ts'
import { reportLines } from './doctor/report.ts'
import { AgentExit, EXIT } from './exit.ts'
import { filesOf, forgetIdentity } from './forget.ts'
import { credentialsLeft } from './handed-over.ts'
import { forgetForImage } from './image.ts'
import { socketToCall } from './local/address.ts'
import { askLocally, type LocalCommand } from './local/commands.ts'
import { createLog, type LogOutput } from './log.ts'
import { followed, type Places, placesOf, SERVICE_CONFIG } from './places.ts'
import type { Ros2Flags } from './ros2/settings.ts'
import { runUnderLock } from './run.ts'
import { systemClock, systemRandom } from './runtime.ts'
import {
  type InstallFlags,
  installService,
  readInput,
  rootOf,
  type ServiceFlags,
  type UninstallFlags,
  uninstallService,
} from './service/command.ts'
import { environmentOfService } from './service/environment-file.ts'
import { type ServiceHost, thisHost } from './service/host.ts'
import { type Scope, SYSTEM_LAYOUT, userLayout } from './service/layout.ts'
import {
  type AgentFlags,
  type AgentSettings,
  configPathIn,
  type Environment,
  readSettings,
} from './settings.ts'
import { loadState } from './state-file.ts'
import { type Asker, mayMeanService, readStatus, statusLines, withHint } from './status.ts'

/** Where the agent's commands write. */
export interface AgentOutput {
  /** Answers of `status` and `forget`. */
  readonly answers: LogOutput
  /** The log, and what went wrong. */
  readonly log: LogOutput
}

const clock = systemClock
const random = systemRandom

/** `beacon agent run`: works until a signal ends it, and answers with the exit code. */
export async function runAgent(flags: AgentFlags, env: Environment, output: AgentOutput): Promise<number> {
  let log = createLog('info', output.log, clock)
  try {
    const places = whereFor(flags, env)
    refuseServicesPlace(places)
    // Mistakes in the settings are told before anything is made or taken.
    const settings = settingsFor(places, flags, env)
    log = createLog(settings.logLevel, output.log, clock)
    await runUnderLock(places, flags, env, log)
    return EXIT.fine
  } catch (error) {
    if (!(error instanceof AgentExit)) throw error
    for (const line of error.message.split('\n')) log.error(line)
    return error.exitCode
  }
}

/** `beacon agent status`: answers 1 when there is no identity, or when the check that is asked for fails. */
export async function showStatus(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  asked: { readonly asJson: boolean; readonly check?: Check | undefined },
): Promise<number> {
  return answering(output, async () => {
    const status = withHint(await readStatus(whereFor(flags, env), clock), askerFor(flags, env))
    const result = asked.check && checked(asked.check, status)
    const json = () => JSON.stringify({ ...status, ...(result ? { check: result } : {}) }, null, 2)
    const lines = asked.asJson ? [json()] : result ? [checkLine(result)] : statusLines(status)
    output.answers.write(`${lines.join('\n')}\n`)
    return (result ? result.passed : status.enrolled) ? EXIT.fine : EXIT.error
  })
}

/** `beacon agent install`; `program` is what starts this agent, without its command. */
export async function installAgent(
  flags: InstallFlags,
  env: Environment,
  output: AgentOutput,
  program: readonly string[],
): Promise<number> {
  return answering(output, async () => {
    const host = hostFor(flags, env)
    await installService(flags, { host, clock, answers: output.answers, program, readInput })
    return EXIT.fine
  })
}

/** `beacon agent uninstall`. */
export async function uninstallAgent(
  flags: UninstallFlags,
  env: Environment,
  output: AgentOutput,
): Promise<number> {
  return answering(output, async () => {
    await uninstallService(flags, { host: hostFor(flags, env), clock, answers: output.answers })
    return EXIT.fine
  })
}

function hostFor(flags: ServiceFlags, env: Environment): ServiceHost {
  const uid = process.getuid?.()
  if (process.platform !== 'linux' || uid === undefined)
    throw new AgentExit(
      EXIT.error,
      'services are installed on Linux with systemd; elsewhere start "beacon agent run" by other means',
    )
  return thisHost({ root: rootOf(flags), uid, home: accountHome(), env })
}

/** A service of this user, where there is one, is the one that this user asks about. */
function scopeOfService(): Scope {
  const own = userLayout(accountHome(), SERVICE_CONFIG).unit
  return process.getuid?.() !== 0 && existsSync(own) ? 'user' : 'system'
}

/** `beacon agent doctor`: answers 1 when something failed. */
export async function examineAgent(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  asJson: boolean,
): Promise<number> {
  return answering(output, async () => {
    const scope = scopeOfService()
    const places = whereFor(flags, env)
    const layout = scope === 'user' ? userLayout(accountHome(), places.config) : SYSTEM_LAYOUT
    const isServices =
      configPathIn(flags, env) === undefined && (scope === 'user' || process.getuid?.() === 0)
    const asService = isServices ? environmentOfService(layout, env) : env
    const mayMeanOther = scope === 'system' && mayMeanService(askerFor(flags, env))
    const report = await examine({ places, flags, env: asService, clock, scope, mayMeanOther })
    const lines = asJson ? [JSON.stringify(report, null, 2)] : reportLines(report)
    output.answers.write(`${lines.join('\n')}\n`)
    return report.ok ? EXIT.fine : EXIT.error
  })
}

/** `beacon agent forget --image`. */
export async function forgetForCopies(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  confirm: (question: string) => Promise<boolean>,
): Promise<number> {
  return answering(output, async () => {
    const places = whereFor(flags, env)
    const question = `Make this disk one to copy, and forget the identity at ${places.config}? This robot needs a key to enrol again.`
    if (filesOf(places).length > 0 && !(await confirm(question))) {
      output.answers.write('nothing was changed\n')
      return EXIT.error
    }
    const report = await forgetForImage(places, clock, random)
    const lines = [
      ...report.removed.map((file) => `removed ${file}`),
      ...(report.kept ? [`kept the settings in ${report.kept}`] : []),
      'this disk enrols afresh at its next start; nothing of its identity is left',
      ...report.remarks.map((remark) => `note: ${remark}`),
    ]
    output.answers.write(`${lines.join('\n')}\n`)
    return EXIT.fine
  })
}

/** `beacon agent forget`. `confirm` asks a person and answers whether to go on. */
export async function forgetAgent(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  confirm: (question: string) => Promise<boolean>,
): Promise<number> {
  return answering(output, async () => {
    const places = whereFor(flags, env)
    if (filesOf(places).length === 0) {
      output.answers.write(`nothing to forget: there is no identity at ${places.config}\n`)
      return EXIT.fine
    }
    if (
      !(await confirm(`Forget the identity at ${places.config}? The robot needs a new key to enrol again.`))
    ) {
      output.answers.write('nothing was changed\n')
      return EXIT.error
    }
    const removed = await forgetIdentity(places, clock, random)
    output.answers.write(`${removed.map((file) => `removed ${file}`).join('\n')}\n`)
    return EXIT.fine
  })
}

/** `beacon agent metric`, `event` and `fault`: asks the running agent. `build` throws AgentExit for a mistake. */
export async function askRunning(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  build: () => LocalCommand,
  asJson: boolean,
): Promise<number> {
  return answering(output, async () => {
    try {
      const path = socketToCall(whereFor(flags, env), env, configPathIn(flags, env) !== undefined)
      const lines = await askLocally(path, build(), clock, asJson)
      output.answers.write(`${lines.join('\n')}\n`)
      return EXIT.fine
    } catch (error) {
      if (asJson && error instanceof AgentExit)
        output.answers.write(`${JSON.stringify({ ok: false, error: error.message })}\n`)
      throw error
    }
  })
}

/** `beacon agent ros2`: hands what ROS 2 tells to the running agent until a signal ends it. */
export async function bridgeRos2(
  flags: Ros2Flags,
  env: Environment,
  output: AgentOutput,
  rosArgs: readonly string[],
): Promise<number> {
  return answering(output, async () => {
    // What an agent has no use for takes none of its memory.
    const { startBridge } = await import('./ros2/start.ts')
    const socket = () => socketToCall(whereFor(flags, env), env, configPathIn(flags, env) !== undefined)
    await startBridge(flags, { env, output: output.log, rosArgs, socket, clock })
    return EXIT.fine
  })
}

async function answering(output: AgentOutput, command: () => Promise<number>): Promise<number> {
  try {
    return await command()
  } catch (error) {
    if (!(error instanceof AgentExit)) throw error
    output.log.write(`error: ${error.message}\n`)
    return error.exitCode
  }
}

function askerFor(flags: Pick<AgentFlags, 'config'>, env: Environment): Asker {
  return {
    isRoot: process.getuid?.() === 0,
    isNamed: configPathIn(flags, env) !== undefined,
    hasService: existsSync(SYSTEM_LAYOUT.unit),
  }
}

function whereFor(flags: Pick<AgentFlags, 'config'>, env: Environment): Places {
  const { isRoot, hasService } = askerFor(flags, env)
  return placesOf({ config: configPathIn(flags, env), env, isRoot, accountHome: accountHome(), hasService })
}

/** What root writes there the service, with a user of its own, could not read any more. */
function refuseServicesPlace({ config, stateDir }: Places): void {
  if (process.getuid?.() !== 0 || config !== followed(SERVICE_CONFIG)) return
  const owner = statSync(stateDir, { throwIfNoEntry: false })?.uid ?? 0
  if (owner === 0) return
  throw new AgentExit(
    EXIT.usage,
    `${config} is the identity of this machine's service. Start that with "systemctl start beacon-agent", or give this agent a --config of its own`,
  )
}

function settingsFor(places: Places, flags: AgentFlags, env: Environment): AgentSettings {
  const { state } = loadState(places)
  const left = credentialsLeft(places, env.CREDENTIALS_DIRECTORY)
  return readSettings(flags, env, state.settings, state.identity !== undefined, left)
}
