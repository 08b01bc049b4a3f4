import { expect, test } from 'vitest'
import type { Clock } from '../../agent/runtime.ts'
import { ServerTime } from '../../agent/server-time.ts'
import { ManualClock } from '../support/clock.ts'

/** A robot whose clock is wrong, and may be set. */
function robot(wrongByMs: number) {
  const base = new ManualClock('2026-05-01T00:00:00Z')
  const wall = { offset: wrongByMs }
  const clock: Clock = {
    now: () => base.now() + wall.offset,
    monotonic: () => base.monotonic(),
    after: (delayMs, call) => base.after(delayMs, call),
    sleep: (delayMs, signal) => base.sleep(delayMs, signal),
  }
  const time = new ServerTime(clock)
  return {
    base,
    wall,
    time,
    welcome: (roundTripMs = 0) => time.learn(serverTime(base, roundTripMs), roundTripMs),
  }
}
const serverTime = (base: ManualClock, roundTripMs: number) =>
  new Date(base.now() - roundTripMs / 2).toISOString()
const YEARS_MS = 5 * 365 * 86_400_000

test('before the first welcome a time is the robot’s own', () => {
  const { time } = robot(-YEARS_MS)
  expect(time.stamp()).toEqual({ at: '2021-05-02T00:00:00.000Z', clockOffsetMs: undefined })
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
  const { time, welcome } = robot(900)
  welcome()
  expect(time.stamp().clockOffsetMs).toBeUndefined()
  const slow = robot(3_000)
  slow.welcome(8_000)
  expect(slow.time.stamp().clockOffsetMs).toBeUndefined()
})

test('a clock that is set while it runs changes no time', () => {
  const { time, welcome, wall, base } = robot(-YEARS_MS)
  welcome()
  base.advance(10_000)
  wall.offset = 0
  expect(time.stamp()).toEqual({ at: '2026-05-01T00:00:10.000Z', clockOffsetMs: undefined })
  wall.offset = 7_200_000
  base.advance(10_000)
  expect(time.stamp()).toEqual({ at: '2026-05-01T00:00:20.000Z', clockOffsetMs: 7_200_000 })
})

test('a clock beyond all dates, and a server that says rubbish, give times that a server takes', () => {
  const { time } = robot(-60 * YEARS_MS)
  expect(time.stamp().at).toBe('1970-01-01T00:00:00.000Z')
  time.learn('soon', 0)
  expect(time.stamp().clockOffsetMs).toBeUndefined()
})
