import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CLOSE } from '../../src/protocol/close-codes.ts'
import { MAX_FRAME_ERRORS } from '../../src/protocol/limits.ts'
import { beginSession, step } from '../../src/session/session.ts'
import type { SessionEffect, SessionEvent, SessionGrant, SessionState } from '../../src/session/state.ts'

const NOW = Date.parse('2026-01-01T00:00:00Z')

const grant: SessionGrant = {
  robotId: 'robot-1',
  sessionNo: 7,
  name: 'warehouse-bot-01',
  lifecycle: 'active',
  heartbeatIntervalMs: 10_000,
  reconnectSpreadMs: 0,
  latestSeq: null,
  latestAt: null,
  faultCodes: [],
  rotation: null,
}

/** Feeds events one after the other; answers with the last state and all effects. */
function run(events: readonly SessionEvent[], from: SessionState = beginSession()) {
  let state = from
  const effects: SessionEffect[] = []
  for (const event of events) {
    const next = step(state, event, NOW)
    state = next.state
    effects.push(...next.effects)
  }
  return { state, effects }
}

const text = (value: unknown): SessionEvent => ({ type: 'text', text: JSON.stringify(value) })
const hello = (extra: object = {}) => text({ type: 'hello', protocol: 1, ...extra })
const heartbeat = (seq: number, extra: object = {}) =>
  text({ type: 'heartbeat', seq, at: new Date(NOW + seq * 1000).toISOString(), ...extra })
const opened = (extra: Partial<SessionGrant> = {}): SessionEvent => ({
  type: 'opened',
  grant: { ...grant, ...extra },
})
const open = (extra: Partial<SessionGrant> = {}, helloExtra: object = {}) =>
  run([hello(helloExtra), opened(extra)]).state

const ofType = <Type extends SessionEffect['type']>(effects: readonly SessionEffect[], type: Type) =>
  effects.filter((effect): effect is Extract<SessionEffect, { type: Type }> => effect.type === type)
const framesSent = (effects: readonly SessionEffect[]) =>
  ofType(effects, 'send').map((effect) => effect.frame)
const stored = (effects: readonly SessionEffect[]) =>
  ofType(effects, 'store_heartbeat').map(({ heartbeat: { seq, at, health, body }, recheck, latest }) => {
    return { seq, at, health, body, recheck, latest }
  })

describe('opening a session', () => {
  it('asks for a session on hello and welcomes once it is granted', () => {
    const { state, effects } = run([hello({ agent: { version: '1.0' } }), opened()])
    expect(state.phase).toBe('open')
    expect(effects[0]).toMatchObject({ type: 'open', hello: { protocol: 1, agent: { version: '1.0' } } })
    expect(framesSent(effects)).toEqual([
      {
        type: 'welcome',
        robot_id: 'robot-1',
        name: 'warehouse-bot-01',
        session_no: 7,
        heartbeat_interval_ms: 10_000,
        server_time: '2026-01-01T00:00:00.000Z',
        lifecycle: 'active',
      },
    ])
  })

  it('keeps frames that come before the welcome and takes them after it', () => {
    const { effects } = run([hello(), heartbeat(1), heartbeat(2), opened()])
    expect(stored(effects).map((row) => row.seq)).toEqual([1, 2])
    expect(effects.findIndex((effect) => effect.type === 'send')).toBeLessThan(
      effects.findIndex((effect) => effect.type === 'store_heartbeat'),
    )
  })

  it('ends a session that floods before its welcome', () => {
    const { state, effects } = run([hello(), ...Array.from({ length: 300 }, (_, seq) => heartbeat(seq))])
    expect(state.phase).toBe('closed')
    expect(ofType(effects, 'close')[0]?.cause).toEqual(CLOSE.tooManyFrames)
  })

  it('ends a session that sends much before its welcome, in however few frames', () => {
    const long = heartbeat(1, { activity: 'x'.repeat(30 * 1024) })
    const eight = Array.from({ length: 8 }, () => long)
    expect(run([hello(), ...eight]).state.phase).toBe('opening')
    const { state, effects } = run([hello(), ...eight, long])
    expect(state.phase).toBe('closed')
    expect(ofType(effects, 'close')[0]?.cause).toEqual(CLOSE.tooManyFrames)
  })

  it('refuses a protocol it does not speak, for good', () => {
    const { effects } = run([text({ type: 'hello', protocol: 2 })])
    expect(framesSent(effects)[0]).toMatchObject({ type: 'error', code: 'protocol_unsupported' })
    expect(ofType(effects, 'close')[0]?.cause.code).toBe(4503)
  })

  it('complains of anything but hello at first, and of a second hello', () => {
    expect(framesSent(run([heartbeat(1)]).effects)[0]).toMatchObject({ code: 'hello_expected' })
    expect(framesSent(run([hello()], open()).effects)[0]).toMatchObject({ code: 'unexpected_hello' })
  })
})

