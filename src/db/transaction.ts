import type { Transaction } from 'kysely'
import { type Database, isRetryable } from './database.ts'
import type { Tables } from './tables.ts'

const ATTEMPTS = 3

/** Runs one statement, or one whole transaction, again from the start after a deadlock or serialisation failure. */
export async function againAfterDeadlock<Result>(work: () => Promise<Result>): Promise<Result> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work()
    } catch (error) {
      if (attempt === ATTEMPTS || !isRetryable(error)) throw error
    }
  }
}

/** Runs the work in one transaction, again from the start after a deadlock or serialisation failure. */
export function inTransaction<Result>(
  database: Database,
  work: (transaction: Transaction<Tables>) => Promise<Result>,
): Promise<Result> {
  return againAfterDeadlock(() => database.transaction().execute(work))
}
