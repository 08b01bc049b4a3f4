import { homedir, userInfo } from 'node:os'
import { dirname } from 'node:path'
import { gatewayFor } from './addresses.ts'
import { type BecomingParts, firstIdentity, nextIdentity } from './becoming.ts'
import { AgentExit, EXIT, TokenRefused } from './exit.ts'
import { filesOf, forgetIdentity } from './forget.ts'
import { socketToCall } from './local/address.ts'
import { askLocally, type LocalCommand } from './local/commands.ts'
import { credentialsLeft, removeUsedUp } from './handed-over.ts'
import { remembering } from './last-errors.ts'
import { takeLock } from './lock.ts'
import { createLog, type Log, type LogOutput } from './log.ts'
import { type Machine, readMachine } from './machine.ts'
import type { Network } from './network/dial.ts'
import { proxyFor, shownProxy } from './network/proxy.ts'
import { Trust } from './network/trust.ts'
import { type Places, placesOf } from './places.ts'
import { Robot, type RobotParts } from './robot.ts'
import { systemClock, systemRandom } from './runtime.ts'
import { SensorBoard } from './sensors/board.ts'
import { hostSensors } from './sensors/host.ts'
import { Sequence } from './sequence.ts'
import { Teller } from './service/teller.ts'
import {
  type AgentFlags,
  type AgentSettings,
  configPathIn,
  type Environment,
  lookForCredential,
  readSettings,
} from './settings.ts'
import { MemorySpool } from './spool.ts'
import type { Identity } from './state.ts'
import { loadState } from './state-file.ts'
import { identityStatus, NOT_LINKED, readStatus, statusLines } from './status.ts'
import { Store } from './store.ts'
import { describeError } from './text.ts'
import { agentVersion } from './version.ts'

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
    // Mistakes in the settings are told before anything is made or taken.
    const settings = settingsFor(places, flags, env)
    log = createLog(settings.logLevel, output.log, clock)
    await underLock(places, flags, env, log)
    return EXIT.fine
  } catch (error) {
    if (!(error instanceof AgentExit)) throw error
    for (const line of error.message.split('\n')) log.error(line)
    return error.exitCode
  }
}

