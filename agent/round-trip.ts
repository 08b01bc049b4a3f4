import type { Clock } from './runtime.ts'

/** How long a measured time is told. */
const MAX_AGE_MS = 180_000
/** A time is taken at most so often: a fleet's pings must not add up to a load of their own. */
const PAUSE_MS = 60_000

/** Measures the way to the server and back by WebSocket pings, which it answers before any work of its own. */
export class RoundTrip {
  readonly #clock: Clock
  #count = 0
  #sentAt: number | undefined
  #measuredAt = -Infinity
  #ms: number | undefined

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** The last time, unless it is too old. */
  get ms(): number | undefined {
    return this.#clock.monotonic() - this.#measuredAt <= MAX_AGE_MS ? this.#ms : undefined
  }

  /** Whether it is time to measure again. */
  get isDue(): boolean {
    const now = this.#clock.monotonic()
    return now - Math.max(this.#measuredAt, this.#sentAt ?? -Infinity) >= PAUSE_MS
  }

  /** What the next ping is to carry, so that its answer is known. */
  ping(): string {
    this.#sentAt = this.#clock.monotonic()
    this.#count++
    return String(this.#count)
  }

  /** A pong came; what nobody asked for, or what was asked before the last ping, measures nothing. */
  pong(payload: string): void {
    if (this.#sentAt === undefined || payload !== String(this.#count)) return
    const now = this.#clock.monotonic()
    this.#ms = Number((now - this.#sentAt).toFixed(now - this.#sentAt < 10 ? 1 : 0))
    this.#measuredAt = now
    this.#sentAt = undefined
  }
}
