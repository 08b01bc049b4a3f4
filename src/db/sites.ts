import type { Updateable } from 'kysely'
import { sql } from 'kysely'
import type { Database } from './database.ts'
import type { Tables } from './tables.ts'

export function insertSite(db: Database, site: { id: string; name: string }) {
  return db.insertInto('sites').values(site).returningAll().executeTakeFirstOrThrow()
}

export function findSite(db: Database, id: string) {
  return db.selectFrom('sites').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Sites by name, those behind `after` when given. */
export function listSites(
  db: Database,
  page: { limit: number; after: { name: string; id: string } | undefined },
) {
  const { after } = page
  return db
    .selectFrom('sites')
    .selectAll()
    .$if(after !== undefined, (query) =>
      query.where(sql<boolean>`(name, id) > (${after?.name}, ${after?.id})`),
    )
    .orderBy('name')
    .orderBy('id')
    .limit(page.limit)
    .execute()
}

export function updateSite(db: Database, id: string, change: Pick<Updateable<Tables['sites']>, 'name'>) {
  return db
    .updateTable('sites')
    .set({ ...change, updated_at: sql`now()` })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirst()
}

/** False when there is no such site; a site with fleets in it violates their foreign key. */
export async function deleteSite(db: Database, id: string): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom('sites').where('id', '=', id).executeTakeFirst()
  return numDeletedRows > 0n
}
