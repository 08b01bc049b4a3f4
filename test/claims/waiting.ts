import { sql } from 'kysely'
import type { Database } from '../../src/db/database.ts'

/** Runs a change in a transaction that stays open until a claim waits for it, and `then` within the same. */
export async function meanwhile<Result>(
  database: Database,
  change: (transaction: Database) => Promise<unknown>,
  claim: () => Promise<Result>,
  then?: (transaction: Database) => Promise<unknown>,
): Promise<Result> {
  let claiming: Promise<Result> | undefined
  await database.transaction().execute(async (transaction) => {
    await change(transaction)
    claiming = claim()
    await lockedOut(database)
    await then?.(transaction)
  })
  return claiming!
}

/** Resolves once as many statements wait for locks. */
export async function lockedOut(database: Database, count = 1): Promise<void> {
  for (;;) {
    const { rows } = await sql<{ pid: number }>`
      SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'
    `.execute(database)
    if (rows.length >= count) return
  }
}

export function tally(outcomes: readonly unknown[]): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const outcome of outcomes) counts[String(outcome)] = (counts[String(outcome)] ?? 0) + 1
  return counts
}
