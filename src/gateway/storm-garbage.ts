import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Random } from '../runtime.ts'

/** Sessions opened within one tick of the gateway from which on it is a storm. */
const STORM_PER_TICK = 50
/** A storm smaller than this leaves too little behind. */
const WORTHWHILE_SESSIONS = 2_000
/** Robots have come back by then, and what they had kept for us is stored. */
const CALM_MS = 10_000
/** Up to so much longer, by chance: the processes of a server share its processors, and are not to stand still together. */
const SPREAD_MS = 10_000
/** The first collection finds what is dead; pages that it left empty go back to the system with the second. */
const COLLECTIONS = 2
const BETWEEN_COLLECTIONS_MS = 1_000

/**
 * Has V8 collect its garbage well after a storm of robots is over. While sessions wait for the database, what opening
 * them needs outlives young collections and moves to the old space, where V8 leaves it until the heap has grown to
 * its first limit: with 19,000 sessions, more than half of what they take. It costs two pauses, in the order of 40 ms
 * each for 50 MB that are alive, at a time when nobody waits for a session.
 */
export class StormGarbage {
  readonly #random: Pick<Random, 'fraction'>
  readonly #collect: () => void
  #openedBefore = 0
  /** Sessions opened in storms that nobody has cleared up after. */
  #opened = 0
  #stormyAt = Number.NEGATIVE_INFINITY
  #calmMs = CALM_MS
  #left = 0
  #collectedAt = Number.NEGATIVE_INFINITY

  constructor(random: Pick<Random, 'fraction'>, collect: () => void = collectGarbage) {
    this.#random = random
    this.#collect = collect
  }

  /** Takes the sessions opened since the start, and the time, which never steps back, in milliseconds. */
  tick(openedInAll: number, now: number): void {
    const opened = openedInAll - this.#openedBefore
    this.#openedBefore = openedInAll
    if (opened >= STORM_PER_TICK) {
      this.#opened += opened
      this.#stormyAt = now
      this.#calmMs = CALM_MS + this.#random.fraction() * SPREAD_MS
    }
    if (now - this.#stormyAt < this.#calmMs) return
    if (this.#opened >= WORTHWHILE_SESSIONS) {
      this.#opened = 0
      this.#left = COLLECTIONS
    } else if (now - this.#collectedAt < BETWEEN_COLLECTIONS_MS) return
    if (this.#left === 0) return
    this.#left -= 1
    this.#collectedAt = now
    this.#collect()
  }
}

let collector: (() => void) | undefined

/** V8's own, which contexts have that are made while this flag is set. */
function collectGarbage(): void {
  if (!collector) {
    setFlagsFromString('--expose-gc')
    collector = runInNewContext('gc') as () => void
    setFlagsFromString('--no-expose-gc')
  }
  collector()
}
