import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely'
import pg from 'pg'
import type { Database } from '../../../src/db/database.ts'
import type { Tables } from '../../../src/db/tables.ts'
import type { TestDatabase } from '../../support/postgres.ts'

/** A database that goes back to how it was. */
export interface RewindingDatabase extends TestDatabase {
  /** From here on nothing lasts. */
  begin(): Promise<void>
  /** Takes everything back that was done since `begin`, or since the last `rewind`. */
  rewind(): Promise<void>
  query<Row>(text: string, values?: unknown[]): Promise<Row[]>
}

const BIGINT = 20

/**
 * Puts all work on one connection. From `begin` on it is inside one transaction, and the transactions of the code under
 * test are savepoints of it.
 */
export function rewinding(db: TestDatabase): RewindingDatabase {
  const types = new pg.TypeOverrides()
  types.setTypeParser(BIGINT, Number)
  const client = new pg.Client({ connectionString: db.url, types })
  client.on('error', () => {})
  const connected = client.connect()
  let inside = false
  // Transactions of the code under test take turns, for there is one connection.
  let turn: Promise<unknown> = Promise.resolve()

  function lend(): PostgresPoolClient {
    let endTurn: (() => void) | undefined
    const asSavepoint: Readonly<Record<string, string>> = {
      begin: 'SAVEPOINT inner_work',
      commit: 'RELEASE SAVEPOINT inner_work',
      rollback: 'ROLLBACK TO SAVEPOINT inner_work',
    }
    const query = async (given: string, values: readonly unknown[]) => {
      // One connection sees the same all the time, whatever isolation is asked for.
      const text = given.startsWith('start transaction ') ? 'begin' : given
      if (text === 'begin') {
        const before = turn
        turn = new Promise<void>((resolve) => {
          endTurn = resolve
        })
        await before
      }
      try {
        return await client.query((inside && asSavepoint[text]) || text, [...values])
      } finally {
        if (text === 'commit' || text === 'rollback') endTurn?.()
      }
    }
    return { query, release: () => endTurn?.() } as unknown as PostgresPoolClient
  }

  const pool: PostgresPool = {
    connect: async () => {
      await connected
      return lend()
    },
    end: async () => {},
  }
  const database: Database = new Kysely<Tables>({ dialect: new PostgresDialect({ pool }) })
  return {
    ...db,
    database,
    async begin() {
      await connected
      await client.query('BEGIN')
      inside = true
    },
    async rewind() {
      await client.query('ROLLBACK; BEGIN')
    },
    query: async <Row>(text: string, values: unknown[] = []) =>
      (await client.query(text, values)).rows as Row[],
    async drop() {
      await client.end()
      await db.drop()
    },
  }
}
