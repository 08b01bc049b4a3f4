import { type RawBuilder, sql } from 'kysely'
import type { Fingerprint } from '../protocol/enrolment.ts'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import { hangsOn, hasLabels, isCalled, type WantedLabels } from './robot-filters.ts'
import { type NamedRobot, REVOKED_NOW } from './robots.ts'
import type { Connection, CredentialKind, Labels } from './tables.ts'

/** Which of the robots that wait for approval. All that is given has to hold. */
export interface PendingFilter {
  /** Where they may be at all. */
  readonly reach: Reach
  readonly ids?: readonly string[] | undefined
  readonly site?: string | undefined
  readonly fleet?: string | undefined
  /** The credential that admitted the robot, or that its token came with. */
  readonly credential?: string | undefined
  readonly labels?: WantedLabels | undefined
  /** Part of the name, or the beginning of the id. */
  readonly text?: string | undefined
  /** Has waited since before this time. */
  readonly olderThan?: Date | undefined
  /** Has waited for longer than this, on the database's clock. */
  readonly waitedForMs?: number | undefined
}

function matches(filter: PendingFilter): RawBuilder<boolean> {
  const { ids, site, fleet, credential, labels = [], text, olderThan, waitedForMs } = filter
  const rules: RawBuilder<unknown>[] = [
    sql`robots.pending_since IS NOT NULL AND robots.lifecycle = 'pending'`,
    inReach(filter.reach, 'robots.fleet_id'),
    hasLabels(labels),
  ]
  if (ids) rules.push(sql`robots.id = ANY (${[...ids]}::uuid[])`)
  if (site) rules.push(sql`robots.site_id = ${site}`)
  if (fleet) rules.push(sql`robots.fleet_id = ${fleet}`)
  if (credential) rules.push(hangsOn(credential))
  if (text !== undefined) rules.push(isCalled(text))
  if (olderThan) rules.push(sql`robots.pending_since < ${olderThan}::timestamptz`)
  if (waitedForMs !== undefined)
    rules.push(sql`robots.pending_since < now() - ${waitedForMs}::float8 * interval '1 millisecond'`)
  return sql`${sql.join(rules, sql` AND `)}`
}

/** A robot that waits, as somebody who decides about it has to know it. */
export interface WaitingRobot extends NamedRobot {
  readonly labels: Labels
  readonly fingerprint: Fingerprint
  /** What it becomes again if it is denied; null: it is new, and its record goes. */
  readonly lifecycle_before: 'active' | 'maintenance' | null
  readonly connection: Connection
  /** Where its last claim came from. */
  readonly address: string | null
  readonly credential_id: string | null
  readonly credential_kind: CredentialKind | null
  readonly credential_name: string | null
  readonly credential_site_id: string | null
  readonly credential_fleet_id: string | null
  readonly pending_since: Date
  /** Microseconds since 1970, as exact as the database has them. */
  readonly place_value: number
}

/** Robots that wait, those first that have waited longest; those behind `after` when given. */
export async function listWaiting(
  db: Database,
  filter: PendingFilter,
  page: { limit: number; after: { value: number; id: string } | undefined },
): Promise<WaitingRobot[]> {
  const { limit, after } = page
  const { rows } = await sql<WaitingRobot>`
    SELECT robots.id, robots.name, robots.site_id, robots.fleet_id, robots.labels, robots.fingerprint,
      robots.lifecycle_before, coalesce(status.connection, 'unseen') AS connection,
      (SELECT e.data ->> 'address' FROM robot_events e
        WHERE e.robot_id = robots.id AND e.code = 'approval_requested' ORDER BY e.id DESC LIMIT 1) AS address,
      credential.id AS credential_id, credential.kind AS credential_kind, credential.name AS credential_name,
      credential.site_id AS credential_site_id, credential.fleet_id AS credential_fleet_id,
      robots.pending_since, (extract(epoch FROM robots.pending_since) * 1000000)::bigint AS place_value
    FROM robots
    LEFT JOIN robot_status status ON status.robot_id = robots.id
    LEFT JOIN claim_credentials credential ON credential.id = robots.token_credential_id
    WHERE ${matches(filter)} AND ${
      after === undefined
        ? sql`true`
        : sql`(robots.pending_since, robots.id) >
            (timestamptz 'epoch' + ${after.value}::float8 * interval '1 microsecond', ${after.id}::uuid)`
    }
    ORDER BY robots.pending_since, robots.id
    LIMIT ${limit}
  `.execute(db)
  return rows
}

