import type { Database } from '../db/database.ts'
import { countExpectedRobots } from '../db/presence.ts'
import type { Log } from '../observe/log.ts'
import { MAX_RECONNECT_SPREAD_MS } from '../protocol/limits.ts'
import type { Clock, Timer } from '../runtime.ts'

export interface ReconnectSpreadParts {
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
  /** How many robots this server with all its processes lets in in a second; 0: as many as come. */
  readonly returnsPerSecond: number
  /** What an operator wants instead; undefined: it is worked out. */
  readonly reconnectSpreadMs?: number | undefined
  /** Robots that this process holds now. */
  readonly sessions: () => number
  /** True for a process whose supervisor counts for it (`setExpected`). */
  readonly supervised?: boolean
  /** Told how many robots are expected, whenever they were counted. */
  readonly onExpectedRobots?: (robots: number) => void
}

export const COUNT_EVERY_MS = 60_000
/** Who was not heard for so long is not waited for: the rest of the fleet's storm is not theirs. */
const EXPECTED_WITHIN_MS = 24 * 3_600_000
/** What one core lets in in any case. */
const PER_SECOND_WITHOUT_RATE = 1_000
/** What full jitter spreads robots over by itself: no more is needed for so few. */
const SPREAD_BY_BACKOFF_MS = 1_000

/**
 * Over how many milliseconds so many robots that lost their sessions in one moment are to come back: as long as it takes
 * to let them in, within bounds; 0 where the backoff alone is enough.
 */
export function spreadFor(robots: number, perSecond: number): number {
  const spreadMs = Math.round((robots / (perSecond || PER_SECOND_WITHOUT_RATE)) * 1000)
  return spreadMs < SPREAD_BY_BACKOFF_MS ? 0 : Math.min(spreadMs, MAX_RECONNECT_SPREAD_MS)
}

/**
 * Knows the spread that every welcome names. Robots are counted in the database once a minute, on whichever server they
 * are, for this one may be the first that is there again and has to let all of them in.
 */
export class ReconnectSpread {
  readonly #parts: ReconnectSpreadParts
  #expected = 0
  #timer: Timer | undefined
  #counting: Promise<void> | undefined

  constructor(parts: ReconnectSpreadParts) {
    this.#parts = parts
  }

  /** For whoever is welcomed now; 0: none. */
  get ms(): number {
    const { reconnectSpreadMs, returnsPerSecond, sessions } = this.#parts
    return reconnectSpreadMs ?? spreadFor(Math.max(this.#expected, sessions()), returnsPerSecond)
  }

  /** Counts, and goes on counting. A count that fails is logged, and leaves the one before. */
  async start(): Promise<void> {
    const { clock, supervised, reconnectSpreadMs } = this.#parts
    if (supervised || reconnectSpreadMs !== undefined) return
    await this.#count()
    this.#timer = clock.every(COUNT_EVERY_MS, () => void this.#count())
  }

  /** Waits for a count that is under way. */
  async stop(): Promise<void> {
    this.#timer?.cancel()
    await this.#counting
  }

  /** A supervised process is told how many robots are expected. */
  setExpected(robots: number): void {
    this.#expected = robots
  }

  #count(): Promise<void> {
    const { database, clock, log, returnsPerSecond, onExpectedRobots } = this.#parts
    // More make no difference.
    const atMost = Math.ceil(((returnsPerSecond || PER_SECOND_WITHOUT_RATE) * MAX_RECONNECT_SPREAD_MS) / 1000)
    this.#counting ??= countExpectedRobots(database, new Date(clock.now() - EXPECTED_WITHIN_MS), atMost)
      .then((robots) => {
        this.#expected = robots
        onExpectedRobots?.(robots)
      })
      .catch((error: unknown) => log.warn({ err: error }, 'could not count the robots that may come back'))
      .finally(() => {
        this.#counting = undefined
      })
    return this.#counting
  }
}
