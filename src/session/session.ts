import { CLOSE, type CloseCause, withReconnectDelay } from '../protocol/close-codes.ts'
import { decodeRobotFrame } from '../protocol/codec.ts'
import type {
  HeartbeatFrame,
  HelloFrame,
  RobotFrame,
  TokenRotatedFrame,
  WelcomeFrame,
} from '../protocol/frames.ts'
import type { Heartbeat } from '../protocol/heartbeat-scanner.ts'
import { MAX_FRAME_ERRORS, PROTOCOL_VERSION } from '../protocol/limits.ts'
import { faultChanges } from './faults.ts'
import type {
  OpenSession,
  RobotFacts,
  RotationRequest,
  SessionEffect,
  SessionEnd,
  SessionEvent,
  SessionFacts,
  SessionGrant,
  SessionState,
} from './state.ts'

/** Frames a robot may send between its hello and the welcome. */
const MAX_HELD_FRAMES = 256
/** What these may hold together, in UTF-16 units: a database that is slow keeps thousands of robots waiting at once. */
const MAX_HELD_LENGTH = 256 * 1024
/** Next tokens that a robot may name in one session; it needs one. */
const MAX_TOKENS_NAMED = 3

export interface Step {
  readonly state: SessionState
  readonly effects: readonly SessionEffect[]
}

const CLOSED: SessionState = { phase: 'closed' }
const NOTHING: readonly SessionEffect[] = []

/** The state of a session whose socket has just been accepted. */
export function beginSession(): SessionState {
  return { phase: 'awaiting_hello', errors: 0 }
}

/**
 * One step of a robot's session: takes the state, what happened and the server's time in milliseconds, and answers
 * with the next state and what has to be done about it, in order. Pure, and never throws.
 */
export function step(state: SessionState, event: SessionEvent, now: number): Step {
  if (state.phase === 'closed') return { state, effects: NOTHING }
  switch (event.type) {
    case 'text':
      return takeText(state, event.text)
    case 'binary':
      return complain(state, 'binary_frame', 'frames are text; binary ones are not taken')
    case 'opened':
      return state.phase === 'opening' ? welcome(state, event.grant, now) : { state, effects: NOTHING }
    case 'stored':
      return state.phase === 'open' ? acknowledge(state, event.seq) : { state, effects: NOTHING }
    case 'events_stored':
      return state.phase === 'open'
        ? { state, effects: [send({ type: 'event_ack', ids: [...event.ids] })] }
        : { state, effects: NOTHING }
    case 'rejected':
      return {
        state,
        effects: [
          { type: 'frame_error', code: 'heartbeat_refused' },
          send({
            type: 'error',
            code: 'heartbeat_refused',
            message: `heartbeat ${event.seq} cannot be stored`,
          }),
        ],
      }
    case 'next_token_stored':
      return state.phase === 'open'
        ? { state, effects: [send({ type: 'token_rotation_ack', token_hash: event.tokenHash })] }
        : { state, effects: NOTHING }
    case 'next_token_refused':
      return complain(state, 'token_rotation_refused', event.why)
    case 'changed':
      return state.phase === 'open' ? change(state, event.facts, now) : { state, effects: NOTHING }
    case 'drain':
      return end(withReconnectDelay(CLOSE.serviceRestart, event.reconnectInMs), [
        send({ type: 'drain', reconnect_in_ms: Math.round(event.reconnectInMs) }),
      ])
    case 'end':
      return end(event.cause)
    case 'socket_closed':
      return {
        state: CLOSED,
        effects: [ended({ by: 'network', code: event.code, reason: event.reason, bye: false })],
      }
  }
}

type LiveState = Exclude<SessionState, { phase: 'closed' }>
type OtherFrame = Exclude<RobotFrame, HeartbeatFrame>

function takeText(state: LiveState, text: string): Step {
  if (state.phase === 'opening') {
    const length = state.held.reduce((sum, held) => sum + held.length, text.length)
    if (state.held.length >= MAX_HELD_FRAMES || length > MAX_HELD_LENGTH) return end(CLOSE.tooManyFrames)
    return { state: { ...state, held: [...state.held, text] }, effects: NOTHING }
  }
  const decoded = decodeRobotFrame(text)
  if (decoded.kind === 'fault') return complain(state, decoded.fault.code, decoded.fault.message)
  if (decoded.kind === 'unknown') return { state, effects: NOTHING }
  if (decoded.kind === 'heartbeat')
    return state.phase === 'open' ? takeHeartbeat(state, decoded.heartbeat) : complainOfNoHello(state)
  return state.phase === 'open' ? takeFrame(state, decoded.frame) : takeFirstFrame(state, decoded.frame)
}

