import type { IncomingMessage } from 'node:http'
import WebSocket from 'ws'
import { decodeServerFrame, encodeFrame } from '../src/protocol/codec.ts'
import type { HelloFrame, RobotFrame, WelcomeFrame } from '../src/protocol/frames.ts'
import { SUBPROTOCOL } from '../src/protocol/limits.ts'
import { retryAfterMs, timeOfAnswer } from './backoff.ts'
import type { Ending } from './ending.ts'
import { collect, objectIn, problemCode, problemText } from './http.ts'
import type { Log } from './log.ts'
import { connectionsTo, type Network } from './network/dial.ts'
import { RoundTrip } from './round-trip.ts'
import type { Clock, Timer } from './runtime.ts'
import {
  endingOf,
  openSession,
  type SessionEffect,
  type SessionEvent,
  type SessionState,
  type Step,
  step,
  wakeAt,
} from './session.ts'
import type { Spool, SpoolEntry } from './spool.ts'
import { describeError } from './text.ts'

/** Answers to what a session brings about. */
interface ConnectionListener {
  /** `answeredInMs`: since the hello, for the first. */
  welcomed(welcome: WelcomeFrame, isFirst: boolean, answeredInMs: number): void
  intervalChanged(intervalMs: number, serverIntervalMs: number): void
  acknowledged(from: number, to: number): void
  eventsAcknowledged(ids: readonly string[]): void
  /** The server wants a new token. */
  tokenWanted(reason: string): void
  /** The token with this hash opens sessions from now on. */
  tokenStored(tokenHash: string): void
}

export interface ConnectionParts {
  readonly clock: Clock
  readonly log: Log
  readonly spool: Spool
  readonly network: Network
  readonly url: string
  readonly token: string
  readonly hello: () => HelloFrame
  readonly ownIntervalMs: number | undefined
  readonly listener: ConnectionListener
}

/** From the request for a WebSocket to its answer. */
const ANSWER_TIMEOUT_MS = 15_000
const REFUSAL_TIMEOUT_MS = 2_000
/** More than any frame may hold, so that an oversized one is reported, and little enough for a small robot. */
const MAX_INCOMING_BYTES = 64 * 1024
/** What may wait in the socket before the spool is let wait instead. */
const MAX_BUFFERED_BYTES = 64 * 1024

/** One attempt to hold a session: dials, carries out what the session says, and ends once, whatever happens. */
export class Connection {
  readonly ended: Promise<Ending>
  readonly #parts: ConnectionParts
  readonly #settle: (ending: Ending) => void
  #socket: WebSocket | undefined
  #session: SessionState | undefined
  #timer: Timer | undefined
  readonly #roundTrip: RoundTrip
  #helloAt = 0
  #error: string | undefined

  constructor(parts: ConnectionParts) {
    const { promise, resolve } = withResolvers<Ending>()
    this.ended = promise
    this.#settle = resolve
    this.#parts = parts
    this.#roundTrip = new RoundTrip(parts.clock)
    this.#dial()
  }

  /** Undefined before the socket is open. */
  get session(): SessionState | undefined {
    return this.#session
  }

  /** The spool holds a new heartbeat. */
  beat(seq: number): void {
    this.#feed({ kind: 'beat', seq })
  }

