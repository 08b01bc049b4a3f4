import { sql } from 'kysely'
import type { Database } from './database.ts'

/** Deletes the oldest events of robots that arrived before the given time, at most `limit`; answers how many. */
export async function pruneRobotEvents(database: Database, before: Date, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    DELETE FROM robot_events WHERE id IN (
      SELECT id FROM robot_events WHERE received_at < ${before} ORDER BY received_at LIMIT ${limit}
      FOR UPDATE SKIP LOCKED
    )
  `.execute(database)
  return Number(numAffectedRows ?? 0)
}

/** Deletes the oldest remembered answers from before the given time, at most `limit`; answers how many. */
export async function pruneIdempotentRequests(
  database: Database,
  before: Date,
  limit: number,
): Promise<number> {
  const { numAffectedRows } = await sql`
    DELETE FROM idempotent_requests WHERE (principal_id, key) IN (
      SELECT principal_id, key FROM idempotent_requests WHERE created_at < ${before} ORDER BY created_at
      LIMIT ${limit} FOR UPDATE SKIP LOCKED
    )
  `.execute(database)
  return Number(numAffectedRows ?? 0)
}

/** Deletes heartbeats that could not be packed and arrived before the given time, at most `limit`; answers how many. */
export async function pruneSetAside(database: Database, before: Date, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    DELETE FROM heartbeats_set_aside WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM heartbeats_set_aside WHERE received_at < ${before} LIMIT ${limit} FOR UPDATE SKIP LOCKED
    ))
  `.execute(database)
  return Number(numAffectedRows ?? 0)
}
