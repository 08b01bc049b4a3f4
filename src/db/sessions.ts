import { sql } from 'kysely'
import type { HelloFrame, Lifecycle } from '../protocol/frames.ts'
import { arrayLiteral } from './array-literal.ts'
import type { Database } from './database.ts'
import type { RotationReason } from './tables.ts'

/** What a robot token stands for. */
export interface TokenHolder {
  readonly robotId: string
  /** It is the robot's next token, which no session was opened with yet. */
  readonly isNext: boolean
  readonly revoked: boolean
  readonly retired: boolean
}

/** Looks up robot tokens by their SHA-256 (hex); answers in their order, with undefined for those of no robot. */
export async function findTokenHolders(
  database: Database,
  tokenHashes: readonly string[],
): Promise<(TokenHolder | undefined)[]> {
  const { rows } = await sql<TokenHolder & { place: number }>`/* prepared: find_token_holders */
    WITH asked AS (
      SELECT decode(hash, 'hex') AS hash, place::integer
      FROM unnest(${arrayLiteral(tokenHashes)}::text[]) WITH ORDINALITY AS asked (hash, place)
    )
    SELECT place, r.id AS "robotId", false AS "isNext",
      r.token_revoked_at IS NOT NULL AS revoked, r.lifecycle = 'retired' AS retired
    FROM asked JOIN robots r ON r.token_hash = asked.hash
    UNION ALL
    SELECT place, r.id, true, r.token_revoked_at IS NOT NULL, r.lifecycle = 'retired'
    FROM asked JOIN robots r ON r.next_token_hash = asked.hash
  `.execute(database)
  const holders = new Array<TokenHolder | undefined>(tokenHashes.length)
  // One robot's next token may be another's that stands: to whom it stands, it belongs.
  for (const row of rows) if (!row.isNext || !holders[row.place - 1]) holders[row.place - 1] = row
  return holders
}

export interface SessionToOpen {
  readonly robotId: string
  /** SHA-256 in hex of the token that the socket came with: it has to stand still. */
  readonly tokenHash: string
  readonly hello: Omit<HelloFrame, 'type'>
}

export interface OpenedSession {
  readonly sessionNo: number
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  readonly lifecycle: Lifecycle
  readonly heartbeatIntervalMs: number | null
  readonly heartbeatSeq: number | null
  /** Milliseconds since 1970, by the robot's clock. */
  readonly heartbeatAt: number | null
  readonly faultCodes: readonly string[] | null
  /** The server that held the robot's session before. */
  readonly previousServerId: string | null
  /** It came with the next token, which has taken the place of the old one by this. */
  readonly rotated: boolean
  /** The request for a new token that stands, or that this session has met. */
  readonly rotationRequestedAt: Date | null
  readonly rotationReason: RotationReason | null
}

/**
 * Opens sessions, at most one for each robot: raises session_no and marks the robots online. Answers in their order, with
 * undefined for robots whose token no longer stands. A session that comes with a robot's next token ends the old one by this same
 * statement: the robots are held from the look at their tokens on, so that whoever revokes a token, or comes with the
 * other one, comes wholly before or wholly after.
 */
