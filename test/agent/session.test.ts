import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  CLOSE_TIMEOUT_MS,
  endingOf,
  LEAVE_TIMEOUT_MS,
  openSession,
  SEND_RATE,
  type SessionEffect,
  type SessionEvent,
  type SessionState,
  step,
  WELCOME_TIMEOUT_MS,
  wakeAt,
} from '../../agent/session.ts'
import type { Lifecycle, WelcomeFrame } from '../../src/protocol/frames.ts'
import { ArraySpool } from './support/array-spool.ts'

const INTERVAL_MS = 1_000
const SILENCE_MS = 3 * INTERVAL_MS + 5_000

function welcome(lifecycle: Lifecycle = 'active', intervalMs = INTERVAL_MS): SessionEvent {
  const frame: WelcomeFrame = {
    type: 'welcome',
    robot_id: 'r',
    name: 'n',
    session_no: 1,
    heartbeat_interval_ms: intervalMs,
    server_time: '2026-01-01T00:00:00Z',
    lifecycle,
  }
  return { kind: 'frame', frame }
}
const ack = (seq: number): SessionEvent => ({ kind: 'frame', frame: { type: 'ack', seq } })

/** A session with a spool behind it and time that moves from one wish for a tick to the next. */
class Bench {
  state: SessionState
  now = 0
  readonly spool = new ArraySpool()
  readonly effects: SessionEffect[] = []
  readonly sent: { seq: number; at: number }[] = []

  constructor(from: { ownIntervalMs?: number } = {}) {
    const opened = openSession(0, { ownIntervalMs: from.ownIntervalMs })
    this.state = opened.state
    this.carryOut(opened.effects)
  }

  feed(event: SessionEvent): void {
    const next = step(this.state, event, this.now)
    this.state = next.state
    this.carryOut(next.effects)
  }

  carryOut(effects: readonly SessionEffect[]): void {
    for (const effect of effects) {
      this.effects.push(effect)
      if (effect.kind === 'acknowledged') this.spool.acknowledge(effect.from, effect.to)
      if (effect.kind === 'send_beside') {
        const throughSeq = this.send(effect.afterSeq, effect.atMost).throughSeq
        this.feed({ kind: 'sent_beside', afterSeq: effect.afterSeq, throughSeq })
      }
      if (effect.kind !== 'send_heartbeats') continue
      this.feed({
        kind: 'sent',
        isBlocked: false,
        ...this.send(effect.afterSeq, effect.atMost, effect.belowSeq),
      })
    }
  }

  send(afterSeq: number, atMost: number, belowSeq = Infinity) {
    const entries = this.spool.after(afterSeq, atMost + 1, belowSeq)
    const taken = entries.slice(0, atMost)
    for (const entry of taken) this.sent.push({ seq: entry.seq, at: this.now })
    return {
      throughSeq: taken.at(-1)?.seq ?? afterSeq,
      count: taken.length,
      isAll: taken.length === entries.length,
    }
  }

  beat(seq: number): void {
    this.spool.add({ seq, text: String(seq) })
    this.feed({ kind: 'beat', seq })
  }

  pass(ms: number): void {
    const end = this.now + ms
    while (this.state.phase !== 'over' && wakeAt(this.state) <= end) {
      this.now = Math.max(this.now, wakeAt(this.state))
      this.feed({ kind: 'tick' })
    }
    this.now = end
  }

  kinds(): string[] {
    return this.effects.map((effect) => effect.kind)
  }
}

function openBench(lifecycle: Lifecycle = 'active'): Bench {
  const bench = new Bench()
  bench.feed(welcome(lifecycle))
  return bench
}

