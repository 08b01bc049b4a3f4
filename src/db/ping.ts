import { sql } from 'kysely'
import type { Database } from './database.ts'

/** A database that takes longer than this for nothing does not serve anybody. */
export const DATABASE_PATIENCE_MS = 2_000

/** Resolves when the database answers. */
export async function ping(db: Database): Promise<void> {
  await sql`SELECT 1`.execute(db)
}
