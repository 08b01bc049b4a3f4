import { LruMap } from 'toad-cache'
import type { Clock } from './runtime.ts'

/** How much at once, and how much over time. */
export interface Rate {
  readonly burst: number
  readonly perMinute: number
}

/** A bucket of permits as it stood at one moment (milliseconds of a clock that never steps back). */
export interface Bucket {
  readonly permits: number
  readonly atMs: number
}

export function fullBucket(rate: Rate, nowMs: number): Bucket {
  return { permits: rate.burst, atMs: nowMs }
}

/** The same bucket later: permits came back over time, never beyond the burst. */
export function refill(rate: Rate, bucket: Bucket, nowMs: number): Bucket {
  const elapsedMs = Math.max(0, nowMs - bucket.atMs)
  // Within one moment, even an unlimited rate gives nothing back: infinity times zero is no number.
  const gained = elapsedMs === 0 ? 0 : (elapsedMs * rate.perMinute) / 60_000
  return {
    permits: Math.min(rate.burst, bucket.permits + gained),
    atMs: Math.max(nowMs, bucket.atMs),
  }
}

/** Takes one permit out of a refilled bucket, or nothing when there is no whole one. */
export function take(bucket: Bucket): Bucket | undefined {
  return bucket.permits < 1 ? undefined : { permits: bucket.permits - 1, atMs: bucket.atMs }
}

/** Milliseconds until a refilled bucket holds a whole permit. */
export function waitMs(rate: Rate, bucket: Bucket): number {
  return bucket.permits >= 1 ? 0 : ((1 - bucket.permits) * 60_000) / rate.perMinute
}

export interface KeyedLimiterOptions extends Rate {
  readonly clock: Pick<Clock, 'monotonic'>
  /** Keys remembered; beyond it the one not seen for longest starts anew. */
  readonly maxKeys: number
}

/** One bucket for each key, as many as are remembered. Both questions answer with the wait in milliseconds, 0 for yes. */
export class KeyedLimiter {
  readonly #options: KeyedLimiterOptions
  readonly #buckets: LruMap<Bucket>

  constructor(options: KeyedLimiterOptions) {
    this.#options = options
    this.#buckets = new LruMap(options.maxKeys)
  }

  /** Takes a permit of this key if there is one. */
  take(key: string): number {
    const bucket = this.#bucket(key)
    const left = take(bucket)
    this.#buckets.set(key, left ?? bucket)
    return left ? 0 : waitMs(this.#options, bucket)
  }

  /** Whether a permit of this key is there, without taking it. */
  wait(key: string): number {
    return waitMs(this.#options, this.#bucket(key))
  }

  /** Whether a permit of this key was ever taken, as far as is remembered. */
  knows(key: string): boolean {
    return this.#buckets.get(key) !== undefined
  }

  /** The key starts anew. */
  forget(key: string): void {
    this.#buckets.delete(key)
  }

  #bucket(key: string): Bucket {
    const nowMs = this.#options.clock.monotonic()
    const known = this.#buckets.get(key)
    return known ? refill(this.#options, known, nowMs) : fullBucket(this.#options, nowMs)
  }
}
