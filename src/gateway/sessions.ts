import type { Bus } from '../bus/bus.ts'
import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import { type ClonePolicy, type OpenedSession, readSessionFacts } from '../db/sessions.ts'
import type { Registry } from '../fleet/registry.ts'
import type { Robots } from '../fleet/robots.ts'
import { Grouping } from '../grouping.ts'
import { machineHash } from '../machine-hash.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { CLOSE, type CloseCause, isFinalCloseCode, withReconnectDelay } from '../protocol/close-codes.ts'
import type { HelloFrame, RobotEventFrame } from '../protocol/frames.ts'
import { HELLO_TIMEOUT_MS } from '../protocol/limits.ts'
import { storableText } from '../protocol/text.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import type { SessionEnd, TimelineEntry } from '../session/state.ts'
import type { RobotSocket, SocketHandler } from '../transport/transport.ts'
import type { AuthenticatedRobot } from './authenticator.ts'
import { Connection, type ConnectionHost } from './connection.ts'
import { HeartbeatWriter, type PendingHeartbeat } from './heartbeat-writer.ts'
import type { News } from './news.ts'
import { NextTokenWriter } from './next-token-writer.ts'
import { type PersistParts, unlessAborted } from './persist.ts'
import type { PresenceKeeper } from './presence-keeper.ts'
import type { ReconnectSpread } from './reconnect-spread.ts'
import type { ServerWatch } from './server-watch.ts'
import { SessionOpener } from './session-opener.ts'
import { SharedStrings } from './shared-strings.ts'
import { spreadSeconds } from './spread.ts'
import type { TimelineWriter } from './timeline-writer.ts'

export interface SessionsParts {
  readonly database: Database
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  readonly server: { readonly id: string }
  readonly defaultIntervalMs: number
  readonly clonePolicy: ClonePolicy
  readonly heartbeatLingerMs: number | undefined
  readonly spread: Pick<ReconnectSpread, 'ms'>
  readonly persist: PersistParts
  readonly robots: Robots<Connection>
  readonly registry: Registry<Connection>
  readonly timeline: TimelineWriter
  readonly presence: PresenceKeeper
  readonly watch: Pick<ServerWatch, 'isGone'>
  readonly news: Pick<News, 'lookAgain'>
}

/** How long a robot that is sent away for sending too much waits for what it has sent to be acknowledged. */
const ACKNOWLEDGE_DEADLINE_MS = 3_000

/** This server's sessions from the accepted socket to the last word: carries out what each decides. */
export class Sessions implements ConnectionHost {
  readonly #parts: SessionsParts
  /** Sockets that have not said hello, oldest first. Admission bounds it. */
  readonly #awaitingHello = new Set<Connection>()
  /** How sessions ended whose opening is still under way: what there is to say of them is known when it is through. */
  readonly #endedEarly = new Map<Connection, SessionEnd>()
  /** Sockets whose session is over and that are not closed yet: the engine gives each of them a few seconds. */
  readonly #closing = new Set<Connection>()
  /** Sessions that are not read from for now: open ones, all of them at the most. */
  readonly #paused = new Set<Connection>()
  readonly #strings = new SharedStrings()
  readonly #opener: SessionOpener
  readonly #heartbeats: HeartbeatWriter
  readonly #nextTokens: NextTokenWriter
  readonly #announce: Grouping<{ robot_id: string; session_no: number }, undefined>
  #opening = 0
  #open = 0
  #openedInAll = 0