function complainOfNoHello(state: LiveState): Step {
  return complain(state, 'hello_expected', 'the first frame has to be hello')
}

function takeFirstFrame(state: LiveState & { phase: 'awaiting_hello' }, frame: OtherFrame): Step {
  if (frame.type === 'bye') return farewell(frame.reason)
  if (frame.type !== 'hello') return complainOfNoHello(state)
  if (frame.protocol !== PROTOCOL_VERSION)
    return end(CLOSE.protocolUnsupported, [
      send({
        type: 'error',
        code: 'protocol_unsupported',
        message: `this server speaks protocol ${PROTOCOL_VERSION}, not ${frame.protocol}`,
      }),
    ])
  return {
    state: { phase: 'opening', errors: state.errors, hello: frame, held: [] },
    effects: [{ type: 'open', hello: frame }],
  }
}

function welcome(state: LiveState & { phase: 'opening' }, grant: SessionGrant, now: number): Step {
  const open: OpenSession = {
    phase: 'open',
    errors: state.errors,
    facts: {
      robotId: grant.robotId,
      sessionNo: grant.sessionNo,
      name: grant.name,
      lifecycle: grant.lifecycle,
      heartbeatIntervalMs: grant.heartbeatIntervalMs,
      reconnectSpreadMs: grant.reconnectSpreadMs,
      rotationAskedAt: undefined,
      tokensNamed: 0,
    },
    highestSeq: grant.latestSeq ?? -1,
    latestSeq: numbersAnew(state.hello) ? -1 : (grant.latestSeq ?? -1),
    latestAt: grant.latestAt ?? Number.NEGATIVE_INFINITY,
    cameSeq: -1,
    storedSeq: -1,
    faultCodes: grant.faultCodes,
  }
  const asked = askForRotation(open, grant.rotation)
  // Frames that came meanwhile are read now, as if they had come after the welcome.
  let result: Step = { state: asked.state, effects: [send(welcomeFrame(open.facts, now)), ...asked.effects] }
  for (const text of state.held) {
    const next = step(result.state, { type: 'text', text }, now)
    result = { state: next.state, effects: [...result.effects, ...next.effects] }
  }
  return result
}

/** A robot that does not say where it resumes may count its heartbeats from the start again. */
function numbersAnew(hello: HelloFrame): boolean {
  return hello.resume_seq === undefined
}

function takeFrame(state: OpenSession, frame: OtherFrame): Step {
  switch (frame.type) {
    case 'hello':
      return complain(state, 'unexpected_hello', 'hello is said once in a session')
    case 'bye':
      return farewell(frame.reason)
    case 'event':
      return { state, effects: [{ type: 'store_event', event: frame }] }
    case 'token_rotated':
      return takeNextToken(state, frame)
  }
}

function takeNextToken(state: OpenSession, frame: TokenRotatedFrame): Step {
  const { facts } = state
  if (facts.tokensNamed >= MAX_TOKENS_NAMED)
    return complain(state, 'token_rotation_refused', 'a session has named too many tokens')
  return {
    state: { ...state, facts: { ...facts, tokensNamed: facts.tokensNamed + 1 } },
    effects: [{ type: 'store_next_token', tokenHash: frame.token_hash }],
  }
}

/** Tells the robot of a request, once in a session: one that does not know what to do about it is not asked again. */
function askForRotation(
  state: OpenSession,
  rotation: RotationRequest | null,
): { state: OpenSession; effects: readonly SessionEffect[] } {
  if (rotation === null || rotation.at === state.facts.rotationAskedAt) return { state, effects: NOTHING }
  return {
    state: { ...state, facts: { ...state.facts, rotationAskedAt: rotation.at } },
    effects: [send({ type: 'rotate_token', reason: rotation.reason })],
  }
}