/** A robot that is being decided about. */
export interface PendingRobot extends NamedRobot {
  /** The credential that admitted it. */
  readonly credential_id: string | null
  readonly lifecycle_before: 'active' | 'maintenance' | null
}

const PENDING = sql`robots.id, robots.name, robots.site_id, robots.fleet_id, robots.credential_id,
  robots.lifecycle_before`

/** The first robots that the filter finds, by how long they have waited. */
export async function findPending(
  db: Database,
  filter: PendingFilter,
  limit: number,
): Promise<PendingRobot[]> {
  const { rows } = await sql<PendingRobot>`
    SELECT ${PENDING} FROM robots WHERE ${matches(filter)} ORDER BY robots.pending_since, robots.id LIMIT ${limit}
  `.execute(db)
  return rows
}

/**
 * Keeps claims out, until the transaction ends, with the credentials that admitted these robots and with the robots' own
 * setup tokens, which go with them. Comes before `lockPending`, as in claims.
 */
export async function lockCredentialsOf(db: Database, robots: readonly PendingRobot[]): Promise<void> {
  const admittedBy = robots.flatMap((robot) => robot.credential_id ?? [])
  const robotIds = robots.map(({ id }) => id)
  await sql`
    SELECT FROM claim_credentials
    WHERE id = ANY (${admittedBy}::uuid[]) OR robot_id = ANY (${robotIds}::uuid[])
    ORDER BY id
    FOR NO KEY UPDATE
  `.execute(db)
}

/** Locks the robots that the filter still finds, and tells how they are. */
export async function lockPending(db: Database, filter: PendingFilter): Promise<PendingRobot[]> {
  const { rows } = await sql<PendingRobot>`
    SELECT ${PENDING} FROM robots WHERE ${matches(filter)} ORDER BY robots.id FOR UPDATE
  `.execute(db)
  return rows
}

/** Lets robots take part that waited: as what they were before, or as active ones. */
export async function approveRobots(db: Database, ids: readonly string[]): Promise<void> {
  await sql`
    UPDATE robots SET lifecycle = coalesce(lifecycle_before, 'active'), lifecycle_before = NULL, pending_since = NULL,
      updated_at = now()
    WHERE id = ANY (${[...ids]}::uuid[])
  `.execute(db)
}

/** Makes robots that were there before what they were, without the token that was not approved. */
export async function restoreRobots(db: Database, ids: readonly string[]): Promise<void> {
  await sql`
    UPDATE robots SET lifecycle = lifecycle_before, lifecycle_before = NULL, pending_since = NULL,
      token_revoked_at = CASE WHEN token_hash IS NOT NULL THEN coalesce(token_revoked_at, ${REVOKED_NOW}) END, updated_at = now()
    WHERE id = ANY (${[...ids]}::uuid[])
  `.execute(db)
}

/** Removes the records of robots that were new, and gives their uses back to the credentials that admitted them. */
export async function removeNewRobots(db: Database, ids: readonly string[]): Promise<void> {
  await sql`
    WITH removed AS (
      DELETE FROM robots WHERE id = ANY (${[...ids]}::uuid[]) RETURNING credential_id
    )
    UPDATE claim_credentials c SET uses = c.uses - given_back.count
    FROM (SELECT credential_id, count(*)::int AS count FROM removed GROUP BY credential_id) AS given_back
    WHERE c.id = given_back.credential_id
  `.execute(db)
}

/** Which of these robots are within reach, whatever they are. */
export async function findWithinReach(db: Database, ids: readonly string[], reach: Reach): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    SELECT id FROM robots WHERE id = ANY (${[...ids]}::uuid[]) AND ${inReach(reach, 'robots.fleet_id')}
  `.execute(db)
  return rows.map(({ id }) => id)
}
