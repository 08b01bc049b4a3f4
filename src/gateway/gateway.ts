import type { Bus } from '../bus/bus.ts'
import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import type { HeartbeatRow } from '../db/heartbeat-writes.ts'
import { type OpenedSession, readSessionFacts } from '../db/sessions.ts'
import { BeaconError } from '../errors.ts'
import { Registry } from '../fleet/registry.ts'
import { Grouping } from '../grouping.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { CLOSE, isFinalCloseCode, withReconnectDelay } from '../protocol/close-codes.ts'
import type { HelloFrame, RobotEventFrame } from '../protocol/frames.ts'
import { HELLO_TIMEOUT_MS, SUBPROTOCOL } from '../protocol/limits.ts'
import { Releases } from '../releases.ts'
import type { Clock, Random } from '../runtime.ts'
import type { SessionEnd, TimelineEntry } from '../session/state.ts'
import type { Admission, RobotSocket, SocketHandler, UpgradeRequest } from '../transport/transport.ts'
import { type AuthenticatedRobot, Authenticator } from './authenticator.ts'
import { Connection, type ConnectionHost } from './connection.ts'
import { HeartbeatWriter } from './heartbeat-writer.ts'
import { News } from './news.ts'
import { NextTokenWriter } from './next-token-writer.ts'
import type { PersistParts } from './persist.ts'
import { PresenceKeeper } from './presence-keeper.ts'
import { ServerWatch } from './server-watch.ts'
import { SessionOpener } from './session-opener.ts'
import { TimelineWriter } from './timeline-writer.ts'

export interface GatewayParts {
  readonly database: Database
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  readonly server: { readonly id: string; readonly hostname: string; readonly processId: number }
  readonly defaultIntervalMs: number
}

const TICK_MS = 250
/** Sockets that may wait for their hello or for the database, before further ones are sent away. */
const MAX_HANDSHAKES = 5_000
/** Robots are sent away over a span that grows by this much for each, within these bounds. */
const DRAIN_MS_PER_ROBOT = 2
const SHORTEST_DRAIN_SPAN_MS = 2_000
const LONGEST_DRAIN_SPAN_MS = 30_000
/** What stopping waits for writes, and then for sockets to close. */
const FLUSH_DEADLINE_MS = 8_000
const CLOSE_DEADLINE_MS = 2_000

/** Holds the sessions of this server's robots: admits sockets, carries out what their sessions decide, lets them go. */
export class Gateway implements ConnectionHost {
  readonly #parts: GatewayParts
  readonly #registry = new Registry<Connection>()
  /** Sockets that have not said hello, oldest first. */
  readonly #awaitingHello = new Set<Connection>()
  readonly #sockets = new Set<Connection>()
  readonly #paused = new Set<Connection>()
  readonly #authenticator: Authenticator
  readonly #opener: SessionOpener
  readonly #heartbeats: HeartbeatWriter
  readonly #timeline: TimelineWriter
  readonly #nextTokens: NextTokenWriter
  readonly #presence: PresenceKeeper
  readonly #watch: ServerWatch
  readonly #announce: Grouping<{ robot_id: string; session_no: number }, undefined>
  readonly #news: News
  readonly #givingUp = new AbortController()
  readonly #releases: Releases
  #opening = 0
  #sessions = 0
  #draining = false

