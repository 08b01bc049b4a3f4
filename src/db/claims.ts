import { sql } from 'kysely'
import type { Fingerprint } from '../protocol/enrolment.ts'
import type { Lifecycle } from '../protocol/frames.ts'
import type { Database } from './database.ts'
import type { CredentialKind, EventLevel, Labels, OnExisting } from './tables.ts'

/** Digests travel as hex, for they are compared and looked up by value. */
type Hex = string

/** What of a claim credential never changes; but a setup token moves with its robot. */
export interface CredentialFacts {
  readonly id: string
  readonly kind: CredentialKind
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
}

/** Finds claim credentials by the digest of their secret. Unknown ones are left out of the answer. */
export async function findCredentials(
  database: Database,
  secretHashes: readonly Hex[],
): Promise<(CredentialFacts & { secretHash: Hex })[]> {
  const { rows } = await sql<CredentialFacts & { secretHash: Hex }>`
    SELECT c.id, c.kind, c.name, c.site_id AS "siteId", c.fleet_id AS "fleetId", asked.hash AS "secretHash"
    FROM unnest(${[...secretHashes]}::text[]) AS asked (hash)
    JOIN claim_credentials c ON c.secret_hash = decode(asked.hash, 'hex')
  `.execute(database)
  return rows
}

/** A claim credential as its claims are decided by. */
export interface ClaimKey {
  readonly id: string
  readonly kind: CredentialKind
  readonly name: string
  readonly siteId: string
  readonly fleetId: string
  /** The fleet's own interval; null: the deployment's. */
  readonly heartbeatIntervalMs: number | null
  /** Null: as many as come. */
  readonly maxUses: number | null
  readonly uses: number
  /** Revokes itself with the first success. */
  readonly singleUse: boolean
  /** The one robot of a setup token. */
  readonly robotId: string | null
  readonly labels: Labels
  readonly allowedCidrs: readonly string[]
  readonly requireApproval: boolean
  readonly onExisting: OnExisting
  readonly createdAt: Date
  readonly expiresAt: Date | null
  readonly revokedAt: Date | null
}

/**
 * Locks a credential and its fleet until the transaction ends, so that claims of one key, and of several keys of one
 * fleet, are decided one after the other. Statements after this one see what those before us left. `now` is the
 * database's time, for a key has to expire at the same moment on every server.
 */
export async function lockCredential(
  transaction: Database,
  id: string,
): Promise<{ key: ClaimKey; now: Date } | undefined> {
  // A setup token that moved with its robot while it was waited for no longer goes with the fleet that it was joined
  // with, and falls out of the answer. It is ours by then, so a second look finds it where it is.
  const row = (await lockWithFleet(transaction, id)) ?? (await lockWithFleet(transaction, id))
  if (!row) return undefined
  const { now, ...key } = row
  return { key, now }
}

async function lockWithFleet(
  transaction: Database,
  id: string,
): Promise<(ClaimKey & { now: Date }) | undefined> {
  const { rows } = await sql<ClaimKey & { now: Date }>`
    SELECT c.id, c.kind, c.name, c.site_id AS "siteId", c.fleet_id AS "fleetId", f.heartbeat_interval_ms AS "heartbeatIntervalMs",
      c.max_uses AS "maxUses", c.uses, c.single_use AS "singleUse", c.robot_id AS "robotId", c.labels, c.allowed_cidrs::text[] AS "allowedCidrs",
      c.require_approval AS "requireApproval", c.on_existing AS "onExisting", c.created_at AS "createdAt",
      c.expires_at AS "expiresAt", c.revoked_at AS "revokedAt",
      clock_timestamp() AS now
    FROM claim_credentials c JOIN fleets f ON f.id = c.fleet_id
    WHERE c.id = ${id}
    FOR NO KEY UPDATE OF c, f
  `.execute(transaction)
  return rows[0]
}

