import type { OpenedSession } from '../db/sessions.ts'
import type { Robot } from '../fleet/robots.ts'
import { CLOSE, type CloseCause, withReconnectDelay } from '../protocol/close-codes.ts'
import { encodeFrame } from '../protocol/codec.ts'
import type { HelloFrame, RobotEventFrame } from '../protocol/frames.ts'
import { beginSession, step } from '../session/session.ts'
import type {
  RobotFacts,
  RotationRequest,
  SessionEffect,
  SessionEnd,
  SessionEvent,
  SessionState,
  TimelineEntry,
} from '../session/state.ts'
import type { RobotSocket, SocketHandler } from '../transport/transport.ts'
import type { AuthenticatedRobot } from './authenticator.ts'
import type { HeartbeatSender, PendingHeartbeat } from './heartbeat-writer.ts'

/** What a connection asks of the gateway: the effects of its session. */
export interface ConnectionHost {
  now(): number
  /** Whole milliseconds that this process has run: a number that costs a session no more than a reference. */
  uptimeMs(): number
  /** One copy for all sessions of a string that many keep. */
  shared<Text extends string>(text: Text): Text
  /** After how long a robot that is sent away should return: different for everybody. */
  returnInMs(): number
  /** The robot was heard. */
  heard(connection: Connection, now: number): void
  /** Over how long a robot welcomed now is to spread its return. */
  reconnectSpreadMs(): number
  open(connection: Connection, hello: HelloFrame): void
  storeHeartbeat(connection: Connection, row: PendingHeartbeat): void
  heartbeatRefused(reason: string): void
  storeEvent(connection: Connection, event: RobotEventFrame): void
  storeNextToken(connection: Connection, tokenHash: string): void
  note(connection: Connection, entry: TimelineEntry): void
  frameError(code: string): void
  /** It is heard no more: ends it once what it has sent is stored and acknowledged, or cannot be soon. */
  endOnceAcknowledged(connection: Connection, cause: CloseCause): void
  ended(connection: Connection, end: SessionEnd): void
  /** Something went wrong on our side. */
  failed(connection: Connection, error: unknown): void
  /** The socket is gone for good. */
  closed(connection: Connection): void
  paused(connection: Connection, paused: boolean): void
}

/**
 * A frame a robot sends is paid for with so much time, and it may run up a debt before it is held back: 2,000 frames at
 * once, 100 each second on average.
 */
const MS_PER_FRAME = 10
const MAX_DEBT_MS = 2_000 * MS_PER_FRAME
/** What it has to have paid off before it goes on: enough for another second's frames. */
const DEBT_TO_GO_ON_MS = MAX_DEBT_MS - 100 * MS_PER_FRAME
/** Below this, it is too fast no longer, and may be held back for the full time anew. */
const RESTED_DEBT_MS = MAX_DEBT_MS / 2

/**
 * How long a robot may be held back at a stretch. What its socket holds can take half an hour to read so slowly, and
 * as long as it is read, a robot that has gone away counts as heard.
 */
const MAX_HELD_BACK_MS = 30_000

/** What a robot may leave unread before it is dropped. */
const MAX_OUTBOX_BYTES = 256 * 1024

const NO_FAULTS: readonly string[] = []

/** The request for a new token that stands, as the session core takes it. */
export function rotationIn(
  row: Pick<OpenedSession, 'rotationRequestedAt' | 'rotationReason'>,
): RotationRequest | null {
  if (row.rotationRequestedAt === null) return null
  return { at: row.rotationRequestedAt.getTime(), reason: row.rotationReason ?? '' }
}

interface EarlyNews {
  /** Something about the robot changed: it has to be looked at once more. */
  missed: boolean
  /** Of the sessions of this robot that we were told of. */
  newestSessionNo: number
}

/** One robot's socket with its session: carries events in and effects out, and knows no rule of its own. */
export class Connection implements SocketHandler, HeartbeatSender {
  readonly robot: Robot<Connection>
  /** SHA-256 of its token, a character for each byte: half as long as the digits, and kept by every session. */
  readonly #tokenBytes: string
  /** The socket came with the robot's next token. */
  readonly withNextToken: boolean
  readonly #host: ConnectionHost
  readonly #socket: RobotSocket
  /** The heartbeat writer's. */
  heartbeatGroup = 0
  #state: SessionState = beginSession()
  #fleetId: string | undefined
  #sessionNo: number | undefined
  /** What came to be known while its session was not open yet. */
  #early: EarlyNews | undefined
  /** When the socket was accepted, and then when the session was opened, as uptime. */
  #since: number
  /** When all its frames will be paid for, as uptime. */
  #paidAt = 0
  /** Leaving: it is heard no more, and ends when what it has sent is acknowledged. */
  #paused: 'no' | 'database' | 'too_fast' | 'leaving' = 'no'
  /** Since when it has been too fast, without a rest, as uptime. */
  #tooFastSince: number | undefined