describe('heartbeats', () => {
  it('go to the writer as they are, and are acknowledged only when stored', () => {
    const beat = run([heartbeat(1, { health: 'ok', metrics: { picks: 3 } })], open())
    expect(framesSent(beat.effects)).toEqual([])
    expect(stored(beat.effects)).toEqual([
      {
        seq: 1,
        at: new Date(NOW + 1000).toISOString(),
        health: 'ok',
        body: '{"health":"ok","metrics":{"picks":3}}',
        recheck: false,
        latest: true,
      },
    ])
    expect(framesSent(run([{ type: 'stored', seq: 1 }], beat.state).effects)).toEqual([
      { type: 'ack', seq: 1 },
    ])
  })

  it('drop what the protocol does not know', () => {
    const [row] = stored(run([heartbeat(1, { colour: 'red', health: 'ok' })], open()).effects)
    expect(row?.body).toBe('{"health":"ok"}')
  })

  it('that may be there already are to be looked for, and do not replace a newer one', () => {
    const resumed = open({ latestSeq: 5, latestAt: NOW + 5000 }, { resume_seq: 4 })
    const rows = stored(run([heartbeat(4), heartbeat(5), heartbeat(6)], resumed).effects)
    expect(rows.map(({ seq, recheck, latest }) => ({ seq, recheck, latest }))).toEqual([
      { seq: 4, recheck: true, latest: false },
      { seq: 5, recheck: true, latest: false },
      { seq: 6, recheck: false, latest: true },
    ])
  })

  it('sent late beside newer ones are never the latest, not even with a time that lies years ahead', () => {
    const yearsAhead = { at: new Date(NOW + 5 * 365 * 86_400_000).toISOString() }
    const rows = stored(
      run(
        [heartbeat(9), heartbeat(4, yearsAhead), heartbeat(10)],
        open({ latestSeq: 5, latestAt: NOW }, { resume_seq: 4 }),
      ).effects,
    )
    expect(rows.map(({ seq, latest }) => ({ seq, latest }))).toEqual([
      { seq: 9, latest: true },
      { seq: 4, latest: false },
      { seq: 10, latest: true },
    ])
  })

  it('of a robot that counts from the start again are the latest nevertheless', () => {
    const fresh = open({ latestSeq: 5000, latestAt: NOW + 60_000_000 })
    const rows = stored(run([heartbeat(1), heartbeat(2)], fresh).effects)
    expect(rows.map(({ recheck, latest }) => ({ recheck, latest }))).toEqual([
      { recheck: true, latest: true },
      { recheck: true, latest: true },
    ])
  })

  it('are not taken from a robot that waits for approval, and are after it', () => {
    const waiting = run([heartbeat(1)], open({ lifecycle: 'pending' }))
    expect(waiting.effects).toEqual([{ type: 'refuse_heartbeat', reason: 'pending' }])
    const approved = run(
      [
        {
          type: 'changed',
          facts: { name: grant.name, lifecycle: 'active', heartbeatIntervalMs: 10_000, rotation: null },
        },
        heartbeat(2),
      ],
      waiting.state,
    )
    expect(framesSent(approved.effects)[0]).toMatchObject({ type: 'welcome', lifecycle: 'active' })
    expect(stored(approved.effects).map((row) => row.seq)).toEqual([2])
  })

  it('note faults that come and go', () => {
    const fault = {
      code: 'lidar_blocked',
      level: 'error',
      message: 'dirty',
      since: new Date(NOW).toISOString(),
    }
    const { effects } = run(
      [heartbeat(1, { faults: [fault] }), heartbeat(2, { faults: [fault] }), heartbeat(3, { faults: [] })],
      open(),
    )
    expect(ofType(effects, 'timeline').map((effect) => effect.entry.code)).toEqual([
      'fault_raised',
      'fault_cleared',
    ])
  })

  it('are told when the interval changes', () => {
    const facts = {
      name: grant.name,
      lifecycle: 'active' as const,
      heartbeatIntervalMs: 2_000,
      rotation: null,
    }
    expect(framesSent(run([{ type: 'changed', facts }], open()).effects)).toEqual([
      { type: 'settings', heartbeat_interval_ms: 2_000 },
    ])
  })
})

