import { type InsertObject, type RawBuilder, sql } from 'kysely'
import type { Database } from './database.ts'
import type { Role, Tables } from './tables.ts'

/** A role of somebody; of a fleet's role the site is there, too. */
export interface FoundRole {
  readonly role: Role
  readonly siteId: string | null
  readonly fleetId: string | null
}

/** A token that calls the REST interface, with all that decides what it may do at this moment. */
export interface FoundToken {
  readonly id: string
  readonly kind: 'personal' | 'fleet'
  readonly name: string
  readonly scopes: readonly string[] | null
  readonly allowedCidrs: readonly string[]
  readonly expiresAt: Date | null
  readonly revoked: boolean
  readonly expired: boolean
  readonly userId: string | null
  readonly userName: string | null
  readonly userRemoved: boolean
  readonly hasSecondFactor: boolean
  readonly secondFactorRequired: boolean
  /** A fleet token's own fleet. */
  readonly siteId: string | null
  readonly fleetId: string | null
  /** The owner's. */
  readonly roles: readonly FoundRole[]
}

/** A token's standing on the database's clock, which all servers share. */
function selectFound(which: RawBuilder<unknown>) {
  return sql<FoundToken>`/* prepared: find_access_token */
    SELECT t.id, t.kind, t.name, t.scopes, t.allowed_cidrs::text[] AS "allowedCidrs", t.expires_at AS "expiresAt",
      t.revoked_at IS NOT NULL AS revoked, coalesce(t.expires_at <= clock_timestamp(), false) AS expired,
      u.id AS "userId", u.name AS "userName", u.removed_at IS NOT NULL AS "userRemoved",
      coalesce(u.two_factor_enabled, false) AS "hasSecondFactor",
      settings.require_second_factor AS "secondFactorRequired",
      f.site_id AS "siteId", t.fleet_id AS "fleetId",
      coalesce(${rolesOf(sql.ref('u.id'))}, '[]') AS roles
    FROM access_tokens t
    LEFT JOIN users u ON u.id = t.user_id
    LEFT JOIN fleets f ON f.id = t.fleet_id
    CROSS JOIN security_settings settings
    WHERE ${which}`
}

/** Finds a token by its SHA-256. */
export async function findAccessToken(db: Database, tokenHash: Buffer): Promise<FoundToken | undefined> {
  const { rows } = await selectFound(sql`t.token_hash = ${tokenHash}`).execute(db)
  return rows[0]
}

/** Finds tokens again by their ids. */
export async function findAccessTokens(db: Database, ids: readonly string[]): Promise<FoundToken[]> {
  if (ids.length === 0) return []
  const { rows } = await selectFound(sql`t.id = ANY (${ids}::uuid[])`).execute(db)
  return rows
}

/** The roles of the user named by an expression, as a JSON array; null when there are none. */
export function rolesOf(userId: ReturnType<typeof sql.ref>) {
  return sql<FoundRole[] | null>`(
    SELECT json_agg(json_build_object(
      'role', m.role, 'siteId', coalesce(m.site_id, mf.site_id), 'fleetId', m.fleet_id) ORDER BY m.created_at, m.id)
    FROM memberships m LEFT JOIN fleets mf ON mf.id = m.fleet_id
    WHERE m.user_id = ${userId})`
}

const FIRST_OWNER_LOCK = 'beacon.first_owner'

/** Until the transaction ends, no other server is here. */
export async function lockFirstOwner(db: Database): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(${FIRST_OWNER_LOCK}, 0))`.execute(db)
}

export async function hasAccessToken(db: Database): Promise<boolean> {
  const row = await db.selectFrom('access_tokens').select('id').limit(1).executeTakeFirst()
  return row !== undefined
}

export async function insertAccessToken(
  db: Database,
  token: InsertObject<Tables, 'access_tokens'>,
): Promise<void> {
  await db.insertInto('access_tokens').values(token).execute()
}
