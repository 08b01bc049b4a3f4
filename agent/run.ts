import { dirname, join } from 'node:path'
import { gatewayFor } from './addresses.ts'
import { type BecomingParts, firstIdentity, nextIdentity } from './becoming.ts'
import { demandOwnMachine } from './binding.ts'
import { endSignal } from './end-signal.ts'
import { EventQueue } from './events.ts'
import { AgentExit, EXIT, TokenRefused } from './exit.ts'
import { removeLeftovers } from './files.ts'
import { credentialsLeft, removeUsedUp } from './handed-over.ts'
import { KeptFile } from './kept-file.ts'
import { remembering } from './last-errors.ts'
import { Local } from './local/local.ts'
import { readLocalSettings } from './local/settings.ts'
import { takeLock } from './lock.ts'
import type { Log } from './log.ts'
import { readMachine } from './machine.ts'
import type { Network } from './network/dial.ts'
import { proxyFor, shownProxy } from './network/proxy.ts'
import { Trust } from './network/trust.ts'
import { KeptOrigins } from './origins.ts'
import type { Places } from './places.ts'
import { Robot, type RobotParts } from './robot.ts'
import { systemClock, systemRandom, systemUptime } from './runtime.ts'
import { SensorBoard } from './sensors/board.ts'
import { hostSensors } from './sensors/host.ts'
import { Sequence } from './sequence.ts'
import { ServerTime } from './server-time.ts'
import { Teller } from './service/teller.ts'
import { SessionCount } from './session-count.ts'
import {
  type AgentFlags,
  type AgentSettings,
  type Environment,
  lookForCredential,
  readSettings,
} from './settings.ts'
import { openRing } from './spool/open.ts'
import { DiskSpool } from './spool.ts'
import type { Identity } from './state.ts'
import { loadState, restoreState } from './state-file.ts'
import { identityStatus, NOT_LINKED } from './status.ts'
import { Store } from './store.ts'
import { agentVersion } from './version.ts'

const clock = systemClock
const random = systemRandom

function aboutThis({ config }: Places) {
  return { running: true, config, pid: process.pid, version: agentVersion }
}

/**
 * Enrols if need be and holds the robot's sessions until a signal ends it. Rejects with AgentExit when another agent has
 * this identity, and when a person is needed.
 */
export async function runUnderLock(
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
  for (const folder of [dirname(places.config), places.stateDir]) removeLeftovers(folder, places.stem)
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
    await hearing(places, env, log, (heard) => work(places, flags, env, teller, heard, log, ending.signal))
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

interface Heard {
  readonly local: Local
  readonly events: EventQueue
  readonly serverTime: ServerTime
}

/** Machines that do not tell their starts apart have one for each process. */
function readServerTime(bootId: string | undefined, places: Places, log: Log): ServerTime {
  const origins = new KeptOrigins(places.origins, (sentence) => log.warn(sentence))
  return bootId
    ? new ServerTime({ clock, boot: bootId, sinceBoot: systemUptime, origins })
    : new ServerTime({
        clock,
        boot: random.bytes(12).toString('hex'),
        sinceBoot: () => clock.monotonic(),
        origins,
      })
}

/** Hears the robot's own software while `run` goes on. */
async function hearing(
  places: Places,
  env: Environment,
  log: Log,
  run: (heard: Heard) => Promise<void>,
): Promise<void> {
  const { bootId } = readMachine(places)
  const eventFile = new KeptFile(join(places.stateDir, `${places.stem}.events`), clock, log)
  const serverTime = readServerTime(bootId, places, log)
  const events = new EventQueue(clock, undefined, eventFile, serverTime)
  const settings = readLocalSettings(places, env)
  const local = new Local({ settings, places, bootId, env, clock, serverTime, random, log, events })
  await local.start()
  try {
    await run({ local, events, serverTime })
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
  { local, events, serverTime }: Heard,
  log: Log,
  signal: AbortSignal,
): Promise<void> {
  // Read again now that nobody else can write it.
  const { state, warnings, isFromCopy } = loadState(places)
  const left = () => credentialsLeft(places, env.CREDENTIALS_DIRECTORY)
  const settings = readSettings(flags, env, state.settings, state.identity !== undefined, left())
  for (const warning of warnings) log.warn(warning)
  if (isFromCopy) log.warn(restoreState(places, state))
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
  let identity = demandOwnMachine(await firstIdentity(becoming), machine, settings.adopts, { log, store })
  const ringOf = (owner: string) => openRing({ places, clock, owner, log, maxBytes: settings.spoolBytes })
  let ring = ringOf(identity.robotId)
  const sequence = new Sequence(places.sequence, clock, (sentence) => log.warn(sentence))
  removeUsedUp(places, identity, log)
  sequence.goAbove(ring.highest)
  try {
    while (!signal.aborted) {
      const addresses = addressesOf(identity, settings, log)
      tellProxy(addresses.gatewayUrl, network, log)
      const robot = new Robot(identity, {
        clock,
        random,
        log,
        machine,
        network,
        sequence,
        sessionCount: new SessionCount(places.sessionCount, identity.robotId, (why) => log.warn(why)),
        serverTime,
        spool: new DiskSpool(ring, serverTime),
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
  log: Log,
): Pick<RobotParts, 'gatewayUrl' | 'fallbackUrl'> {
  const server = settings.serverIsExplicit ? settings.server : identity.server
  const gateway = gatewayFor(identity, server, settings.serverIsExplicit)
  for (const remark of gateway.remarks) log.warn(remark)
  return { gatewayUrl: gateway.url, fallbackUrl: gateway.fallback }
}

function tellProxy(address: string, { proxies }: Network, log: Log): void {
  const proxy = URL.canParse(address) ? proxyFor(new URL(address), proxies) : undefined
  if (proxy) log.info(`connecting through the proxy ${shownProxy(proxy)} (${proxy.variable})`)
}
