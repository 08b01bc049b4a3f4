import { sql } from 'kysely'
import type { Database } from './database.ts'

export interface LastUse {
  /** The token's. */
  readonly id: string
  readonly at: Date
  readonly address: string | null
}

/**
 * Writes when and from where tokens were last used, unless a later use is known already. Rows are taken in one order, so
 * that several servers never wait for each other in a circle.
 */
export async function writeLastUses(database: Database, uses: readonly LastUse[]): Promise<void> {
  await sql`
    WITH used AS (
      SELECT * FROM unnest(${uses.map((use) => use.id)}::uuid[], ${uses.map((use) => use.at)}::timestamptz[],
        ${uses.map((use) => use.address)}::inet[]) AS used (id, at, address)
    ), held AS (
      SELECT t.id FROM access_tokens t JOIN used USING (id)
      WHERE t.last_used_at IS NULL OR t.last_used_at < used.at
      ORDER BY t.id FOR NO KEY UPDATE OF t
    )
    UPDATE access_tokens t SET last_used_at = used.at, last_used_ip = used.address
    FROM used JOIN held USING (id)
    WHERE t.id = used.id AND (t.last_used_at IS NULL OR t.last_used_at < used.at)
  `.execute(database)
}
