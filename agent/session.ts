import { reconnectDelayIn } from '../src/protocol/close-codes.ts'
import type { ServerFrame, WelcomeFrame } from '../src/protocol/frames.ts'
import {
  MAX_FRAME_ERRORS,
  MAX_HEARTBEAT_INTERVAL_MS,
  MAX_RECONNECT_SPREAD_MS,
  OFFLINE_AFTER_INTERVALS,
  OFFLINE_EXTRA_MS,
} from '../src/protocol/limits.ts'
import { MAX_ASKED_PAUSE_MS } from './backoff.ts'
import type { Ending } from './ending.ts'

/** Heartbeats that were sent one after the other: all that waited with a `seq` from one to another, both included. */
interface Sending {
  readonly from: number
  readonly to: number
  /** Higher than all that this session had sent before. */
  readonly isNewest: boolean
}

/**
 * The robot's side of one session as a pure function. It begins when the socket is open and is always in one phase:
 *
 *     greeting ──welcome──► open ──leave──► leaving ──► closing ──► over
 *
 * `greeting` waits for the first welcome; `open` sends what the spool holds; `leaving` still sends, until all is
 * acknowledged or its time is up; `closing` waits for the other side's close. Times are monotonic milliseconds.
 */
export interface SessionState {
  readonly phase: 'greeting' | 'open' | 'leaving' | 'closing' | 'over'
  /** The last welcome. */
  readonly welcome: WelcomeFrame | undefined
  readonly welcomedAt: number | undefined
  /** Something that was sent in this session was acknowledged. */
  readonly hasAck: boolean
  /** The longest interval the robot itself wants. */
  readonly ownIntervalMs: number | undefined
  readonly intervalMs: number
  /** When anything last came from the server. */
  readonly heardAt: number
  readonly pingedAt: number
  /** All that waited up to here were sent in this session; -1 before the first. */
  readonly sentSeq: number
  /** While older ones are being sent: those in this range went beside them, as they were made. */
  readonly beside: { readonly from: number; readonly to: number } | undefined
  /** Highest heartbeat sent in this session. */
  readonly highestSent: number
  /** What was sent and not acknowledged, in the order in which it was sent. */
  readonly sendings: readonly Sending[]
  /** Since when sent heartbeats wait without any being acknowledged. */
  readonly unackedSince: number | undefined
  /** The spool may hold entries above `sentSeq`. */
  readonly hasBacklog: boolean
  /** Heartbeats that may be sent at `allowanceAt`; it grows with time. */
  readonly allowance: number
  readonly allowanceAt: number
  readonly faults: number
  /** A drain's hour: the server wants the robot back then. */
  readonly comeBackAt: number | undefined
  /** When the present phase ends by itself. */
  readonly phaseEndsAt: number | undefined
  /** Why this side dropped the connection. */
  readonly dropReason: string | undefined
  /** This side ended it to come back at once. */
  readonly comesBackAtOnce: boolean
}

export type SessionEvent =
  | { readonly kind: 'frame'; readonly frame: ServerFrame }
  /** Something that is not a frame. */
  | { readonly kind: 'fault'; readonly message: string }
  /** A ping, a pong, a frame of a type unknown here. */
  | { readonly kind: 'heard' }
  /** The spool holds a new heartbeat. */
  | { readonly kind: 'beat'; readonly seq: number }
  /** Answer to the effect `send_beside`. */
  | { readonly kind: 'sent_beside'; readonly afterSeq: number; readonly throughSeq: number }
  /** Answer to the effect `send_heartbeats`. `isAll`: the spool holds no more; `isBlocked`: the socket takes no more now. */
  | {
      readonly kind: 'sent'
      readonly throughSeq: number
      readonly count: number
      readonly isAll: boolean
      readonly isBlocked: boolean
    }
  | { readonly kind: 'tick' }
  | { readonly kind: 'leave' }
  /** This side wants to come back with another token. */
  | { readonly kind: 'renew' }
  | { readonly kind: 'closed' }

