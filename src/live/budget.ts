import type { Clock } from '../runtime.ts'

/** How many bytes may go out. What is too much is paid for before anything else goes. */
export class OutputBudget {
  readonly #perMs: number
  readonly #burst: number
  readonly #clock: Pick<Clock, 'monotonic'>
  #left: number
  #at: number

  /** `bytesPerSecond`, and as many at once as a second gives. */
  constructor(bytesPerSecond: number, clock: Pick<Clock, 'monotonic'>) {
    this.#perMs = bytesPerSecond / 1000
    this.#burst = bytesPerSecond
    this.#clock = clock
    this.#left = bytesPerSecond
    this.#at = clock.monotonic()
  }

  /** In how many milliseconds something may go; 0: now. */
  waitMs(): number {
    const now = this.#clock.monotonic()
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs)
    this.#at = now
    return this.#left > 0 ? 0 : Math.ceil(-this.#left / this.#perMs) + 1
  }

  spend(bytes: number): void {
    this.#left -= bytes
  }
}
