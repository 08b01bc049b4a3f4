import type { Bus } from '../bus/bus.ts'
import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import type { ClonePolicy } from '../db/sessions.ts'
import { BeaconError } from '../errors.ts'
import { Registry } from '../fleet/registry.ts'
import { Robots } from '../fleet/robots.ts'
import { GroupFullError } from '../grouping.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { CLOSE } from '../protocol/close-codes.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import { Releases } from '../releases.ts'
import type { Clock, Random } from '../runtime.ts'
import type { Admission, UpgradeRequest } from '../transport/transport.ts'
import { AdmissionQueue } from './admission.ts'
import { type AuthenticatedRobot, Authenticator, robotToken } from './authenticator.ts'
import type { Connection } from './connection.ts'
import { drainSpanMs, sendAway } from './drain.ts'
import { News } from './news.ts'
import { Overloaded, OverloadGuard } from './overload.ts'
import type { PersistParts } from './persist.ts'
import { PresenceKeeper } from './presence-keeper.ts'
import { ReconnectSpread } from './reconnect-spread.ts'
import { type Resources, systemResources } from './resources.ts'
import { ServerWatch } from './server-watch.ts'
import { Sessions } from './sessions.ts'
import { spreadSeconds } from './spread.ts'
import { StormGarbage } from './storm-garbage.ts'
import { TimelineWriter } from './timeline-writer.ts'
import { within } from './within.ts'

export interface GatewayParts {
  readonly database: Database
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  readonly server: { readonly id: string; readonly hostname: string; readonly processId: number }
  readonly defaultIntervalMs: number
  /** Undefined: operators are told, and no more. */
  readonly clonePolicy?: ClonePolicy
  /** How long heartbeats wait for company; undefined: as suits the only process. */
  readonly heartbeatLingerMs?: number
  /** Robot sessions that this process opens in a second; 0: as many as come. */
  readonly sessionsPerSecond: number
  /** The same for the whole server, of which this process is one; undefined: it is the only one. */
  readonly returnsPerSecond?: number
  /** Over how long robots whose session breaks without a word come back; undefined: as their number asks for. */
  readonly reconnectSpreadMs?: number | undefined
  /** Told now and then how many robots may come back at once. */
  readonly onExpectedRobots?: (robots: number) => void
  /** What this process has; undefined: it is measured. */
  readonly resources?: Resources
  /** True for a process whose supervisor watches other servers and says which are gone (`serversGone`). */
  readonly supervised?: boolean
  /** Told of all servers that are gone and whose robots are waited for, whenever that changes. */
  readonly onGoneChanged?: (serverIds: readonly string[]) => void
  /** Told when this process has no room for more robots, and when it has again. */
  readonly onRoomChanged?: (hasRoom: boolean) => void
  /** Told again and again whether nobody may connect to this process for lack of descriptors. */
  readonly onDescriptorsGone?: (areGone: boolean) => void
}

const TICK_MS = 250
/**
 * Robots that may be on their way from the upgrade to the open session: what is taken in within this time, and in any
 * case so many. Beyond them, upgrades wait.
 */
const HANDSHAKE_MS = 3_000
const MAX_HANDSHAKES = 5_000
const MIN_HANDSHAKES = 100
/** What stopping waits for heartbeats to be acknowledged before sessions are closed. */
const ACKNOWLEDGE_DEADLINE_MS = 3_000
/** What stopping takes until it gives up on the database, of which at the most so much for sockets to close. */
const FLUSH_DEADLINE_MS = 8_000
const CLOSE_DEADLINE_MS = 2_000
/** What it waits besides to be taken off the list of servers; the others find out by themselves, too. */
const LEAVE_DEADLINE_MS = 1_000

/** Where this server's robots are: admits sockets, keeps time for their sessions and lets them go. */
export class Gateway {
  readonly #parts: GatewayParts
  readonly #robots = new Robots<Connection>()
  readonly #registry = new Registry(this.#robots)
  readonly #authenticator: Authenticator
  readonly #timeline: TimelineWriter
  readonly #presence: PresenceKeeper
  readonly #spread: ReconnectSpread
  readonly #watch: ServerWatch
  readonly #news: News
  readonly #sessions: Sessions
  readonly #admission: AdmissionQueue
  readonly #guard: OverloadGuard
  readonly #stormGarbage: StormGarbage
  #perSecond: number
  readonly #givingUp = new AbortController()
  readonly #releases: Releases
  /** Upgrades whose token is being looked up. */
  #authenticating = 0
  #draining = false
  /** Over how many seconds those are spread that come while it drains. */
  #returnWithinSeconds = 0

