import { join } from 'node:path'
import fc from 'fast-check'
import { expect, onTestFinished, test } from 'vitest'
import { KeptOrigins } from '../../agent/origins.ts'
import { ServerTime } from '../../agent/server-time.ts'
import { systemDisk } from '../../agent/spool/disk.ts'
import { labelFor } from '../../agent/spool/kept-text.ts'
import { Ring } from '../../agent/spool/ring.ts'
import { DiskSpool } from '../../agent/spool.ts'
import type { HeartbeatFrame } from '../../src/protocol/frames.ts'
import { heartbeatSchema } from '../../src/protocol/frames.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'

const YEARS_MS = 5 * 365 * 86_400_000
const fastDisk = { ...systemDisk, sync: async () => {}, syncNow() {} }

/** A robot's spool and clock, through restarts of its agent and of its machine. */
class Machine {
  readonly base = new ManualClock('2026-05-01T00:00:00Z')
  offset = -YEARS_MS
  readonly #folder = temporaryFolder()
  readonly #maxBytes: number
  #boot = 0
  #bootedAt = 0
  #ring: Ring | undefined
  #seq = 0
  time!: ServerTime
  spool!: DiskSpool

  constructor(maxBytes = 1_000_000) {
    this.#maxBytes = maxBytes
    this.start()
    onTestFinished(() => this.#ring?.close())
  }

  /** A new process. A clean end, for what a killed one leaves is for the ring's own tests. */
  start(): void {
    this.#ring?.close()
    this.#ring = new Ring({
      disk: fastDisk,
      clock: this.base,
      folder: join(this.#folder, 'spool'),
      name: 'heartbeats',
      owner: 'robot',
      maxBytes: this.#maxBytes,
      label: labelFor,
      onTrouble: (sentence) => {
        throw new Error(sentence)
      },
    })
    this.time = new ServerTime({
      clock: { now: () => this.base.now() + this.offset },
      boot: `boot-${this.#boot}`,
      sinceBoot: () => this.base.monotonic() - this.#bootedAt,
      origins: new KeptOrigins(join(this.#folder, 'clock')),
    })
    this.spool = new DiskSpool(this.#ring, this.time)
  }

  restart(): void {
    this.#boot++
    this.#bootedAt = this.base.monotonic()
    this.start()
  }

  beat(more: Partial<HeartbeatFrame> = {}): number {
    const { at, clockOffsetMs, moment } = this.time.stamp()
    const seq = ++this.#seq
    const marks = clockOffsetMs === undefined ? {} : { clock_offset_ms: clockOffsetMs }
    const text = JSON.stringify({ type: 'heartbeat', seq, at, health: 'ok', ...more, ...marks })
    this.spool.add({ seq, text, moment })
    return seq
  }

  welcome(lieMs = 0): void {
    this.time.learn(new Date(this.base.now() - lieMs).toISOString(), 0)
  }

  sent(): HeartbeatFrame[] {
    return this.spool.after(-1, 10_000).map(({ text }) => JSON.parse(text))
  }
}

test('a heartbeat made before the first welcome is sent with its true time, marked, with its faults', () => {
  const machine = new Machine()
  const own = machine.time.stamp().at
  machine.base.advance(60_000)
  machine.beat({ faults: [{ code: 'hot', level: 'warn', message: '', since: own }] })
  machine.start()
  machine.base.advance(60_000)
  machine.beat()
  machine.welcome()
  machine.beat()
  const [first, second, third] = machine.sent()
  expect(first).toEqual({
    type: 'heartbeat',
    seq: 1,
    at: '2026-05-01T00:01:00.000Z',
    health: 'ok',
    faults: [{ code: 'hot', level: 'warn', message: '', since: '2026-05-01T00:00:00.000Z' }],
    clock_offset_ms: -YEARS_MS,
  })
  expect(second).toMatchObject({ at: '2026-05-01T00:02:00.000Z', clock_offset_ms: -YEARS_MS })
  expect(third).toMatchObject({ at: '2026-05-01T00:02:00.000Z', clock_offset_ms: -YEARS_MS })
})

test('one of a start that never saw the server keeps its own time, and says that this is not to be believed', () => {
  const machine = new Machine()
  machine.beat()
  machine.restart()
  machine.beat()
  machine.welcome()
  const [lost, own] = machine.sent()
  expect(lost).toMatchObject({ at: '2021-05-02T00:00:00.000Z', clock_unsure: true })
  expect(own).toMatchObject({ at: '2026-05-01T00:00:00.000Z', clock_offset_ms: -YEARS_MS })
})

test('those of a clock that was right are sent as they were written', () => {
  const machine = new Machine()
  machine.offset = 300
  machine.beat()
  machine.welcome()
  expect(machine.sent()).toEqual([
    { type: 'heartbeat', seq: 1, at: '2026-05-01T00:00:00.300Z', health: 'ok' },
  ])
})

test('what was lost is told with the true times of the first and the last', () => {
  const machine = new Machine(4_000)
  for (let count = 0; count < 200; count++) {
    machine.beat()
    machine.base.advance(10_000)
  }
  machine.welcome()
  const { dropped, unreported } = machine.spool
  const lastLost = machine.sent()[0]!.seq - 1
  expect(dropped).toBe(lastLost)
  expect(unreported).toBe(dropped)
  const report = machine.spool.report(() => 'one')
  expect(report).toEqual({
    id: 'one',
    count: dropped,
    first: { at: '2026-05-01T00:00:00.000Z', clockOffsetMs: -YEARS_MS },
    last: {
      at: new Date(Date.parse('2026-05-01') + (lastLost - 1) * 10_000).toISOString(),
      clockOffsetMs: -YEARS_MS,
    },
  })
  machine.start()
  expect(machine.spool.report(() => 'two')).toEqual(report)
  machine.spool.reported('one')
  machine.start()
  expect(machine.spool.report(() => 'two')).toBeUndefined()
})

test('whatever is sent again is sent as it was: through lost acknowledgements, restarts, wrong clocks and lying servers', () => {
  const happening = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('beat' as const), ms: fc.nat(3_600_000) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('session' as const), lie: fc.nat(10_000) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('acknowledge' as const), count: fc.nat(5) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('start' as const) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('restart' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('set' as const),
        offset: fc.integer({ min: -YEARS_MS, max: YEARS_MS }),
      }),
    },
  )
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 50 }), (happenings) => {
      const machine = new Machine()
      const sent = new Map<number, string>()
      const acknowledged = new Set<number>()
      const send = () => {
        for (const { seq, text } of machine.spool.after(-1, 10_000)) {
          expect(acknowledged.has(seq)).toBe(false)
          expect(sent.get(seq) ?? text).toBe(text)
          expect(heartbeatSchema.safeParse(JSON.parse(text)).success).toBe(true)
          sent.set(seq, text)
        }
      }
      for (const one of happenings) {
        if (one.kind === 'beat') {
          machine.base.advance(one.ms)
          machine.beat()
        } else if (one.kind === 'session') {
          machine.welcome(one.lie)
          send()
        } else if (one.kind === 'acknowledge') {
          for (const seq of [...sent.keys()]
            .filter((sentSeq) => !acknowledged.has(sentSeq))
            .slice(0, one.count)) {
            machine.spool.acknowledge(seq, seq)
            acknowledged.add(seq)
          }
        } else if (one.kind === 'set') machine.offset = one.offset
        else machine[one.kind]()
      }
      machine.welcome()
      send()
    }),
    { numRuns: 60 },
  )
})
