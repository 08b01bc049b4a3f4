import { sql, type Updateable } from 'kysely'
import type { Database } from './database.ts'
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

/** Fleets by name, those behind `after` when given. */
export function listFleets(
  db: Database,
  page: { site: string | undefined; limit: number; after: { name: string; id: string } | undefined },
) {
  const { site, after } = page
  return db
    .selectFrom('fleets')
    .selectAll()
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
    .executeTakeFirst()
}

/** False when there is no such fleet; robots in it violate their foreign key, its enrollment keys go with it. */
export async function deleteFleet(db: Database, id: string): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom('fleets').where('id', '=', id).executeTakeFirst()
  return numDeletedRows > 0n
}
