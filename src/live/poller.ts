import type { Database } from '../db/database.ts'
import { type LiveRobotRow, lookAtRobots, type RobotsLook, readRobots } from '../db/live-robots.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Timer } from '../runtime.ts'
import { type Entry, entryOf, type Render } from './robot.ts'
import type { LiveStore, Tick } from './store.ts'

export interface PollerParts {
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Pick<Metrics, 'livePollSeconds' | 'databaseErrors'>
  readonly store: LiveStore
  readonly render: Render
  /** Told of everything that is news. */
  readonly onTick: (tick: Tick) => void
}

const POLL_EVERY_MS = 1_000
/** A look takes no more than one part in so many of the time of a database connection; with what it finds, of these. */
const LOOK_SHARE = 20
const POLL_SHARE = 5
const SLOWEST_MS = 10_000
/** All versions are compared this often: for a database that was put back to an earlier state, or changed under us. */
const COMPARE_EVERY_MS = 300_000
/** Rows that are made into texts without a pause for whoever else needs the processor. */
const ROWS_AT_ONCE = 100

/**
 * Keeps a store as the database is: one look at all robots a second, and those read that changed. Robots, operators and
 * other servers need tell it nothing.
 */
export class Poller {
  readonly #parts: PollerParts
  #horizon: string | undefined
  #comparedAt = Number.NEGATIVE_INFINITY
  #polling: Promise<void> | undefined
  #timer: Timer | undefined
  #isRunning = false
  #failures = 0
  #goodAt: number
  #lookMs = 0

  constructor(parts: PollerParts) {
    this.#parts = parts
    this.#goodAt = parts.clock.monotonic()
  }

  /** How old what the store holds may be. */
  ageMs(): number {
    return this.#parts.clock.monotonic() - this.#goodAt
  }

  /** Polls from now on. */
  run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    this.#next(POLL_EVERY_MS)
  }

  rest(): void {
    this.#isRunning = false
    this.#timer?.cancel()
  }

  /** Resolves when the store is as the database was after this call; rejects when it cannot be read. */
  async freshen(): Promise<void> {
    // One that is under way may have looked already.
    await this.#polling?.catch(() => {})
    await this.#poll()
  }

  /** One at a time, however many ask. */
  #poll(): Promise<void> {
    this.#polling ??= this.#pollOnce().finally(() => {
      this.#polling = undefined
    })
    return this.#polling
  }

  #next(delayMs: number): void {
    if (!this.#isRunning) return
    this.#timer?.cancel()
    this.#timer = this.#parts.clock.after(delayMs, () => void this.#round())
  }

  async #round(): Promise<void> {
    const { clock, log, metrics } = this.#parts
    const begun = clock.monotonic()
    try {
      await this.#poll()
      if (this.#failures > 0) log.info({ failures: this.#failures }, 'live feeds are up to date again')
      this.#failures = 0
      const tookMs = clock.monotonic() - begun
      const periodMs = Math.max(POLL_EVERY_MS, this.#lookMs * LOOK_SHARE, tookMs * POLL_SHARE)
      this.#next(Math.min(periodMs, SLOWEST_MS) - tookMs)
    } catch (err) {
      metrics.databaseErrors.inc({ operation: 'live_poll' })
      if (this.#failures === 0) log.warn({ err }, 'robots could not be read for live feeds')
      this.#failures += 1
      this.#next(Math.min(POLL_EVERY_MS * this.#failures, SLOWEST_MS))
    }
  }

  async #pollOnce(): Promise<void> {
    const { clock, database, metrics, onTick, render, store } = this.#parts
    const begun = clock.monotonic()
    let look = await lookAtRobots(database, this.#horizon)
    this.#lookMs = clock.monotonic() - begun
    let gone: string[] = []
    if (this.#horizon === undefined || begun - this.#comparedAt > COMPARE_EVERY_MS || this.#isOther(look)) {
      if (this.#horizon !== undefined) look = await lookAtRobots(database, undefined)
      const there = new Set(look.changed.map(({ id }) => id))
      gone = [...store.ids()].filter((id) => !there.has(id))
      this.#comparedAt = begun
    }
    const ids = look.changed.flatMap(({ id, version }) => (store.get(id)?.version === version ? [] : [id]))
    const entries: Entry[] = []
    for (let start = 0; start < ids.length; start += ROWS_AT_ONCE) {
      const rows: LiveRobotRow[] = await readRobots(database, ids.slice(start, start + ROWS_AT_ONCE))
      for (const row of rows) entries.push(entryOf(row, render))
    }
    const tick = store.apply(entries, gone, look.now)
    this.#horizon = look.horizon
    this.#goodAt = begun
    metrics.livePollSeconds.observe((clock.monotonic() - begun) / 1000)
    if (tick) onTick(tick)
  }

  /** There are more or fewer robots than those known and those that are new: some were deleted. */
  #isOther({ changed, robots }: RobotsLook): boolean {
    const { store } = this.#parts
    const isNew = changed.filter(({ id }) => !store.get(id)).length
    return store.size + isNew !== robots
  }
}
