import type { Clock } from '../runtime.ts'
import type { Rate } from './limits.ts'

/** Grants `burst` at once and `perSecond` from then on. */
export class TokenBucket {
  readonly #rate: Rate
  readonly #clock: Clock
  #tokens: number
  #at: number

  constructor(rate: Rate, clock: Clock) {
    this.#rate = rate
    this.#clock = clock
    this.#tokens = rate.burst
    this.#at = clock.monotonic()
  }

  /** True when one more is granted. */
  take(): boolean {
    const now = this.#clock.monotonic()
    this.#tokens = Math.min(
      this.#rate.burst,
      this.#tokens + ((now - this.#at) / 1_000) * this.#rate.perSecond,
    )
    this.#at = now
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