  constructor(parts: SessionsParts) {
    const { database, bus, clock, metrics, server, clonePolicy, persist } = parts
    this.#parts = parts
    this.#opener = new SessionOpener(database, server.id, clonePolicy, clock, metrics)
    this.#heartbeats = new HeartbeatWriter(
      database,
      persist,
      () => this.#resumeAll(),
      parts.heartbeatLingerMs,
    )
    this.#nextTokens = new NextTokenWriter(database, persist)
    this.#announce = new Grouping({
      maxGroup: 500,
      maxWaiting: 50_000,
      run: async (sessions) => {
        await bus.publish({ type: 'sessions_opened', sessions })
        return sessions.map(() => undefined)
      },
    })
  }

  /** Sessions that are open. */
  get size(): number {
    return this.#open
  }

  /** Sessions that were opened since the start. */
  get openedInAll(): number {
    return this.#openedInAll
  }

  /** Sockets that were accepted and have no session yet. */
  get handshakes(): number {
    return this.#awaitingHello.size + this.#opening
  }

  /** Sockets that stand, those of sessions that are over included. */
  get sockets(): number {
    return this.#parts.registry.size + this.#closing.size
  }

  /** Takes a socket whose robot was told by its token. */
  accept(socket: RobotSocket, robot: AuthenticatedRobot): SocketHandler {
    const { registry, robots } = this.#parts
    const connection = new Connection(this, socket, robots.of(robot.robotId), robot)
    this.#awaitingHello.add(connection)
    registry.arrive(connection)?.end(CLOSE.replaced)
    return connection
  }

  /** Drops what sockets are left. */
  terminateAll(): void {
    for (const connection of [...this.#parts.registry.all(), ...this.#closing]) connection.terminate()
  }

  /** Resolves once every heartbeat taken so far is stored, or given up. */
  flushHeartbeats(): Promise<void> {
    return this.#heartbeats.flush()
  }

  /** Resolves once no session is being opened, and nothing that sessions named waits to be written, or all is given up. */
  async idle(): Promise<void> {
    await unlessAborted(this.#parts.persist.signal, this.#opener.idle()).catch(() => {})
    await this.#nextTokens.idle()
  }

  /** Ends sessions that do not begin or are too fast for too long, lets those that were held back go on. */
  tick(): void {
    const uptimeMs = this.uptimeMs()
    for (const connection of this.#awaitingHello) {
      if (uptimeMs - connection.since < HELLO_TIMEOUT_MS) break
      connection.end(CLOSE.helloTimeout)
    }
    for (const connection of this.#paused) {
      if (connection.isTooFastToStay(uptimeMs)) connection.leave(CLOSE.tooManyFrames)
      else if (connection.mayGoOn(uptimeMs)) connection.resume()
    }
    const { queueDepth } = this.#parts.metrics
    queueDepth.set({ queue: 'heartbeats' }, this.#heartbeats.waiting)
    queueDepth.set({ queue: 'next_tokens' }, this.#nextTokens.waiting)
    queueDepth.set({ queue: 'session_opening' }, this.#opening)
  }

  #resumeAll(): void {
    // Whoever goes on may hand in what was held within this call, and be held back again: each once, while there is room.
    for (const connection of [...this.#paused]) {
      if (this.#heartbeats.full) return
      if (!connection.isTooFast) connection.resume()
    }
  }

  // What sessions ask for

  now(): number {
    return this.#parts.clock.now()
  }

  uptimeMs(): number {
    return Math.floor(this.#parts.clock.monotonic())
  }

  shared<Text extends string>(text: Text): Text {
    return this.#strings.share(text)
  }

  returnInMs(): number {
    return spreadSeconds(this.#parts.random, 1, 10) * 1000
  }

  reconnectSpreadMs(): number {
    return this.#parts.spread.ms
  }

  heard(connection: Connection, now: number): void {
    if (connection.sessionNo === undefined || connection.phase !== 'open') return
    this.#parts.presence.write(
      this.#parts.presence.presence.heard(connection.robot, connection.sessionNo, now),
    )
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
        machineHash: machineHash(said.machine_id),
      })
      .then(
        (session) => {
          this.#opening -= 1
          if (session?.doubt) this.#noteClone(connection, session, said)
          if (session?.quarantined) connection.end(CLOSE.quarantined)
          else if (session) this.#opened(connection, session)
          else void this.#notOpened(connection)
          this.#endedEarly.delete(connection)
        },
        (error: unknown) => {
          this.#opening -= 1
          this.#endedEarly.delete(connection)
          if (!isDatabaseUnavailable(error)) log.error({ err: error }, 'a session could not be opened')
          connection.end(
            withReconnectDelay(CLOSE.overloaded, spreadSeconds(this.#parts.random, 1, 10) * 1000),
          )
        },
      )
  }

  #opened(connection: Connection, session: OpenedSession): void {
    const { metrics, defaultIntervalMs, server, log } = this.#parts
    const { robotId } = connection
    const { sessionNo, previousServerId } = session
    const intervalMs = session.heartbeatIntervalMs ?? defaultIntervalMs
    if (connection.isOvertaken(sessionNo)) {
      // We were told of a newer session, elsewhere, before we heard of our own.
      connection.end(CLOSE.replaced)
      return
    }
    this.#parts.presence.presence.opened(robotId, sessionNo, intervalMs)
    if (
      previousServerId !== null &&
      previousServerId !== server.id &&
      !this.#parts.watch.isGone(previousServerId)
    )
      this.#announce.add({ robot_id: robotId, session_no: sessionNo }).catch((error: unknown) => {
        log.warn({ err: error }, 'could not tell the other servers of a session')
      })
    metrics.uncounted.sessionsOpened += 1
    // Before what it said while it waited: a bye among that ends the session within the next line.
    this.note(connection, {
      level: 'info',
      code: 'connected',
      message: `session ${sessionNo} opened`,
      data: { session_no: sessionNo, address: connection.remoteAddress },
    })
    const end = this.#endedEarly.get(connection)
    if (end) {
      this.#tellEnd(connection, sessionNo, end, 0)
      return
    }
    const older = this.#parts.registry.opened(connection)
    this.#open += 1
    metrics.sessions.set(this.#open)
    this.#openedInAll += 1
    connection.opened(session, intervalMs)
    older?.end(CLOSE.replaced)
    if (connection.missedNews) this.#parts.news.lookAgain([connection])
  }

  #noteClone(connection: Connection, session: OpenedSession, hello: Omit<HelloFrame, 'type'>): void {
    const { log, metrics } = this.#parts
    const { doubt, quarantined } = session
    metrics.clonesSuspected.inc({ reason: doubt!, outcome: quarantined ? 'quarantined' : 'opened' })
    const message =
      doubt === 'other_machine'
        ? 'a machine that is not the one enrolled came with the identity of this robot'
        : 'somebody came with an older state of this robot than was there before: its disk may have been copied'
    log.warn({ robot_id: connection.robotId, reason: doubt, quarantined }, message)
    this.note(connection, {
      level: 'error',
      code: 'clone_suspected',
      message,
      data: {
        reason: doubt,
        quarantined,
        address: connection.remoteAddress,
        hostname: hello.agent.hostname ?? null,
        boot_id: hello.boot_id ?? null,
        instance_id: hello.instance_id ?? null,
        last_session_no: hello.last_session_no ?? null,
        expected_session_no: session.usedSessionNo,
      },
    })
  }

  async #notOpened(connection: Connection): Promise<void> {
    // Between the upgrade and the hello the token was revoked or the robot retired: say which.
    const [facts] = await readSessionFacts(this.#parts.database, [connection.robotId]).catch(() => [])
    connection.end(facts?.lifecycle === 'retired' ? CLOSE.retired : CLOSE.tokenRevoked)
  }

  storeHeartbeat(connection: Connection, row: PendingHeartbeat): void {
    this.#parts.metrics.uncounted.heartbeatsReceived += 1
    this.#heartbeats.add(row)
    if (this.#heartbeats.full) connection.pauseForDatabase()
  }

  heartbeatRefused(reason: string): void {
    this.#parts.metrics.heartbeatsRefused.inc({ reason })
  }

  storeEvent(connection: Connection, event: RobotEventFrame): void {
    void this.#parts.timeline.keep(connection.robotId, event).then((stored) => {
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
              return this.#parts.news.lookAgain([connection])
          }
        },
        (error: unknown) => {
          this.#parts.log.warn({ err: error, robot_id: robotId }, 'a next token could not be stored')
        },
      )
  }

  note(connection: Connection, entry: TimelineEntry): void {
    this.#parts.timeline.note(connection.robotId, entry, this.now())
  }

  frameError(code: string): void {
    this.#parts.metrics.frameErrors.inc({ code })
  }

  paused(connection: Connection, paused: boolean): void {
    if (paused) this.#paused.add(connection)
    else this.#paused.delete(connection)
    this.#parts.metrics.pausedSessions.set(this.#paused.size)
    if (connection.sessionNo !== undefined)
      this.#parts.presence.presence.setDeaf(connection.robotId, connection.sessionNo, paused)
  }

  endOnceAcknowledged(connection: Connection, cause: CloseCause): void {
    const stored = Promise.all([this.#heartbeats.flush(), this.#parts.timeline.idle()])
    // Whoever waits for what is stored is told within the turn.
    const told = stored.then(() => new Promise<void>((resolve) => setImmediate(resolve)))
    let timer: Timer | undefined
    const tooLong = new Promise<void>((resolve) => {
      timer = this.#parts.clock.after(ACKNOWLEDGE_DEADLINE_MS, resolve)
    })
    void Promise.race([told, tooLong]).then(() => {
      timer?.cancel()
      connection.end(cause)
    })
  }

  ended(connection: Connection, end: SessionEnd): void {
    const hasSaidHello = !this.#awaitingHello.delete(connection)
    this.#parts.registry.leave(connection)
    this.#closing.add(connection)
    const { sessionNo } = connection
    if (sessionNo === undefined) {
      if (hasSaidHello) this.#endedEarly.set(connection, end)
      return
    }
    this.#open -= 1
    this.#parts.metrics.sessions.set(this.#open)
    this.#tellEnd(connection, sessionNo, end, this.uptimeMs() - connection.since)
  }

  #tellEnd(connection: Connection, sessionNo: number, end: SessionEnd, lastedMs: number): void {
    const { robotId } = connection
    const reason = end.by === 'server' ? end.reason.split(';', 1)[0]! : end.bye ? 'bye' : 'connection_lost'
    const said = storableText(end.reason)
    this.#parts.metrics.sessionsClosed.inc({ reason })
    this.note(connection, {
      // 1000: the robot left in order, as it does to come back with a new token.
      level: end.bye || end.code === CLOSE.serviceRestart.code || end.code === 1000 ? 'info' : 'warn',
      code: 'disconnected',
      message: `session ${sessionNo} closed: ${end.code}${said ? ` ${said}` : ''}`,
      data: {
        session_no: sessionNo,
        close_code: end.code,
        reason: said,
        closed_by: end.by,
        lasted_ms: lastedMs,
      },
    })
    const { presence } = this.#parts.presence
    if (end.code === CLOSE.replaced.code) presence.handedOver(robotId, sessionNo + 1)
    else if (end.bye || (end.by === 'server' && isFinalCloseCode(end.code)))
      this.#parts.presence.write(presence.gone(robotId, sessionNo, reason, this.now()))
    else presence.lost(robotId, sessionNo, reason)
  }

  failed(connection: Connection, error: unknown): void {
    this.#parts.log.error({ err: error, robot_id: connection.robotId }, 'a session failed')
  }

  closed(connection: Connection): void {
    this.#closing.delete(connection)
  }
}
