import fc from 'fast-check'
import { expect, it } from 'vitest'
import { TimingWheel } from '../../src/fleet/timing-wheel.ts'

it('hands out every item once, never before its deadline and at most one slot and one step after it', () => {
  const SLOT = 250
  fc.assert(
    fc.property(
      fc.array(fc.record({ item: fc.nat(20), delay: fc.nat(20_000) }), { maxLength: 60 }),
      fc.array(fc.integer({ min: 1, max: 3_000 }), { minLength: 1, maxLength: 40 }),
      (schedules, steps) => {
        const wheel = new TimingWheel<number>(SLOT, 0)
        const deadlines = new Map<number, number>()
        for (const { item, delay } of schedules) {
          wheel.schedule(item, delay)
          deadlines.set(item, delay)
        }
        expect(wheel.size).toBe(deadlines.size)
        let now = 0
        for (const step of steps) {
          now += step
          for (const item of wheel.advance(now)) {
            expect(deadlines.get(item)).toBeLessThanOrEqual(now)
            deadlines.delete(item)
          }
          for (const deadline of deadlines.values()) expect(deadline + 2 * SLOT).toBeGreaterThan(now)
        }
        expect(wheel.size).toBe(deadlines.size)
      },
    ),
  )
})

it('forgets what is removed', () => {
  const wheel = new TimingWheel<string>(250, 0)
  wheel.schedule('a', 1_000)
  wheel.schedule('b', 1_000)
  wheel.remove('a')
  expect(wheel.advance(5_000)).toEqual(['b'])
})
