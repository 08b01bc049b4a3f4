import { sql } from 'kysely'
import type { Clock } from '../runtime.ts'
import type { Database } from './database.ts'

/**
 * Milliseconds since 1970 by whichever is behind, this server's clock or the database's: a server whose clock is wrong closes
 * no hour of the others, and drops nothing before its time.
 */
export async function agreedTime(database: Database, clock: Pick<Clock, 'now'>): Promise<number> {
  const { rows } = await sql<{
    now: number
  }>`SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now`.execute(database)
  return Math.min(clock.now(), rows[0]!.now)
}
