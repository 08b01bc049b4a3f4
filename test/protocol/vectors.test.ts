import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { backoffCeiling, retryAfterMs } from '../../agent/backoff.ts'
import { type Ending, nextMove } from '../../agent/ending.ts'
import {
  type SessionState as AgentSession,
  type SessionEvent as AgentSessionEvent,
  step as agentStep,
  endingOf,
  openSession,
} from '../../agent/session.ts'
import { CLOSE, reconnectDelayIn } from '../../src/protocol/close-codes.ts'
import { decodeBySchema, decodeRobotFrame, decodeServerFrame } from '../../src/protocol/codec.ts'
import type { Lifecycle, WelcomeFrame } from '../../src/protocol/frames.ts'
import {
  claimCredentialKind,
  hashToken,
  isCheckedToken,
  mintCheckedToken,
} from '../../src/protocol/tokens.ts'
import { beginSession, step } from '../../src/session/session.ts'
import type { SessionEvent, SessionGrant, SessionState } from '../../src/session/state.ts'
import { type ClaimingApi, startClaimingApi } from '../http/claiming.ts'
import { pythonOrLeaveOut } from '../support/python.ts'
import { insertFleet } from '../support/robots.ts'

const FOLDER = join(import.meta.dirname, '../../docs/protocol/vectors')
const ROBOT = join(import.meta.dirname, '../../docs/examples/robot.py')
const python = pythonOrLeaveOut('the test vectors of tokens in Python')

type Text = string | readonly (string | { readonly repeat: string; readonly times: number })[]

function vectors<Content>(file: string): Content {
  return JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Content
}

function textOf(text: Text): string {
  if (typeof text === 'string') return text
  return text.map((part) => (typeof part === 'string' ? part : part.repeat.repeat(part.times))).join('')
}

interface FrameVector {
  readonly name: string
  readonly text: Text
  readonly result: string
}

const fromRobot = vectors<{ frames: FrameVector[] }>('frames-from-robot.json').frames
const fromServer = vectors<{ frames: FrameVector[] }>('frames-from-server.json').frames

test('every file of vectors is run here, and no two vectors of a file have one name', () => {
  expect(readdirSync(FOLDER).sort()).toEqual([
    'claims.json',
    'endings.json',
    'frames-from-robot.json',
    'frames-from-server.json',
    'sessions.json',
    'tokens.json',
  ])
  for (const frames of [fromRobot, fromServer]) {
    expect(frames.length).toBeGreaterThan(20)
    expect(new Set(frames.map(({ name }) => name)).size).toBe(frames.length)
  }
})

describe('frames of a robot', () => {
  test.each(fromRobot)('$name: $result', ({ text, result }) => {
    for (const decode of [decodeRobotFrame, decodeBySchema]) {
      const decoded = decode(textOf(text))
      const outcome = { frame: 'accepted', heartbeat: 'accepted', unknown: 'ignored', fault: 'fault' }
      expect(decoded.kind === 'fault' ? decoded.fault.code : outcome[decoded.kind]).toBe(result)
    }
  })

  test('every result there can be is among them', () => {
    const results = new Set(fromRobot.map(({ result }) => result))
    expect([...results].sort()).toEqual([
      'accepted',
      'frame_too_large',
      'ignored',
      'invalid_frame',
      'invalid_json',
    ])
  })
})

test.each(fromServer)('a frame of a server, $name: $result', ({ text, result }) => {
  const { kind } = decodeServerFrame(textOf(text))
  expect({ frame: 'accepted', unknown: 'ignored', fault: 'invalid' }[kind]).toBe(result)
})

describe('tokens', () => {
  const tokens = vectors<{
    crc32: { text: string; crc32: string }[]
    robot_tokens: { hex: string; token: string; crc32: string; sha256: string }[]
    not_robot_tokens: { name: string; text: string }[]
    claim_credentials: { text: string; kind: string | null }[]
  }>('tokens.json')

  test('checksums', () => {
    for (const vector of tokens.crc32)
      expect(crc32(vector.text).toString(16).padStart(8, '0')).toBe(vector.crc32)
  })

  test('robot tokens, what they are made of, and their hashes', () => {
    expect(tokens.robot_tokens.some((vector) => vector.crc32.startsWith('0'))).toBe(true)
    for (const { hex, token, crc32: sum, sha256 } of tokens.robot_tokens) {
      expect(mintCheckedToken('robot', () => Buffer.from(hex, 'hex'))).toBe(token)
      expect(isCheckedToken('robot', token)).toBe(true)
      expect(token.endsWith(sum)).toBe(true)
      expect(hashToken(token).toString('hex')).toBe(sha256)
    }
  })

  test.each(tokens.not_robot_tokens)('no robot token: $name', ({ text }) => {
    expect(isCheckedToken('robot', text)).toBe(false)
  })

  test.each(tokens.claim_credentials)('claim credentials: $text', ({ text, kind }) => {
    expect(claimCredentialKind(text) ?? null).toBe(kind)
  })

  test.skipIf(python === undefined)('the robot in Python makes the same tokens and hashes', () => {
    const program = `
import importlib.util, json, secrets, sys
spec = importlib.util.spec_from_file_location("robot", ${JSON.stringify(ROBOT)})
robot = importlib.util.module_from_spec(spec)
spec.loader.exec_module(robot)
made = []
for hex in json.load(sys.stdin):
    secrets.token_hex = lambda count: hex if count == 32 else ""
    token = robot.new_token()
    made.append({"token": token, "sha256": robot.sha256(token)})
print(json.dumps(made))`
    const input = JSON.stringify(tokens.robot_tokens.map(({ hex }) => hex))
    const env = { PATH: process.env.PATH ?? '', PYTHONDONTWRITEBYTECODE: '1' }
    const made = execFileSync(python!, ['-c', program], { input, env, encoding: 'utf8' })
    expect(JSON.parse(made)).toEqual(tokens.robot_tokens.map(({ token, sha256 }) => ({ token, sha256 })))
  })
})

