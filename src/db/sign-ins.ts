import { sql } from 'kysely'
import { canonicalAddress } from '../addresses.ts'
import { rolesOf } from './access-tokens.ts'
import type { Database } from './database.ts'
import type { Role, SignInStage } from './tables.ts'

/** How long a session of a browser lasts, on the database's clock, which all servers share. */
const LIFE = {
  /** Without any request. */
  idle: sql`interval '12 hours'`,
  /** However busy it is. */
  signed_in: sql`interval '7 days'`,
  /** From one step of the sign-in to its next. */
  step: sql`interval '10 minutes'`,
}
/** How exactly the last request is remembered: one write in a minute, not one for each request. */
const SEEN_EVERY = sql`interval '1 minute'`

/** A session that stands, with all that decides what its person may do at this moment. */
export interface FoundSignIn {
  readonly id: string
  readonly stage: SignInStage
  readonly method: 'password' | 'oidc' | null
  readonly secondFactor: boolean
  readonly flowSealed: Buffer | null
  readonly expiresAt: Date
  readonly userId: string | null
  readonly userName: string | null
  readonly hasSecondFactor: boolean
  readonly secondFactorRequired: boolean
  readonly roles: readonly { role: Role; siteId: string | null; fleetId: string | null }[]
}

/** True for sessions that stand. */
export const stands = sql`ended_at IS NULL AND expires_at > clock_timestamp() AND last_seen_at > clock_timestamp() - ${LIFE.idle}`

const selectFound = sql`
  SELECT s.id, s.stage, s.method, s.second_factor AS "secondFactor", s.flow_sealed AS "flowSealed",
    s.expires_at AS "expiresAt", u.id AS "userId", u.name AS "userName",
    coalesce(u.two_factor_enabled, false) AS "hasSecondFactor",
    settings.require_second_factor AS "secondFactorRequired",
    coalesce(${rolesOf(sql.ref('u.id'))}, '[]') AS roles
  FROM sign_ins s
  LEFT JOIN users u ON u.id = s.user_id
  CROSS JOIN security_settings settings`