describe('bad frames', () => {
  it.each([
    ['not JSON', { type: 'text', text: '{' }, 'invalid_json'],
    ['an array', { type: 'text', text: '[]' }, 'invalid_frame'],
    ['no type', { type: 'text', text: '{}' }, 'invalid_frame'],
    ['binary', { type: 'binary' }, 'binary_frame'],
    [
      'too large',
      { type: 'text', text: JSON.stringify({ type: 'x', x: 'x'.repeat(17_000) }) },
      'frame_too_large',
    ],
    [
      'too large in bytes',
      { type: 'text', text: JSON.stringify({ type: 'x', x: 'ä'.repeat(9_000) }) },
      'frame_too_large',
    ],
    ['a heartbeat without seq', text({ type: 'heartbeat', at: '2026-01-01T00:00:00Z' }), 'invalid_frame'],
    ['a charge above 1', heartbeat(1, { battery: { charge: 87 } }), 'invalid_frame'],
    ['NUL in a text', heartbeat(1, { mode: 'a\u0000b' }), 'invalid_frame'],
    ['half a character', heartbeat(1, { mode: '\ud800' }), 'invalid_frame'],
    ['a metric with a bad name', heartbeat(1, { metrics: { 'a b': 1 } }), 'invalid_frame'],
    [
      'an infinite number',
      {
        type: 'text',
        text: '{"type":"heartbeat","seq":1,"at":"2026-01-01T00:00:00Z","metrics":{"a":1e999}}',
      },
      'invalid_frame',
    ],
    [
      '65 metrics',
      heartbeat(1, { metrics: Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`m${i}`, i])) }),
      'invalid_frame',
    ],
    [
      'a deep object',
      heartbeat(1, { network: { a: { b: { c: { d: { e: { f: 1 } } } } } } }),
      'invalid_frame',
    ],
  ] as [string, SessionEvent, string][])('%s is answered, and the session lives', (_name, event, code) => {
    const { state, effects } = run([event, heartbeat(1)], open())
    expect(framesSent(effects)[0]).toMatchObject({ type: 'error', code })
    expect(state.phase).toBe('open')
    expect(stored(effects)).toHaveLength(1)
  })

  it('of an unknown type are ignored', () => {
    expect(run([text({ type: 'constructor' }), text({ type: 'telemetry2' })], open()).effects).toEqual([])
  })

  it(`close the session after ${MAX_FRAME_ERRORS}`, () => {
    const bad: SessionEvent = { type: 'text', text: 'x' }
    const nine = run(Array(MAX_FRAME_ERRORS - 1).fill(bad), open())
    expect(nine.state.phase).toBe('open')
    const ten = run([bad], nine.state)
    expect(ten.state.phase).toBe('closed')
    expect(ofType(ten.effects, 'close')[0]?.cause).toEqual(CLOSE.tooManyErrors)
  })
})

describe('a new token', () => {
  const rotation = { at: 5, reason: 'age' }
  const facts = { name: grant.name, lifecycle: 'active' as const, heartbeatIntervalMs: 10_000 }
  const changed = (wanted: typeof rotation | null): SessionEvent => ({
    type: 'changed',
    facts: { ...facts, rotation: wanted },
  })
  const rotated = (hash = 'ab'.repeat(32)) => text({ type: 'token_rotated', token_hash: hash })
  const asked = (effects: readonly SessionEffect[]) =>
    framesSent(effects).filter((frame) => frame.type === 'rotate_token')

  it('is asked for with the welcome when it is wanted by then', () => {
    const { effects } = run([hello(), opened({ rotation })])
    expect(framesSent(effects).map((frame) => frame.type)).toEqual(['welcome', 'rotate_token'])
    expect(asked(effects)).toEqual([{ type: 'rotate_token', reason: 'age' }])
  })

  it('is asked for once for each request, whatever else changes', () => {
    const told = run([changed(rotation), changed(rotation), changed(null), changed(rotation)], open())
    expect(asked(told.effects)).toHaveLength(1)
    expect(asked(run([changed({ at: 6, reason: 'operator' })], told.state).effects)).toEqual([
      { type: 'rotate_token', reason: 'operator' },
    ])
    const renamed = run([{ type: 'changed', facts: { ...facts, name: 'new', rotation } }], open())
    expect(framesSent(renamed.effects).map((frame) => frame.type)).toEqual(['welcome', 'rotate_token'])
  })

  it('is handed on by its hash, and confirmed only when it is stored', () => {
    const named = run([rotated()], open())
    expect(named.effects).toEqual([{ type: 'store_next_token', tokenHash: 'ab'.repeat(32) }])
    const confirmed = run([{ type: 'next_token_stored', tokenHash: 'ab'.repeat(32) }], named.state)
    expect(framesSent(confirmed.effects)).toEqual([
      { type: 'token_rotation_ack', token_hash: 'ab'.repeat(32) },
    ])
  })

  it('that is refused is a complaint, and too many of them end the session', () => {
    const refused: SessionEvent = { type: 'next_token_refused', why: 'no' }
    expect(framesSent(run([refused], open()).effects)).toEqual([
      { type: 'error', code: 'token_rotation_refused', message: 'no' },
    ])
    const flood = run(Array(60).fill(rotated()), open())
    expect(ofType(flood.effects, 'store_next_token')).toHaveLength(3)
    expect(ofType(flood.effects, 'close')[0]?.cause).toEqual(CLOSE.tooManyErrors)
  })

  it('without the form of a hash is nothing', () => {
    for (const hash of [undefined, '', 'AB'.repeat(32), 'ab'.repeat(33), 5, { $ne: null }]) {
      const { effects } = run([text({ type: 'token_rotated', token_hash: hash })], open())
      expect(ofType(effects, 'store_next_token')).toEqual([])
      expect(framesSent(effects)[0]).toMatchObject({ code: 'invalid_frame' })
    }
  })
})

