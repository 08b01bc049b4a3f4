import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fullBucket, KeyedLimiter, refill, take, waitMs } from '../src/rate-limit.ts'
import { ManualClock } from './support/clock.ts'

test('a bucket never gives more than its burst and what came back since', () => {
  const steps = fc.array(fc.nat(5_000), { maxLength: 200 })
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 600 }),
      steps,
      (burst, perMinute, pauses) => {
        const rate = { burst, perMinute }
        let bucket = fullBucket(rate, 0)
        let nowMs = 0
        let taken = 0
        for (const pause of pauses) {
          nowMs += pause
          bucket = refill(rate, bucket, nowMs)
          const left = take(bucket)
          expect(left === undefined).toBe(waitMs(rate, bucket) > 0)
          if (left) taken += 1
          bucket = left ?? bucket
          expect(taken).toBeLessThanOrEqual(burst + (nowMs * perMinute) / 60_000 + 1e-6)
        }
      },
    ),
  )
})

test('after the wait that it names, a bucket gives', () => {
  const rate = { burst: 1, perMinute: 7 }
  const empty = take(fullBucket(rate, 0))!
  const wait = Math.ceil(waitMs(rate, empty))
  expect(take(refill(rate, empty, wait - 1))).toBeUndefined()
  expect(take(refill(rate, empty, wait))).toBeDefined()
})

test('keys have buckets of their own, and the one not seen for longest is forgotten', () => {
  const clock = new ManualClock()
  const limiter = new KeyedLimiter({ burst: 1, perMinute: 1, maxKeys: 2, clock })
  expect(limiter.wait('a')).toBe(0)
  expect(limiter.take('a')).toBe(0)
  expect(limiter.take('a')).toBe(60_000)
  expect(limiter.take('b')).toBe(0)
  clock.advance(30_000)
  expect(limiter.wait('a')).toBe(30_000)
  expect(limiter.take('c')).toBe(0)
  expect(limiter.take('b')).toBe(0)
})

test('what is unlimited stays so within one moment', () => {
  const unlimited = { burst: Number.POSITIVE_INFINITY, perMinute: Number.POSITIVE_INFINITY }
  const limiter = new KeyedLimiter({ ...unlimited, clock: new ManualClock(), maxKeys: 10 })
  for (let calls = 0; calls < 3; calls++) expect([limiter.take('a'), limiter.wait('a')]).toEqual([0, 0])
})
