import type { Clock, Timer } from './runtime.ts'

const STUCK_INTERVALS = 3
const STUCK_EXTRA_MS = 60_000

/**
 * Calls `beat` at once and then every interval, unless it is shifted. Beats keep to their own measure, however long one
 * takes; one that is still under way is not joined by another, and beats missed while the machine slept are not made up
 * for.
 */
export class Pulse {
  readonly #clock: Clock
  readonly #beat: () => Promise<void>
  #intervalMs: number
  #timer: Timer | undefined
  #lastDueAt = 0
  #isBeating = false
  /** When a beat was last over, or the first began. */
  #beatenAt = 0

  constructor(clock: Clock, intervalMs: number, beat: () => Promise<void>) {
    this.#clock = clock
    this.#intervalMs = intervalMs
    this.#beat = beat
  }

  get isRunning(): boolean {
    return this.#timer !== undefined
  }

  /** It runs, and no beat came to its end for three intervals and a minute: what it waits for will not come. */
  get isStuck(): boolean {
    const limitMs = STUCK_INTERVALS * this.#intervalMs + STUCK_EXTRA_MS
    return this.isRunning && this.#clock.monotonic() - this.#beatenAt > limitMs
  }

  /** Begins with a beat, unless it runs already. */
  start(): void {
    if (this.isRunning) return
    this.#lastDueAt = this.#clock.monotonic()
    this.#beatenAt = this.#lastDueAt
    this.#fire()
    this.#schedule()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = undefined
  }

  /** Changes the measure, counted from the last beat. */
  setInterval(intervalMs: number): void {
    if (intervalMs === this.#intervalMs) return
    this.#intervalMs = intervalMs
    if (!this.isRunning) return
    this.#timer?.cancel()
    this.#schedule()
  }

  /** Lets the next beat come after this much of the interval (0 … 1, 0 excluded), and the others keep to its measure. */
  shift(share: number): void {
    if (!this.isRunning) return
    this.#timer?.cancel()
    this.#lastDueAt = this.#clock.monotonic() - (1 - share) * this.#intervalMs
    this.#schedule()
  }

  #schedule(): void {
    const now = this.#clock.monotonic()
    // A timer may fire a moment early: that is no beat before the last one.
    const missed = Math.max(0, Math.floor((now - this.#lastDueAt) / this.#intervalMs))
    const dueAt = this.#lastDueAt + (missed + 1) * this.#intervalMs
    this.#timer = this.#clock.after(dueAt - now, () => {
      this.#lastDueAt = dueAt
      this.#fire()
      this.#schedule()
    })
  }

  #fire(): void {
    if (this.#isBeating) return
    this.#isBeating = true
    this.#beat().finally(() => {
      this.#isBeating = false
      this.#beatenAt = this.#clock.monotonic()
    })
  }
}
