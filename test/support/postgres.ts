import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { urlOfDatabase } from './database-url.ts'

export interface TestDatabase {
  readonly url: string
  readonly pool: pg.Pool
  readonly database: Database
  /** Ends the pool and removes the database, whoever is still connected to it. */
  drop(): Promise<void>
}

/** Runs statements in the database that nobody else uses, one cloning at a time. */
async function administer(...statements: string[]): Promise<void> {
  const connection = new pg.Client({
    connectionString: urlOfDatabase(inject('template').url, 'postgres'),
    application_name: 'beacon tests',
  })
  await connection.connect()
  try {
    await connection.query('SELECT pg_advisory_lock(1)')
    for (const statement of statements) await connection.query(statement)
  } finally {
    await connection.end()
  }
}

async function create(statement: (name: string) => string): Promise<TestDatabase> {
  const name = `test_${randomBytes(8).toString('hex')}`
  await administer(statement(name))
  const url = urlOfDatabase(inject('template').url, name)
  const pool = openPool({
    url,
    name: 'beacon test',
    maxConnections: 10,
    statementTimeoutMs: 20_000,
    onIdleError: () => {},
  })
  let dropped: Promise<void> | undefined
  return {
    url,
    pool,
    database: openDatabase(pool),
    drop() {
      dropped ??= pool.end().then(() => administer(`DROP DATABASE ${name} WITH (FORCE)`))
      return dropped
    },
  }
}

/** A migrated database of the test's own; heartbeats have partitions around the present. */
export function createTestDatabase(): Promise<TestDatabase> {
  return create((name) => `CREATE DATABASE ${name} TEMPLATE ${inject('template').name}`)
}

/** A database of the test's own with nothing in it. */
export function createEmptyDatabase(): Promise<TestDatabase> {
  return create((name) => `CREATE DATABASE ${name} TEMPLATE template0`)
}
