import fc from 'fast-check'
import { expect, test } from 'vitest'
import { backoffCeiling, backoffDelay, MAX_ASKED_PAUSE_MS, retryAfterMs } from '../../agent/backoff.ts'

const attempts = fc.nat({ max: 10_000 })
const fractions = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

test('the ceiling begins at 1 s, doubles, and never passes 60 s', () => {
  expect([0, 1, 2, 3, 4, 5, 6, 7, 10_000].map(backoffCeiling)).toEqual([
    1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000,
  ])
})

test('every pause lies between nothing and the ceiling', () => {
  fc.assert(
    fc.property(attempts, fractions, (attempt, fraction) => {
      const delay = backoffDelay(attempt, fraction)
      expect(Number.isInteger(delay)).toBe(true)
      expect(delay).toBeGreaterThanOrEqual(0)
      expect(delay).toBeLessThan(backoffCeiling(attempt))
    }),
  )
})

test('the whole range is used: a fleet spreads evenly', () => {
  fc.assert(
    fc.property(attempts, fractions, (attempt, fraction) => {
      expect(backoffDelay(attempt, fraction) / backoffCeiling(attempt)).toBeCloseTo(fraction, 2)
    }),
  )
})

test('Retry-After is read as seconds or as a date', () => {
  const now = Date.parse('2026-01-01T00:00:00Z')
  expect(retryAfterMs('3', now)).toBe(3_000)
  expect(retryAfterMs('Thu, 01 Jan 2026 00:01:00 GMT', now)).toBe(60_000)
  expect(retryAfterMs('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0)
  expect(retryAfterMs('999999999', now)).toBe(MAX_ASKED_PAUSE_MS)
  expect(retryAfterMs('soon', now)).toBeUndefined()
  expect(retryAfterMs(undefined, now)).toBeUndefined()
})

test('no header makes a pause that is not one', () => {
  fc.assert(
    fc.property(fc.string(), fc.nat(), (header, now) => {
      const delay = retryAfterMs(header, now)
      if (delay !== undefined) expect(delay >= 0 && delay <= MAX_ASKED_PAUSE_MS).toBe(true)
    }),
  )
})