/**
 * Makes the transaction look rows up by their indexes. Of a table that grows by thousands of rows a second PostgreSQL
 * has no statistics yet, guesses that look-ups find much of it, and reads all of it each time.
 */
export async function preferIndexes(transaction: Database): Promise<void> {
  await sql`
    SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true),
      set_config('enable_mergejoin', 'off', true)
  `.execute(transaction)
}

/** How many robots that the credential admitted wait for approval, counted up to `limit`. */
export async function countPending(
  transaction: Database,
  credentialId: string,
  limit: number,
): Promise<number> {
  const { rows } = await sql<{ pending: number }>`
    SELECT count(*)::int AS pending
    FROM (SELECT FROM robots WHERE credential_id = ${credentialId} AND pending_since IS NOT NULL LIMIT ${limit}) AS waiting
  `.execute(transaction)
  return rows[0]?.pending ?? 0
}

/** A robot that is there already, as far as claims are decided by it. */
export interface KnownRobot {
  readonly id: string
  readonly siteId: string
  readonly fleetId: string
  /** The interval of the robot's own fleet; null: the deployment's. */
  readonly heartbeatIntervalMs: number | null
  readonly name: string
  readonly lifecycle: Lifecycle
  /** What it was before it had to wait for approval; null: it does not wait, or is new. */
  readonly lifecycleBefore: LifecycleBefore
  readonly credentialId: string | null
  /** The credential that its token came with. */
  readonly tokenCredentialId: string | null
  /** As stored: see storedClaimId. */
  readonly claimId: string | null
  readonly tokenHash: Hex | null
  /** The token that it is changing to. */
  readonly nextTokenHash: Hex | null
  readonly tokenRevokedAt: Date | null
  readonly machineHash: Hex | null
  /** A session of it is open somewhere, or was a moment ago. */
  readonly connected: boolean
}

export type LifecycleBefore = 'active' | 'maintenance' | null

/** What claims of one key ask about. */
export interface ClaimQuestions {
  readonly key: ClaimKey
  readonly claimIds: readonly string[]
  readonly tokenHashes: readonly Hex[]
  readonly machineHashes: readonly Hex[]
  /** Names within the key's fleet. */
  readonly names: readonly string[]
}

/**
 * How a claim id is kept with a robot. Claim ids belong to the credential they came with. A robot that was bound anew
 * through another credential than the one that admitted it keeps that credential's id in front (no claim id has a
 * slash), so that (credential_id, claim_id) stays unique and the claim is still known when it is made again.
 */
export function storedClaimId(admittedBy: string | null, credentialId: string, claimId: string): string {
  return admittedBy === credentialId ? claimId : `${credentialId}/${claimId}`
}

