import { describe, expect, test } from 'vitest'
import { seeded } from '../../bench/support/flapping.ts'
import { trendOf } from '../../bench/support/trend.ts'

const SAMPLES = 600

function samples(valueAt: (hours: number) => number) {
  return Array.from({ length: SAMPLES }, (_, index) => {
    const hours = index / SAMPLES
    return { hours, value: valueAt(hours) }
  })
}

describe('the trend of samples', () => {
  test('is the slope of a line, without a doubt', () => {
    const { perHour, low, high } = trendOf(samples((hours) => 50 + 3 * hours))
    expect(perHour).toBeCloseTo(3)
    expect(high - low).toBeLessThan(1e-6)
  })

  test('has nothing in it of what goes up and down', () => {
    const noise = seeded(7)
    const { low, high } = trendOf(samples(() => 50 + 4 * noise()))
    expect(low).toBeLessThan(0)
    expect(high).toBeGreaterThan(0)
  })

  test('tells growth from noise that is larger', () => {
    const noise = seeded(8)
    const { low, high } = trendOf(samples((hours) => 50 + 4 * noise() + 3 * hours))
    expect(low).toBeGreaterThan(1)
    expect(high).toBeLessThan(5)
  })

  test('is as much in doubt however often the same is sampled', () => {
    const [rare, often] = [1, 50].map((times) => {
      const noise = seeded(9)
      const points = Array.from({ length: 10 }, (_, index) => ({ hours: index / 10, value: noise() }))
      const { low, high } = trendOf(points.flatMap((point) => Array.from({ length: times }, () => point)))
      return high - low
    })
    expect(often).toBeCloseTo(rare!)
  })

  test('is not made of a few', () => {
    expect(() => trendOf(samples(() => 1).slice(0, 9))).toThrow('at least 10')
  })
})