describe('how sessions end', () => {
  interface Then {
    readonly robot: 'come_back' | 'stop'
    readonly exit_code?: number
    readonly delay_ms?: number
  }
  const endings = vectors<{
    closes: ({ code: number; reason: string } & Then)[]
    losses: {
      name: string
      code: number
      reason: string
      stood_ms: number
      has_ack: boolean
      spread_ms: number | null
      longest_ms: number
    }[]
    refusals: ({ status: number; code: string | null; retry_after: string | null } & Then)[]
    backoff_ms: number[]
  }>('endings.json')

  /** Our own agent in a session that was welcomed at 0 and sent a heartbeat. */
  function agentSession(spreadMs: number | undefined, hasAck: boolean): AgentSession {
    const welcome: WelcomeFrame = {
      type: 'welcome',
      robot_id: '0198c0de-4b1d-7a6e-9c53-0f1e2d3c4b5a',
      name: 'cart-7',
      session_no: 42,
      heartbeat_interval_ms: 10_000,
      server_time: '2026-01-01T00:00:00Z',
      lifecycle: 'active',
      ...(spreadMs === undefined ? {} : { reconnect_spread_ms: spreadMs }),
    }
    const events: AgentSessionEvent[] = [
      { kind: 'frame', frame: welcome },
      { kind: 'sent', throughSeq: 7, count: 1, isAll: true, isBlocked: false },
      ...(hasAck ? [{ kind: 'frame' as const, frame: { type: 'ack' as const, seq: 7 } }] : []),
    ]
    return events.reduce(
      (state, event) => agentStep(state, event, 0).state,
      openSession(0, { ownIntervalMs: undefined }).state,
    )
  }

  /** What our own agent does, whatever it draws at random. */
  function expectMove(ending: Ending, then: Then, spreadMs: number): void {
    for (const fraction of [0, 0.999]) {
      const move = nextMove(ending, 0, fraction)
      if (move.kind === 'exit') expect([then.robot, then.exit_code]).toEqual(['stop', move.exitCode])
      else {
        expect([then.robot, then.exit_code]).toEqual(['come_back', undefined])
        if (then.delay_ms === undefined) continue
        expect(move.delayMs).toBeGreaterThanOrEqual(then.delay_ms)
        expect(move.delayMs).toBeLessThanOrEqual(then.delay_ms + spreadMs)
      }
    }
  }

  test.each(endings.closes)('closed with $code "$reason": $robot', ({ code, reason, ...then }) => {
    const comeBackInMs = reconnectDelayIn(reason)
    expect(comeBackInMs).toBe(then.delay_ms)
    expectMove(
      { kind: 'closed', code, reason, livedMs: 31_000, spreadMs: 0, comeBackInMs, comesBackAtOnce: false },
      then,
      0,
    )
  })

  test.each(endings.losses)('$name: back within $longest_ms ms', (loss) => {
    const session = agentSession(loss.spread_ms ?? undefined, loss.has_ack)
    const ending = endingOf(session, loss.code, loss.reason, loss.stood_ms)
    const delay = (fraction: number) => {
      const move = nextMove(ending, 0, fraction)
      if (move.kind !== 'retry') throw new Error('it must come back')
      return move.delayMs
    }
    const isTold = loss.reason.includes('reconnect_in_ms')
    expect(delay(0)).toBe(isTold ? loss.longest_ms : 0)
    expect(delay(0.5)).toBe(isTold ? loss.longest_ms : loss.longest_ms / 2)
    expect(delay(1 - 2 ** -20)).toBe(isTold ? loss.longest_ms : loss.longest_ms - 1)
  })

  test.each(endings.refusals)(
    'refused with $status $code, Retry-After $retry_after: $robot',
    ({ status, code, retry_after, ...then }) => {
      const notBeforeMs = retryAfterMs(retry_after ?? undefined, 0)
      expectMove(
        { kind: 'refused', status, code: code ?? undefined, why: 'refused', notBeforeMs },
        then,
        1_000,
      )
    },
  )

  test('every close code that there is is among them, with its reason', () => {
    const told = endings.closes.map(({ code, reason }) => `${code} ${reason.split(';')[0]}`)
    for (const { code, reason } of Object.values(CLOSE)) expect(told).toContain(`${code} ${reason}`)
  })

  test('the longest pause before each attempt', () => {
    expect(endings.backoff_ms).toEqual(endings.backoff_ms.map((_, attempt) => backoffCeiling(attempt)))
  })
})

