import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { KeptOrigins } from '../../agent/origins.ts'
import { type Moment, ServerTime } from '../../agent/server-time.ts'
import { withSum } from '../../agent/summed.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'

/** A robot whose clock is wrong, and may be set; it started at the given moment of the true time. */
function robot(wrongByMs: number) {
  const base = new ManualClock('2026-05-01T00:00:00Z')
  const wall = { offset: wrongByMs }
  const origins = new KeptOrigins()
  /** Another process of the same start, unless told otherwise. */
  const process = (boot = 'boot-1', startedAt = 0) =>
    new ServerTime({
      clock: { now: () => base.now() + wall.offset },
      sinceBoot: () => base.monotonic() - startedAt,
      boot,
      origins,
    })
  const time = process()
  return {
    base,
    wall,
    time,
    process,
    welcome: (roundTripMs = 0, to = time) => to.learn(serverTime(base, roundTripMs), roundTripMs),
  }
}
const serverTime = (base: ManualClock, roundTripMs: number) =>
  new Date(base.now() - roundTripMs / 2).toISOString()
const YEARS_MS = 5 * 365 * 86_400_000

test('before the first welcome a time is the robot’s own, and can be put right later', () => {
  const { time, base, welcome } = robot(-YEARS_MS)
  base.advance(7_000)
  const early = time.stamp()
  expect(early).toEqual({
    at: '2021-05-02T00:00:07.000Z',
    moment: { boot: 'boot-1', up: 7_000, own: '2021-05-02T00:00:07.000Z' },
  })
  expect(time.timeOf(early)).toBe(early.at)
  base.advance(3_600_000)
  welcome()
  expect(time.date(early.moment!)).toEqual({ at: '2026-05-01T00:00:07.000Z', clockOffsetMs: -YEARS_MS })
  expect(time.timeOf(early)).toBe('2026-05-01T00:00:07.000Z')
})

test.each([-YEARS_MS, YEARS_MS, -60_000])(
  'a clock that is off by %i ms is corrected, and that is marked',
  (off) => {
    const { time, welcome, base } = robot(off)
    welcome(80)
    expect(time.stamp()).toEqual({ at: '2026-05-01T00:00:00.000Z', clockOffsetMs: off })
    base.advance(90_000)
    expect(time.stamp()).toEqual({ at: '2026-05-01T00:01:30.000Z', clockOffsetMs: off })
  },
)

test('a clock that is right, as far as one can tell, is left alone', () => {
  const { time, welcome, base } = robot(900)
  const early = time.stamp()
  welcome()
  expect(time.stamp()).toEqual({ at: '2026-05-01T00:00:00.900Z' })
  expect(time.date(early.moment!)).toEqual({ at: '2026-05-01T00:00:00.900Z' })
  base.advance(5_000)
  const slow = robot(3_000)
  slow.welcome(8_000)
  expect(slow.time.stamp().clockOffsetMs).toBeUndefined()
})

test('a clock that is set while it runs changes no time, back or forth, before or after the welcome', () => {
  const { time, welcome, wall, base } = robot(-YEARS_MS)
  const early = [time.stamp()]
  wall.offset = YEARS_MS
  base.advance(10_000)
  early.push(time.stamp())
  welcome()
  expect(early.map((stamp) => time.timeOf(stamp))).toEqual([
    '2026-05-01T00:00:00.000Z',
    '2026-05-01T00:00:10.000Z',
  ])
  wall.offset = 0
  base.advance(10_000)
  expect(time.stamp()).toEqual({ at: '2026-05-01T00:00:20.000Z' })
  wall.offset = 7_200_000
  base.advance(10_000)
  expect(time.stamp()).toEqual({ at: '2026-05-01T00:00:30.000Z', clockOffsetMs: 7_200_000 })
})

test('another process of the same start knows the time from its first moment on', () => {
  const { process, welcome, base } = robot(-YEARS_MS)
  welcome()
  base.advance(60_000)
  expect(process().stamp()).toEqual({ at: '2026-05-01T00:01:00.000Z', clockOffsetMs: -YEARS_MS })
})

test('what a process that was never welcomed left is put right by a later one of the same start', () => {
  const { time, process, welcome, base } = robot(YEARS_MS)
  base.advance(1_000)
  const { moment } = time.stamp()
  base.advance(86_400_000)
  const later = process()
  welcome(0, later)
  expect(later.date(moment!)).toEqual({ at: '2026-05-01T00:00:01.000Z', clockOffsetMs: YEARS_MS })
})

test('a start of which nothing was learnt stays unsure, and one of which something was is remembered', () => {
  const { time, process, welcome, base } = robot(-YEARS_MS)
  const lost = process('boot-0').stamp().moment!
  const known = time.stamp().moment!
  welcome()
  base.advance(5_000)
  const next = process('boot-2', 5_000)
  expect(next.date(known)).toEqual({ at: '2026-05-01T00:00:00.000Z', clockOffsetMs: -YEARS_MS })
  welcome(0, next)
  expect(next.date(lost)).toEqual({ at: lost.own, isUnsure: true })
  expect(next.date(known)).toEqual({ at: '2026-05-01T00:00:00.000Z', clockOffsetMs: -YEARS_MS })
})

