import { sql } from 'kysely'
import { arrayLiteral, timeItem } from './array-literal.ts'
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
  await sql`/* prepared: insert_timeline */
    INSERT INTO robot_events (id, robot_id, source, event_id, at, level, code, message, data)
    SELECT given.*
    FROM ROWS FROM (unnest(${arrayLiteral(rows.map((row) => row.id))}::uuid[]),
                    unnest(${arrayLiteral(rows.map((row) => row.robotId))}::uuid[]),
                    unnest(${arrayLiteral(rows.map((row) => row.source))}::text[]),
                    jsonb_array_elements_text(${texts(rows.map((row) => row.eventId))}::jsonb),
                    unnest(${arrayLiteral(rows.map((row) => timeItem(row.at)))}::timestamptz[]),
                    unnest(${arrayLiteral(rows.map((row) => row.level))}::text[]),
                    jsonb_array_elements_text(${texts(rows.map((row) => row.code))}::jsonb),
                    jsonb_array_elements_text(${texts(rows.map((row) => row.message))}::jsonb),
                    jsonb_array_elements(${JSON.stringify(rows.map((row) => row.data))}::jsonb))
      AS given (id, robot_id, source, event_id, at, level, code, message, data)
    JOIN robots r ON r.id = given.robot_id
    ON CONFLICT DO NOTHING
  `.execute(database)
}

/** Half a surrogate pair is no text to PostgreSQL: it becomes what it becomes on every other way there. */
function texts(items: readonly (string | null)[]): string {
  return JSON.stringify(items.map((item) => item?.toWellFormed() ?? null))
}