/** `beacon agent status`: answers 1 when there is no identity. */
export async function showStatus(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  asJson: boolean,
): Promise<number> {
  return answering(output, async () => {
    const status = await readStatus(whereFor(flags, env), clock)
    const lines = asJson ? [JSON.stringify(status, null, 2)] : statusLines(status)
    output.answers.write(`${lines.join('\n')}\n`)
    return status.enrolled ? EXIT.fine : EXIT.error
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

async function answering(output: AgentOutput, command: () => Promise<number>): Promise<number> {
  try {
    return await command()
  } catch (error) {
    if (!(error instanceof AgentExit)) throw error
    output.log.write(`error: ${error.message}\n`)
    return error.exitCode
  }
}

function whereFor(flags: AgentFlags, env: Environment): Places {
  return placesOf({
    config: configPathIn(flags, env),
    env,
    isRoot: process.getuid?.() === 0,
    accountHome: accountHome(),
  })
}

/** A process may run as a user that the system does not know. */
function accountHome(): string {
  try {
    return userInfo().homedir
  } catch {
    return homedir()
  }
}

function settingsFor(places: Places, flags: AgentFlags, env: Environment): AgentSettings {
  const { state } = loadState(places)
  const left = credentialsLeft(places, env.CREDENTIALS_DIRECTORY)
  return readSettings(flags, env, state.settings, state.identity !== undefined, left)
}

async function underLock(
  places: Places,
  flags: AgentFlags,
  env: Environment,
  plainLog: Log,
): Promise<void> {
  const lock = await takeLock(places, clock, random)
  if (!lock)
    throw new AgentExit(
      EXIT.conflict,
      `another agent runs on ${places.config}. Stop it, or give this one a --config of its own`,
    )
  const memory = remembering(plainLog, clock)
  const { log } = memory
  const ending = endSignal(log)
  const about = { running: true, config: places.config, pid: process.pid, version: agentVersion }
  const teller = new Teller({ lock, env, clock, log, lastErrors: memory.lastErrors }, () => ({
    ...identityStatus(undefined),
    ...about,
    link: NOT_LINKED,
  }))
  ending.signal.addEventListener('abort', () => void teller.stopping())
  try {
    await work(places, flags, env, teller, log, ending.signal)
  } catch (error) {
    if (error instanceof AgentExit) await teller.stopping(error.message)
    if (!ending.signal.aborted || error instanceof AgentExit) throw error
    log.info('stopped before it was enrolled')
  } finally {
    ending.release()
    await teller.stopping()
    lock.release()
  }
}

async function work(
  places: Places,
  flags: AgentFlags,
  env: Environment,
  teller: Teller,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  // Read again now that nobody else can write it.
  const { state, warnings } = loadState(places)
  const left = () => credentialsLeft(places, env.CREDENTIALS_DIRECTORY)
  const settings = readSettings(flags, env, state.settings, state.identity !== undefined, left())
  for (const warning of warnings) log.warn(warning)
  const machine = readMachine(places)
  const about = { running: true, config: places.config, pid: process.pid, version: machine.version }

  const network: Network = {
    proxies: settings.network.proxies,
    trust: new Trust(settings.network.trust),
    clock,
  }
  const store = new Store(places, state)
  const becoming: BecomingParts = {
    clock,
    random,
    log,
    machine,
    network,
    signal,
    store,
    settings,
    look: () => lookForCredential(flags, env, state.settings, left()),
  }
  const board = new SensorBoard(hostSensors(dirname(places.config), clock), clock)
  const sequence = new Sequence(places.sequence, clock, (error) =>
    log.warn(`cannot write ${places.sequence}: ${describeError(error)}`),
  )
  let spool = new MemorySpool()
  let identity = await firstIdentity(becoming)
  removeUsedUp(places, identity, log)
  while (!signal.aborted) {
    const addresses = addressesOf(identity, settings, machine, log)
    tellProxy(addresses.gatewayUrl, network, log)
    const robot = new Robot(identity, {
      clock,
      random,
      log,
      machine,
      network,
      sequence,
      spool,
      readSensors: () => board.read(),
      ...addresses,
      ownIntervalMs: settings.ownIntervalMs,
      keepIdentity: (changed) => store.keepIdentity(changed),
      signal,
    })
    teller.tell(
      () => ({ ...identityStatus(store.identity), ...about, link: robot.status() }),
      () => robot.isStuck,
    )
    const refusal = await endOf(robot)
    if (!refusal) return
    teller.tell(() => ({ ...identityStatus(store.identity), ...about, link: NOT_LINKED }))
    const next = await nextIdentity(becoming, refusal)
    removeUsedUp(places, next, log)
    // What another robot measured is none of this one's.
    if (next.robotId !== identity.robotId) spool = new MemorySpool()
    identity = next
  }
}

/** Runs the robot; answers with why its token was refused, if that is what ended it. */
async function endOf(robot: Robot): Promise<TokenRefused | undefined> {
  try {
    await robot.run()
    return undefined
  } catch (error) {
    if (error instanceof TokenRefused) return error
    throw error
  }
}

function addressesOf(
  identity: Identity,
  settings: AgentSettings,
  machine: Machine,
  log: Log,
): Pick<RobotParts, 'gatewayUrl' | 'fallbackUrl'> {
  if (identity.machineId !== undefined && identity.machineId !== machine.machineId)
    log.warn('this identity was made on another machine or in another place; only one of the two may run')
  const server = settings.serverIsExplicit ? settings.server : identity.server
  const gateway = gatewayFor(identity, server, settings.serverIsExplicit)
  for (const remark of gateway.remarks) log.warn(remark)
  return { gatewayUrl: gateway.url, fallbackUrl: gateway.fallback }
}

function tellProxy(address: string, { proxies }: Network, log: Log): void {
  const proxy = URL.canParse(address) ? proxyFor(new URL(address), proxies) : undefined
  if (proxy) log.info(`connecting through the proxy ${shownProxy(proxy)} (${proxy.variable})`)
}

/** Aborts at the first SIGTERM or SIGINT; the second one ends the process where it stands. */
function endSignal(log: Log): { signal: AbortSignal; release(): void } {
  const ending = new AbortController()
  const names = ['SIGTERM', 'SIGINT'] as const
  const onSignal = (name: NodeJS.Signals) => {
    if (ending.signal.aborted) process.exit(EXIT.error)
    log.info(`${name}: stopping`)
    ending.abort()
  }
  for (const name of names) process.on(name, onSignal)
  return {
    signal: ending.signal,
    release: () => {
      for (const name of names) process.removeListener(name, onSignal)
    },
  }
}
