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
  /** SHA-256 in hex of the machine that it comes from; undefined: it has none, or does not say. */
  readonly machineHash: string | undefined
}

/** What is done about a session whose robot seems to be a copy: it is told of, or its session is not opened. */
export type ClonePolicy = 'alert' | 'quarantine_newcomer'

/** Another machine than the one enrolled; or it had forgotten sessions that it must have known of. */
export type CloneDoubt = 'other_machine' | 'old_session_count'

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
  /** Undefined: nothing speaks against its being the robot. */
  readonly doubt: CloneDoubt | null
  /** It was not opened for that, and `sessionNo` is that of the session before. */
  readonly quarantined: boolean
  /** The session that the robot should have known of. */
  readonly usedSessionNo: number
}

/**
 * Opens sessions, at most one for each robot: raises session_no and marks the robots online. Answers in their order, with
 * undefined for robots whose token no longer stands. A session that comes with a robot's next token ends the old one by this same
 * statement: the robots are held from the look at their tokens on, so that whoever revokes a token, or comes with the
 * other one, comes wholly before or wholly after.
 *
 * A robot is in doubt when a machine comes that is neither the one enrolled nor the one of the session before, and when
 * another process than before has forgotten a session in which heartbeats came: once may be a power cut, two sessions
 * or twice in a row are not.
 */
export async function openSessions(
  database: Database,
  serverId: string,
  now: Date,
  sessions: readonly SessionToOpen[],
  policy: ClonePolicy,
): Promise<(OpenedSession | undefined)[]> {
  const { rows } = await sql<OpenedSession & { place: number }>`/* prepared: open_sessions */
    WITH asked AS (
      SELECT robot_id, decode(hash, 'hex') AS token_hash, decode(machine, 'hex') AS machine_hash, hello, place::integer
      FROM ROWS FROM (unnest(${arrayLiteral(sessions.map((session) => session.robotId))}::uuid[]),
                      unnest(${arrayLiteral(sessions.map((session) => session.tokenHash))}::text[]),
                      unnest(${arrayLiteral(sessions.map((session) => session.machineHash))}::text[]),
                      jsonb_array_elements(${JSON.stringify(sessions.map((session) => session.hello))}::jsonb))
        WITH ORDINALITY AS asked (robot_id, hash, machine, hello, place)
    ), standing AS (
      SELECT r.id AS robot_id, r.name, r.site_id, r.fleet_id, r.lifecycle, r.rotation_requested_at, r.rotation_reason,
        asked.hello, asked.place, r.token_hash <> asked.token_hash AS rotates,
        r.machine_hash <> asked.machine_hash AS is_elsewhere
      FROM asked JOIN robots r ON r.id = asked.robot_id
      WHERE asked.token_hash IN (r.token_hash, r.next_token_hash)
        AND r.token_revoked_at IS NULL AND r.lifecycle <> 'retired'
        AND (r.token_hash = asked.token_hash
          OR NOT EXISTS (SELECT FROM robots other WHERE other.token_hash = asked.token_hash))
      ORDER BY r.id
      FOR NO KEY UPDATE OF r
    ), held AS (
      -- Carries all that is needed on: to a planner that expects one row, one join more of CTEs is a nested loop.
      SELECT standing.*, s.server_id AS previous_server_id, s.sessions_forgotten,
        CASE WHEN s.heartbeat_received_at >= s.session_opened_at THEN s.session_no ELSE s.used_session_no END AS used_no,
        (standing.hello ->> 'last_session_no')::bigint AS told_no,
        standing.hello ->> 'instance_id' = s.hello ->> 'instance_id' AS is_same_process,
        standing.hello ->> 'machine_id' IS DISTINCT FROM s.hello ->> 'machine_id' AS is_new_machine
      FROM standing JOIN robot_status s USING (robot_id)
      ORDER BY s.robot_id
      FOR NO KEY UPDATE OF s
    ), judged AS (
      SELECT held.*, CASE
        WHEN is_same_process THEN NULL
        WHEN is_elsewhere AND is_new_machine THEN 'other_machine'
        WHEN told_no < used_no - 1 OR told_no < used_no AND sessions_forgotten > 0 THEN 'old_session_count'
      END AS doubt
      FROM held
    ), decided AS (
      SELECT judged.*, doubt IS NOT NULL AND ${policy === 'quarantine_newcomer'}::boolean AS quarantined FROM judged
    ), rotated AS (
      UPDATE robots r SET
        token_hash = r.next_token_hash,
        token_issued_at = r.next_token_at,
        next_token_hash = NULL,
        next_token_at = NULL,
        rotation_requested_at = NULL,
        rotation_reason = NULL
      FROM decided WHERE r.id = decided.robot_id AND decided.rotates AND NOT decided.quarantined
    )
    -- One in quarantine writes what stood there already.
    UPDATE robot_status s SET
      session_no = CASE WHEN decided.quarantined THEN s.session_no ELSE s.session_no + 1 END,
      server_id = CASE WHEN decided.quarantined THEN s.server_id ELSE ${serverId}::uuid END,
      connection = CASE WHEN decided.quarantined THEN s.connection ELSE 'online' END,
      connection_reason = CASE WHEN decided.quarantined THEN s.connection_reason ELSE 'connected' END,
      connection_since = CASE WHEN decided.quarantined OR s.connection = 'online' THEN s.connection_since
        ELSE ${now}::timestamptz END,
      last_seen_at = CASE WHEN decided.quarantined THEN s.last_seen_at ELSE ${now}::timestamptz END,
      hello = CASE WHEN decided.quarantined THEN s.hello ELSE decided.hello END,
      session_opened_at = CASE WHEN decided.quarantined THEN s.session_opened_at ELSE ${now}::timestamptz END,
      used_session_no = CASE WHEN decided.quarantined THEN s.used_session_no ELSE decided.used_no END,
      sessions_forgotten = CASE WHEN decided.quarantined OR decided.is_same_process THEN s.sessions_forgotten
        WHEN decided.told_no < decided.used_no THEN 1 ELSE 0 END
    FROM decided
    JOIN fleets f ON f.id = decided.fleet_id
    WHERE s.robot_id = decided.robot_id
    RETURNING decided.place, s.session_no AS "sessionNo", decided.name, decided.site_id AS "siteId",
      decided.fleet_id AS "fleetId", decided.lifecycle,
      f.heartbeat_interval_ms AS "heartbeatIntervalMs", s.heartbeat_seq AS "heartbeatSeq",
      floor(extract(epoch FROM s.heartbeat_at) * 1000)::float8 AS "heartbeatAt",
      decided.previous_server_id AS "previousServerId",
      decided.rotates AND NOT decided.quarantined AS rotated, decided.rotation_requested_at AS "rotationRequestedAt",
      decided.rotation_reason AS "rotationReason", decided.doubt, decided.quarantined,
      decided.used_no AS "usedSessionNo",
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
