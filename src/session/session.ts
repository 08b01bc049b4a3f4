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
  SessionGrant,
  SessionState,
} from './state.ts'

/** Frames a robot may send between its hello and the welcome. */
const MAX_HELD_FRAMES = 256
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
    if (state.held.length >= MAX_HELD_FRAMES) return end(CLOSE.tooManyFrames)
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
    robotId: grant.robotId,
    sessionNo: grant.sessionNo,
    name: grant.name,
    lifecycle: grant.lifecycle,
    heartbeatIntervalMs: grant.heartbeatIntervalMs,
    highestSeq: grant.latestSeq ?? -1,
    latestSeq: numbersAnew(state.hello) ? -1 : (grant.latestSeq ?? -1),
    latestAt: grant.latestAt ?? Number.NEGATIVE_INFINITY,
    storedSeq: -1,
    faultCodes: grant.faultCodes,
    rotationAskedAt: undefined,
    tokensNamed: 0,
  }
  const asked = askForRotation(open, grant.rotation)
  // Frames that came meanwhile are read now, as if they had come after the welcome.
  let result: Step = { state: asked.state, effects: [send(welcomeFrame(open, now)), ...asked.effects] }
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
  if (state.tokensNamed >= MAX_TOKENS_NAMED)
    return complain(state, 'token_rotation_refused', 'a session has named too many tokens')
  return {
    state: { ...state, tokensNamed: state.tokensNamed + 1 },
    effects: [{ type: 'store_next_token', tokenHash: frame.token_hash }],
  }
}

/** Tells the robot of a request, once in a session: one that does not know what to do about it is not asked again. */
function askForRotation(
  state: OpenSession,
  rotation: RotationRequest | null,
): { state: OpenSession; effects: readonly SessionEffect[] } {
  if (rotation === null || rotation.at === state.rotationAskedAt) return { state, effects: NOTHING }
  return {
    state: { ...state, rotationAskedAt: rotation.at },
    effects: [send({ type: 'rotate_token', reason: rotation.reason })],
  }
}

function takeHeartbeat(state: OpenSession, heartbeat: Heartbeat): Step {
  if (state.lifecycle === 'pending')
    return { state, effects: [{ type: 'refuse_heartbeat', reason: 'pending' }] }
  const { seq, at, time, health, body, faults } = heartbeat
  const latest = seq > state.latestSeq || time > state.latestAt
  const effects: SessionEffect[] = [
    {
      type: 'store_heartbeat',
      heartbeat: { seq, at, health, body, recheck: seq <= state.highestSeq, latest },
    },
  ]
  let faultCodes = state.faultCodes
  // Nearly always there were none and there are none.
  if (latest && faults && (faults.length > 0 || faultCodes.length > 0)) {
    for (const entry of faultChanges(faultCodes, faults)) effects.push({ type: 'timeline', entry })
    faultCodes = faults.map((fault) => fault.code)
  }
  return {
    state: {
      ...state,
      highestSeq: Math.max(state.highestSeq, seq),
      latestSeq: latest ? seq : state.latestSeq,
      latestAt: latest ? time : state.latestAt,
      faultCodes,
    },
    effects,
  }
}

function acknowledge(state: OpenSession, seq: number): Step {
  const storedSeq = Math.max(state.storedSeq, seq)
  return { state: { ...state, storedSeq }, effects: [send({ type: 'ack', seq: storedSeq })] }
}

function change(state: OpenSession, { rotation, ...facts }: RobotFacts, now: number): Step {
  const changed: OpenSession = { ...state, ...facts }
  const effects: SessionEffect[] = []
  // A changed name or lifecycle is said by a new welcome: the frame that carries both.
  if (facts.name !== state.name || facts.lifecycle !== state.lifecycle)
    effects.push(send(welcomeFrame(changed, now)))
  else if (facts.heartbeatIntervalMs !== state.heartbeatIntervalMs)
    effects.push(send({ type: 'settings', heartbeat_interval_ms: facts.heartbeatIntervalMs }))
  const asked = askForRotation(changed, rotation)
  return { state: asked.state, effects: [...effects, ...asked.effects] }
}

function welcomeFrame(state: OpenSession, now: number): WelcomeFrame {
  return {
    type: 'welcome',
    robot_id: state.robotId,
    name: state.name,
    session_no: state.sessionNo,
    heartbeat_interval_ms: state.heartbeatIntervalMs,
    server_time: new Date(now).toISOString(),
    lifecycle: state.lifecycle,
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
