/** What a Retry-After names at least and at most, in seconds. */
export const SHORTEST_RETURN_S = 1
export const LONGEST_RETURN_S = 120

/**
 * When those that are turned away are to come back. Each gets a place of its own in the time that it takes to serve
 * all who wait and were turned away before, at the known rate; so a storm comes back as a steady stream, in the order in
 * which it was turned away. Places are given away up to a moment that time itself catches up with. When they are given
 * away further than anybody is asked to wait, they are drawn at random from all of that time.
 */
export class ReturnTimes {
  #msEach: number
  /** Until when places are given away, in milliseconds of the clock that `next` is called with. */
  #givenUntil = Number.NEGATIVE_INFINITY

  constructor(perSecond: number) {
    this.#msEach = 1000 / perSecond
  }

  /** Places that were given away before stay as they are. */
  setRate(perSecond: number): void {
    this.#msEach = 1000 / perSecond
  }

  /** Whole seconds from `now` on, for one more. `waiting`: who is served before; `fraction`: random, from 0 up to 1. */
  next(now: number, waiting: number, fraction: number): number {
    const latest = now + LONGEST_RETURN_S * 1000
    const soonest = Math.min(now + waiting * this.#msEach, latest)
    const place = Math.max(this.#givenUntil, soonest) + this.#msEach
    this.#givenUntil = Math.min(place, latest)
    if (place > latest) {
      const from = Math.max(Math.ceil((soonest - now) / 1000), SHORTEST_RETURN_S)
      return from + Math.floor(fraction * (LONGEST_RETURN_S - from + 1))
    }
    // Seconds are rounded up or down by chance, so that on average nobody comes early or late.
    const seconds = Math.floor((place - now) / 1000 + fraction)
    return Math.min(Math.max(seconds, SHORTEST_RETURN_S), LONGEST_RETURN_S)
  }
}
