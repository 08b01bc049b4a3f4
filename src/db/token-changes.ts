import { type RawBuilder, sql } from 'kysely'
import type { Database } from './database.ts'

const MINTING_LOCK = sql`hashtextextended('beacon.minting', 0)`

/**
 * Until the transaction ends nobody revokes everything of a person, a fleet or the deployment: what is made here is there
 * for the next one who does. Waits for one that is under way.
 */
export async function lockMinting(db: Database): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock_shared(${MINTING_LOCK})`.execute(db)
}

/** Until the transaction ends nobody makes anything that gives access. Waits for those who do. */
export async function lockOutMinting(db: Database): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(${MINTING_LOCK})`.execute(db)
}

/** Keeps a token from being revoked or rotated until the transaction ends. */
export async function holdToken(db: Database, id: string): Promise<void> {
  await sql`SELECT FROM access_tokens WHERE id = ${id} FOR SHARE`.execute(db)
}

/** Keeps a token to oneself until the transaction ends. */
export async function lockToken(db: Database, id: string): Promise<void> {
  await sql`SELECT FROM access_tokens WHERE id = ${id} FOR NO KEY UPDATE`.execute(db)
}

/** Revokes the token, or leaves the time at which that happened before; answers whether it was this time. */
export async function revokeToken(db: Database, id: string): Promise<boolean> {
  const { numAffectedRows } = await sql`
    UPDATE access_tokens SET revoked_at = now() WHERE id = ${id} AND revoked_at IS NULL
  `.execute(db)
  return numAffectedRows === 1n
}

/** Lets a token end at the given time, or so many seconds from now, unless it ends before that. */
export async function endToken(
  db: Database,
  id: string,
  when: { readonly at: Date } | { readonly inSeconds: number },
): Promise<void> {
  const end =
    'at' in when ? sql`${when.at}::timestamptz` : sql`now() + make_interval(secs => ${when.inSeconds})`
  await sql`UPDATE access_tokens SET expires_at = least(expires_at, ${end}) WHERE id = ${id}`.execute(db)
}

/** Address ranges as they are kept: one written with an address in it stands for the whole range. */
export function networks(ranges: readonly string[]): RawBuilder<string[]> {
  return sql<string[]>`ARRAY(
    SELECT network(range::inet)::cidr FROM unnest(${ranges}::text[]) WITH ORDINALITY AS given (range, place)
    ORDER BY place)`
}

/** A time so many seconds from now, on the database's clock. */
export function secondsFromNow(seconds: number): RawBuilder<Date> {
  return sql<Date>`now() + make_interval(secs => ${seconds})`
}
