import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import { DATABASE_PATIENCE_MS } from '../db/ping.ts'
import {
  countRobotsOfServers,
  markOrphansOffline,
  markOrphansStale,
  ORPHANS_PER_STATEMENT,
} from '../db/presence.ts'
import { beatServer, listServers, removeDeadServer, removeServer } from '../db/servers.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { MAX_RECONNECT_BACKOFF_MS } from '../protocol/limits.ts'
import type { Clock, Timer } from '../runtime.ts'
import { presenceEntry } from './presence-keeper.ts'
import type { ReconnectSpread } from './reconnect-spread.ts'
import type { TimelineWriter } from './timeline-writer.ts'

/** Robots that return do not come in an even stream. */
const TURN_MARGIN = 1.5
/** No robot is waited for much longer than this, however many there are and however few are let in. */
const LONGEST_TURN_MS = 60 * 60_000

export interface ServerWatchParts {
  readonly database: Database
  readonly server: { readonly id: string; readonly hostname: string; readonly processId: number }
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly timeline: TimelineWriter
  readonly defaultIntervalMs: number
  /** How many robots this server with all its processes lets in in a second; 0: as many as come. */
  readonly returnsPerSecond: number
  /** Over how long robots spread their return by themselves. */
  readonly spread: Pick<ReconnectSpread, 'ms'>
  /** The others had taken this server for dead: what it knows of its robots has to be said again. */
  readonly onThoughtDead: () => void
  /** True for a process whose supervisor watches the others and tells it who is gone: it only beats. */
  readonly supervised?: boolean
  /** Told of all servers that are gone and whose robots are waited for, at the start and whenever that changes. */
  readonly onGoneChanged?: (serverIds: readonly string[]) => void
}

export const WATCH_EVERY_MS = 5_000
/** A server that has not beaten for this long, while we could see the list, is dead. */
export const DEAD_AFTER_MS = 20_000

interface Seen {
  beat: number
  standsStillMs: number
}

/**
 * Beats for this server and watches the others. The robots of a server that is gone become stale by their silence,
 * and offline only when they had the time to return to a server that was there. Only time during which this process
 * could read the list counts, so neither an outage of the database nor a pause of our own makes anybody dead.
 */
export class ServerWatch {
  readonly #parts: ServerWatchParts
  readonly #seen = new Map<string, Seen>()
  /** Servers that are gone, with how long we know it, in milliseconds. */
  readonly #gone = new Map<string, number>()
  /** Gone, as somebody knows who saw them end, and still on the list. */
  readonly #toRemove = new Set<string>()
  /** The most robots that were waited for at once since nobody was: the last one's turn comes after all of theirs. */
  #mostAbsent = 0
  #told = ''
  #lookedAt: number | undefined
  /** When the database answered last, on the clock that never steps back. */
  #answeredAt = Number.NEGATIVE_INFINITY
  #beaten = false
  #stopped = false
  #timer: Timer | undefined
  #pass: Promise<void> | undefined

  constructor(parts: ServerWatchParts) {
    this.#parts = parts
  }

  /** True for a server that is known to be gone. One that we have not seen yet may have started a moment ago. */
  isGone(serverId: string): boolean {
    return this.#gone.has(serverId)
  }

  /** Whether the database answered when it was asked last: that is every WATCH_EVERY_MS. */
  get reachesDatabase(): boolean {
    return this.#parts.clock.monotonic() - this.#answeredAt <= WATCH_EVERY_MS + DATABASE_PATIENCE_MS
  }

  /** Servers that are gone, as the supervisor of a supervised one says. */
  setGone(serverIds: readonly string[]): void {
    this.#gone.clear()
    for (const id of serverIds) this.#gone.set(id, 0)
  }