  /** Sends a heartbeat that nobody will acknowledge, if the session is open. */
  sendUnkept(text: string): void {
    if (this.#session?.phase === 'open') this.#sendText(text)
  }

  /** Sends an event; answers false when it cannot be sent now. */
  sendEvent(text: string): boolean {
    const session = this.#session
    if (session?.phase !== 'open' || session.welcome?.lifecycle === 'pending') return false
    if ((this.#socket?.bufferedAmount ?? 0) > MAX_BUFFERED_BYTES) return false
    this.#sendText(text)
    return true
  }

  /** Measures the way to the server, when it is time to. */
  measureRoundTrip(): void {
    if (this.#session?.phase === 'open' && this.#roundTrip.isDue) this.#ping()
  }

  /** The way to the server and back, if it was measured lately. */
  get roundTripMs(): number | undefined {
    return this.#roundTrip.ms
  }

  /** Tells the server the hash of the next token. */
  nameToken(tokenHash: string): void {
    this.#send({ type: 'token_rotated', token_hash: tokenHash })
  }

  /** Ends the session without a goodbye, to come back at once. */
  renew(): void {
    this.#feed({ kind: 'renew' })
  }

  /** Says goodbye once all is acknowledged, or after a short while. */
  leave(): void {
    if (this.#session) this.#feed({ kind: 'leave' })
    else this.#end({ kind: 'unreachable', why: 'given up' })
  }

  #dial(): void {
    const { url, token, clock, network } = this.#parts
    let socket: WebSocket
    try {
      socket = new WebSocket(url, SUBPROTOCOL, {
        headers: { authorization: `Bearer ${token}` },
        createConnection: this.#connectingTo(new URL(url), network),
        perMessageDeflate: false,
        followRedirects: false,
        maxPayload: MAX_INCOMING_BYTES,
      })
    } catch (error) {
      this.#end({ kind: 'unreachable', why: describeError(error) })
      return
    }
    this.#socket = socket
    socket.on('error', (error) => {
      this.#error ??= describeError(error)
    })
    socket.on('unexpected-response', (_request, response) => this.#refused(response))
    socket.on('open', () => {
      const { ownIntervalMs } = this.#parts
      this.#apply(openSession(clock.monotonic(), { ownIntervalMs }))
    })
    socket.on('message', (data, isBinary) => this.#received(data, isBinary))
    socket.on('ping', () => this.#feed({ kind: 'heard' }))
    socket.on('pong', (payload) => {
      this.#roundTrip.pong(payload.toString('latin1'))
      this.#feed({ kind: 'heard' })
    })
    socket.on('close', (code, reason) => this.#closed(code, reason.toString('utf8')))
  }

  /** Whoever takes the connection has to answer, too; the way there has a time of its own. */
  #connectingTo(address: URL, network: Network): ReturnType<typeof connectionsTo> {
    const connecting = connectionsTo(address, network)
    return (options, callback) =>
      connecting(options, (error, socket) => {
        if (!error)
          this.#timer = this.#parts.clock.after(ANSWER_TIMEOUT_MS, () =>
            socket.destroy(new Error('no answer in time')),
          )
        callback(error, socket)
      })
  }

  #refused(response: IncomingMessage): void {
    this.#timer?.cancel()
    const status = response.statusCode ?? 0
    const timer = this.#parts.clock.after(REFUSAL_TIMEOUT_MS, () => response.destroy())
    const finish = (text: string) => {
      timer.cancel()
      const body = objectIn(text)
      const detail = problemText(body)
      this.#end({
        kind: 'refused',
        status,
        code: problemCode(body, response.headers['content-type']),
        why: detail ? `${detail} (HTTP ${status})` : `the server answers HTTP ${status}`,
        notBeforeMs: retryAfterMs(
          response.headers['retry-after'],
          timeOfAnswer(response.headers.date, this.#parts.clock.now()),
        ),
      })
    }
    collect(response).then(finish, () => finish(''))
  }

  #received(data: WebSocket.RawData, isBinary: boolean): void {
    if (isBinary) {
      this.#feed({ kind: 'fault', message: 'frames are text' })
      return
    }
    const decoded = decodeServerFrame(data.toString())
    if (decoded.kind === 'frame') this.#feed({ kind: 'frame', frame: decoded.frame })
    else if (decoded.kind === 'fault') this.#feed({ kind: 'fault', message: decoded.fault.message })
    else this.#feed({ kind: 'heard' })
  }

  #closed(code: number, reason: string): void {
    const session = this.#session
    if (!session) {
      this.#end({ kind: 'unreachable', why: this.#error ?? `closed with ${code}` })
      return
    }
    const now = this.#parts.clock.monotonic()
    this.#feed({ kind: 'closed' })
    this.#end(endingOf(session, code, reason || (this.#error ?? ''), now))
  }

  #end(ending: Ending): void {
    this.#timer?.cancel()
    this.#timer = undefined
    this.#settle(ending)
    this.#socket?.terminate()
  }

  #feed(event: SessionEvent): void {
    if (!this.#session) return
    this.#apply(step(this.#session, event, this.#parts.clock.monotonic()))
  }

  #apply({ state, effects }: Step): void {
    this.#session = state
    for (const effect of effects) this.#carryOut(effect)
    this.#reschedule()
  }

