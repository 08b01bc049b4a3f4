import { sql } from 'kysely'
import type { Database } from './database.ts'
import type { EventLevel } from './tables.ts'

/** Something the server itself has to tell of a robot. */
export interface ServerEvent {
  readonly id: string
  readonly robotId: string
  readonly level: EventLevel
  readonly code: string
  readonly message: string
  readonly data: Readonly<Record<string, unknown>>
}

/** Writes events on the robots' timelines, at the database's time. */
export async function insertServerEvents(db: Database, events: readonly ServerEvent[]): Promise<void> {
  if (events.length === 0) return
  await sql`
    INSERT INTO robot_events (id, robot_id, source, at, level, code, message, data)
    SELECT id, robot_id, 'server', now(), level, code, message, data
    FROM unnest(
      ${events.map((event) => event.id)}::uuid[],
      ${events.map((event) => event.robotId)}::uuid[],
      ${events.map((event) => event.level)}::text[],
      ${events.map((event) => event.code)}::text[],
      ${events.map((event) => event.message)}::text[],
      ${events.map((event) => JSON.stringify(event.data))}::jsonb[]
    ) AS event (id, robot_id, level, code, message, data)`.execute(db)
}

/** A robot's timeline, newest first, events before `before` when given. */
export function listRobotEvents(
  db: Database,
  robotId: string,
  filter: { levels: readonly EventLevel[] | undefined; codes: readonly string[] | undefined },
  page: { limit: number; before: string | undefined },
) {
  const { levels, codes } = filter
  return db
    .selectFrom('robot_events')
    .select(['id', 'source', 'event_id', 'at', 'received_at', 'level', 'code', 'message', 'data'])
    .where('robot_id', '=', robotId)
    .$if(levels !== undefined, (query) => query.where('level', 'in', levels!))
    .$if(codes !== undefined, (query) => query.where('code', 'in', codes!))
    .$if(page.before !== undefined, (query) => query.where('id', '<', page.before!))
    .orderBy('id', 'desc')
    .limit(page.limit)
    .execute()
}
