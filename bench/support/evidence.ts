import type pg from 'pg'
import { withConnection } from './database.ts'

// What PostgreSQL knows of a GrowingFleet, whose robots are called `robot-` and their number.

/** Which robots each process holds, by its process id, as their sessions were opened. */
export function robotsByProcess(databaseUrl: string): Promise<Map<number, number[]>> {
  return withConnection(databaseUrl, async (connection) => {
    const { rows } = await connection.query<{ process_id: number; robots: number[] }>(
      `SELECT servers.process_id, array_agg(substr(robots.name, 7)::integer) AS robots
       FROM robot_status
       JOIN servers ON servers.id = robot_status.server_id
       JOIN robots ON robots.id = robot_status.robot_id
       GROUP BY servers.process_id`,
    )
    return new Map(rows.map((row) => [row.process_id, row.robots]))
  })
}

export interface SilenceEntry {
  readonly robot: number
  readonly code: 'stale' | 'offline'
  readonly reason: string
  /** Milliseconds since 1970. */
  readonly at: number
}

/** What the timelines say of robots that became stale or offline since then. */
export function silencesSince(databaseUrl: string, since: number): Promise<SilenceEntry[]> {
  return withConnection(databaseUrl, async (connection) => {
    const { rows } = await connection.query<{
      robot: number
      code: SilenceEntry['code']
      reason: string
      at: Date
    }>(
      `SELECT substr(robots.name, 7)::integer AS robot, code, data ->> 'reason' AS reason, at
       FROM robot_events JOIN robots ON robots.id = robot_events.robot_id
       WHERE source = 'server' AND code IN ('stale', 'offline') AND robot_events.at >= $1
       ORDER BY at`,
      [new Date(since)],
    )
    return rows.map((row) => ({ ...row, at: row.at.getTime() }))
  })
}

/** How many robots have each connection at this moment. */
export function connectionsNow(databaseUrl: string): Promise<Record<string, number>> {
  return withConnection(databaseUrl, async (connection) => {
    const { rows } = await connection.query<{ connection: string; robots: number }>(
      'SELECT connection, count(*)::integer AS robots FROM robot_status GROUP BY connection',
    )
    return Object.fromEntries(rows.map((row) => [row.connection, row.robots]))
  })
}

export function databaseBytes(databaseUrl: string): Promise<number> {
  return withConnection(databaseUrl, async (connection) => {
    const { rows } = await connection.query<{ bytes: string }>(
      'SELECT pg_database_size(current_database()) AS bytes',
    )
    return Number(rows[0]!.bytes)
  })
}

export interface Ledger {
  /** Heartbeats of which a robot was told that they are in PostgreSQL. */
  readonly acknowledged: number
  /** Of those, how many are not. */
  readonly missing: number
  /** Rows of the history, and how many of them say again what another says. */
  readonly stored: number
  readonly duplicates: number
}

/** Compares what robots were told with what is there. `acknowledged`: the highest of each robot, by its number. */
export function compareLedgers(
  databaseUrl: string,
  firstSeq: number,
  acknowledged: readonly number[],
): Promise<Ledger> {
  return withConnection(databaseUrl, async (connection) => {
    await connection.query("SET statement_timeout = 0; SET work_mem = '512MB'; SET jit = off")
    await rememberAcknowledged(connection, acknowledged)
    const { rows } = await connection.query<Record<keyof Ledger, string>>(
      `WITH history AS (
         SELECT heartbeats.robot_id, count(*) AS rows, count(DISTINCT heartbeats.seq) AS seqs,
           count(DISTINCT heartbeats.seq) FILTER (WHERE heartbeats.seq BETWEEN $1 AND told.seq) AS kept
         FROM heartbeats
         JOIN robots ON robots.id = heartbeats.robot_id
         JOIN told ON told.robot = substr(robots.name, 7)::integer
         GROUP BY heartbeats.robot_id
       ), compared AS (
         SELECT greatest(told.seq - $1 + 1, 0) AS told, coalesce(history.kept, 0) AS kept,
           coalesce(history.rows, 0) AS rows, coalesce(history.rows - history.seqs, 0) AS duplicates
         FROM told
         JOIN robots ON robots.name = 'robot-' || told.robot
         LEFT JOIN history ON history.robot_id = robots.id
       )
       SELECT sum(told) AS acknowledged, sum(told - kept) AS missing, sum(rows) AS stored, sum(duplicates) AS duplicates
       FROM compared`,
      [firstSeq],
    )
    const row = rows[0]!
    return {
      acknowledged: Number(row.acknowledged),
      missing: Number(row.missing),
      stored: Number(row.stored),
      duplicates: Number(row.duplicates),
    }
  })
}

async function rememberAcknowledged(connection: pg.Client, acknowledged: readonly number[]): Promise<void> {
  await connection.query('CREATE TEMPORARY TABLE told (robot integer PRIMARY KEY, seq bigint NOT NULL)')
  await connection.query(
    `INSERT INTO told
     SELECT position - 1, seq FROM unnest($1::bigint[]) WITH ORDINALITY AS given (seq, position)`,
    [acknowledged],
  )
  await connection.query('ANALYZE told')
}