describe('a session', () => {
  test('says hello and gives up on a server that never welcomes', () => {
    const bench = new Bench()
    expect(bench.kinds()).toEqual(['send_hello'])
    bench.pass(WELCOME_TIMEOUT_MS - 1)
    expect(bench.state.phase).toBe('greeting')
    bench.pass(1)
    expect(bench.kinds().at(-1)).toBe('drop')
  })

  test('sends nothing before the welcome', () => {
    const bench = new Bench()
    bench.beat(1)
    bench.pass(1_000)
    expect(bench.sent).toEqual([])
    bench.feed(welcome())
    expect(bench.sent.map(({ seq }) => seq)).toEqual([1])
  })

  test('goes by the shorter of both intervals', () => {
    const hasty = new Bench({ ownIntervalMs: 500 })
    hasty.feed(welcome('active', 10_000))
    expect(hasty.effects).toContainEqual({ kind: 'interval', intervalMs: 500, serverIntervalMs: 10_000 })
    hasty.feed({ kind: 'frame', frame: { type: 'settings', heartbeat_interval_ms: 200 } })
    expect(hasty.state.intervalMs).toBe(200)
  })

  test('hands on that a new token is wanted, and that one is stored', () => {
    const bench = openBench()
    bench.feed({ kind: 'frame', frame: { type: 'rotate_token', reason: 'age' } })
    bench.feed({ kind: 'frame', frame: { type: 'token_rotation_ack', token_hash: 'x' } })
    expect(bench.effects.slice(-2)).toEqual([
      { kind: 'make_token', reason: 'age' },
      { kind: 'token_stored', tokenHash: 'x' },
    ])
  })

  test('makes no token for a server that has not welcomed it, nor on its way out', () => {
    const early = new Bench()
    early.feed({ kind: 'frame', frame: { type: 'rotate_token', reason: '' } })
    const late = openBench()
    late.beat(1)
    late.feed({ kind: 'leave' })
    late.feed({ kind: 'frame', frame: { type: 'rotate_token', reason: '' } })
    for (const bench of [early, late]) expect(bench.kinds()).not.toContain('make_token')
  })

  test('left for a new token closes without a goodbye, to come back at once', () => {
    const bench = openBench()
    bench.beat(1)
    bench.feed({ kind: 'renew' })
    expect(bench.effects.at(-1)).toEqual({
      kind: 'close',
      code: 1000,
      reason: 'reconnecting with a new token',
    })
    expect(bench.kinds()).not.toContain('send_bye')
    expect(endingOf(bench.state, 1000, '', bench.now)).toMatchObject({ comesBackAtOnce: true })
    // A server that does not answer the close is not waited for.
    bench.pass(CLOSE_TIMEOUT_MS)
    expect(bench.kinds().at(-1)).toBe('drop')
    expect(endingOf(openBench().state, 1000, '', 0)).toMatchObject({ comesBackAtOnce: false })
  })

  test('drops a server that fell silent, and not before three intervals and five seconds', () => {
    const bench = openBench()
    bench.beat(1)
    bench.pass(SILENCE_MS - 1)
    expect(bench.kinds()).not.toContain('drop')
    expect(bench.kinds()).toContain('ping')
    bench.pass(1)
    expect(bench.kinds().at(-1)).toBe('drop')
    expect(endingOf(bench.state, 1006, '', bench.now)).toMatchObject({ reason: 'the server fell silent' })
  })

  test('bears with a server that lives and does not acknowledge, but not for ever', () => {
    const bench = openBench()
    bench.beat(1)
    for (let second = 0; second < 60; second++) {
      bench.pass(1_000)
      bench.feed({ kind: 'heard' })
    }
    expect(bench.state.phase).toBe('open')
    for (let second = 0; second < 60; second++) {
      bench.pass(1_000)
      bench.feed({ kind: 'heard' })
    }
    expect(bench.effects).toContainEqual({ kind: 'close', code: 1000, reason: 'nothing acknowledged' })
  })

  test('holds heartbeats back while pending and sends them once approved', () => {
    const bench = openBench('pending')
    bench.beat(1)
    bench.pass(1_000)
    expect(bench.sent).toEqual([])
    bench.feed(welcome('active'))
    expect(bench.sent.map(({ seq }) => seq)).toEqual([1])
    expect(
      bench.effects.filter((effect) => effect.kind === 'welcomed').map((effect) => effect.isFirst),
    ).toEqual([true, false])
  })

  test('an acknowledgement reaches no further than what this session sent', () => {
    const bench = new Bench()
    bench.spool.add({ seq: 6, text: '6' })
    bench.feed(ack(1_000_000))
    expect(bench.spool.size).toBe(1)
    bench.feed(welcome())
    bench.feed(ack(1_000_000))
    expect(bench.spool.size).toBe(0)
  })

  test('leaves when all is acknowledged', () => {
    const bench = openBench()
    bench.beat(1)
    bench.feed({ kind: 'leave' })
    expect(bench.state.phase).toBe('leaving')
    bench.feed(ack(1))
    expect(bench.kinds().slice(-2)).toEqual(['send_bye', 'close'])
    bench.pass(CLOSE_TIMEOUT_MS)
    expect(bench.kinds().at(-1)).toBe('drop')
  })

  test('leaves after a while when nothing is', () => {
    const bench = openBench()
    bench.beat(1)
    bench.feed({ kind: 'leave' })
    bench.pass(LEAVE_TIMEOUT_MS)
    expect(bench.kinds().slice(-2)).toEqual(['send_bye', 'close'])
  })

  test('leaves at once when nothing is due, or while it waits for approval', () => {
    for (const bench of [openBench(), openBench('pending'), new Bench()]) {
      bench.feed({ kind: 'leave' })
      expect(bench.state.phase).toBe('closing')
    }
  })

  test('goes by itself at the hour that a drain names, and returns then', () => {
    const bench = openBench()
    bench.feed({ kind: 'frame', frame: { type: 'drain', reconnect_in_ms: 4_000 } })
    expect(endingOf(bench.state, 1012, 'service_restart', 1_000)).toMatchObject({ comeBackInMs: 3_000 })
    expect(endingOf(bench.state, 1012, 'x; reconnect_in_ms=50', 1_000)).toMatchObject({ comeBackInMs: 50 })
    bench.pass(4_000)
    expect(bench.effects).toContainEqual({ kind: 'close', code: 1000, reason: 'reconnecting as asked' })
    expect(endingOf(bench.state, 1000, '', bench.now)).toMatchObject({ comeBackInMs: 0 })
  })
})