export type SessionEffect =
  | { readonly kind: 'send_hello' }
  | {
      readonly kind: 'send_heartbeats'
      readonly afterSeq: number
      readonly belowSeq: number
      readonly atMost: number
    }
  /** As `send_heartbeats`, ahead of older ones that wait. */
  | { readonly kind: 'send_beside'; readonly afterSeq: number; readonly atMost: number }
  | { readonly kind: 'send_bye'; readonly reason: string }
  | { readonly kind: 'ping' }
  | { readonly kind: 'close'; readonly code: number; readonly reason: string }
  /** Ends a connection whose other side does not answer. */
  | { readonly kind: 'drop' }
  | { readonly kind: 'welcomed'; readonly welcome: WelcomeFrame; readonly isFirst: boolean }
  | { readonly kind: 'interval'; readonly intervalMs: number; readonly serverIntervalMs: number }
  /** The server wants a new token. */
  | { readonly kind: 'make_token'; readonly reason: string }
  /** The server has the token with this hash in its database. */
  | { readonly kind: 'token_stored'; readonly tokenHash: string }
  /** All that were sent with a `seq` in this range, both included, are in the server's database. */
  | { readonly kind: 'acknowledged'; readonly from: number; readonly to: number }
  | { readonly kind: 'events_acknowledged'; readonly ids: readonly string[] }
  | { readonly kind: 'remark'; readonly level: 'info' | 'warn'; readonly sentence: string }

export interface Step {
  readonly state: SessionState
  readonly effects: readonly SessionEffect[]
}

export const WELCOME_TIMEOUT_MS = 15_000
/** How long a robot that leaves waits for its last acknowledgements, and then for the close. */
export const LEAVE_TIMEOUT_MS = 1_500
export const CLOSE_TIMEOUT_MS = 500
/** Heartbeats per second, so that a fleet with a long backlog does not fall upon its server. */
export const SEND_RATE = 50
const SEND_BURST = 5
/** Heartbeats go beside older ones only while no more stretches than these wait for their acknowledgement. */
const MAX_SENDINGS = 512
/** A connection is kept warm at least this often, whatever the interval. */
const MAX_PING_INTERVAL_MS = 60_000
const MIN_INTERVAL_MS = 100
/**
 * A server that answers pings may hold its acknowledgements back while its database is away, and a new connection would
 * not help it. This many silence limits are granted before a new one is tried all the same.
 */
const ACK_PATIENCE = 10

/** The session of a socket that has just opened. */
export function openSession(now: number, from: { readonly ownIntervalMs: number | undefined }): Step {
  const state: SessionState = {
    phase: 'greeting',
    welcome: undefined,
    welcomedAt: undefined,
    hasAck: false,
    ownIntervalMs: from.ownIntervalMs,
    intervalMs: MAX_HEARTBEAT_INTERVAL_MS,
    heardAt: now,
    pingedAt: now,
    sentSeq: -1,
    beside: undefined,
    highestSent: -1,
    sendings: [],
    unackedSince: undefined,
    hasBacklog: true,
    allowance: SEND_BURST,
    allowanceAt: now,
    faults: 0,
    comeBackAt: undefined,
    phaseEndsAt: now + WELCOME_TIMEOUT_MS,
    dropReason: undefined,
    comesBackAtOnce: false,
  }
  return { state, effects: [{ kind: 'send_hello' }] }
}

/** What happens to a session, and what is to be done about it. */
export function step(state: SessionState, event: SessionEvent, now: number): Step {
  if (state.phase === 'over') return { state, effects: [] }
  switch (event.kind) {
    case 'closed':
      return { state: { ...state, phase: 'over', phaseEndsAt: undefined }, effects: [] }
    case 'heard':
      return { state: { ...state, heardAt: now }, effects: [] }
    case 'frame':
      return onFrame({ ...state, heardAt: now }, event.frame, now)
    case 'fault':
      return onFault({ ...state, heardAt: now, faults: state.faults + 1 }, event.message, now)
    case 'beat':
      return onBeat(state, event.seq, now)
    case 'sent_beside':
      return { state: onSentBeside(state, event, now), effects: [] }
    case 'sent':
      return onSent(state, event, now)
    case 'tick':
      return onTick(state, now)
    case 'leave':
      return onLeave(state, now)
    case 'renew':
      return state.phase === 'open'
        ? close({ ...state, comesBackAtOnce: true }, 1000, 'reconnecting with a new token', now)
        : { state, effects: [] }
  }
}