test('a clock beyond all dates, and a server that says rubbish, give times that a server takes', () => {
  const { time } = robot(-60 * YEARS_MS)
  expect(time.stamp().at).toBe('1970-01-01T00:00:00.000Z')
  time.learn('soon', 0)
  expect(time.stamp().moment).toBeDefined()
})

test('whenever it is asked for, the time of a moment is the same, whatever welcomes, restarts and clocks come between', () => {
  const happening = fc.oneof(
    fc.record({ kind: fc.constant('welcome' as const), roundTripMs: fc.nat(5_000), lie: fc.nat(3_000) }),
    fc.record({ kind: fc.constant('restart' as const), isBoot: fc.boolean() }),
    fc.record({ kind: fc.constant('set' as const), offset: fc.integer({ min: -YEARS_MS, max: YEARS_MS }) }),
    fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(100_000_000) }),
    fc.record({ kind: fc.constant('make' as const) }),
  )
  fc.assert(
    fc.property(fc.array(happening, { maxLength: 60 }), (happenings) => {
      const { base, wall } = robot(-YEARS_MS)
      const folder = temporaryFolder()
      const path = join(folder, 'clock')
      let boots = 0
      let bootedAt = 0
      const start = () =>
        new ServerTime({
          clock: { now: () => base.now() + wall.offset },
          sinceBoot: () => base.monotonic() - bootedAt,
          boot: `boot-${boots}`,
          origins: new KeptOrigins(path),
        })
      let time = start()
      let isWelcome = false
      const made: { moment: Moment; trueTime: number }[] = []
      const sent = new Map<unknown, string>()
      for (const one of happenings) {
        if (one.kind === 'pass') base.advance(one.ms)
        if (one.kind === 'set') wall.offset = one.offset
        if (one.kind === 'make') {
          const { at, moment } = time.stamp()
          if (moment) made.push({ moment, trueTime: base.now() })
          else if (isWelcome) expect(Math.abs(Date.parse(at) - base.now())).toBeLessThan(13_000)
        }
        if (one.kind === 'restart') {
          if (one.isBoot) {
            boots++
            bootedAt = base.monotonic()
          }
          time = start()
          isWelcome = false
        }
        if (one.kind === 'welcome') {
          time.learn(new Date(base.now() - one.lie).toISOString(), one.roundTripMs)
          isWelcome = true
        }
        // As it would be sent: in a session, all that waits.
        if (!isWelcome) continue
        for (const { moment, trueTime } of made) {
          const stamp = time.date(moment)
          const text = JSON.stringify(stamp)
          expect(sent.get(moment) ?? text).toBe(text)
          sent.set(moment, text)
          if (!stamp.isUnsure) expect(Math.abs(Date.parse(stamp.at) - trueTime)).toBeLessThan(13_000)
          else expect(stamp.at).toBe(moment.own)
        }
      }
    }),
    { numRuns: 60 },
  )
})

describe('origins in a file', () => {
  test('are the first of each start, and the last 64 starts', () => {
    const path = join(temporaryFolder(), 'clock')
    const origins = new KeptOrigins(path)
    const origin = { originMs: 5, toleranceMs: 1_000 }
    for (let boot = 0; boot < 70; boot++) origins.keepFirst(`boot-${boot}`, origin)
    origins.keepFirst('boot-69', { originMs: 6, toleranceMs: 1 })
    const again = new KeptOrigins(path)
    expect(again.get('boot-69')).toEqual(origin)
    expect(again.get('boot-6')).toEqual(origin)
    expect(again.get('boot-5')).toBeUndefined()
  })

  test('that is damaged is as good as none, and what cannot be written is tried again', () => {
    const folder = temporaryFolder()
    const path = join(folder, 'clock')
    const troubles: string[] = []
    const origin = { originMs: 1, toleranceMs: 2 }
    new KeptOrigins(path).keepFirst('a', origin)
    const whole = readFileSync(path, 'utf8')
    expect(new KeptOrigins(path).get('a')).toEqual(origin)
    const damaged = ['', '{', withSum('{}'), withSum('[1]'), withSum('[{"boot":"a"}]')]
    for (const text of [...damaged, whole.replace('1', '7'), whole.slice(0, -2)]) {
      writeFileSync(path, text)
      expect(new KeptOrigins(path, (sentence) => troubles.push(sentence)).get('a')).toBeUndefined()
      expect(troubles.splice(0)).toEqual([expect.stringContaining('is damaged')])
    }
    const blocked = join(folder, 'blocked')
    writeFileSync(blocked, '')
    const origins = new KeptOrigins(join(blocked, 'clock'), (sentence) => troubles.push(sentence))
    for (let round = 0; round < 3; round++) origins.keepFirst('a', origin)
    // Reading says so, and the first writing.
    expect(troubles.splice(0)).toHaveLength(2)
    expect(origins.get('a')).toEqual(origin)
    const healed = new KeptOrigins(join(folder, 'later', 'clock'), (sentence) => troubles.push(sentence))
    writeFileSync(join(folder, 'later'), '')
    healed.keepFirst('a', origin)
    expect(troubles).toHaveLength(1)
    rmSync(join(folder, 'later'))
    mkdirSync(join(folder, 'later'))
    healed.keepFirst('a', { originMs: 9, toleranceMs: 9 })
    expect(new KeptOrigins(join(folder, 'later', 'clock')).get('a')).toEqual(origin)
  })
})