describe('sending', () => {
  test('a backlog goes out in order and at a bounded rate', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 400 }), fc.integer({ min: 0, max: 50 }), (count, live) => {
        const bench = new Bench()
        for (let seq = 1; seq <= count; seq++) bench.spool.add({ seq, text: String(seq) })
        bench.feed(welcome())
        for (let seq = count + 1; seq <= count + live; seq++) {
          bench.beat(seq)
          bench.pass(137)
          bench.feed({ kind: 'heard' })
        }
        for (let second = 0; second < 10; second++) {
          bench.pass(1_000)
          bench.feed({ kind: 'heard' })
        }
        const sent = bench.sent.map(({ seq }) => seq)
        const isOld = (seq: number) => seq <= count
        expect(sent.filter(isOld)).toEqual(Array.from({ length: count }, (_, at) => at + 1))
        expect(sent.filter((seq) => !isOld(seq))).toEqual(
          Array.from({ length: live }, (_, at) => count + at + 1),
        )
        for (const first of bench.sent) {
          const within = bench.sent.filter(({ at }) => at >= first.at && at < first.at + 1_000)
          expect(within.length).toBeLessThanOrEqual(SEND_RATE + 6 + 8)
        }
      }),
      { numRuns: 25 },
    )
  })

  test('what is made while older ones wait goes out at once', () => {
    const bench = new Bench()
    for (let seq = 1; seq <= 500; seq++) bench.spool.add({ seq, text: String(seq) })
    bench.feed(welcome())
    bench.pass(2_000)
    bench.beat(501)
    expect(bench.sent.at(-1)).toEqual({ seq: 501, at: 2_000 })
    const before = bench.sent.length
    // It covers what was sent before it, and of the others none.
    bench.pass(1_000)
    bench.feed(ack(501))
    expect(bench.spool.after(-1, 1)[0]!.seq).toBe(before)
    expect(bench.spool.size).toBe(501 - before)
    // What was sent after it waits for the next.
    bench.feed(ack(501))
    expect(bench.spool.size).toBe(501 - before)
    bench.beat(502)
    bench.feed(ack(502))
    expect(bench.spool.after(-1, 1)[0]!.seq).toBe(before + 50)
  })

  test('whatever happens, nothing is forgotten that the server has not stored, and nothing sent twice', () => {
    const happenings = fc.array(
      fc.oneof(
        { weight: 18, arbitrary: fc.constant('beat' as const) },
        { weight: 12, arbitrary: fc.record({ pass: fc.integer({ min: 1, max: 900 }) }) },
        { weight: 12, arbitrary: fc.record({ store: fc.nat({ max: 30 }) }) },
        { weight: 1, arbitrary: fc.constantFrom<Lifecycle>('pending', 'active', 'maintenance') },
        { weight: 3, arbitrary: fc.constantFrom('fault' as const, 'heard' as const) },
        { weight: 1, arbitrary: fc.constant('leave' as const) },
      ),
      { maxLength: 150 },
    )
    fc.assert(
      fc.property(happenings, fc.nat(300), (list, waiting) => {
        const bench = new Bench()
        let seq = 0
        while (seq < waiting) bench.spool.add({ seq: ++seq, text: 'x' })
        bench.feed(welcome())
        // The server stores in the order in which things come, and names the highest that it has.
        let stored = 0
        let named = -1
        for (const happening of list) {
          if (happening === 'beat') bench.beat(++seq)
          else if (happening === 'fault') bench.feed({ kind: 'fault', message: 'x' })
          else if (happening === 'heard') bench.feed({ kind: 'heard' })
          else if (happening === 'leave') bench.feed({ kind: 'leave' })
          else if (typeof happening === 'string') bench.feed(welcome(happening))
          else if ('pass' in happening) bench.pass(happening.pass)
          else {
            const before = stored
            stored = Math.min(bench.sent.length, stored + happening.store)
            named = Math.max(named, ...bench.sent.slice(before, stored).map((entry) => entry.seq))
            if (named >= 0) bench.feed(ack(named))
          }
          const sent = bench.sent.map((entry) => entry.seq)
          expect(new Set(sent).size).toBe(sent.length)
          const inDatabase = new Set(sent.slice(0, stored))
          const held = new Set(bench.spool.after(-1, Infinity).map((entry) => entry.seq))
          for (let made = 1; made <= seq; made++) expect(held.has(made) || inDatabase.has(made)).toBe(true)
        }
        if (bench.state.phase !== 'open' || bench.state.welcome?.lifecycle === 'pending') return
        // Once all is sent, one more that is stored settles everything.
        for (let turn = 0; turn < 12; turn++) {
          bench.pass(900)
          bench.feed({ kind: 'heard' })
        }
        bench.beat(++seq)
        bench.feed(ack(seq))
        expect(bench.spool.size).toBe(0)
      }),
    )
  })

  test('it never asks to be woken in the past twice over', () => {
    const bench = openBench()
    for (let seq = 1; seq <= 200; seq++) bench.spool.add({ seq, text: 'x' })
    bench.feed({ kind: 'beat', seq: 200 })
    for (let turn = 0; turn < 500 && bench.state.phase === 'open'; turn++) {
      const wake = wakeAt(bench.state)
      expect(wake).toBeGreaterThan(bench.now)
      bench.now = wake
      bench.feed({ kind: 'tick' })
    }
  })
})
