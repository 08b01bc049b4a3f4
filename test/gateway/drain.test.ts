import fc from 'fast-check'
import { expect, test } from 'vitest'
import { closingMs, DRAIN_SLICE, drainSpanMs, sendAway } from '../../src/gateway/drain.ts'
import { MAX_RECONNECT_BACKOFF_MS } from '../../src/protocol/limits.ts'
import { ManualClock } from '../support/clock.ts'
import { seededRandom } from '../support/random.ts'

const settle = () => new Promise((resolve) => setImmediate(resolve))

test('robots return over as long as it takes to take them back, within bounds', () => {
  expect(drainSpanMs(20_000, 1_000)).toBe(25_000)
  expect(drainSpanMs(20_000, 2_000)).toBe(12_500)
  expect(drainSpanMs(10, 1_000)).toBe(2_000)
  expect(drainSpanMs(0, 1_000)).toBe(2_000)
  expect(drainSpanMs(90_000, 100)).toBe(57_000)
  expect(drainSpanMs(20_000, 0)).toBe(25_000)
})

test('nobody returns while others are still sent away, and all are back before they count as offline', () => {
  expect([0, 1_000, 10_000, 100_000].map(closingMs)).toEqual([0, 250, 2_500, 3_000])
  expect(closingMs(1_000_000) + drainSpanMs(1_000_000, 1)).toBe(MAX_RECONNECT_BACKOFF_MS)
})

test('they are sent away a slice at a time, and the event loop is free in between', async () => {
  const clock = new ManualClock(0)
  let count = 0
  const sliceSizes: number[] = []
  const robots = Array.from({ length: 19_000 }, () => ({ drain: () => void count++ }))
  const done = sendAway(robots, 10_000, { clock, random: seededRandom(1) })
  while (count < robots.length) {
    const before = count
    clock.advance(1)
    await settle()
    sliceSizes.push(count - before)
  }
  clock.advance(1)
  await done
  expect(Math.max(...sliceSizes)).toBe(DRAIN_SLICE)
  expect(clock.monotonic()).toBeLessThan(1_000)
})

test('when that takes too long, all that are left go at once', async () => {
  const clock = new ManualClock(0)
  let count = 0
  const robots = Array.from({ length: 1_000 }, () => ({ drain: () => void count++ }))
  const done = sendAway(robots, 10_000, { clock, random: seededRandom(1) })
  expect(count).toBe(DRAIN_SLICE)
  clock.advance(60_000)
  await done
  expect(count).toBe(1_000)
})

test('each is told a moment of its own, and no second is fuller than another', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 99 }), fc.integer(), async (robots, seed) => {
      const told: number[] = []
      const clock = new ManualClock(0)
      await sendAway(
        Array.from({ length: robots }, () => ({ drain: (ms: number) => void told.push(ms) })),
        robots * 100,
        { clock, random: seededRandom(seed) },
      )
      const places = told
        .map((ms) => Math.floor((ms - closingMs(robots)) / 100))
        .toSorted((one, other) => one - other)
      expect(places).toEqual(Array.from({ length: robots }, (_, index) => index))
      if (robots > 10) expect(new Set(told.map((ms) => Math.round(ms) % 100)).size).toBeGreaterThan(3)
    }),
  )
})
