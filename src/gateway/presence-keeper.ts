import type { Database } from '../db/database.ts'
import { writePresence } from '../db/presence.ts'
import { Presence, type PresenceChange } from '../fleet/presence.ts'
import type { Robots } from '../fleet/robots.ts'
import type { TimelineEntry } from '../session/state.ts'
import { type PersistParts, untilStored } from './persist.ts'
import type { TimelineWriter } from './timeline-writer.ts'

const MAX_GROUP = 1_000

/** Carries what Presence decides into the database: the last word on each robot, in groups, until it is written. */
export class PresenceKeeper {
  readonly presence: Presence
  readonly #database: Database
  readonly #parts: PersistParts
  readonly #timeline: TimelineWriter
  /** At most one change for each robot that is watched, or has just ceased to be. */
  readonly #waiting = new Map<string, PresenceChange>()
  #working: Promise<void> | undefined

  constructor(database: Database, parts: PersistParts, timeline: TimelineWriter, robots: Robots) {
    this.presence = new Presence(robots, parts.clock.now())
    this.#database = database
    this.#parts = parts
    this.#timeline = timeline
  }

  get waiting(): number {
    return this.#waiting.size
  }

  write(change: PresenceChange | undefined): void {
    if (!change) return
    this.#waiting.set(change.robotId, change)
    this.#working ??= this.#work()
  }

  async idle(): Promise<void> {
    await this.#working
  }

  async #work(): Promise<void> {
    // Lets the changes of one tick come together.
    await Promise.resolve()
    while (this.#waiting.size > 0) {
      const group = [...this.#waiting.values()].slice(0, MAX_GROUP)
      for (const change of group) this.#waiting.delete(change.robotId)
      try {
        const news = new Set(
          await untilStored(this.#parts, 'write_presence', () => writePresence(this.#database, group)),
        )
        for (const change of group) if (news.has(change.robotId)) this.#tell(change)
      } catch (error) {
        this.#parts.log.warn({ err: error, robots: group.length }, 'gave up writing presence')
      }
    }
    this.#working = undefined
  }

  #tell(change: PresenceChange): void {
    this.#parts.metrics.presenceChanges.inc({ connection: change.connection })
    this.#timeline.note(change.robotId, presenceEntry(change.connection, change.reason), change.since)
  }
}

const ENTRIES = {
  online: { level: 'info', code: 'online', message: 'is heard again' },
  stale: { level: 'warn', code: 'stale', message: 'has fallen silent' },
  offline: { level: 'warn', code: 'offline', message: 'is offline' },
} as const

/** What the timeline says of a robot that became online, stale or offline. */
export function presenceEntry(connection: PresenceChange['connection'], reason: string): TimelineEntry {
  const { level, code, message } = ENTRIES[connection]
  return { level, code, message: `${message}: ${reason}`, data: { reason } }
}