/** When the session next wants a tick, if nothing else happens. */
export function wakeAt(state: SessionState): number {
  const times = [state.phaseEndsAt, state.heardAt + silenceLimit(state)]
  if (isTalking(state)) {
    times.push(Math.max(state.heardAt, state.pingedAt) + pingInterval(state), state.comeBackAt)
    if (state.unackedSince !== undefined) times.push(state.unackedSince + ACK_PATIENCE * silenceLimit(state))
    if (state.hasBacklog && takesHeartbeats(state))
      times.push(state.allowanceAt + Math.max(0, (1 - state.allowance) / SEND_RATE) * 1_000)
  }
  return Math.min(...times.filter((time) => time !== undefined))
}

/** The session's end, once the socket is closed. */
export function endingOf(state: SessionState, code: number, reason: string, now: number): Ending {
  const asked = reconnectDelayIn(reason)
  const fromDrain = state.comeBackAt === undefined ? undefined : Math.max(0, state.comeBackAt - now)
  return {
    kind: 'closed',
    code,
    reason: reason || (state.dropReason ?? ''),
    livedMs: state.welcomedAt === undefined ? undefined : now - state.welcomedAt,
    comesBackAtOnce: state.comesBackAtOnce,
    spreadMs: state.hasAck ? Math.min(state.welcome?.reconnect_spread_ms ?? 0, MAX_RECONNECT_SPREAD_MS) : 0,
    comeBackInMs: asked === undefined ? fromDrain : Math.min(asked, MAX_ASKED_PAUSE_MS),
  }
}

function onFrame(state: SessionState, frame: ServerFrame, now: number): Step {
  switch (frame.type) {
    case 'welcome':
      return onWelcome(state, frame, now)
    case 'ack':
      return onAck(state, frame.seq, now)
    case 'settings':
      return withInterval(state, frame.heartbeat_interval_ms)
    case 'drain': {
      const comeBackAt = now + Math.min(frame.reconnect_in_ms, MAX_ASKED_PAUSE_MS)
      return { state: { ...state, comeBackAt }, effects: [] }
    }
    case 'error':
      return remark(state, 'warn', `the server complains: ${frame.message} (${frame.code})`)
    case 'rotate_token':
      return {
        state,
        effects: state.phase === 'open' ? [{ kind: 'make_token', reason: frame.reason }] : [],
      }
    case 'token_rotation_ack':
      return { state, effects: [{ kind: 'token_stored', tokenHash: frame.token_hash }] }
    case 'event_ack':
      return { state, effects: [{ kind: 'events_acknowledged', ids: frame.ids }] }
  }
}

function onWelcome(state: SessionState, welcome: WelcomeFrame, now: number): Step {
  const isFirst = state.phase === 'greeting'
  const opened: SessionState = {
    ...state,
    welcome,
    ...(isFirst ? { phase: 'open', phaseEndsAt: undefined, welcomedAt: now } : {}),
  }
  const timed = withInterval(opened, welcome.heartbeat_interval_ms)
  const pumped = pump(timed.state, now)
  return {
    state: pumped.state,
    effects: [...timed.effects, { kind: 'welcomed', welcome, isFirst }, ...pumped.effects],
  }
}

function withInterval(state: SessionState, serverIntervalMs: number): Step {
  const wanted = Math.min(serverIntervalMs, state.ownIntervalMs ?? serverIntervalMs)
  const intervalMs = Math.min(MAX_HEARTBEAT_INTERVAL_MS, Math.max(MIN_INTERVAL_MS, wanted))
  return { state: { ...state, intervalMs }, effects: [{ kind: 'interval', intervalMs, serverIntervalMs }] }
}