describe('the end', () => {
  it('by bye is the robot’s own', () => {
    const { state, effects } = run([text({ type: 'bye', reason: 'shutdown' })], open())
    expect(state.phase).toBe('closed')
    expect(ofType(effects, 'ended')).toEqual([
      { type: 'ended', end: { by: 'robot', code: 1000, reason: 'shutdown', bye: true } },
    ])
  })

  it('by drain tells when to come back, in a frame and in the reason', () => {
    const { effects } = run([{ type: 'drain', reconnectInMs: 1234.4 }], open())
    expect(framesSent(effects)).toEqual([{ type: 'drain', reconnect_in_ms: 1234 }])
    expect(ofType(effects, 'close')[0]?.cause).toEqual({
      code: 1012,
      reason: 'service_restart; reconnect_in_ms=1234',
    })
  })
})

describe('any sequence of events', () => {
  const anyEvent: fc.Arbitrary<SessionEvent> = fc.oneof(
    fc.constant(hello()),
    fc.constant(hello({ resume_seq: 3 })),
    fc.nat(20).map((seq) => heartbeat(seq)),
    fc.string().map((value): SessionEvent => ({ type: 'text', text: value })),
    fc.json().map((value): SessionEvent => ({ type: 'text', text: value })),
    fc.constant<SessionEvent>({ type: 'binary' }),
    fc.record({ latestSeq: fc.option(fc.nat(20)), latestAt: fc.option(fc.constant(NOW)) }).map(opened),
    fc.nat(20).map((seq): SessionEvent => ({ type: 'stored', seq })),
    fc.constantFrom('pending', 'active', 'maintenance').map(
      (lifecycle): SessionEvent => ({
        type: 'changed',
        facts: { name: 'x', lifecycle: lifecycle as 'active', heartbeatIntervalMs: 500, rotation: null },
      }),
    ),
    fc.constant(text({ type: 'token_rotated', token_hash: '0a'.repeat(32) })),
    fc.constant<SessionEvent>({ type: 'next_token_stored', tokenHash: '0a'.repeat(32) }),
    fc.constant<SessionEvent>({ type: 'next_token_refused', why: 'no' }),
    fc.constant(text({ type: 'bye' })),
    fc.constant<SessionEvent>({ type: 'drain', reconnectInMs: 5 }),
    fc.constant<SessionEvent>({ type: 'end', cause: CLOSE.tokenRevoked }),
    fc.constant<SessionEvent>({ type: 'socket_closed', code: 1006, reason: '' }),
  )

  it('ends at most once, says nothing after it, welcomes before anything is stored, and acknowledges ever upwards', () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 60 }), (events) => {
        let state = beginSession()
        let ended = 0
        let welcomed = false
        let acknowledged = -1
        for (const event of events) {
          const wasClosed = state.phase === 'closed'
          const next = step(state, event, NOW)
          if (wasClosed) expect(next.effects).toEqual([])
          for (const effect of next.effects) {
            if (effect.type === 'ended') ended += 1
            if (effect.type === 'send' && effect.frame.type === 'welcome') welcomed = true
            if (effect.type === 'store_heartbeat') expect(welcomed).toBe(true)
            if (effect.type === 'send' && effect.frame.type === 'ack') {
              expect(event.type).toBe('stored')
              expect(effect.frame.seq).toBeGreaterThanOrEqual(acknowledged)
              acknowledged = effect.frame.seq
            }
          }
          state = next.state
          expect(state.phase === 'closed').toBe(ended === 1)
        }
        expect(ended).toBeLessThanOrEqual(1)
      }),
    )
  })

  it('hands every valid heartbeat of an open, active session to the writer, in order, unless it ends', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(50), { maxLength: 50 }), fc.option(fc.nat(50)), (seqs, latestSeq) => {
        const { effects } = run(
          seqs.map((seq) => heartbeat(seq)),
          open({ latestSeq }),
        )
        expect(stored(effects).map((row) => row.seq)).toEqual(seqs)
        // Whatever could be in the database already is marked for a second look.
        let highest = latestSeq ?? -1
        for (const row of stored(effects)) {
          expect(row.recheck).toBe(row.seq <= highest)
          highest = Math.max(highest, row.seq)
        }
      }),
    )
  })
})
