import { type Insertable, sql } from 'kysely'
import { type FoundRole, rolesOf } from './access-tokens.ts'
import type { Database } from './database.ts'
import type { Tables } from './tables.ts'

export async function insertUser(db: Database, user: Insertable<Tables['users']>): Promise<void> {
  await db.insertInto('users').values(user).execute()
}

export async function insertMembership(
  db: Database,
  membership: Insertable<Tables['memberships']>,
): Promise<void> {
  await db.insertInto('memberships').values(membership).execute()
}

/** Somebody who was not removed. */
export interface FoundUser {
  readonly id: string
  readonly name: string
  readonly email: string | null
  readonly hasPassword: boolean
  readonly hasIdentity: boolean
  readonly hasSecondFactor: boolean
  readonly invitedUntil: Date | null
  readonly createdAt: Date
  readonly lastSignedInAt: Date | null
  readonly roles: readonly FoundRole[]
}

const userRows = sql`
  SELECT u.id, u.name, u.email, u.two_factor_enabled AS "hasSecondFactor", u.created_at AS "createdAt",
    u.last_signed_in_at AS "lastSignedInAt",
    EXISTS (SELECT FROM passwords p WHERE p.user_id = u.id) AS "hasPassword",
    EXISTS (SELECT FROM identities i WHERE i.user_id = u.id) AS "hasIdentity",
    (SELECT max(i.expires_at) FROM invitations i WHERE i.user_id = u.id AND i.accepted_at IS NULL
      AND i.revoked_at IS NULL AND i.expires_at > clock_timestamp()) AS "invitedUntil",
    coalesce(${rolesOf(sql.ref('u.id'))}, '[]') AS roles
  FROM users u`

export async function findUser(db: Database, id: string): Promise<FoundUser | undefined> {
  const { rows } = await sql<FoundUser>`${userRows} WHERE u.id = ${id} AND u.removed_at IS NULL`.execute(db)
  return rows[0]
}

export interface UserSelection {
  /** Only people with a role at one of these sites, in a fleet of one, or in one of these fleets. */
  readonly reach: 'everything' | { readonly siteIds: readonly string[]; readonly fleetIds: readonly string[] }
  readonly limit: number
  readonly after: { readonly id: string } | undefined
}

/** People in the order in which they came. */
export async function listUsers(db: Database, { reach, limit, after }: UserSelection): Promise<FoundUser[]> {
  const within =
    reach === 'everything'
      ? sql``
      : sql`AND EXISTS (
          SELECT FROM memberships m LEFT JOIN fleets f ON f.id = m.fleet_id
          WHERE m.user_id = u.id AND (m.site_id = ANY(${reach.siteIds}::uuid[])
            OR f.site_id = ANY(${reach.siteIds}::uuid[]) OR m.fleet_id = ANY(${reach.fleetIds}::uuid[])))`
  const { rows } = await sql<FoundUser>`
    ${userRows} WHERE u.removed_at IS NULL ${after ? sql`AND u.id > ${after.id}` : sql``} ${within}
    ORDER BY u.id LIMIT ${limit}
  `.execute(db)
  return rows
}

const PEOPLE_LOCK = 'beacon.people'

/**
 * Until the transaction ends, nobody else changes who holds which role, so that two owners who remove each other at the
 * same time do so one after the other.
 */
export async function lockPeople(db: Database): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(${PEOPLE_LOCK}, 0))`.execute(db)
}

export async function countOwners(db: Database): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    SELECT count(*)::int AS count FROM memberships m JOIN users u ON u.id = m.user_id
    WHERE m.role = 'owner' AND u.removed_at IS NULL
  `.execute(db)
  return rows[0]!.count
}

/** Changes name or email of somebody who was not removed. */
export async function updateUser(
  db: Database,
  id: string,
  change: { readonly name?: string; readonly email?: string | null },
): Promise<void> {
  await db
    .updateTable('users')
    .set({ ...change, updated_at: sql<Date>`now()` })
    .where('id', '=', id)
    .where('removed_at', 'is', null)
    .execute()
}

export async function deleteMembership(
  db: Database,
  userId: string,
  place: { readonly siteId: string | null; readonly fleetId: string | null },
): Promise<void> {
  await sql`
    DELETE FROM memberships WHERE user_id = ${userId}
      AND site_id IS NOT DISTINCT FROM ${place.fleetId === null ? place.siteId : null}::uuid
      AND fleet_id IS NOT DISTINCT FROM ${place.fleetId}::uuid
  `.execute(db)
}

/** What is left of somebody who was removed: the row that the history names, without what identifies them. */
export async function eraseUser(db: Database, id: string): Promise<{ tokens: number }> {
  await sql`
    UPDATE users SET name = 'removed user', email = NULL, two_factor_enabled = false, removed_at = now(),
      updated_at = now()
    WHERE id = ${id}
  `.execute(db)
  for (const table of [
    'memberships',
    'invitations',
    'passwords',
    'second_factors',
    'backup_codes',
    'identities',
  ] as const)
    await db.deleteFrom(table).where('user_id', '=', id).execute()
  const { numAffectedRows } = await sql`
    UPDATE access_tokens SET revoked_at = now() WHERE user_id = ${id} AND revoked_at IS NULL
  `.execute(db)
  return { tokens: Number(numAffectedRows ?? 0) }
}

export interface KnownPlace {
  readonly siteId: string
  readonly fleetId: string | null
}

/** The places that these ids name, those that there are. */
export async function findPlaces(
  db: Database,
  siteIds: readonly string[],
  fleetIds: readonly string[],
): Promise<KnownPlace[]> {
  const { rows } = await sql<KnownPlace>`
    SELECT id AS "siteId", NULL::uuid AS "fleetId" FROM sites WHERE id = ANY(${siteIds}::uuid[])
    UNION ALL SELECT site_id, id FROM fleets WHERE id = ANY(${fleetIds}::uuid[])
  `.execute(db)
  return rows
}
