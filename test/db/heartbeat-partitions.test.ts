import { sql } from 'kysely'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { dropOldPartitions, ensurePartitions } from '../../src/db/heartbeat-partitions.ts'
import { newId } from '../../src/ids.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const HOUR = 3_600_000
const NOON = Date.parse('2030-03-01T12:30:00Z')

let db: TestDatabase

beforeEach(async () => {
  db = await createTestDatabase()
  // Those of the present, which the copied database comes with.
  await dropOldPartitions(db.database, NOON, 0)
})

afterEach(() => db.drop())

async function attached(): Promise<string[]> {
  const { rows } = await db.pool.query<{ name: string }>(
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'heartbeats'::regclass ORDER BY 1",
  )
  return rows.map((row) => row.name)
}

async function tables(): Promise<string[]> {
  const { rows } = await db.pool.query<{ name: string }>(
    "SELECT relname AS name FROM pg_class WHERE relname LIKE 'heartbeats\\_p%' AND relkind = 'r' ORDER BY 1",
  )
  return rows.map((row) => row.name)
}

function insertAt(time: number, on: pg.Pool | pg.Client = db.pool) {
  return on.query(
    `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body) VALUES ($1, $2, $2, 1, 1, '{}')`,
    [newId(), new Date(time)],
  )
}

async function withClient<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> {
  const client = new pg.Client({ connectionString: db.url })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

describe('making partitions', () => {
  test('covers the last six hours and more than a day ahead, aligned to UTC', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    expect(await attached()).toEqual([
      'heartbeats_p20300301_06',
      'heartbeats_p20300301_12',
      'heartbeats_p20300301_18',
      'heartbeats_p20300302_00',
      'heartbeats_p20300302_06',
      'heartbeats_p20300302_12',
      'heartbeats_p20300302_18',
    ])
    for (let time = NOON - 6 * HOUR; time <= NOON + 24 * HOUR; time += HOUR) await insertAt(time)
  })

  test('brings the index along', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    const { rows } = await db.pool.query<{ count: number }>(
      "SELECT count(*)::integer AS count FROM pg_inherits WHERE inhparent = 'heartbeats_robot_at'::regclass",
    )
    expect(rows[0]!.count).toBe((await attached()).length)
  })

  test('makes only what is missing as time goes by', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    expect(await ensurePartitions(db.database, NOON + HOUR, 48 * HOUR)).toEqual([])
    expect(await ensurePartitions(db.database, NOON + 6 * HOUR, 48 * HOUR)).toEqual([
      'heartbeats_p20300303_00',
    ])
  })

  test('is safe for several servers at once', async () => {
    const pools = [1, 2, 3].map(() =>
      openPool({
        url: db.url,
        name: 'another server',
        maxConnections: 1,
        statementTimeoutMs: 5_000,
        onIdleError: () => {},
      }),
    )
    const made = await Promise.all(pools.map((pool) => ensurePartitions(openDatabase(pool), NOON, 48 * HOUR)))
    expect(made.map((names) => names.length).sort()).toEqual([0, 0, 7])
    await Promise.all(pools.map((pool) => pool.end()))
  })

  test('neither waits for a writer nor makes one wait', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    await withClient(async (writer) => {
      await writer.query('BEGIN')
      await insertAt(NOON, writer)
      expect(await ensurePartitions(db.database, NOON + 6 * HOUR, 48 * HOUR)).toHaveLength(1)
      await writer.query('COMMIT')
    })
    await db.database.transaction().execute(async (transaction) => {
      await ensurePartitions(nested(transaction), NOON + 12 * HOUR, 48 * HOUR)
      await insertAt(NOON)
    })
  })
})

/** Lets a function that opens a transaction of its own work inside one that the test holds open. */
function nested(transaction: TestDatabase['database']): TestDatabase['database'] {
  return new Proxy(transaction, {
    get: (target, name) =>
      name === 'transaction'
        ? () => ({ execute: (work: (inner: typeof target) => unknown) => work(target) })
        : Reflect.get(target, name),
  })
}

describe('dropping partitions', () => {
  test('keeps what is within the history', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    await insertAt(NOON)
    expect(await dropOldPartitions(db.database, NOON + 17 * HOUR, 12 * HOUR)).toEqual([
      'heartbeats_p20300301_06',
    ])
    // 18:00 is the end of the partition of noon, and 12 hours later it is just out of the history.
    expect(await dropOldPartitions(db.database, NOON + 17.5 * HOUR, 12 * HOUR)).toEqual([
      'heartbeats_p20300301_12',
    ])
    expect(await attached()).not.toContain('heartbeats_p20300301_12')
    expect(await tables()).toEqual(await attached())
  })

  test('never drops what the next pass would make again', async () => {
    for (const historyMs of [HOUR, 7 * HOUR]) {
      await ensurePartitions(db.database, NOON, historyMs)
      await dropOldPartitions(db.database, NOON, historyMs)
      expect(await ensurePartitions(db.database, NOON, historyMs)).toEqual([])
    }
  })

  test('finishes a detachment that was cut short', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    await withClient(async (reader) => {
      // A transaction that has used the table keeps a concurrent detachment from finishing.
      await reader.query('BEGIN')
      await reader.query('SELECT count(*) FROM heartbeats')
      await withClient(async (detaching) => {
        await detaching.query("SET lock_timeout = '100ms'")
        await expect(
          detaching.query('ALTER TABLE heartbeats DETACH PARTITION heartbeats_p20300301_06 CONCURRENTLY'),
        ).rejects.toThrow('lock timeout')
      })
      await reader.query('COMMIT')
    })
    expect(await dropOldPartitions(db.database, NOON + 18 * HOUR, 12 * HOUR)).toEqual([
      'heartbeats_p20300301_06',
      'heartbeats_p20300301_12',
    ])
  })

  test('drops what was detached and not dropped', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    await db.pool.query('ALTER TABLE heartbeats DETACH PARTITION heartbeats_p20300301_06')
    await dropOldPartitions(db.database, NOON + 12 * HOUR, 12 * HOUR)
    expect(await tables()).not.toContain('heartbeats_p20300301_06')
  })

  test('gives up when a reader is in the way, without holding writers up, and is done next time', async () => {
    await ensurePartitions(db.database, NOON, 48 * HOUR)
    const later = NOON + 12 * HOUR
    await withClient(async (reader) => {
      await reader.query('BEGIN')
      await reader.query('SELECT count(*) FROM heartbeats')
      const attempt = dropOldPartitions(db.database, later, 12 * HOUR)
      const refused = expect(attempt).rejects.toThrow('lock timeout')
      await insertAt(NOON + HOUR)
      await refused
      await insertAt(NOON + HOUR)
      await reader.query('COMMIT')
    })
    expect(await dropOldPartitions(db.database, later, 12 * HOUR)).toEqual(['heartbeats_p20300301_06'])
  })

  test('leaves nothing behind on the connection', async () => {
    const pool = openPool({
      url: db.url,
      name: 'one connection',
      maxConnections: 1,
      statementTimeoutMs: 5_000,
      onIdleError: () => {},
    })
    const database = openDatabase(pool)
    await dropOldPartitions(database, NOON, HOUR)
    const { rows } = await sql<{ timeout: string; locks: number }>`
      SELECT current_setting('lock_timeout') AS timeout,
             (SELECT count(*)::integer FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks
    `.execute(database)
    expect(rows[0]).toEqual({ timeout: '0', locks: 0 })
    await pool.end()
  })
})
