import fc from 'fast-check'
import { expect, test } from 'vitest'
import { flapping, seeded } from '../../bench/support/flapping.ts'

test('a flapping network is fair and foul in turn, each for 5 to 60 s, for as long as was asked', () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 7_200_000 }), (seed, totalMs) => {
      const phases = flapping(totalMs, seeded(seed))
      expect(phases.reduce((sum, { ms }) => sum + ms, 0)).toBeCloseTo(totalMs)
      phases.forEach(({ weather, ms }, index) => {
        expect(weather === 'fair').toBe(index % 2 === 0)
        expect(ms).toBeLessThanOrEqual(60_000)
        if (index < phases.length - 1) expect(ms).toBeGreaterThanOrEqual(5_000)
      })
    }),
  )
})

test('the same seed makes the same network, another one another', () => {
  const [once, again, other] = [1, 1, 2].map((seed) => flapping(3_600_000, seeded(seed)))
  expect(again).toEqual(once)
  expect(other).not.toEqual(once)
  expect(new Set(once!.map(({ weather }) => weather))).toEqual(
    new Set(['fair', 'refused', 'stalled', 'lost']),
  )
})