  constructor(
    host: ConnectionHost,
    socket: RobotSocket,
    robot: Robot<Connection>,
    token: Pick<AuthenticatedRobot, 'tokenHash' | 'isNext'>,
  ) {
    this.#host = host
    this.#socket = socket
    this.robot = robot
    this.#tokenBytes = Buffer.from(token.tokenHash, 'hex').toString('latin1')
    this.withNextToken = token.isNext
    this.#since = host.uptimeMs()
  }

  get robotId(): string {
    return this.robot.robotId
  }

  /** SHA-256 in hex of the token that the socket came with. */
  get tokenHash(): string {
    return Buffer.from(this.#tokenBytes, 'latin1').toString('hex')
  }

  get phase(): SessionState['phase'] {
    return this.#state.phase
  }

  /** Another server has opened a session of this robot with this number. */
  newerSessionOpened(sessionNo: number): void {
    if (this.#sessionNo === undefined) {
      this.#early ??= { missed: false, newestSessionNo: 0 }
      this.#early.newestSessionNo = Math.max(this.#early.newestSessionNo, sessionNo)
    } else if (this.#sessionNo < sessionNo) this.end(CLOSE.replaced)
  }

  /** Something about the robot changed while its session was being opened: it has to be looked at once more. */
  get missedNews(): boolean {
    return this.#early?.missed ?? false
  }

  /** True when a session with this number, about to be opened, is not the robot's newest any more. */
  isOvertaken(sessionNo: number): boolean {
    return this.#early !== undefined && sessionNo < this.#early.newestSessionNo
  }

  /** Undefined until the session was opened. Stays when it is over. */
  get sessionNo(): number | undefined {
    return this.#sessionNo
  }

  get fleetId(): string | undefined {
    return this.#fleetId
  }

  /** When the socket was accepted, and from the welcome on when the session was opened, as uptime. */
  get since(): number {
    return this.#since
  }

  get remoteAddress(): string {
    return this.#socket.remoteAddress
  }

  // From the transport

  text(text: string): void {
    if (this.#paused === 'leaving') return
    const now = this.#host.now()
    this.#host.heard(this, now)
    this.#count()
    this.#dispatch({ type: 'text', text }, now)
  }

  binary(): void {
    if (this.#paused === 'leaving') return
    this.#host.heard(this, this.#host.now())
    this.#count()
    this.#dispatch({ type: 'binary' })
  }

  overflowed(): void {
    this.leave(
      this.#paused === 'too_fast'
        ? CLOSE.tooManyFrames
        : withReconnectDelay(CLOSE.overloaded, this.#host.returnInMs()),
    )
  }

  closed(code: number, reason: string): void {
    if (this.#paused !== 'no') this.#setPaused('no')
    this.#dispatch({ type: 'socket_closed', code, reason })
    this.#host.closed(this)
  }

  // From the gateway

  opened(session: OpenedSession, heartbeatIntervalMs: number): void {
    this.#sessionNo = session.sessionNo
    this.#fleetId = this.#host.shared(session.fleetId)
    this.#since = this.#host.uptimeMs()
    this.#dispatch({
      type: 'opened',
      grant: {
        robotId: this.robotId,
        sessionNo: session.sessionNo,
        name: session.name,
        lifecycle: this.#host.shared(session.lifecycle),
        heartbeatIntervalMs,
        reconnectSpreadMs: this.#host.reconnectSpreadMs(),
        latestSeq: session.heartbeatSeq,
        latestAt: session.heartbeatAt,
        faultCodes: session.faultCodes ?? NO_FAULTS,
        rotation: session.rotated ? null : rotationIn(session),
      },
    })
  }

  changed(facts: RobotFacts & { readonly fleetId: string }): void {
    if (this.#sessionNo === undefined) {
      this.#early ??= { missed: false, newestSessionNo: 0 }
      this.#early.missed = true
      return
    }
    const { fleetId, lifecycle, ...rest } = facts
    this.#fleetId = this.#host.shared(fleetId)
    this.#dispatch({ type: 'changed', facts: { ...rest, lifecycle: this.#host.shared(lifecycle) } })
  }

  eventStored(id: string): void {
    this.#dispatch({ type: 'events_stored', ids: [id] })
  }

  nextTokenStored(tokenHash: string): void {
    this.#dispatch({ type: 'next_token_stored', tokenHash })
  }

  nextTokenRefused(why: string): void {
    this.#dispatch({ type: 'next_token_refused', why })
  }

  drain(reconnectInMs: number): void {
    this.#dispatch({ type: 'drain', reconnectInMs })
  }

  end(cause: CloseCause): void {
    this.#dispatch({ type: 'end', cause })
  }

  /**
   * Hears the robot no more, and ends its session when what it has sent so far is acknowledged, so that it need not send
   * it again, and again be too fast.
   */
  leave(cause: CloseCause): void {
    if (this.#paused === 'leaving' || this.#state.phase === 'closed') return
    this.#setPaused('leaving')
    this.#host.endOnceAcknowledged(this, cause)
  }

  /** Drops the socket without a word: for what is left when the server stops. */
  terminate(): void {
    this.#socket.terminate()
  }

  /** Stops reading until `resume`: the database is behind. */
  pauseForDatabase(): void {
    if (this.#paused === 'no') this.#setPaused('database')
  }

  resume(): void {
    if (this.#paused === 'no' || this.#paused === 'leaving' || this.#state.phase === 'closed') return
    this.#setPaused('no')
  }

  /** True when the robot has been held back long enough. */
  mayGoOn(uptimeMs: number): boolean {
    return this.#paused === 'too_fast' && this.#debt(uptimeMs) <= DEBT_TO_GO_ON_MS
  }

  /** True when the robot was held back for so long that it has to go. */
  isTooFastToStay(uptimeMs: number): boolean {
    return this.#paused === 'too_fast' && uptimeMs - this.#tooFastSince! > MAX_HELD_BACK_MS
  }

  get isTooFast(): boolean {
    return this.#paused === 'too_fast'
  }

  // From the heartbeat writer

  heartbeatsStored(seq: number): void {
    this.#dispatch({ type: 'stored', seq })
  }

  heartbeatRejected(seq: number): void {
    this.#dispatch({ type: 'rejected', seq })
  }

  fenced(): void {
    this.#dispatch({ type: 'end', cause: CLOSE.replaced })
  }

  #dispatch(event: SessionEvent, now = this.#host.now()): void {
    try {
      const { state, effects } = step(this.#state, event, now)
      this.#state = state
      for (const effect of effects) this.#carryOut(effect, now)
    } catch (error) {
      this.#fail(error)
    }
  }

  #carryOut(effect: SessionEffect, now: number): void {
    switch (effect.type) {
      case 'send':
        this.#send(encodeFrame(effect.frame))
        break
      case 'store_heartbeat':
        this.#host.storeHeartbeat(this, this.#row(effect, now))
        break
      case 'refuse_heartbeat':
        this.#host.heartbeatRefused(effect.reason)
        break
      case 'store_event':
        this.#host.storeEvent(this, effect.event)
        break
      case 'store_next_token':
        this.#host.storeNextToken(this, effect.tokenHash)
        break
      case 'timeline':
        this.#host.note(this, effect.entry)
        break
      case 'frame_error':
        this.#host.frameError(effect.code)
        break
      case 'open':
        this.#host.open(this, effect.hello)
        break
      case 'close':
        this.#socket.close(effect.cause.code, effect.cause.reason)
        break
      case 'ended':
        this.#host.ended(this, effect.end)
        break
    }
  }

  /** A fault of our own takes this session with it, and nothing else. */
  #fail(error: unknown): void {
    this.#host.failed(this, error)
    const { code, reason } = CLOSE.internal
    this.#socket.close(code, reason)
    if (this.#state.phase === 'closed') return
    this.#state = { phase: 'closed' }
    this.#host.ended(this, { by: 'server', code, reason, bye: false })
  }

  #row(effect: Extract<SessionEffect, { type: 'store_heartbeat' }>, now: number): PendingHeartbeat {
    const { seq, at, health, body } = effect.heartbeat
    return {
      sender: this,
      robotId: this.robotId,
      sessionNo: this.#sessionNo!,
      seq,
      at,
      receivedAt: now,
      health,
      body,
      recheck: effect.recheck,
      latest: effect.latest,
    }
  }

  #send(text: string): void {
    if (this.#socket.bufferedBytes() > MAX_OUTBOX_BYTES) {
      // It does not read: a closing frame would only join the queue.
      this.#dispatch({ type: 'end', cause: CLOSE.slowReader })
      this.#socket.terminate()
      return
    }
    this.#socket.send(text)
  }

  #count(): void {
    const uptimeMs = this.#host.uptimeMs()
    const debtMs = this.#debt(uptimeMs) + MS_PER_FRAME
    this.#paidAt = uptimeMs + debtMs
    if (debtMs <= MAX_DEBT_MS || this.#paused !== 'no') return
    this.#tooFastSince ??= uptimeMs
    this.#setPaused('too_fast')
  }

  /** What it owes for its frames, in milliseconds. */
  #debt(uptimeMs: number): number {
    const debtMs = Math.max(this.#paidAt - uptimeMs, 0)
    if (debtMs <= RESTED_DEBT_MS) this.#tooFastSince = undefined
    return debtMs
  }

  #setPaused(paused: 'no' | 'database' | 'too_fast' | 'leaving'): void {
    this.#paused = paused
    this.#host.paused(this, paused !== 'no')
    // Last, for a transport may deliver within this call, and that may pause again.
    if (paused === 'no') this.#socket.resume()
    else this.#socket.pause()
  }
}
