import { sql } from 'kysely'
import type { Database } from './database.ts'
import type { CredentialKind } from './tables.ts'

function credentials(kind: CredentialKind) {
  return sql`SELECT site_id AS "siteId", fleet_id AS "fleetId" FROM claim_credentials WHERE kind = ${sql.lit(kind)} AND`
}

const TABLES = {
  site: sql`SELECT id AS "siteId", NULL::uuid AS "fleetId" FROM sites WHERE`,
  fleet: sql`SELECT site_id AS "siteId", id AS "fleetId" FROM fleets WHERE`,
  robot: sql`SELECT site_id AS "siteId", fleet_id AS "fleetId" FROM robots WHERE`,
  enrollment_key: credentials('enrollment_key'),
  provisioning_token: credentials('provisioning_token'),
} as const

/** Things that lie in a site or fleet. */
export type PlacedKind = keyof typeof TABLES

/** Where a thing is; undefined: there is no such thing. */
export async function placeOf(
  database: Database,
  kind: PlacedKind,
  id: string,
): Promise<{ siteId: string; fleetId: string | null } | undefined> {
  const { rows } = await sql<{ siteId: string; fleetId: string | null }>`
    ${TABLES[kind]} id = ${id}
  `.execute(database)
  return rows[0]
}
