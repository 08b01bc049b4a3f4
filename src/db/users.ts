import type { Insertable } from 'kysely'
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