/**
 * The server stores what a session sends in the order in which it came, and names the highest `seq` that it has stored.
 * So it acknowledges the newest sending that it reaches into and all that was sent before that; of an older heartbeat
 * that was sent later it says nothing yet.
 */
function onAck(state: SessionState, seq: number, now: number): Step {
  const reached = state.sendings.findLastIndex(({ isNewest, from }) => isNewest && from <= seq)
  if (reached < 0) return { state, effects: [] }
  const { from, to } = state.sendings[reached]!
  const through = Math.min(seq, to)
  const rest = through < to ? [{ from: through + 1, to, isNewest: true }] : []
  const sendings = [...rest, ...state.sendings.slice(reached + 1)]
  const acked = { ...state, hasAck: true, sendings, unackedSince: sendings.length === 0 ? undefined : now }
  const left = acked.phase === 'leaving' && isFinished(acked) ? sayGoodbye(acked, now) : undefined
  const ranges = [...state.sendings.slice(0, reached), { from, to: through }]
  const told = ranges.map(
    (range): SessionEffect => ({ kind: 'acknowledged', from: range.from, to: range.to }),
  )
  return { state: left?.state ?? acked, effects: [...told, ...(left?.effects ?? [])] }
}

function onBeat(state: SessionState, seq: number, now: number): Step {
  const isBehind = state.phase === 'open' && takesHeartbeats(state) && state.hasBacklog
  if (!isBehind || state.sendings.length >= MAX_SENDINGS) return pump({ ...state, hasBacklog: true }, now)
  // Older ones still wait for their turn: this one shows how the robot is now.
  const afterSeq = state.beside?.to ?? seq - 1
  return { state, effects: [{ kind: 'send_beside', afterSeq, atMost: SEND_BURST }] }
}

function onSentBeside(
  state: SessionState,
  { afterSeq, throughSeq }: Extract<SessionEvent, { kind: 'sent_beside' }>,
  now: number,
): SessionState {
  if (throughSeq <= afterSeq) return state
  const beside = { from: state.beside?.from ?? afterSeq + 1, to: throughSeq }
  return withSending({ ...state, beside }, afterSeq + 1, throughSeq, now)
}

function withSending(state: SessionState, from: number, to: number, now: number): SessionState {
  const isNewest = from > state.highestSent
  const last = state.sendings.at(-1)
  const goesOn = last !== undefined && last.isNewest === isNewest && last.to + 1 === from
  const sendings = goesOn
    ? [...state.sendings.slice(0, -1), { ...last, to }]
    : [...state.sendings, { from, to, isNewest }]
  return {
    ...state,
    sendings,
    highestSent: Math.max(state.highestSent, to),
    unackedSince: state.unackedSince ?? now,
  }
}

function onFault(state: SessionState, message: string, now: number): Step {
  if (state.faults < MAX_FRAME_ERRORS)
    return remark(state, 'warn', `the server sent something that is not a frame: ${message}`)
  return close(state, 1002, 'too many malformed frames', now)
}

function onSent(state: SessionState, event: Extract<SessionEvent, { kind: 'sent' }>, now: number): Step {
  const { throughSeq, count } = event
  const noted = count > 0 ? withSending(state, state.sentSeq + 1, throughSeq, now) : state
  // With the older ones done, those that went beside them are part of what was sent.
  const hasCaughtUp = event.isAll && state.beside !== undefined
  const sent: SessionState = {
    ...noted,
    sentSeq: hasCaughtUp ? state.beside.to : Math.max(state.sentSeq, throughSeq),
    beside: hasCaughtUp ? undefined : state.beside,
    hasBacklog: !event.isAll || hasCaughtUp,
    allowance: event.isBlocked ? 0 : Math.max(0, state.allowance - count),
  }
  return sent.phase === 'leaving' && isFinished(sent) ? sayGoodbye(sent, now) : { state: sent, effects: [] }
}