export async function openSessions(
  database: Database,
  serverId: string,
  now: Date,
  sessions: readonly SessionToOpen[],
): Promise<(OpenedSession | undefined)[]> {
  const { rows } = await sql<OpenedSession & { place: number }>`/* prepared: open_sessions */
    WITH asked AS (
      SELECT robot_id, decode(hash, 'hex') AS token_hash, hello, place::integer
      FROM ROWS FROM (unnest(${arrayLiteral(sessions.map((session) => session.robotId))}::uuid[]),
                      unnest(${arrayLiteral(sessions.map((session) => session.tokenHash))}::text[]),
                      jsonb_array_elements(${JSON.stringify(sessions.map((session) => session.hello))}::jsonb))
        WITH ORDINALITY AS asked (robot_id, hash, hello, place)
    ), standing AS (
      SELECT r.id AS robot_id, r.name, r.site_id, r.fleet_id, r.lifecycle, r.rotation_requested_at, r.rotation_reason,
        asked.hello, asked.place, r.token_hash <> asked.token_hash AS rotates
      FROM asked JOIN robots r ON r.id = asked.robot_id
      WHERE asked.token_hash IN (r.token_hash, r.next_token_hash)
        AND r.token_revoked_at IS NULL AND r.lifecycle <> 'retired'
        AND (r.token_hash = asked.token_hash
          OR NOT EXISTS (SELECT FROM robots other WHERE other.token_hash = asked.token_hash))
      ORDER BY r.id
      FOR NO KEY UPDATE OF r
    ), rotated AS (
      UPDATE robots r SET
        token_hash = r.next_token_hash,
        token_issued_at = r.next_token_at,
        next_token_hash = NULL,
        next_token_at = NULL,
        rotation_requested_at = NULL,
        rotation_reason = NULL
      FROM standing WHERE r.id = standing.robot_id AND standing.rotates
    ), held AS (
      -- Carries all that is needed on: to a planner that expects one row, one join more of CTEs is a nested loop.
      SELECT standing.*, s.server_id AS previous_server_id
      FROM standing JOIN robot_status s USING (robot_id)
      ORDER BY s.robot_id
      FOR NO KEY UPDATE OF s
    )
    UPDATE robot_status s SET
      session_no = s.session_no + 1,
      server_id = ${serverId}::uuid,
      connection = 'online',
      connection_reason = 'connected',
      connection_since = CASE WHEN s.connection = 'online' THEN s.connection_since ELSE ${now}::timestamptz END,
      last_seen_at = ${now}::timestamptz,
      hello = held.hello
    FROM held
    JOIN fleets f ON f.id = held.fleet_id
    WHERE s.robot_id = held.robot_id
    RETURNING held.place, s.session_no AS "sessionNo", held.name, held.site_id AS "siteId",
      held.fleet_id AS "fleetId", held.lifecycle,
      f.heartbeat_interval_ms AS "heartbeatIntervalMs", s.heartbeat_seq AS "heartbeatSeq",
      floor(extract(epoch FROM s.heartbeat_at) * 1000)::float8 AS "heartbeatAt", held.previous_server_id AS "previousServerId",
      held.rotates AS rotated, held.rotation_requested_at AS "rotationRequestedAt",
      held.rotation_reason AS "rotationReason",
      (SELECT array_agg(fault ->> 'code') FROM jsonb_array_elements(s.heartbeat -> 'faults') AS fault) AS "faultCodes"
  `.execute(database)
  const opened = new Array<OpenedSession | undefined>(sessions.length)
  for (const row of rows) opened[row.place - 1] = row
  return opened
}

/** What is so of a robot at this moment, for a server that holds a session of it. */
export interface SessionFacts {
  readonly robotId: string
  readonly sessionNo: number
  readonly tokenHash: string | null
  readonly nextTokenHash: string | null
  readonly revoked: boolean
  readonly name: string
  readonly fleetId: string
  readonly lifecycle: Lifecycle
  readonly heartbeatIntervalMs: number | null
  readonly rotationRequestedAt: Date | null
  readonly rotationReason: RotationReason | null
}

/** Reads the facts that may end or change live sessions of the robots. */
export async function readSessionFacts(
  database: Database,
  robotIds: readonly string[],
): Promise<SessionFacts[]> {
  const { rows } = await sql<SessionFacts>`
    SELECT r.id AS "robotId", s.session_no AS "sessionNo", encode(r.token_hash, 'hex') AS "tokenHash",
      encode(r.next_token_hash, 'hex') AS "nextTokenHash", r.rotation_requested_at AS "rotationRequestedAt",
      r.rotation_reason AS "rotationReason", r.token_revoked_at IS NOT NULL AS revoked, r.name, r.fleet_id AS "fleetId", r.lifecycle,
      f.heartbeat_interval_ms AS "heartbeatIntervalMs"
    FROM unnest(${[...robotIds]}::uuid[]) AS asked (robot_id)
    JOIN robots r ON r.id = asked.robot_id
    JOIN robot_status s ON s.robot_id = r.id
    JOIN fleets f ON f.id = r.fleet_id
  `.execute(database)
  return rows
}
