import type { Transaction } from 'kysely'
import { type Database, isRetryable } from './database.ts'
import type { Tables } from './tables.ts'

const ATTEMPTS = 3

/** Runs the work in one transaction, again from the start after a deadlock or serialisation failure. */
export async function inTransaction<Result>(
  database: Database,
  work: (transaction: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await database.transaction().execute(work)
    } catch (error) {
      if (attempt === ATTEMPTS || !isRetryable(error)) throw error
    }
  }
}
