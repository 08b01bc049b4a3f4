import { type Insertable, sql } from 'kysely'
import type { Database } from './database.ts'
import type { Tables } from './tables.ts'

/** A personal token by its SHA-256, with its standing on the database's clock, which all servers share. */
export function findPersonalToken(db: Database, tokenHash: Buffer) {
  return db
    .selectFrom('personal_tokens')
    .select([
      'id',
      'name',
      sql<boolean>`revoked_at IS NOT NULL`.as('revoked'),
      sql<boolean>`coalesce(expires_at <= now(), false)`.as('expired'),
    ])
    .where('token_hash', '=', tokenHash)
    .executeTakeFirst()
}

const FIRST_OWNER_LOCK = 'beacon.first_owner'

/** Until the transaction ends, no other server is here. */
export async function lockFirstOwner(db: Database): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(hashtextextended(${FIRST_OWNER_LOCK}, 0))`.execute(db)
}

export async function hasPersonalToken(db: Database): Promise<boolean> {
  const row = await db.selectFrom('personal_tokens').select('id').limit(1).executeTakeFirst()
  return row !== undefined
}

export async function insertPersonalToken(
  db: Database,
  token: Insertable<Tables['personal_tokens']>,
): Promise<void> {
  await db.insertInto('personal_tokens').values(token).execute()
}