describe('sessions', () => {
  const { sessions } = vectors<{
    sessions: {
      name: string
      lifecycle?: Lifecycle
      says: (string | { binary?: string })[]
      answers: object[]
      close: object | null
    }[]
  }>('sessions.json')

  test.each(sessions)('$name', ({ lifecycle = 'active', says, answers, close }) => {
    const grant: SessionGrant = {
      robotId: '0198c0de-4b1d-7a6e-9c53-0f1e2d3c4b5a',
      sessionNo: 42,
      name: 'cart-7',
      lifecycle,
      heartbeatIntervalMs: 10_000,
      reconnectSpreadMs: 0,
      latestSeq: null,
      latestAt: null,
      faultCodes: [],
      rotation: null,
    }
    let state: SessionState = beginSession()
    const sent: unknown[] = []
    let closed: object | null = null
    // A database that stores everything at once.
    const feed = (event: SessionEvent): void => {
      const next = step(state, event, Date.UTC(2026, 0, 1))
      state = next.state
      for (const effect of next.effects) {
        if (effect.type === 'send') sent.push(effect.frame)
        if (effect.type === 'close') closed = effect.cause
        if (effect.type === 'open') feed({ type: 'opened', grant })
        if (effect.type === 'store_heartbeat') feed({ type: 'stored', seq: effect.heartbeat.seq })
        if (effect.type === 'store_event') feed({ type: 'events_stored', ids: [effect.event.id] })
        if (effect.type === 'store_next_token')
          feed({ type: 'next_token_stored', tokenHash: effect.tokenHash })
      }
    }
    for (const said of says) {
      if (typeof said === 'string') feed({ type: 'text', text: said })
      else feed(said.binary === undefined ? { type: 'text', text: JSON.stringify(said) } : { type: 'binary' })
    }
    expect(sent).toHaveLength(answers.length)
    expect(sent).toMatchObject(answers)
    expect(closed).toEqual(close)
  })
})

describe('claims', () => {
  interface ClaimStep {
    readonly body?: object
    readonly text?: string
    readonly credential?: string | null
    readonly status: number
    readonly code?: string
    readonly pointers?: string[]
    readonly shows_token?: boolean
    readonly robot?: string
  }
  const { scenarios } = vectors<{ scenarios: { name: string; key: object; steps: ClaimStep[] }[] }>(
    'claims.json',
  )
  let api: ClaimingApi
  beforeAll(async () => {
    api = await startClaimingApi()
  })
  afterAll(() => api?.close())

  test.each(scenarios)('$name', async ({ key, steps }) => {
    const { siteId, fleetId } = await insertFleet(api.db.database)
    const made = await api.post('/api/enrollment-keys', {
      site_id: siteId,
      fleet_id: fleetId,
      name: 'key',
      ...key,
    })
    expect(made.status).toBe(201)
    const robots = new Map<string, string>()
    for (const [index, { body, text, credential = made.body.key_value, ...expected }] of steps.entries()) {
      const where = `step ${index + 1}`
      const { statusCode, payload } = await api.app.inject({
        method: 'POST',
        url: '/agent/enroll',
        headers: {
          'content-type': 'application/json',
          ...(credential === null ? {} : { authorization: `Bearer ${credential}` }),
        },
        payload: text ?? JSON.stringify(body),
      })
      const answer = JSON.parse(payload)
      expect([statusCode, answer.code], `${where}: ${payload}`).toEqual([expected.status, expected.code])
      if (expected.pointers)
        expect(answer.errors.map((error: { pointer: string }) => error.pointer)).toEqual(expected.pointers)
      if (expected.shows_token !== undefined)
        expect(isCheckedToken('robot', answer.robot_token ?? ''), where).toBe(expected.shows_token)
      if (expected.robot === undefined) continue
      const before = robots.get(expected.robot)
      const isKnown = [...robots.values()].includes(answer.robot_id)
      if (before === undefined) expect(isKnown, where).toBe(false)
      else expect(answer.robot_id, where).toBe(before)
      robots.set(expected.robot, answer.robot_id)
    }
  })
})
