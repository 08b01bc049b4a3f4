import { sql } from 'kysely'
import type { Database } from './database.ts'

/** How many connections this PostgreSQL allows, for everybody together. */
export async function readMaxConnections(database: Database): Promise<number> {
  const { rows } = await sql<{ connections: number }>`
    SELECT current_setting('max_connections')::integer AS connections
  `.execute(database)
  return rows[0]!.connections
}
