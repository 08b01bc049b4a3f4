import { type RawBuilder, sql } from 'kysely'
import type { Lifecycle } from '../protocol/frames.ts'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import { hasLabels, type WantedLabels } from './robot-filters.ts'
import type { Connection, RotationReason } from './tables.ts'

/** A robot's next token, as its session named it. */
export interface NextToken {
  readonly robotId: string
  /** The session that named it, which has to be the robot's newest. */
  readonly sessionNo: number
  /** SHA-256 in hex of the token that the session was opened with. */
  readonly tokenHash: string
  /** SHA-256 in hex of the token that is to take its place. */
  readonly nextTokenHash: string
}

/**
 * What became of it. `kept`: it is the next one already. `taken`: it is or was a token, of this robot or another.
 * `too_soon`: the one before is too young. `fenced`: a newer session, or another token, has taken this one's place.
 */
export type NextTokenOutcome = 'stored' | 'kept' | 'taken' | 'too_soon' | 'fenced'

export interface StoredNextToken {
  readonly robotId: string
  readonly outcome: NextTokenOutcome
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
}

/** Between two next tokens of a robot, and between two tokens where nobody asked for another. In milliseconds. */
export interface RotationPace {
  readonly betweenNextMs: number
  readonly unaskedMs: number
}

/**
 * Keeps robots' next tokens, at most one for each robot, beside the ones that stand. Both open sessions from now on.
 * Robots that are gone are left out of the answer.
 */
export async function storeNextTokens(
  database: Database,
  now: Date,
  pace: RotationPace,
  tokens: readonly NextToken[],
): Promise<StoredNextToken[]> {
  const { rows } = await sql<StoredNextToken>`
    WITH given AS (
      SELECT robot_id, session_no, decode(hash, 'hex') AS token_hash, decode(next_hash, 'hex') AS next_hash
      FROM unnest(${tokens.map((token) => token.robotId)}::uuid[],
                  ${tokens.map((token) => token.sessionNo)}::bigint[],
                  ${tokens.map((token) => token.tokenHash)}::text[],
                  ${tokens.map((token) => token.nextTokenHash)}::text[])
        AS given (robot_id, session_no, hash, next_hash)
    ), judged AS (
      SELECT r.id AS robot_id, r.name, r.site_id, r.fleet_id, given.next_hash, CASE
        WHEN s.session_no <> given.session_no OR r.token_hash IS DISTINCT FROM given.token_hash
          OR r.token_revoked_at IS NOT NULL OR r.lifecycle = 'retired' THEN 'fenced'
        WHEN r.next_token_hash = given.next_hash THEN 'kept'
        WHEN r.previous_token_hash = given.next_hash OR EXISTS (
          SELECT FROM robots other
          WHERE other.token_hash = given.next_hash OR other.next_token_hash = given.next_hash) THEN 'taken'
        WHEN r.next_token_at > ${now}::timestamptz - ${pace.betweenNextMs}::int * interval '1 millisecond'
          OR (r.rotation_requested_at IS NULL
            AND r.token_issued_at > ${now}::timestamptz - ${pace.unaskedMs}::int * interval '1 millisecond')
          THEN 'too_soon'
        ELSE 'stored' END AS outcome
      FROM given
      JOIN robots r ON r.id = given.robot_id
      JOIN robot_status s ON s.robot_id = r.id
      ORDER BY r.id
      FOR NO KEY UPDATE OF r, s
    ), stored AS (
      UPDATE robots r SET next_token_hash = judged.next_hash, next_token_at = ${now}::timestamptz
      FROM judged WHERE r.id = judged.robot_id AND judged.outcome = 'stored'
    )
    SELECT robot_id AS "robotId", outcome, name, site_id AS "siteId", fleet_id AS "fleetId" FROM judged
  `.execute(database)
  return rows
}

/** A robot that was asked for a new token. */
export interface AskedRobot {
  readonly id: string
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
}

const ASKED = sql`r.id, r.name, r.site_id AS "siteId", r.fleet_id AS "fleetId"`
const TOKEN_STANDS = sql`r.token_hash IS NOT NULL AND r.token_revoked_at IS NULL AND r.lifecycle <> 'retired'`

/** Asks these robots for new tokens, those of them whose token stands; a request that stands already is renewed. */
export async function requestRotations(
  database: Database,
  robotIds: readonly string[],
  reason: RotationReason,
  now: Date,
): Promise<AskedRobot[]> {
  const { rows } = await sql<AskedRobot>`
    UPDATE robots r SET rotation_requested_at = ${now}::timestamptz, rotation_reason = ${reason}
    WHERE r.id = ANY (${[...robotIds]}::uuid[]) AND ${TOKEN_STANDS}
    RETURNING ${ASKED}
  `.execute(database)
  return rows
}

