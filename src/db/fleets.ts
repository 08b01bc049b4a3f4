import { sql, type Updateable } from 'kysely'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import type { Tables } from './tables.ts'

export function insertFleet(
  db: Database,
  fleet: { id: string; site_id: string; name: string; heartbeat_interval_ms: number | null },
) {
  return db.insertInto('fleets').values(fleet).returningAll().executeTakeFirstOrThrow()
}

export function findFleet(db: Database, id: string) {
  return db.selectFrom('fleets').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Keeps the fleet as it is until the transaction ends; robots can still be put into it, unless it is to be deleted. */
export function lockFleet(db: Database, id: string, purpose: 'change' | 'deletion') {
  const query = db.selectFrom('fleets').selectAll().where('id', '=', id)
  return (purpose === 'change' ? query.forNoKeyUpdate() : query.forUpdate()).executeTakeFirst()
}

/** Fleets in reach by name, those behind `after` when given. */
export function listFleets(
  db: Database,
  reach: Reach,
  page: { site: string | undefined; limit: number; after: { name: string; id: string } | undefined },
) {
  const { site, after } = page
  return db
    .selectFrom('fleets')
    .selectAll()
    .where(inReach(reach, 'fleets.id'))
    .$if(site !== undefined, (query) => query.where('site_id', '=', site!))
    .$if(after !== undefined, (query) =>
      query.where(sql<boolean>`(name, id) > (${after?.name}, ${after?.id})`),
    )
    .orderBy('name')
    .orderBy('id')
    .limit(page.limit)
    .execute()
}

export function updateFleet(
  db: Database,
  id: string,
  change: Pick<Updateable<Tables['fleets']>, 'name' | 'heartbeat_interval_ms'>,
) {
  return db
    .updateTable('fleets')
    .set({ ...change, updated_at: sql`now()` })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** Robots in the fleet violate their foreign key; its claim credentials, its tokens and its people's roles go with it. */
export async function deleteFleet(db: Database, id: string): Promise<void> {
  await db.deleteFrom('fleets').where('id', '=', id).execute()
}

/** What goes when the fleet is deleted. */
export async function listFleetCredentials(
  db: Database,
  id: string,
): Promise<{ accessTokenIds: string[]; claimCredentialIds: string[]; userIds: string[] }> {
  const { rows } = await sql<{ accessTokenIds: string[]; claimCredentialIds: string[]; userIds: string[] }>`
    SELECT
      ARRAY(SELECT id FROM access_tokens WHERE fleet_id = ${id} ORDER BY id) AS "accessTokenIds",
      ARRAY(SELECT id FROM claim_credentials WHERE fleet_id = ${id} ORDER BY id) AS "claimCredentialIds",
      ARRAY(SELECT user_id FROM memberships WHERE fleet_id = ${id} ORDER BY user_id) AS "userIds"
  `.execute(db)
  return rows[0]!
}
