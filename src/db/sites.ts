import { sql } from 'kysely'
import type { Database } from './database.ts'
import { type Reach, touchedByReach } from './reach.ts'

export function insertSite(db: Database, site: { id: string; name: string }) {
  return db.insertInto('sites').values(site).returningAll().executeTakeFirstOrThrow()
}

export function findSite(db: Database, id: string) {
  return db.selectFrom('sites').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Keeps the site as it is until the transaction ends; fleets can still be put into it, unless it is to be deleted. */
export function lockSite(db: Database, id: string, purpose: 'change' | 'deletion') {
  const query = db.selectFrom('sites').selectAll().where('id', '=', id)
  return (purpose === 'change' ? query.forNoKeyUpdate() : query.forUpdate()).executeTakeFirst()
}

/** Sites in reach, or with a fleet that is, by name, those behind `after` when given. */
export function listSites(
  db: Database,
  reach: Reach,
  page: { limit: number; after: { name: string; id: string } | undefined },
) {
  const { after } = page
  return db
    .selectFrom('sites')
    .selectAll()
    .where(touchedByReach(reach))
    .$if(after !== undefined, (query) =>
      query.where(sql<boolean>`(name, id) > (${after?.name}, ${after?.id})`),
    )
    .orderBy('name')
    .orderBy('id')
    .limit(page.limit)
    .execute()
}

export function renameSite(db: Database, id: string, name: string) {
  return db
    .updateTable('sites')
    .set({ name, updated_at: sql`now()` })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow()
}

/** Fleets in the site violate their foreign key; its people's roles go with it. */
export async function deleteSite(db: Database, id: string): Promise<void> {
  await db.deleteFrom('sites').where('id', '=', id).execute()
}
