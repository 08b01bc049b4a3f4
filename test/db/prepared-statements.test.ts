import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
let pool: ReturnType<typeof openPool>
/** All statements go over the same connection. */
let database: Database

beforeAll(async () => {
  db = await createTestDatabase()
  pool = openPool({
    url: db.url,
    name: 'prepared',
    maxConnections: 1,
    statementTimeoutMs: 10_000,
    onePlanEach: true,
    onIdleError: () => {},
  })
  database = openDatabase(pool)
  await sql`CREATE TABLE things (id integer PRIMARY KEY, name text)`.execute(database)
  await sql`INSERT INTO things SELECT n, 'thing ' || n FROM generate_series(1, 2000) AS n`.execute(database)
})
afterAll(async () => {
  await pool.end()
  await db.drop()
})

const readThings = (on: Database, ids: readonly number[]) =>
  sql`/* prepared: read_things */ SELECT * FROM things WHERE id = ANY (${[...ids]}::integer[]) ORDER BY id`
    .execute(on)
    .then(({ rows }) => rows)

const preparedNames = async () => {
  const { rows } = await sql<{ name: string; generic: number; custom: number }>`
    SELECT name, generic_plans AS generic, custom_plans AS custom FROM pg_prepared_statements
    WHERE name LIKE 'beacon_read_things%' ORDER BY prepare_time
  `.execute(database)
  return rows
}

describe('a statement with the mark', () => {
  it('is prepared once on a connection, with one plan for all parameters', async () => {
    for (const count of [1, 3, 1_000])
      expect(
        await readThings(
          database,
          Array.from({ length: count }, (_, index) => index + 1),
        ),
      ).toHaveLength(count)
    expect(await preparedNames()).toEqual([
      { name: expect.stringMatching(/^beacon_read_things_\d+_0$/), generic: 3, custom: 0 },
    ])
  })

  it('has one plan only where the pool asks for it: lists depend on what is asked', async () => {
    const mode = (on: Database) => sql`SHOW plan_cache_mode`.execute(on).then(({ rows }) => rows)
    expect(await mode(database)).toEqual([{ plan_cache_mode: 'force_generic_plan' }])
    expect(await mode(db.database)).toEqual([{ plan_cache_mode: 'auto' }])
  })

  it('works on when it failed, for its data or in a transaction', async () => {
    const half = (value: number) =>
      sql`/* prepared: half */ SELECT 10 / ${value}::integer AS half`
        .execute(database)
        .then(({ rows }) => rows)
    await expect(half(0)).rejects.toThrow('division by zero')
    expect(await half(5)).toEqual([{ half: 2 }])
    await expect(
      database.transaction().execute(async (transaction) => {
        await readThings(transaction, [1])
        await sql`SELECT 1 / 0`.execute(transaction)
      }),
    ).rejects.toThrow('division by zero')
    expect(await readThings(database, [1])).toEqual([{ id: 1, name: 'thing 1' }])
  })

  it('that could not be parsed is parsed when it is asked for again', async () => {
    const readLate = () =>
      sql`/* prepared: read_late */ SELECT * FROM late WHERE id = ${1}::integer`.execute(database)
    await expect(readLate()).rejects.toThrow('does not exist')
    await sql`CREATE TABLE late AS SELECT 1 AS id`.execute(database)
    expect((await readLate()).rows).toEqual([{ id: 1 }])
  })

  it('is prepared anew when the schema has changed what it answers', async () => {
    await readThings(database, [2])
    await sql`ALTER TABLE things ADD COLUMN colour text DEFAULT 'red'`.execute(database)
    expect(await readThings(database, [2])).toEqual([{ id: 2, name: 'thing 2', colour: 'red' }])
    expect(await readThings(database, [2])).toEqual([{ id: 2, name: 'thing 2', colour: 'red' }])
    expect((await preparedNames()).map(({ name }) => name.slice(-2))).toEqual(['_0', '_1'])
  })

  it('in a transaction in which it no longer fits fails it, and works in the next', async () => {
    const read = () => database.transaction().execute((transaction) => readThings(transaction, [3]))
    await read()
    await sql`ALTER TABLE things DROP COLUMN colour`.execute(database)
    await expect(read()).rejects.toThrow('cached plan must not change result type')
    expect(await read()).toEqual([{ id: 3, name: 'thing 3' }])
  })

  it('is prepared anew when somebody has thrown away what the connection had, and in the end no longer', async () => {
    for (let times = 0; times < 10; times++) {
      await readThings(database, [4])
      await sql`DEALLOCATE ALL`.execute(database)
      expect(await readThings(database, [4])).toEqual([{ id: 4, name: 'thing 4' }])
    }
    expect(await preparedNames()).toEqual([])
  })

  it('without parameters, and one without the mark, are as ever', async () => {
    expect((await pool.query('/* prepared: none */ SELECT 1 AS one')).rows).toEqual([{ one: 1 }])
    expect((await pool.query('SELECT $1::integer AS one', [1])).rows).toEqual([{ one: 1 }])
  })
})