/** Finds a session by the SHA-256 of its secret, if it stands and its person was not removed. */
export async function findSignIn(db: Database, secretHash: Buffer): Promise<FoundSignIn | undefined> {
  const { rows } = await sql<FoundSignIn>`
    WITH seen AS (
      UPDATE sign_ins SET last_seen_at = clock_timestamp()
      WHERE secret_hash = ${secretHash} AND ${stands} AND last_seen_at < clock_timestamp() - ${SEEN_EVERY}
    )
    ${selectFound} WHERE s.secret_hash = ${secretHash} AND ${stands} AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]
}

/** Finds sessions again by their ids, those that still stand; that is no sign of life. */
export async function findSignIns(db: Database, ids: readonly string[]): Promise<FoundSignIn[]> {
  if (ids.length === 0) return []
  const { rows } = await sql<FoundSignIn>`
    ${selectFound} WHERE s.id = ANY (${ids}::uuid[]) AND ${stands} AND u.removed_at IS NULL
  `.execute(db)
  return rows
}

export interface NewSignIn {
  readonly id: string
  readonly secretHash: Buffer
  readonly stage: SignInStage
  readonly userId: string | null
  readonly method: 'password' | 'oidc' | null
  readonly secondFactor: boolean
  readonly flowSealed: Buffer | null
  readonly address: string
  readonly userAgent: string | null
}

/** Writes a new session down. One that is there already stays as it is, ended or not. */
export async function insertSignIn(db: Database, signIn: NewSignIn): Promise<void> {
  await sql`
    INSERT INTO sign_ins (id, secret_hash, stage, user_id, method, second_factor, flow_sealed, address, user_agent,
      created_at, last_seen_at, expires_at)
    VALUES (${signIn.id}, ${signIn.secretHash}, ${signIn.stage}, ${signIn.userId}, ${signIn.method},
      ${signIn.secondFactor}, ${signIn.flowSealed}, ${canonicalAddress(signIn.address) ?? null}, ${signIn.userAgent},
      statement_timestamp(), statement_timestamp(),
      statement_timestamp() + ${signIn.stage === 'signed_in' ? LIFE.signed_in : LIFE.step})
    ON CONFLICT (secret_hash) DO NOTHING
  `.execute(db)
}

/** Ends one session; answers whether it stood until now, so that of many who ask at once one is told so. */
export async function endSignIn(
  db: Database,
  by:
    | { readonly id: string; readonly userId: string }
    /** On the way to the identity provider. */
    | { readonly openId: string }
    /** Of whatever step, and whoever's. */
    | { readonly anyId: string },
): Promise<boolean> {
  const which =
    'anyId' in by
      ? sql`id = ${by.anyId}`
      : 'openId' in by
        ? sql`id = ${by.openId} AND stage = 'oidc'`
        : sql`id = ${by.id} AND user_id = ${by.userId} AND stage = 'signed_in'`
  const { numAffectedRows } = await sql`
    UPDATE sign_ins SET ended_at = clock_timestamp(), flow_sealed = NULL WHERE ${which} AND ${stands}
  `.execute(db)
  return numAffectedRows === 1n
}

/**
 * Ends the sessions of a person, or of everybody; `except` is the id of one that stays. Answers with how many there
 * were. To be told to the other servers with `access_changed`.
 */
export async function endSignIns(
  db: Database,
  whose: { readonly userId: string; readonly except?: string } | 'everybody',
): Promise<number> {
  const { numAffectedRows } = await sql`
    UPDATE sign_ins SET ended_at = clock_timestamp(), flow_sealed = NULL
    WHERE ended_at IS NULL AND expires_at > clock_timestamp()
      ${whose === 'everybody' ? sql`` : sql`AND user_id = ${whose.userId} AND id IS DISTINCT FROM ${whose.except ?? null}::uuid`}
  `.execute(db)
  return Number(numAffectedRows ?? 0)
}

/** Counts a wrong second factor of a sign-in that waits for one; the last one that is allowed ends it. */
export async function countFailure(db: Database, id: string, allowed: number): Promise<void> {
  await sql`
    UPDATE sign_ins SET failures = failures + 1,
      ended_at = CASE WHEN failures + 1 >= ${allowed} THEN clock_timestamp() END
    WHERE id = ${id} AND stage = 'second_factor' AND ended_at IS NULL
  `.execute(db)
}

export interface ListedSignIn {
  readonly id: string
  readonly method: 'password' | 'oidc'
  readonly secondFactor: boolean
  readonly address: string | null
  readonly userAgent: string | null
  readonly createdAt: Date
  readonly lastSeenAt: Date
  readonly expiresAt: Date
}

/** The sessions of a person that stand, the latest first; there are few. */
export async function listSignIns(db: Database, userId: string, limit: number): Promise<ListedSignIn[]> {
  const { rows } = await sql<ListedSignIn>`
    SELECT id, method, second_factor AS "secondFactor", host(address) AS address, user_agent AS "userAgent",
      created_at AS "createdAt", last_seen_at AS "lastSeenAt", expires_at AS "expiresAt"
    FROM sign_ins WHERE user_id = ${userId} AND stage = 'signed_in' AND ${stands}
    ORDER BY created_at DESC, id LIMIT ${limit}
  `.execute(db)
  return rows
}

/**
 * Deletes sessions that expired before the given time, and steps of sign-ins that nobody finished, at most `limit`;
 * answers how many.
 */
export async function pruneSignIns(db: Database, before: Date, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    DELETE FROM sign_ins WHERE id IN (
      SELECT id FROM sign_ins
      WHERE expires_at < ${before} OR (stage <> 'signed_in' AND expires_at < clock_timestamp())
      ORDER BY expires_at LIMIT ${limit} FOR UPDATE SKIP LOCKED
    )
  `.execute(db)
  return Number(numAffectedRows ?? 0)
}

/** Remembers that this session has shown a second factor. */
export async function markSecondFactor(db: Database, id: string): Promise<void> {
  await sql`UPDATE sign_ins SET second_factor = true WHERE id = ${id}`.execute(db)
}
