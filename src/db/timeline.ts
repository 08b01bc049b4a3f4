import { sql } from 'kysely'
import type { Database } from './database.ts'
import type { EventLevel } from './tables.ts'

/** One row of a robot's timeline. */
export interface TimelineRow {
  readonly id: string
  readonly robotId: string
  readonly source: 'server' | 'robot'
  /** The robot's own id of its event; null for the server's. */
  readonly eventId: string | null
  readonly at: Date | string
  readonly level: EventLevel
  readonly code: string
  readonly message: string
  readonly data: Readonly<Record<string, unknown>>
}

/** Adds rows to timelines in one statement; an event that a robot told before, or of a robot that is gone, is left out. */
export async function insertTimeline(database: Database, rows: readonly TimelineRow[]): Promise<void> {
  await sql`
    INSERT INTO robot_events (id, robot_id, source, event_id, at, level, code, message, data)
    SELECT given.*
    FROM unnest(${rows.map((row) => row.id)}::uuid[],
                ${rows.map((row) => row.robotId)}::uuid[],
                ${rows.map((row) => row.source)}::text[],
                ${rows.map((row) => row.eventId)}::text[],
                ${rows.map((row) => (typeof row.at === 'string' ? row.at : row.at.toISOString()))}::timestamptz[],
                ${rows.map((row) => row.level)}::text[],
                ${rows.map((row) => row.code)}::text[],
                ${rows.map((row) => row.message)}::text[],
                ${rows.map((row) => JSON.stringify(row.data))}::jsonb[])
      AS given (id, robot_id, source, event_id, at, level, code, message, data)
    JOIN robots r ON r.id = given.robot_id
    ON CONFLICT DO NOTHING
  `.execute(database)
}