function takeHeartbeat(state: OpenSession, heartbeat: Heartbeat): Step {
  if (state.facts.lifecycle === 'pending')
    return { state, effects: [{ type: 'refuse_heartbeat', reason: 'pending' }] }
  const { seq, time, faults } = heartbeat
  const { highestSeq, latestSeq, latestAt, cameSeq, faultCodes } = state
  const latest = seq > latestSeq || (time > latestAt && seq > cameSeq)
  const store: SessionEffect = { type: 'store_heartbeat', heartbeat, recheck: seq <= highestSeq, latest }
  // Written out: with so many members, `...` is by far the slowest part of the step.
  const next: OpenSession = {
    phase: 'open',
    errors: state.errors,
    facts: state.facts,
    highestSeq: Math.max(highestSeq, seq),
    latestSeq: latest ? seq : latestSeq,
    latestAt: latest ? time : latestAt,
    cameSeq: Math.max(cameSeq, seq),
    storedSeq: state.storedSeq,
    faultCodes,
  }
  // Nearly always there were none and there are none.
  if (!latest || !faults || (faults.length === 0 && faultCodes.length === 0))
    return { state: next, effects: [store] }
  const changes = faultChanges(faultCodes, faults).map(
    (entry): SessionEffect => ({ type: 'timeline', entry }),
  )
  return {
    state: { ...next, faultCodes: faults.map((fault) => fault.code) },
    effects: [store, ...changes],
  }
}

function acknowledge(state: OpenSession, seq: number): Step {
  if (seq <= state.storedSeq) return { state, effects: [send({ type: 'ack', seq: state.storedSeq })] }
  const next: OpenSession = {
    phase: 'open',
    errors: state.errors,
    facts: state.facts,
    highestSeq: state.highestSeq,
    latestSeq: state.latestSeq,
    latestAt: state.latestAt,
    cameSeq: state.cameSeq,
    storedSeq: seq,
    faultCodes: state.faultCodes,
  }
  return { state: next, effects: [send({ type: 'ack', seq })] }
}

function change(state: OpenSession, { rotation, ...changes }: RobotFacts, now: number): Step {
  const before = state.facts
  const changed: OpenSession = { ...state, facts: { ...before, ...changes } }
  const effects: SessionEffect[] = []
  // A changed name or lifecycle is said by a new welcome: the frame that carries both.
  if (changes.name !== before.name || changes.lifecycle !== before.lifecycle)
    effects.push(send(welcomeFrame(changed.facts, now)))
  else if (changes.heartbeatIntervalMs !== before.heartbeatIntervalMs)
    effects.push(send({ type: 'settings', heartbeat_interval_ms: changes.heartbeatIntervalMs }))
  const asked = askForRotation(changed, rotation)
  return { state: asked.state, effects: [...effects, ...asked.effects] }
}

function welcomeFrame(facts: SessionFacts, now: number): WelcomeFrame {
  return {
    type: 'welcome',
    robot_id: facts.robotId,
    name: facts.name,
    session_no: facts.sessionNo,
    heartbeat_interval_ms: facts.heartbeatIntervalMs,
    server_time: new Date(now).toISOString(),
    lifecycle: facts.lifecycle,
    ...(facts.reconnectSpreadMs > 0 ? { reconnect_spread_ms: facts.reconnectSpreadMs } : {}),
  }
}

function complain(state: LiveState, code: string, message: string): Step {
  const errors = state.errors + 1
  const effects: SessionEffect[] = [{ type: 'frame_error', code }, send({ type: 'error', code, message })]
  return errors >= MAX_FRAME_ERRORS
    ? end(CLOSE.tooManyErrors, effects)
    : { state: { ...state, errors }, effects }
}

function farewell(reason: string): Step {
  return {
    state: CLOSED,
    effects: [
      { type: 'close', cause: { code: 1000, reason: 'bye' } },
      ended({ by: 'robot', code: 1000, reason: reason || 'bye', bye: true }),
    ],
  }
}

function end(cause: CloseCause, before: readonly SessionEffect[] = NOTHING): Step {
  return {
    state: CLOSED,
    effects: [
      ...before,
      { type: 'close', cause },
      ended({ by: 'server', code: cause.code, reason: cause.reason, bye: false }),
    ],
  }
}

function ended(end: SessionEnd): SessionEffect {
  return { type: 'ended', end }
}

function send(frame: Extract<SessionEffect, { type: 'send' }>['frame']): SessionEffect {
  return { type: 'send', frame }
}