  constructor(parts: GatewayParts) {
    const { database, bus, clock, log, metrics, server } = parts
    const persist: PersistParts = { clock, log, metrics, signal: this.#givingUp.signal }
    this.#parts = parts
    this.#releases = new Releases((name, error) =>
      log.error({ err: error, part: name }, 'could not stop a part'),
    )
    this.#authenticator = new Authenticator(database, clock)
    this.#opener = new SessionOpener(database, server.id, clock, metrics)
    this.#heartbeats = new HeartbeatWriter(database, persist, () => this.#resumeAll())
    this.#timeline = new TimelineWriter(database, persist)
    this.#nextTokens = new NextTokenWriter(database, persist)
    this.#presence = new PresenceKeeper(database, persist, this.#timeline)
    this.#watch = new ServerWatch({
      ...parts,
      timeline: this.#timeline,
      onThoughtDead: () => this.#restatePresence(),
    })
    this.#announce = new Grouping({
      maxGroup: 500,
      maxWaiting: 50_000,
      run: async (sessions) => {
        await bus.publish({ type: 'sessions_opened', sessions })
        return sessions.map(() => undefined)
      },
    })
    this.#news = new News({
      ...parts,
      persist,
      registry: this.#registry,
      authenticator: this.#authenticator,
      presence: this.#presence,
    })
  }

  /** Begins to watch and to listen. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    const { clock, metrics } = this.#parts
    await this.#watch.start()
    this.#releases.add('server watch', () => this.#watch.stop())
    this.#news.start()
    const tick = clock.every(TICK_MS, () => this.#tick())
    this.#releases.add('tick', () => tick.cancel())
    metrics.sessions.set(0)
  }

  get sessions(): number {
    return this.#sessions
  }

  get draining(): boolean {
    return this.#draining
  }

  /**
   * Refuses new sockets, stores what robots have sent, tells them when to come back, closes their sessions and waits,
   * for a bounded time, until all is written. Robots are not offline by this: they are given time to return.
   */
  async stop(): Promise<void> {
    const { clock, random, log } = this.#parts
    this.#draining = true
    const giveUp = clock.after(FLUSH_DEADLINE_MS, () => {
      log.warn('the database does not take what is left; giving up on it')
      this.#givingUp.abort()
    })
    await this.#heartbeats.flush()
    const connections = [...this.#registry.all()]
    const spanMs = Math.min(
      Math.max(connections.length * DRAIN_MS_PER_ROBOT, SHORTEST_DRAIN_SPAN_MS),
      LONGEST_DRAIN_SPAN_MS,
    )
    for (const connection of connections) connection.drain(random.fraction() * spanMs)
    await this.#allClosed()
    for (const connection of this.#sockets) connection.terminate()
    await this.#heartbeats.flush()
    await this.#presence.idle()
    await this.#timeline.idle()
    await this.#nextTokens.idle()
    giveUp.cancel()
    await this.#releases.run()
    this.#givingUp.abort()
  }

  /** Decides about an upgrade request. */
  async admit(request: UpgradeRequest): Promise<Admission> {
    const { metrics, log } = this.#parts
    try {
      if (this.#draining)
        throw new BeaconError('draining', undefined, { retryAfterSeconds: this.#spread(1, 5) })
      if (!request.subprotocols.includes(SUBPROTOCOL))
        throw new BeaconError('subprotocol_required', `Sec-WebSocket-Protocol has to offer ${SUBPROTOCOL}`)
      const handshakes = this.#awaitingHello.size + this.#opening + this.#authenticator.waiting
      if (handshakes >= MAX_HANDSHAKES)
        throw new BeaconError('overloaded', undefined, { retryAfterSeconds: this.#spread(1, 15) })
      const robot = await this.#authenticator.authenticate(request.authorization)
      if (this.#draining)
        throw new BeaconError('draining', undefined, { retryAfterSeconds: this.#spread(1, 5) })
      metrics.upgrades.inc({ outcome: 'accepted' })
      return { kind: 'accept', open: (socket) => this.#accept(socket, robot) }
    } catch (thrown) {
      let error = thrown
      if (!(error instanceof BeaconError)) {
        const away = isDatabaseUnavailable(error)
        if (!away) log.error({ err: error }, 'an upgrade failed')
        error = new BeaconError(away ? 'database_unavailable' : 'internal_error', undefined, {
          retryAfterSeconds: this.#spread(2, 10),
          cause: thrown,
        })
      }
      metrics.upgrades.inc({ outcome: (error as BeaconError).code })
      return { kind: 'refuse', error: error as BeaconError }
    }
  }

  #accept(socket: RobotSocket, robot: AuthenticatedRobot): SocketHandler {
    const connection = new Connection(this, socket, robot)
    this.#sockets.add(connection)
    this.#awaitingHello.add(connection)
    this.#registry.arrive(connection)?.end(CLOSE.replaced)
    return connection
  }

  // What sessions ask for

  now(): number {
    return this.#parts.clock.now()
  }

  heard(connection: Connection): void {
    if (connection.sessionNo === undefined || connection.phase !== 'open') return
    this.#presence.write(this.#presence.presence.heard(connection.robotId, connection.sessionNo, this.now()))
  }

  open(connection: Connection, hello: HelloFrame): void {
    const { log } = this.#parts
    this.#awaitingHello.delete(connection)
    this.#opening += 1
    const { type: _type, ...said } = hello
    this.#opener
      .open({
        robotId: connection.robotId,
        tokenHash: connection.tokenHash,
        withNextToken: connection.withNextToken,
        address: connection.remoteAddress,
        hello: said,
      })
      .then(
        (session) => (session ? this.#opened(connection, session) : this.#notOpened(connection)),
        (error: unknown) => {
          if (!isDatabaseUnavailable(error)) log.error({ err: error }, 'a session could not be opened')
          connection.end(withReconnectDelay(CLOSE.overloaded, this.#spread(1, 10) * 1000))
        },
      )
      .finally(() => {
        this.#opening -= 1
      })
  }

  #opened(connection: Connection, session: OpenedSession): void {
    const { metrics, defaultIntervalMs, server, log } = this.#parts
    const { robotId, sessionNo, previousServerId } = session
    const intervalMs = session.heartbeatIntervalMs ?? defaultIntervalMs
    if (session.rotated) this.#tellOfRotation(robotId)
    if (connection.isOvertaken(sessionNo)) {
      // We were told of a newer session, elsewhere, before we heard of our own.
      connection.end(CLOSE.replaced)
      return
    }
    this.#presence.presence.opened(robotId, sessionNo, intervalMs)
    if (previousServerId !== null && previousServerId !== server.id && !this.#watch.isGone(previousServerId))
      this.#announce.add({ robot_id: robotId, session_no: sessionNo }).catch((error: unknown) => {
        log.warn({ err: error }, 'could not tell the other servers of a session')
      })
    if (connection.phase === 'closed') {
      // It went away while the database was at work: online by its hello, until its silence is long enough.
      this.#presence.presence.lost(robotId, sessionNo, 'connection_lost')
      return
    }
    const older = this.#registry.opened(connection)
    this.#sessions += 1
    metrics.sessions.set(this.#sessions)
    metrics.sessionsOpened.inc()
    connection.opened(session, intervalMs)
    older?.end(CLOSE.replaced)
    if (connection.missedNews) this.#news.lookAgain([connection])
    this.note(connection, {
      level: 'info',
      code: 'connected',
      message: `session ${sessionNo} opened`,
      data: { session_no: sessionNo, address: connection.remoteAddress },
    })
  }

  /** The old token is void, and all servers have to forget that it ever was one. */
  #tellOfRotation(robotId: string): void {
    const { bus, log } = this.#parts
    bus.publish({ type: 'robots_changed', robot_ids: [robotId] }).catch((error: unknown) => {
      log.warn({ err: error, robot_id: robotId }, 'could not tell the other servers of a new token')
    })
  }

  async #notOpened(connection: Connection): Promise<void> {
    // Between the upgrade and the hello the token was revoked or the robot retired: say which.
    const [facts] = await readSessionFacts(this.#parts.database, [connection.robotId]).catch(() => [])
    connection.end(facts?.lifecycle === 'retired' ? CLOSE.retired : CLOSE.tokenRevoked)
  }

  storeHeartbeat(connection: Connection, row: HeartbeatRow): void {
    this.#parts.metrics.heartbeatsReceived.inc()
    this.#heartbeats.add(row, connection)
    if (this.#heartbeats.full) connection.pauseForDatabase()
  }

  heartbeatRefused(reason: string): void {
    this.#parts.metrics.heartbeatsRefused.inc({ reason })
  }

  storeEvent(connection: Connection, event: RobotEventFrame): void {
    void this.#timeline.keep(connection.robotId, event).then((stored) => {
      if (stored) connection.eventStored(event.id)
    })
  }

  storeNextToken(connection: Connection, tokenHash: string): void {
    const { robotId, remoteAddress: address } = connection
    this.#nextTokens
      .write({
        robotId,
        sessionNo: connection.sessionNo!,
        tokenHash: connection.tokenHash,
        nextTokenHash: tokenHash,
        address,
      })
      .then(
        (stored) => {
          switch (stored?.outcome) {
            case 'stored':
            case 'kept':
              return connection.nextTokenStored(tokenHash)
            case 'taken':
              return connection.nextTokenRefused('this token was in use before: make another')
            case 'too_soon':
              return connection.nextTokenRefused('the token before is too new')
            default:
              return this.#news.lookAgain([connection])
          }
        },
        (error: unknown) => {
          this.#parts.log.warn({ err: error, robot_id: robotId }, 'a next token could not be stored')
        },
      )
  }

  note(connection: Connection, entry: TimelineEntry): void {
    this.#timeline.note(connection.robotId, entry, this.now())
  }

  frameError(code: string): void {
    this.#parts.metrics.frameErrors.inc({ code })
  }

  paused(connection: Connection, paused: boolean): void {
    if (paused) this.#paused.add(connection)
    else this.#paused.delete(connection)
    this.#parts.metrics.pausedSessions.set(this.#paused.size)
    if (connection.sessionNo !== undefined)
      this.#presence.presence.setDeaf(connection.robotId, connection.sessionNo, paused)
  }

  ended(connection: Connection, end: SessionEnd): void {
    const { metrics } = this.#parts
    this.#awaitingHello.delete(connection)
    this.#registry.leave(connection)
    const reason = end.by === 'server' ? end.reason.split(';', 1)[0]! : end.bye ? 'bye' : 'connection_lost'
    const { robotId, sessionNo, openedAt } = connection
    if (sessionNo === undefined || openedAt === undefined) return
    metrics.sessionsClosed.inc({ reason })
    this.#sessions -= 1
    metrics.sessions.set(this.#sessions)
    this.note(connection, {
      // 1000: the robot left in order, as it does to come back with a new token.
      level: end.bye || end.code === CLOSE.serviceRestart.code || end.code === 1000 ? 'info' : 'warn',
      code: 'disconnected',
      message: `session ${sessionNo} closed: ${end.code}${end.reason ? ` ${end.reason}` : ''}`,
      data: {
        session_no: sessionNo,
        close_code: end.code,
        reason: end.reason,
        closed_by: end.by,
        lasted_ms: this.now() - openedAt,
      },
    })
    const { presence } = this.#presence
    if (end.code === CLOSE.replaced.code) presence.handedOver(robotId, sessionNo + 1)
    else if (end.bye || (end.by === 'server' && isFinalCloseCode(end.code)))
      this.#presence.write(presence.gone(robotId, sessionNo, reason, this.now()))
    else presence.lost(robotId, sessionNo, reason)
  }

  failed(connection: Connection, error: unknown): void {
    this.#parts.log.error({ err: error, robot_id: connection.robotId }, 'a session failed')
  }

  closed(connection: Connection): void {
    this.#sockets.delete(connection)
  }

  // What time and others bring

  #tick(): void {
    const now = this.now()
    for (const connection of this.#awaitingHello) {
      if (now - connection.acceptedAt < HELLO_TIMEOUT_MS) break
      connection.end(CLOSE.helloTimeout)
    }
    for (const connection of this.#paused) {
      if (connection.isTooFastToStay(now)) connection.end(CLOSE.tooManyFrames)
      else if (connection.mayGoOn(now)) connection.resume()
    }
    this.#measure()
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
    const { queueDepth } = this.#parts.metrics
    queueDepth.set({ queue: 'heartbeats' }, this.#heartbeats.waiting)
    queueDepth.set({ queue: 'timeline' }, this.#timeline.waiting)
    queueDepth.set({ queue: 'presence' }, this.#presence.waiting)
    queueDepth.set({ queue: 'next_tokens' }, this.#nextTokens.waiting)
    queueDepth.set({ queue: 'authentication' }, this.#authenticator.waiting)
    queueDepth.set({ queue: 'session_opening' }, this.#opening)
  }

  #restatePresence(): void {
    this.#parts.log.warn('the other servers had taken this one for dead; saying again who is here')
    for (const change of this.#presence.presence.restate(this.now())) this.#presence.write(change)
    this.#news.lookAgain([...this.#registry.all()])
  }

  #resumeAll(): void {
    for (const connection of this.#paused) if (!connection.isTooFast) connection.resume()
  }

  async #allClosed(): Promise<void> {
    const { clock } = this.#parts
    const deadline = clock.now() + CLOSE_DEADLINE_MS
    while (this.#sockets.size > 0 && clock.now() < deadline) await clock.sleep(20)
  }

  /** Seconds after which to try again, different for everybody. */
  #spread(from: number, to: number): number {
    return from + Math.floor(this.#parts.random.fraction() * (to - from + 1))
  }
}