  #reschedule(): void {
    const { clock } = this.#parts
    this.#timer?.cancel()
    this.#timer = undefined
    if (!this.#session || this.#session.phase === 'over') return
    const delay = Math.max(0, wakeAt(this.#session) - clock.monotonic())
    this.#timer = clock.after(delay, () => this.#feed({ kind: 'tick' }))
  }

  #carryOut(effect: SessionEffect): void {
    const { listener, log } = this.#parts
    switch (effect.kind) {
      case 'send_hello':
        this.#helloAt = this.#parts.clock.monotonic()
        this.#send(this.#parts.hello())
        break
      case 'send_bye':
        this.#send({ type: 'bye', reason: effect.reason })
        break
      case 'send_heartbeats':
        this.#sendHeartbeats(effect)
        break
      case 'send_beside':
        this.#sendBeside(effect)
        break
      case 'ping':
        this.#ping()
        break
      case 'close':
        this.#socket?.close(effect.code, effect.reason)
        break
      case 'drop':
        this.#socket?.terminate()
        break
      case 'welcomed':
        listener.welcomed(effect.welcome, effect.isFirst, this.#parts.clock.monotonic() - this.#helloAt)
        break
      case 'interval':
        listener.intervalChanged(effect.intervalMs, effect.serverIntervalMs)
        break
      case 'acknowledged':
        listener.acknowledged(effect.from, effect.to)
        break
      case 'events_acknowledged':
        listener.eventsAcknowledged(effect.ids)
        break
      case 'make_token':
        listener.tokenWanted(effect.reason)
        break
      case 'token_stored':
        listener.tokenStored(effect.tokenHash)
        break
      case 'remark':
        log[effect.level](effect.sentence)
        break
    }
  }

  #ping(): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.ping(this.#roundTrip.ping())
  }

  #send(frame: RobotFrame): void {
    this.#sendText(encodeFrame(frame))
  }

  #sendText(text: string): void {
    // A socket that fails says so by its close event.
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(text, () => {})
  }

  #sendHeartbeats(wish: Extract<SessionEffect, { kind: 'send_heartbeats' }>): void {
    const { afterSeq, belowSeq, atMost } = wish
    const entries = this.#parts.spool.after(afterSeq, atMost + 1, belowSeq)
    const { count, throughSeq } = this.#sendEntries(entries.slice(0, atMost), afterSeq)
    const isBlocked = count < Math.min(entries.length, atMost)
    this.#feed({ kind: 'sent', throughSeq, count, isAll: count === entries.length, isBlocked })
  }

  #sendBeside({ afterSeq, atMost }: Extract<SessionEffect, { kind: 'send_beside' }>): void {
    const { throughSeq } = this.#sendEntries(this.#parts.spool.after(afterSeq, atMost), afterSeq)
    this.#feed({ kind: 'sent_beside', afterSeq, throughSeq })
  }

  #sendEntries(entries: readonly SpoolEntry[], afterSeq: number): { count: number; throughSeq: number } {
    let count = 0
    let throughSeq = afterSeq
    for (const entry of entries) {
      if ((this.#socket?.bufferedAmount ?? 0) > MAX_BUFFERED_BYTES) break
      this.#sendText(entry.text)
      throughSeq = entry.seq
      count++
    }
    return { count, throughSeq }
  }
}

function withResolvers<Value>(): { promise: Promise<Value>; resolve: (value: Value) => void } {
  let resolve: (value: Value) => void = () => {}
  const promise = new Promise<Value>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
