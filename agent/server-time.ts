import type { Clock } from './runtime.ts'

/** A clock that is no further off than that is taken to be right: it is set by the network, better than we could. */
const TOLERANCE_MS = 1_000
/** A clock that is being slewed does not go faster or slower than that. */
const MAX_SLEW = 0.001
const STEP_MS = 250

/** The time of something, as it is told to the server. */
export interface Stamp {
  /** RFC 3339. */
  readonly at: string
  /** How far ahead this robot's clock was, when `at` was corrected by it. */
  readonly clockOffsetMs: number | undefined
}

/**
 * Knows how far this robot's clock is off, from the server's welcome on. A clock that is set meanwhile, by a person or by
 * the network, is noticed by the monotonic clock beside it, so the corrected time goes on as before.
 */
export class ServerTime {
  readonly #clock: Clock
  /** Robot's clock minus server's; undefined before the first welcome. */
  #offsetMs: number | undefined
  #toleranceMs = TOLERANCE_MS
  #wallBefore: number
  #monotonicBefore: number

  constructor(clock: Clock) {
    this.#clock = clock
    this.#wallBefore = clock.now()
    this.#monotonicBefore = clock.monotonic()
  }

  /** The server said what time it was, within the last `roundTripMs`. Says something unreadable: nothing is learnt. */
  learn(serverTime: string, roundTripMs: number): void {
    const time = Date.parse(serverTime)
    if (!Number.isFinite(time)) return
    this.#follow()
    this.#offsetMs = Math.round(this.#clock.now() - (time + roundTripMs / 2))
    this.#toleranceMs = TOLERANCE_MS + roundTripMs / 2
  }

  stamp(): Stamp {
    this.#follow()
    const now = this.#clock.now()
    const offset = this.#offsetMs
    if (offset === undefined || Math.abs(offset) <= this.#toleranceMs)
      return { at: timeText(now), clockOffsetMs: undefined }
    return { at: timeText(now - offset), clockOffsetMs: offset }
  }

  /** Notices that the clock was set since the last look. */
  #follow(): void {
    const wall = this.#clock.now()
    const monotonic = this.#clock.monotonic()
    const passed = monotonic - this.#monotonicBefore
    const step = wall - this.#wallBefore - passed
    if (this.#offsetMs !== undefined && Math.abs(step) > STEP_MS + passed * MAX_SLEW)
      this.#offsetMs = Math.round(this.#offsetMs + step)
    this.#wallBefore = wall
    this.#monotonicBefore = monotonic
  }
}

const LAST_INSTANT = 253_402_300_799_998

/** A robot's clock may stand anywhere; what no server takes is moved to the nearest moment that it does. */
function timeText(ms: number): string {
  return new Date(Math.min(LAST_INSTANT, Math.max(0, ms))).toISOString()
}