/** Finds every robot that bears on the claims: by claim id, token, machine or name, and a setup token's own. */
export async function findKnownRobots(transaction: Database, asked: ClaimQuestions): Promise<KnownRobot[]> {
  const { key } = asked
  const foreignClaimIds = asked.claimIds.map((claimId) => storedClaimId(null, key.id, claimId))
  const { rows } = await sql<KnownRobot>`
    WITH machine AS (
      SELECT r.id, r.credential_id
      FROM unnest(${[...asked.machineHashes]}::text[]) AS asked (hash)
      JOIN robots r ON r.machine_hash = decode(asked.hash, 'hex')
    ), found AS (
      SELECT id FROM machine
      UNION
      SELECT id FROM robots WHERE credential_id = ${key.id} AND claim_id = ANY (${[...asked.claimIds]}::text[])
      UNION
      SELECT r.id
      FROM (SELECT DISTINCT credential_id FROM machine WHERE credential_id <> ${key.id}) AS other
      JOIN robots r ON r.credential_id = other.credential_id AND r.claim_id = ANY (${foreignClaimIds}::text[])
      UNION
      SELECT r.id
      FROM unnest(${[...asked.tokenHashes]}::text[]) AS asked (hash)
      JOIN robots r ON r.token_hash = decode(asked.hash, 'hex')
      UNION
      SELECT r.id
      FROM unnest(${[...asked.tokenHashes]}::text[]) AS asked (hash)
      JOIN robots r ON r.next_token_hash = decode(asked.hash, 'hex')
      UNION
      SELECT id FROM robots WHERE id = ${key.robotId}::uuid
      UNION
      SELECT id FROM robots WHERE fleet_id = ${key.fleetId} AND name = ANY (${[...asked.names]}::text[])
    )
    SELECT r.id, r.site_id AS "siteId", r.fleet_id AS "fleetId", f.heartbeat_interval_ms AS "heartbeatIntervalMs",
      r.name, r.lifecycle, r.lifecycle_before AS "lifecycleBefore", r.credential_id AS "credentialId",
      r.token_credential_id AS "tokenCredentialId", r.claim_id AS "claimId",
      encode(r.token_hash, 'hex') AS "tokenHash", encode(r.next_token_hash, 'hex') AS "nextTokenHash",
      r.token_revoked_at AS "tokenRevokedAt",
      encode(r.machine_hash, 'hex') AS "machineHash",
      -- A stale robot of a server that is gone has no session any more: it is only being waited for.
      coalesce(s.connection = 'online' OR (s.connection = 'stale' AND EXISTS (
        SELECT FROM servers WHERE servers.id = s.server_id)), false) AS connected
    FROM found
    JOIN robots r USING (id)
    JOIN fleets f ON f.id = r.fleet_id
    LEFT JOIN robot_status s ON s.robot_id = r.id
  `.execute(transaction)
  return rows
}

/** Which of these names robots of the fleet have. */
export async function findTakenNames(
  transaction: Database,
  fleetId: string,
  names: readonly string[],
): Promise<string[]> {
  const rows = await transaction
    .selectFrom('robots')
    .select('name')
    .where('fleet_id', '=', fleetId)
    .where(sql<boolean>`name = ANY (${[...names]}::text[])`)
    .execute()
  return rows.map((row) => row.name)
}

/** Holds robots and their presence as they are until the transaction ends: no session opens, nobody revokes. */
export async function lockRobots(transaction: Database, robotIds: readonly string[]): Promise<void> {
  await sql`
    SELECT FROM robots WHERE id = ANY (${[...robotIds]}::uuid[]) ORDER BY id FOR NO KEY UPDATE
  `.execute(transaction)
  await sql`
    SELECT FROM robot_status WHERE robot_id = ANY (${[...robotIds]}::uuid[]) ORDER BY robot_id FOR NO KEY UPDATE
  `.execute(transaction)
}

/** What a robot's record says after a claim. */
export interface ClaimedRobot {
  readonly id: string
  readonly name: string
  readonly lifecycle: Lifecycle
  readonly lifecycleBefore: LifecycleBefore
  /** As stored: see storedClaimId. */
  readonly claimId: string | null
  readonly tokenHash: Hex
  readonly machineHash: Hex | null
  readonly fingerprint: Fingerprint
}

export interface ClaimEvent {
  readonly id: string
  readonly robotId: string
  readonly level: EventLevel
  readonly code: string
  readonly message: string
  readonly data: Readonly<Record<string, unknown>>
}

/** Everything that a group of claims changes, at most one entry for each robot. */
export interface ClaimWrites {
  readonly admitted: readonly ClaimedRobot[]
  /** Robots there already that have a new token now. */
  readonly rebound: readonly ClaimedRobot[]
  readonly events: readonly ClaimEvent[]
  /** By how much the credential's uses grow. */
  readonly uses: number
  /** The credential ends with these claims. */
  readonly revoke: boolean
}