function onTick(state: SessionState, now: number): Step {
  if (state.phaseEndsAt !== undefined && now >= state.phaseEndsAt) {
    if (state.phase === 'leaving') return sayGoodbye(state, now)
    return drop(state, state.phase === 'greeting' ? 'no welcome in time' : 'no answer to the close')
  }
  if (now - state.heardAt >= silenceLimit(state)) return drop(state, 'the server fell silent')
  if (!isTalking(state)) return { state, effects: [] }
  if (state.unackedSince !== undefined && now - state.unackedSince >= ACK_PATIENCE * silenceLimit(state))
    return close(state, 1000, 'nothing acknowledged', now)
  if (state.comeBackAt !== undefined && now >= state.comeBackAt)
    return close(state, 1000, 'reconnecting as asked', now)
  const isQuiet = now - Math.max(state.heardAt, state.pingedAt) >= pingInterval(state)
  const pumped = pump(isQuiet ? { ...state, pingedAt: now } : state, now)
  return isQuiet ? { state: pumped.state, effects: [{ kind: 'ping' }, ...pumped.effects] } : pumped
}

function onLeave(state: SessionState, now: number): Step {
  if (state.phase === 'greeting') return sayGoodbye(state, now)
  if (state.phase !== 'open') return { state, effects: [] }
  const leaving: SessionState = { ...state, phase: 'leaving', phaseEndsAt: now + LEAVE_TIMEOUT_MS }
  return isFinished(leaving) ? sayGoodbye(leaving, now) : pump(leaving, now)
}

/** Asks for as many heartbeats as may be sent now. */
function pump(state: SessionState, now: number): Step {
  if (!isTalking(state) || !state.hasBacklog || !takesHeartbeats(state)) return { state, effects: [] }
  const grown = state.allowance + ((now - state.allowanceAt) / 1_000) * SEND_RATE
  // Rounding must not leave the allowance a hair below one at the very moment that was waited for.
  const allowance = Math.min(SEND_BURST, grown + 1e-6)
  const paced = { ...state, allowance, allowanceAt: now }
  if (allowance < 1) return { state: paced, effects: [] }
  return {
    state: { ...paced, hasBacklog: false },
    effects: [
      {
        kind: 'send_heartbeats',
        afterSeq: state.sentSeq,
        belowSeq: state.beside?.from ?? Infinity,
        atMost: Math.floor(allowance),
      },
    ],
  }
}

function sayGoodbye(state: SessionState, now: number): Step {
  const closing = close(state, 1000, 'shutdown', now)
  return { state: closing.state, effects: [{ kind: 'send_bye', reason: 'shutdown' }, ...closing.effects] }
}

function close(state: SessionState, code: number, reason: string, now: number): Step {
  if (state.phase === 'closing') return { state, effects: [] }
  return {
    state: { ...state, phase: 'closing', phaseEndsAt: now + CLOSE_TIMEOUT_MS, dropReason: reason },
    effects: [{ kind: 'close', code, reason }],
  }
}

function drop(state: SessionState, reason: string): Step {
  return {
    state: { ...state, phase: 'over', phaseEndsAt: undefined, dropReason: state.dropReason ?? reason },
    effects: [{ kind: 'drop' }],
  }
}

function remark(state: SessionState, level: 'info' | 'warn', sentence: string): Step {
  return { state, effects: [{ kind: 'remark', level, sentence }] }
}

function isTalking(state: SessionState): boolean {
  return state.phase === 'open' || state.phase === 'leaving'
}

/** A robot that waits for approval is heard, but its heartbeats are not taken. */
function takesHeartbeats(state: SessionState): boolean {
  return state.welcome !== undefined && state.welcome.lifecycle !== 'pending'
}

function isFinished(state: SessionState): boolean {
  return !takesHeartbeats(state) || (!state.hasBacklog && state.sendings.length === 0)
}

function silenceLimit(state: SessionState): number {
  return OFFLINE_AFTER_INTERVALS * state.intervalMs + OFFLINE_EXTRA_MS
}

function pingInterval(state: SessionState): number {
  return Math.min(state.intervalMs, MAX_PING_INTERVAL_MS)
}