/** Asks those of the robots who are not asked already, when the deployment wants that of robots under suspicion. */
export async function requestSuspectedRotations(
  database: Database,
  robotIds: readonly string[],
  now: Date,
): Promise<AskedRobot[]> {
  const { rows } = await sql<AskedRobot>`
    UPDATE robots r SET rotation_requested_at = ${now}::timestamptz, rotation_reason = 'suspicion'
    WHERE r.id = ANY (${[...robotIds]}::uuid[]) AND ${TOKEN_STANDS} AND r.rotation_requested_at IS NULL
      AND EXISTS (SELECT FROM security_settings WHERE rotate_on_suspicion)
    RETURNING ${ASKED}
  `.execute(database)
  return rows
}

/**
 * Asks the robots with the oldest tokens, at most `limit`, where they are older than the deployment allows. Of all servers
 * together one such pass is made in `paceMs`; the others change nothing. By the database's clock.
 */
export async function requestAgedRotations(
  database: Database,
  limit: number,
  paceMs: number,
): Promise<AskedRobot[]> {
  const { rows } = await sql<AskedRobot>`
    WITH pass AS (
      UPDATE security_settings SET rotation_pass_at = clock_timestamp()
      WHERE robot_token_max_age_days IS NOT NULL
        -- One that lies ahead was made before the clock was set back.
        AND (rotation_pass_at BETWEEN clock_timestamp() - ${paceMs}::int * interval '1 millisecond'
          AND clock_timestamp()) IS NOT TRUE
      RETURNING robot_token_max_age_days AS days
    ), due AS (
      SELECT r.id FROM robots r
      WHERE ${TOKEN_STANDS} AND r.rotation_requested_at IS NULL
        AND r.token_issued_at < now() - (SELECT days FROM pass) * interval '1 day'
      ORDER BY r.token_issued_at
      LIMIT ${limit}
      FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE robots r SET rotation_requested_at = now(), rotation_reason = 'age'
    FROM due WHERE r.id = due.id
    RETURNING ${ASKED}
  `.execute(database)
  return rows
}

/** Which robots to ask; what is left out does not matter. */
export interface RotationFilter {
  readonly robotIds?: readonly string[] | undefined
  readonly siteId?: string | undefined
  readonly fleetId?: string | undefined
  readonly lifecycles?: readonly Lifecycle[] | undefined
  readonly connections?: readonly Connection[] | undefined
  readonly labels?: WantedLabels | undefined
  readonly issuedBefore?: Date | undefined
  /** Only robots that are not asked already. */
  readonly notAsked?: boolean | undefined
}

function passes(filter: RotationFilter, reach: Reach): RawBuilder<boolean> {
  const { robotIds, siteId, fleetId, lifecycles, connections, labels = [], issuedBefore } = filter
  const rules = [sql`${TOKEN_STANDS}`, inReach(reach, 'r.fleet_id'), hasLabels(labels, 'r')]
  if (robotIds) rules.push(sql`r.id = ANY (${[...robotIds]}::uuid[])`)
  if (siteId !== undefined) rules.push(sql`r.site_id = ${siteId}::uuid`)
  if (fleetId !== undefined) rules.push(sql`r.fleet_id = ${fleetId}::uuid`)
  if (lifecycles) rules.push(sql`r.lifecycle = ANY (${[...lifecycles]}::text[])`)
  if (connections)
    rules.push(sql`EXISTS (SELECT FROM robot_status s
      WHERE s.robot_id = r.id AND s.connection = ANY (${[...connections]}::text[]))`)
  if (issuedBefore) rules.push(sql`r.token_issued_at < ${issuedBefore}::timestamptz`)
  if (filter.notAsked) rules.push(sql`r.rotation_requested_at IS NULL`)
  return sql`${sql.join(rules, sql` AND `)}`
}

/**
 * Robots within reach whose token stands and that pass the filter: the `limit` with the oldest tokens, and how many there
 * are. With `lock` they are held until the transaction ends.
 */
export async function findRobotsToRotate(
  database: Database,
  filter: RotationFilter,
  reach: Reach,
  { limit, lock }: { limit: number; lock: boolean },
): Promise<{ robots: AskedRobot[]; total: number }> {
  const chosen = passes(filter, reach)
  const { rows: counted } = await sql<{ total: number }>`
    SELECT count(*)::int AS total FROM robots r WHERE ${chosen}
  `.execute(database)
  const { rows: robots } = await sql<AskedRobot>`
    SELECT ${ASKED} FROM robots r
    WHERE r.id IN (SELECT r.id FROM robots r WHERE ${chosen} ORDER BY r.token_issued_at, r.id LIMIT ${limit})
    ORDER BY r.id
    ${lock ? sql`FOR NO KEY UPDATE OF r` : sql``}
  `.execute(database)
  return { robots, total: counted[0]!.total }
}
