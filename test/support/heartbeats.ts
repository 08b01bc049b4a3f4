import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'
import type { HeartbeatRow } from '../../src/db/heartbeat-writes.ts'
import { newId } from '../../src/ids.ts'
import { insertFleet } from './robots.ts'

/** The session that robots of `insertRobotsInSession` are in. */
export const SESSION_NO = 5
/** When heartbeats were sent and received, unless told otherwise: history takes none of another day. */
export const NOW = Date.now()

/** Robots of one fleet that have a session, and no token; answers with their ids. */
export async function insertRobotsInSession(database: Database, count: number): Promise<string[]> {
  const { siteId, fleetId } = await insertFleet(database)
  const robotIds = Array.from({ length: count }, newId)
  await sql`
    INSERT INTO robots (id, site_id, fleet_id, name)
    SELECT id, ${siteId}, ${fleetId}, id::text FROM unnest(${robotIds}::uuid[]) AS given (id)
  `.execute(database)
  await beginSessions(database, robotIds)
  return robotIds
}

/** Forgets all that was heard of robots, and has them in their session. */
export async function beginSessions(database: Database, robotIds: readonly string[]): Promise<void> {
  await sql`DELETE FROM robot_status WHERE robot_id = ANY (${robotIds}::uuid[])`.execute(database)
  await sql`
    INSERT INTO robot_status (robot_id, session_no, connection)
    SELECT id, ${SESSION_NO}, 'online' FROM unnest(${robotIds}::uuid[]) AS given (id)
  `.execute(database)
}

/** A heartbeat of such a robot. */
export function heartbeatRow(robotId: string, of: Partial<HeartbeatRow> = {}): HeartbeatRow {
  return {
    robotId,
    sessionNo: SESSION_NO,
    seq: 1,
    at: new Date(NOW).toISOString(),
    receivedAt: NOW,
    health: 'ok',
    body: '{"health":"ok"}',
    recheck: false,
    latest: true,
    ...of,
  }
}
