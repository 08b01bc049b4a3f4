import { existsSync, statSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import { dirname, join } from 'node:path'
import { gatewayFor } from './addresses.ts'
import { type BecomingParts, firstIdentity, nextIdentity } from './becoming.ts'
import { type Check, checked, checkLine } from './check.ts'
import { examine } from './doctor/doctor.ts'
import { reportLines } from './doctor/report.ts'
import { EventQueue } from './events.ts'
import { AgentExit, EXIT, TokenRefused } from './exit.ts'
import { filesOf, forgetIdentity } from './forget.ts'
import { credentialsLeft, removeUsedUp } from './handed-over.ts'
import { forgetForImage } from './image.ts'
import { KeptFile } from './kept-file.ts'
import { remembering } from './last-errors.ts'
import { socketToCall } from './local/address.ts'
import { askLocally, type LocalCommand } from './local/commands.ts'
import { Local } from './local/local.ts'
import { readLocalSettings } from './local/settings.ts'
import { takeLock } from './lock.ts'
import { createLog, type Log, type LogOutput } from './log.ts'
import { type Machine, readMachine } from './machine.ts'
import type { Network } from './network/dial.ts'
import { proxyFor, shownProxy } from './network/proxy.ts'
import { Trust } from './network/trust.ts'
import { followed, type Places, placesOf, SERVICE_CONFIG } from './places.ts'
import { Robot, type RobotParts } from './robot.ts'
import { systemClock, systemRandom } from './runtime.ts'
import { SensorBoard } from './sensors/board.ts'
import { hostSensors } from './sensors/host.ts'
import { Sequence } from './sequence.ts'
import {
  type InstallFlags,
  installService,
  readInput,
  rootOf,
  type ServiceFlags,
  type UninstallFlags,
  uninstallService,
} from './service/command.ts'
import { type ServiceHost, thisHost } from './service/host.ts'
import { SYSTEM_LAYOUT } from './service/layout.ts'
import { Teller } from './service/teller.ts'
import {
  type AgentFlags,
  type AgentSettings,
  configPathIn,
  type Environment,
  lookForCredential,
  readSettings,
} from './settings.ts'
import { openRing } from './spool/open.ts'
import { DiskSpool } from './spool.ts'
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
    refuseServicesPlace(places)
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

/** `beacon agent status`: answers 1 when there is no identity, or when the check that is asked for fails. */
export async function showStatus(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  asked: { readonly asJson: boolean; readonly check?: Check | undefined },
): Promise<number> {
  return answering(output, async () => {
    const status = await readStatus(whereFor(flags, env), clock)
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

/** `beacon agent doctor`: answers 1 when something failed. */
export async function examineAgent(
  flags: AgentFlags,
  env: Environment,
  output: AgentOutput,
  asJson: boolean,
): Promise<number> {
  return answering(output, async () => {
    const report = await examine({ places: whereFor(flags, env), flags, env, clock })
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
    hasService: existsSync(SYSTEM_LAYOUT.unit),
  })
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

function aboutThis({ config }: Places) {
  return { running: true, config, pid: process.pid, version: agentVersion }
}

async function underLock(places: Places, flags: AgentFlags, env: Environment, plainLog: Log): Promise<void> {
  const lock = await takeLock(places, clock, random)
  if (!lock)
    throw new AgentExit(
      EXIT.conflict,
      `another agent runs on ${places.config}. Stop it, or give this one a --config of its own`,
    )
  const memory = remembering(plainLog, clock)
  const { log } = memory
  const ending = endSignal(log)
  const about = aboutThis(places)
  const teller = new Teller({ lock, env, clock, log, lastErrors: memory.lastErrors }, () => ({
    ...identityStatus(undefined),
    ...about,
    link: NOT_LINKED,
  }))
  ending.signal.addEventListener('abort', () => void teller.stopping())
  try {
    await hearing(places, env, log, (local, events) =>
      work(places, flags, env, teller, local, events, log, ending.signal),
    )
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

/** Hears the robot's own software while `run` goes on. */
async function hearing(
  places: Places,
  env: Environment,
  log: Log,
  run: (local: Local, events: EventQueue) => Promise<void>,
): Promise<void> {
  const { bootId } = readMachine(places)
  const eventFile = new KeptFile(join(places.stateDir, `${places.stem}.events`), clock, log)
  const events = new EventQueue(clock, undefined, eventFile)
  const settings = readLocalSettings(places, env)
  const local = new Local({ settings, places, bootId, env, clock, random, log, events })
  await local.start()
  try {
    await run(local, events)
  } finally {
    await local.stop()
    events.stop()
  }
}

async function work(
  places: Places,
  flags: AgentFlags,
  env: Environment,
  teller: Teller,
  local: Local,
  events: EventQueue,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  // Read again now that nobody else can write it.
  const { state, warnings } = loadState(places)
  const left = () => credentialsLeft(places, env.CREDENTIALS_DIRECTORY)
  const settings = readSettings(flags, env, state.settings, state.identity !== undefined, left())
  for (const warning of warnings) log.warn(warning)
  const machine = readMachine(places)
  const about = aboutThis(places)

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
  let identity = await firstIdentity(becoming)
  const ringOf = (owner: string) => openRing({ places, clock, owner, log, maxBytes: settings.spoolBytes })
  let ring = ringOf(identity.robotId)
  const sequence = new Sequence(places.sequence, clock, (error) =>
    log.warn(`cannot write ${places.sequence}: ${describeError(error)}`),
  )
  removeUsedUp(places, identity, log)
  sequence.goAbove(ring.highest)
  try {
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
        spool: new DiskSpool(ring),
        readSensors: () => board.read(),
        readLocal: () => local.read(),
        events,
        ...addresses,
        ownIntervalMs: settings.ownIntervalMs,
        keepIdentity: (changed) => store.keepIdentity(changed),
        signal,
      })
      teller.tell(
        () => ({ ...identityStatus(store.identity), ...about, link: robot.status(), local: local.status() }),
        () => robot.isStuck,
      )
      const refusal = await endOf(robot).finally(() => ring.flush())
      if (!refusal) return
      teller.tell(() => ({
        ...identityStatus(store.identity),
        ...about,
        link: NOT_LINKED,
        local: local.status(),
      }))
      const next = await nextIdentity(becoming, refusal)
      removeUsedUp(places, next, log)
      // What another robot measured is none of this one's.
      if (next.robotId !== identity.robotId) {
        ring.clear()
        ring.close()
        ring = ringOf(next.robotId)
        sequence.goAbove(ring.highest)
        events.clear()
      }
      identity = next
    }
  } finally {
    ring.close()
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
