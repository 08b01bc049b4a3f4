import { sql } from 'kysely'
import type { Database } from './database.ts'

export interface RequestName {
  readonly principalId: string
  readonly key: string
}

/** Takes the name for this transaction; false while another transaction has it. */
export async function tryLockRequest(db: Database, name: RequestName): Promise<boolean> {
  const { rows } = await sql<{ locked: boolean }>`
    SELECT pg_try_advisory_xact_lock(
      hashtextextended(${`beacon.request ${name.principalId} ${name.key}`}, 0)
    ) AS locked`.execute(db)
  return rows[0]?.locked === true
}

/** The answer once given, unless it is older than a day. */
export function findAnswer(db: Database, name: RequestName) {
  return db
    .selectFrom('idempotent_requests')
    .select(['request_hash', 'status', 'body_sealed'])
    .where('principal_id', '=', name.principalId)
    .where('key', '=', name.key)
    .where('created_at', '>', sql<Date>`now() - interval '24 hours'`)
    .executeTakeFirst()
}

/** Keeps the answer, in the place of one that is older than a day. */
export async function keepAnswer(
  db: Database,
  name: RequestName,
  answer: { requestHash: Buffer; status: number; bodySealed: Buffer },
): Promise<void> {
  const row = { request_hash: answer.requestHash, status: answer.status, body_sealed: answer.bodySealed }
  await db
    .insertInto('idempotent_requests')
    .values({ principal_id: name.principalId, key: name.key, ...row })
    .onConflict((conflict) =>
      conflict.columns(['principal_id', 'key']).doUpdateSet({ ...row, created_at: sql`now()` }),
    )
    .execute()
}