  /**
   * A server has ended, as somebody knows who saw its process end: it counts as gone from here on, and is taken off the
   * list as soon as the database takes that.
   */
  declareGone(serverId: string): void {
    this.#toRemove.add(serverId)
    this.#gone.set(serverId, 0)
    this.#tellGone()
    // A pass that is under way may have looked already.
    void Promise.resolve(this.#pass).then(() => (this.#stopped ? undefined : this.pass()))
  }

  /** Puts this server on the list and begins to watch. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    const { database, clock, server, supervised } = this.#parts
    await beatServer(database, server)
    this.#answered()
    this.#beaten = true
    if (supervised) {
      this.#timer = clock.every(WATCH_EVERY_MS, () => this.pass())
      return
    }
    const listed = await listServers(database)
    for (const other of listed) this.#seen.set(other.id, { beat: other.beat, standsStillMs: 0 })
    for (const id of (await countRobotsOfServers(database)).keys())
      if (!this.#seen.has(id)) this.#gone.set(id, 0)
    this.#lookedAt = clock.now()
    this.#tellGone()
    this.#timer = clock.every(WATCH_EVERY_MS, () => this.pass())
  }

  /** Stops watching and takes this server off the list: its robots are for others to wait for. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await this.#pass
    if (this.#beaten) await removeServer(this.#parts.database, this.#parts.server.id)
  }

  /** One round of beating and looking. Errors are logged: the next round is soon. */
  pass(): Promise<void> {
    this.#pass ??= this.#look()
      .catch((error: unknown) => {
        this.#lookedAt = undefined
        if (isDatabaseUnavailable(error)) this.#answeredAt = Number.NEGATIVE_INFINITY
        this.#parts.log.warn({ err: error }, 'could not watch the other servers')
      })
      .finally(() => {
        this.#pass = undefined
      })
    return this.#pass
  }

  async #look(): Promise<void> {
    const { database, clock, log, server, supervised } = this.#parts
    const wasListed = await beatServer(database, server)
    this.#answered()
    if (!wasListed) this.#parts.onThoughtDead()
    if (supervised) return
    for (const id of this.#toRemove) {
      await removeServer(database, id)
      this.#toRemove.delete(id)
      this.#seen.delete(id)
    }
    const listed = await listServers(database)
    const now = clock.now()
    const elapsedMs =
      this.#lookedAt === undefined ? 0 : Math.min(Math.max(now - this.#lookedAt, 0), 2 * WATCH_EVERY_MS)
    this.#lookedAt = now
    for (const id of this.#gone.keys()) this.#gone.set(id, this.#gone.get(id)! + elapsedMs)

    const ids = new Set(listed.map((other) => other.id))
    for (const id of this.#seen.keys()) {
      if (ids.has(id)) continue
      this.#seen.delete(id)
      if (id !== server.id) this.#gone.set(id, 0)
    }
    for (const other of listed) {
      // Declared gone while the list was on its way.
      if (this.#toRemove.has(other.id)) continue
      this.#gone.delete(other.id)
      const seen = this.#seen.get(other.id)
      if (!seen || seen.beat !== other.beat) {
        this.#seen.set(other.id, { beat: other.beat, standsStillMs: 0 })
        continue
      }
      if (other.id === server.id) continue
      seen.standsStillMs += elapsedMs
      if (seen.standsStillMs < DEAD_AFTER_MS) continue
      log.warn({ server_id: other.id }, 'a server has stopped beating; waiting for its robots to return')
      await removeDeadServer(database, other)
      this.#seen.delete(other.id)
      this.#gone.set(other.id, 0)
    }
    if (this.#gone.size > 0) await this.#settleOrphans(now)
    if (this.#gone.size === 0) this.#mostAbsent = 0
    this.#tellGone()
  }

  #answered(): void {
    this.#answeredAt = this.#parts.clock.monotonic()
  }

  #tellGone(): void {
    const { onGoneChanged } = this.#parts
    if (!onGoneChanged) return
    const ids = [...this.#gone.keys()]
    const told = ids.join()
    if (told === this.#told) return
    this.#told = told
    onGoneChanged(ids)
  }

  async #settleOrphans(now: number): Promise<void> {
    const { database, defaultIntervalMs } = this.#parts
    const at = new Date(now)
    const serverIds = [...this.#gone.keys()]
    const waitedFor = await countRobotsOfServers(database)
    const absent = serverIds.reduce((sum, id) => sum + (waitedFor.get(id) ?? 0), 0)
    this.#mostAbsent = Math.max(this.#mostAbsent, absent)
    await this.#tellAll('stale', 'server_gone', now, () =>
      markOrphansStale(database, serverIds, defaultIntervalMs, at),
    )
    const returnMs = this.#awayMs + this.#turnMs(this.#mostAbsent)
    await this.#tellAll('offline', 'did_not_return', now, () =>
      markOrphansOffline(database, serverIds, [...this.#gone.values()], returnMs, defaultIntervalMs, at),
    )
    for (const id of serverIds) if (!waitedFor.has(id)) this.#gone.delete(id)
  }

  /** How long a robot may stay away by itself after a server is there: the end of its spread, or its longest backoff. */
  get #awayMs(): number {
    return Math.max(MAX_RECONNECT_BACKOFF_MS, this.#parts.spread.ms)
  }

  /** How long it may take until the last of so many robots has its turn to be let in. */
  #turnMs(robots: number): number {
    const { returnsPerSecond } = this.#parts
    if (returnsPerSecond === 0) return 0
    return Math.min(Math.ceil((robots / returnsPerSecond) * 1000 * TURN_MARGIN), LONGEST_TURN_MS)
  }

  async #tellAll(
    connection: 'stale' | 'offline',
    reason: string,
    now: number,
    markSome: () => Promise<readonly string[]>,
  ): Promise<void> {
    const { metrics, timeline } = this.#parts
    for (;;) {
      const robotIds = await markSome()
      this.#answered()
      metrics.presenceChanges.inc({ connection }, robotIds.length)
      for (const robotId of robotIds) timeline.note(robotId, presenceEntry(connection, reason), now)
      if (robotIds.length < ORPHANS_PER_STATEMENT) return
    }
  }
}