  constructor(parts: GatewayParts) {
    const { database, clock, log, metrics } = parts
    const persist: PersistParts = { clock, log, metrics, signal: this.#givingUp.signal }
    this.#parts = parts
    this.#releases = new Releases((name, error) =>
      log.error({ err: error, part: name }, 'could not stop a part'),
    )
    this.#authenticator = new Authenticator(database)
    this.#timeline = new TimelineWriter(database, persist)
    this.#presence = new PresenceKeeper(database, persist, this.#timeline, this.#robots)
    const returnsPerSecond = parts.returnsPerSecond ?? parts.sessionsPerSecond
    this.#spread = new ReconnectSpread({ ...parts, returnsPerSecond, sessions: () => this.#sessions.size })
    this.#watch = new ServerWatch({
      ...parts,
      returnsPerSecond,
      spread: this.#spread,
      timeline: this.#timeline,
      onThoughtDead: () => this.#restatePresence(),
    })
    this.#news = new News({
      ...parts,
      persist,
      registry: this.#registry,
      presence: this.#presence,
    })
    this.#sessions = new Sessions({
      ...parts,
      clonePolicy: parts.clonePolicy ?? 'alert',
      heartbeatLingerMs: parts.heartbeatLingerMs,
      spread: this.#spread,
      persist,
      robots: this.#robots,
      registry: this.#registry,
      timeline: this.#timeline,
      presence: this.#presence,
      watch: this.#watch,
      news: this.#news,
    })
    this.#stormGarbage = new StormGarbage(parts.random)
    this.#perSecond = parts.sessionsPerSecond
    this.#admission = new AdmissionQueue({ ...parts, perSecond: this.#perSecond, room: () => this.#room })
    this.#guard = new OverloadGuard({
      ...parts,
      resources: parts.resources ?? systemResources(),
      sockets: () => this.#sessions.sockets + this.#admission.waiting + this.#authenticating,
    })
  }

  /** Begins to watch and to listen. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    const { clock, metrics } = this.#parts
    await this.#watch.start()
    this.#releases.add('server watch', () => within(clock, LEAVE_DEADLINE_MS, this.#watch.stop()))
    await this.#spread.start()
    this.#releases.add('spread', () => within(clock, LEAVE_DEADLINE_MS, this.#spread.stop()))
    this.#news.start()
    this.#guard.start()
    this.#releases.add('overload guard', () => this.#guard.stop())
    const tick = clock.every(TICK_MS, () => this.#tick())
    this.#releases.add('tick', () => tick.cancel())
    metrics.sessions.set(0)
  }

  /** Its share of what the whole server opens changes as other processes come and go; 0: as many as come. */
  setSessionsPerSecond(perSecond: number): void {
    this.#perSecond = perSecond
    this.#admission.setRate(perSecond)
  }

  /** A supervised process is told which servers are gone. */
  serversGone(serverIds: readonly string[]): void {
    this.#watch.setGone(serverIds)
  }

  /** A supervised process is told how many robots may come back at once. */
  setExpectedRobots(robots: number): void {
    this.#spread.setExpected(robots)
  }

  /** Somebody saw a server's process end: its robots are waited for from now on. */
  declareGone(serverId: string): void {
    this.#watch.declareGone(serverId)
  }

  /** Whether robots that are turned away for lack of room find some if they come again at once. */
  roomElsewhere(isThere: boolean): void {
    this.#guard.roomElsewhere = isThere
  }

  get sessions(): number {
    return this.#sessions.size
  }

  get draining(): boolean {
    return this.#draining
  }

  /** Why new robots should rather go elsewhere, in the words of /readyz; none: they are taken. Costs no statement. */
  get notReadyFor(): readonly ('draining' | 'database_unavailable')[] {
    if (this.#draining) return ['draining']
    return this.#watch.reachesDatabase ? [] : ['database_unavailable']
  }

  /**
   * Refuses new sockets, stores what robots have sent, tells them when to come back, closes their sessions and waits,
   * for a bounded time, until all is written. Robots are not offline by this: they are given time to return.
   */
  async stop(): Promise<void> {
    const { clock, log } = this.#parts
    const spanMs = drainSpanMs(this.#registry.size, this.#perSecond)
    this.#returnWithinSeconds = Math.ceil(spanMs / 1000)
    this.#draining = true
    this.#admission.clear(() => this.#drainingRefusal())
    const giveUp = clock.after(FLUSH_DEADLINE_MS, () => {
      log.warn('the database does not take what is left; giving up on it')
      this.#givingUp.abort()
    })
    await within(clock, ACKNOWLEDGE_DEADLINE_MS, this.#sessions.flushHeartbeats())
    await sendAway([...this.#registry.all()], spanMs, this.#parts)
    await this.#allClosed()
    this.#sessions.terminateAll()
    await this.#sessions.flushHeartbeats()
    await this.#sessions.idle()
    await this.#presence.idle()
    // Last, for the others still have something to say in it.
    await this.#timeline.idle()
    giveUp.cancel()
    await this.#releases.run()
    this.#givingUp.abort()
  }

  /** Decides about an upgrade request: what costs least comes first, and the database last. */
  async admit(request: UpgradeRequest): Promise<Admission> {
    const { metrics } = this.#parts
    try {
      if (this.#draining) throw this.#drainingRefusal()
      if (!request.subprotocols.includes(SUBPROTOCOL))
        throw new BeaconError('subprotocol_required', `Sec-WebSocket-Protocol has to offer ${SUBPROTOCOL}`)
      const overload = this.#guard.refusal(() => this.#admission.retryAfterSeconds())
      if (overload) throw overload
      const token = robotToken(request.authorization)
      const turn = this.#admission.enter(request)
      if (turn && (await turn) === 'gone') {
        metrics.upgrades.inc({ outcome: 'client_gone' })
        // Nobody is there to read it.
        return { kind: 'refuse', error: new BeaconError('overloaded') }
      }
      const robot = await this.#authenticate(token)
      if (this.#draining) throw this.#drainingRefusal()
      metrics.uncounted.upgradesAccepted += 1
      return { kind: 'accept', open: (socket) => this.#sessions.accept(socket, robot) }
    } catch (thrown) {
      const error = this.#refusalFor(thrown)
      metrics.upgrades.inc({ outcome: error.code })
      if (error instanceof Overloaded) metrics.overloadRefusals.inc({ reason: error.reason })
      return { kind: 'refuse', error }
    }
  }

  async #authenticate(token: string): Promise<AuthenticatedRobot> {
    this.#authenticating += 1
    try {
      return await this.#authenticator.authenticate(token)
    } finally {
      this.#authenticating -= 1
    }
  }

  /** How many more may be on their way to an open session. */
  get #room(): number {
    return maxHandshakes(this.#perSecond) - this.#authenticating - this.#sessions.handshakes
  }

  #refusalFor(thrown: unknown): BeaconError {
    if (thrown instanceof BeaconError) return thrown
    if (thrown instanceof GroupFullError)
      return new Overloaded('queue_full', this.#admission.retryAfterSeconds())
    const away = isDatabaseUnavailable(thrown)
    if (!away) this.#parts.log.error({ err: thrown }, 'an upgrade failed')
    return new BeaconError(away ? 'database_unavailable' : 'internal_error', undefined, {
      retryAfterSeconds: Math.max(
        spreadSeconds(this.#parts.random, 2, 10),
        this.#admission.retryAfterSeconds(),
      ),
      cause: thrown,
    })
  }

  #drainingRefusal(): BeaconError {
    const latest = Math.max(this.#returnWithinSeconds, 5)
    return new BeaconError('draining', undefined, {
      retryAfterSeconds: spreadSeconds(this.#parts.random, 1, latest),
    })
  }

  // What time and others bring

  #tick(): void {
    const now = this.#parts.clock.now()
    this.#sessions.tick()
    this.#measure()
    this.#stormGarbage.tick(this.#sessions.openedInAll, this.#parts.clock.monotonic())
    // A server that sends its robots away hears them no longer: whoever comes after it judges them.
    if (this.#draining) return
    for (const change of this.#presence.presence.tick(now)) {
      this.#presence.write(change)
      if (change.connection !== 'offline') continue
      const connection = this.#registry.current(change.robotId)
      if (connection?.sessionNo === change.sessionNo) connection.end(CLOSE.silent)
    }
  }

  #measure(): void {
    const { queueDepth, admissionWaiting } = this.#parts.metrics
    admissionWaiting.set(this.#admission.waiting)
    queueDepth.set({ queue: 'timeline' }, this.#timeline.waiting)
    queueDepth.set({ queue: 'presence' }, this.#presence.waiting)
    queueDepth.set({ queue: 'authentication' }, this.#authenticator.waiting)
  }

  #restatePresence(): void {
    this.#parts.log.warn('the other servers had taken this one for dead; saying again who is here')
    for (const change of this.#presence.presence.restate(this.#parts.clock.now()))
      this.#presence.write(change)
    this.#news.lookAgain([...this.#registry.all()])
  }

  async #allClosed(): Promise<void> {
    const { clock } = this.#parts
    const deadline = clock.monotonic() + CLOSE_DEADLINE_MS
    while (this.#sessions.sockets > 0 && clock.monotonic() < deadline) await clock.sleep(20)
  }
}

function maxHandshakes(perSecond: number): number {
  if (perSecond === 0) return MAX_HANDSHAKES
  return Math.min(Math.max((perSecond * HANDSHAKE_MS) / 1000, MIN_HANDSHAKES), MAX_HANDSHAKES)
}