/** Writes what a group of claims changes, and the key's uses, in one statement. */
export async function writeClaims(
  transaction: Database,
  key: ClaimKey,
  writes: ClaimWrites,
  now: Date,
): Promise<void> {
  const { admitted, rebound, events, uses, revoke } = writes
  await sql`
    WITH admitted AS (
      INSERT INTO robots (id, site_id, fleet_id, name, labels, lifecycle, pending_since, lifecycle_before,
        credential_id, token_credential_id, claim_id, token_hash, token_issued_at, machine_hash, fingerprint, created_at, updated_at,
        enrolled_at)
      SELECT given.id, ${key.siteId}::uuid, ${key.fleetId}::uuid, given.name, ${JSON.stringify(key.labels)}::jsonb,
        given.lifecycle, CASE WHEN given.lifecycle = 'pending' THEN ${now}::timestamptz END, given.lifecycle_before,
        ${key.id}::uuid, ${key.id}::uuid, given.claim_id, decode(given.token_hash, 'hex'), ${now}::timestamptz,
        decode(given.machine_hash, 'hex'), given.fingerprint, ${now}::timestamptz, ${now}::timestamptz,
        ${now}::timestamptz
      FROM ${robotRows(admitted)}
    ), unseen AS (
      INSERT INTO robot_status (robot_id, connection_since)
      SELECT id, ${now}::timestamptz FROM unnest(${admitted.map((robot) => robot.id)}::uuid[]) AS given (id)
    ), rebound AS (
      UPDATE robots r SET
        lifecycle = given.lifecycle,
        -- Whoever waits already waits no longer for asking again.
        pending_since = CASE WHEN given.lifecycle = 'pending' THEN coalesce(r.pending_since, ${now}::timestamptz) END,
        lifecycle_before = given.lifecycle_before,
        token_credential_id = ${key.id}::uuid,
        claim_id = given.claim_id,
        token_hash = decode(given.token_hash, 'hex'),
        token_issued_at = ${now}::timestamptz,
        token_revoked_at = NULL,
        next_token_hash = NULL,
        next_token_at = NULL,
        rotation_requested_at = NULL,
        rotation_reason = NULL,
        machine_hash = decode(given.machine_hash, 'hex'),
        fingerprint = given.fingerprint,
        updated_at = ${now}::timestamptz,
        enrolled_at = coalesce(r.enrolled_at, ${now}::timestamptz)
      FROM ${robotRows(rebound)}
      WHERE r.id = given.id
    ), told AS (
      INSERT INTO robot_events (id, robot_id, source, at, level, code, message, data)
      SELECT given.id, given.robot_id, 'server', ${now}::timestamptz, given.level, given.code, given.message, given.data
      FROM unnest(${events.map((event) => event.id)}::uuid[],
                  ${events.map((event) => event.robotId)}::uuid[],
                  ${events.map((event) => event.level)}::text[],
                  ${events.map((event) => event.code)}::text[],
                  ${events.map((event) => event.message)}::text[],
                  ${events.map((event) => JSON.stringify(event.data))}::jsonb[])
        AS given (id, robot_id, level, code, message, data)
    )
    UPDATE claim_credentials SET uses = uses + ${uses}::int, last_used_at = ${now}::timestamptz,
      revoked_at = CASE WHEN ${revoke}::boolean THEN coalesce(revoked_at, ${now}::timestamptz) ELSE revoked_at END
    WHERE id = ${key.id} AND ${admitted.length + rebound.length > 0}::boolean
  `.execute(transaction)
}

function robotRows(robots: readonly ClaimedRobot[]) {
  return sql`unnest(${robots.map((robot) => robot.id)}::uuid[],
                    ${robots.map((robot) => robot.name)}::text[],
                    ${robots.map((robot) => robot.lifecycle)}::text[],
                    ${robots.map((robot) => robot.lifecycleBefore)}::text[],
                    ${robots.map((robot) => robot.claimId)}::text[],
                    ${robots.map((robot) => robot.tokenHash)}::text[],
                    ${robots.map((robot) => robot.machineHash)}::text[],
                    ${robots.map((robot) => JSON.stringify(robot.fingerprint))}::jsonb[])
    AS given (id, name, lifecycle, lifecycle_before, claim_id, token_hash, machine_hash, fingerprint)`
}
