import { type Database, isBadData } from '../db/database.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { Grouping } from '../grouping.ts'
import { newId } from '../ids.ts'
import type { RobotEventFrame } from '../protocol/frames.ts'
import type { TimelineEntry } from '../session/state.ts'
import { type PersistParts, untilStored } from './persist.ts'

const MAX_GROUP = 500
const MAX_WAITING = 20_000

/** Writes timelines, all rows that wait in one statement. */
export class TimelineWriter {
  readonly #parts: PersistParts
  readonly #grouping: Grouping<TimelineRow, boolean>

  constructor(database: Database, parts: PersistParts) {
    this.#parts = parts
    this.#grouping = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      run: (rows) => this.#store(database, rows),
    })
  }

  get waiting(): number {
    return this.#grouping.waiting
  }

  /** Notes what the server saw of a robot at a time (milliseconds since 1970). Lost, and logged, when too much waits. */
  note(robotId: string, entry: TimelineEntry, at: number): void {
    const row: TimelineRow = {
      id: newId(),
      robotId,
      source: 'server',
      eventId: null,
      at: new Date(at),
      ...entry,
    }
    if (!this.#grouping.offer(row))
      this.#parts.log.warn({ robot_id: robotId, code: entry.code }, 'timeline full')
  }

  /** Keeps an event that a robot told of itself; answers whether it is in the database now. */
  async keep(robotId: string, event: RobotEventFrame): Promise<boolean> {
    const { level, code, message, clock_offset_ms, clock_unsure } = event
    const row: TimelineRow = {
      id: newId(),
      robotId,
      source: 'robot',
      eventId: event.id,
      at: event.at,
      level,
      code,
      message,
      data: {
        ...event.data,
        ...(clock_offset_ms === undefined ? {} : { clock_offset_ms }),
        ...(clock_unsure === undefined ? {} : { clock_unsure }),
      },
    }
    return this.#grouping.add(row).catch(() => false)
  }

  idle(): Promise<void> {
    return this.#grouping.idle()
  }

  /** Answers whether each row is in the database now. */
  async #store(database: Database, rows: readonly TimelineRow[]): Promise<boolean[]> {
    const { log } = this.#parts
    try {
      await untilStored(this.#parts, 'insert_timeline', () => insertTimeline(database, rows), isBadData)
      return rows.map(() => true)
    } catch (error) {
      if (isBadData(error) && rows.length > 1) {
        // One bad row must not take the others with it.
        const middle = rows.length >> 1
        const first = await this.#store(database, rows.slice(0, middle))
        return [...first, ...(await this.#store(database, rows.slice(middle)))]
      }
      log.error({ err: error, rows: rows.length }, 'timeline rows were lost')
      return rows.map(() => false)
    }
  }
}
