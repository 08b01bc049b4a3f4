import { sql } from 'kysely'
import type { Database } from './database.ts'

export interface PresenceRow {
  readonly robotId: string
  readonly sessionNo: number
  readonly connection: 'online' | 'stale' | 'offline'
  readonly reason: string
  /** Milliseconds since 1970. */
  readonly since: number
}

/** Writes what became of robots, at most one row each. Answers with the robots for which it was news. */
export async function writePresence(database: Database, rows: readonly PresenceRow[]): Promise<string[]> {
  const { rows: changed } = await sql<{ robot_id: string }>`/* prepared: write_presence */
    UPDATE robot_status s SET
      connection = given.connection,
      connection_reason = given.reason,
      connection_since = given.since
    FROM unnest(${rows.map((row) => row.robotId)}::uuid[],
                ${rows.map((row) => row.sessionNo)}::bigint[],
                ${rows.map((row) => row.connection)}::text[],
                ${rows.map((row) => row.reason)}::text[],
                ${rows.map((row) => new Date(row.since).toISOString())}::timestamptz[])
      AS given (robot_id, session_no, connection, reason, since)
    WHERE s.robot_id = given.robot_id AND s.session_no = given.session_no AND s.connection <> given.connection
    RETURNING s.robot_id
  `.execute(database)
  return changed.map((row) => row.robot_id)
}

/** How many robots are online or stale for each server that held them last. */
export async function countRobotsOfServers(database: Database): Promise<Map<string, number>> {
  const { rows } = await sql<{ server_id: string; robots: number }>`
    SELECT server_id, count(*)::int AS robots FROM robot_status
    WHERE connection IN ('online', 'stale') AND server_id IS NOT NULL
    GROUP BY server_id
  `.execute(database)
  return new Map(rows.map((row) => [row.server_id, row.robots]))
}

/** How many robots are connected, or were heard after `since`, on whichever server; counts no further than `atMost`. */
export async function countExpectedRobots(database: Database, since: Date, atMost: number): Promise<number> {
  const { rows } = await sql<{ robots: number }>`
    SELECT count(*)::int AS robots FROM (
      SELECT FROM robot_status
      WHERE connection IN ('online', 'stale') OR last_seen_at > ${since}::timestamptz
      LIMIT ${atMost}::int
    ) AS expected
  `.execute(database)
  return rows[0]?.robots ?? 0
}

/** How many robots one of the statements below changes at the most. */
export const ORPHANS_PER_STATEMENT = 1_000

/**
 * Robots of servers that are gone, silent for 2.5 of their intervals: from online to stale. Answers with them; as many
 * as fit into a statement mean that there may be more. Robots that are just now being opened elsewhere are left alone:
 * waiting for them would hold up those who open them. So are those of a server that is on the list after all.
 */
export async function markOrphansStale(
  database: Database,
  serverIds: readonly string[],
  defaultIntervalMs: number,
  now: Date,
): Promise<string[]> {
  const { rows } = await sql<{ robot_id: string }>`
    WITH due AS (
      SELECT s.robot_id FROM robot_status s JOIN robots r ON r.id = s.robot_id JOIN fleets f ON f.id = r.fleet_id
      WHERE s.server_id = ANY (${[...serverIds]}::uuid[]) AND s.connection = 'online'
        AND s.last_seen_at < ${now}::timestamptz
          - coalesce(f.heartbeat_interval_ms, ${defaultIntervalMs}::int) * 2.5 * interval '1 millisecond'
        AND NOT EXISTS (SELECT FROM servers alive WHERE alive.id = s.server_id)
      ORDER BY s.robot_id LIMIT ${sql.lit(ORPHANS_PER_STATEMENT)}
      FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE robot_status s SET connection = 'stale', connection_reason = 'server_gone', connection_since = ${now}::timestamptz
    FROM due WHERE s.robot_id = due.robot_id
    RETURNING s.robot_id
  `.execute(database)
  return rows.map((row) => row.robot_id)
}

/**
 * Robots of servers that have been gone for longer than their robots needed to return: offline. `goneForMs[i]` is how
 * long `serverIds[i]` is known to be gone; each robot is granted `returnMs` and its 3 intervals + 5 s. Answers as the one
 * above does.
 */
export async function markOrphansOffline(
  database: Database,
  serverIds: readonly string[],
  goneForMs: readonly number[],
  returnMs: number,
  defaultIntervalMs: number,
  now: Date,
): Promise<string[]> {
  const { rows } = await sql<{ robot_id: string }>`
    WITH due AS (
      SELECT s.robot_id
      FROM unnest(${[...serverIds]}::uuid[], ${goneForMs.map(Math.floor)}::bigint[]) AS gone (server_id, gone_for_ms)
      JOIN robot_status s USING (server_id) JOIN robots r ON r.id = s.robot_id JOIN fleets f ON f.id = r.fleet_id
      WHERE s.connection IN ('online', 'stale')
        AND gone.gone_for_ms >= ${returnMs}::int + 5000 + 3 * coalesce(f.heartbeat_interval_ms, ${defaultIntervalMs}::int)
        AND NOT EXISTS (SELECT FROM servers alive WHERE alive.id = s.server_id)
      ORDER BY s.robot_id LIMIT ${sql.lit(ORPHANS_PER_STATEMENT)}
      FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    UPDATE robot_status s SET connection = 'offline', connection_reason = 'did_not_return', connection_since = ${now}::timestamptz
    FROM due WHERE s.robot_id = due.robot_id
    RETURNING s.robot_id
  `.execute(database)
  return rows.map((row) => row.robot_id)
}
