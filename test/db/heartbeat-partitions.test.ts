import { sql } from 'kysely'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDatabase, openPool } from '../../src/db/database.ts'
import {
  closePartition,
  dropPackedPartitions,
  ensureHeartbeatPartitions,
} from '../../src/db/heartbeat-partitions.ts'
import { dropOldPartitions, dropPartitions, HEARTBEATS } from '../../src/db/history-partitions.ts'
import { newId } from '../../src/ids.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const KEPT_MS = 48 * HOUR
const NOON = Date.parse('2030-03-01T12:30:00Z')

let db: TestDatabase

beforeEach(async () => {
  db = await createTestDatabase()
  // Those of the present, which the copied database comes with.
  await dropPartitions(db.database, HEARTBEATS, () => true)
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

/** As the packer says when a partition is packed wholly. */
async function markPacked(now: number): Promise<void> {
  await db.pool.query('UPDATE heartbeat_packing SET packed_at = $1 WHERE packed_at IS NULL', [new Date(now)])
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

/** Closes all that is due. */
async function closeAll(now: number): Promise<string[]> {
  const names: string[] = []
  for (;;) {
    const name = await closePartition(db.database, now)
    if (name === undefined) return names
    names.push(name)
  }
}

describe('making partitions', () => {
  test('covers the last hour and more than half a day ahead, aligned to UTC', async () => {
    const made = await ensureHeartbeatPartitions(db.database, NOON)
    expect(made.slice(0, 3)).toEqual([
      'heartbeats_p20300301_11',
      'heartbeats_p20300301_12',
      'heartbeats_p20300301_13',
    ])
    expect(await attached()).toEqual(made)
    for (let time = NOON - HOUR; time <= NOON + 12 * HOUR; time += HOUR / 2) await insertAt(time)
  })

  test('brings the index along', async () => {
    await ensureHeartbeatPartitions(db.database, NOON)
    const { rows } = await db.pool.query<{ count: number }>(
      "SELECT count(*)::integer AS count FROM pg_inherits WHERE inhparent = 'heartbeats_robot_at'::regclass",
    )
    expect(rows[0]!.count).toBe((await attached()).length)
  })

  test('makes only what is missing as time goes by', async () => {
    const made = await ensureHeartbeatPartitions(db.database, NOON)
    expect(await ensureHeartbeatPartitions(db.database, NOON + 20 * MINUTE)).toEqual([])
    const later = await ensureHeartbeatPartitions(db.database, NOON + HOUR)
    expect(later).toHaveLength(1)
    expect(made).not.toContain(later[0])
  })

  test('goes round the longer ones of older versions', async () => {
    await db.pool.query('CREATE TABLE heartbeats_p20300301_12 (LIKE heartbeats INCLUDING ALL)')
    await db.pool.query(
      `ALTER TABLE heartbeats ATTACH PARTITION heartbeats_p20300301_12
       FOR VALUES FROM ('2030-03-01 12:00Z') TO ('2030-03-01 18:00Z')`,
    )
    const made = await ensureHeartbeatPartitions(db.database, NOON)
    expect(made.slice(0, 2)).toEqual(['heartbeats_p20300301_11', 'heartbeats_p20300301_18'])
    expect(await closeAll(NOON + 5.5 * HOUR)).toEqual(['heartbeats_p20300301_11'])
    expect(await closeAll(NOON + 5.5 * HOUR + 2 * MINUTE)).toEqual(['heartbeats_p20300301_12'])
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
    const made = await Promise.all(pools.map((pool) => ensureHeartbeatPartitions(openDatabase(pool), NOON)))
    expect(made.map((names) => names.length).sort()).toEqual([0, 0, (await attached()).length])
    await Promise.all(pools.map((pool) => pool.end()))
  })

  test('neither waits for a writer nor makes one wait', async () => {
    await ensureHeartbeatPartitions(db.database, NOON)
    await withClient(async (writer) => {
      await writer.query('BEGIN')
      await insertAt(NOON, writer)
      expect(await ensureHeartbeatPartitions(db.database, NOON + HOUR)).toHaveLength(1)
      await writer.query('COMMIT')
    })
    await db.database.transaction().execute(async (transaction) => {
      await ensureHeartbeatPartitions(nested(transaction), NOON + 2 * HOUR)
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

describe('closing partitions', () => {
  beforeEach(() => ensureHeartbeatPartitions(db.database, NOON))

  test('takes those that were over minutes ago, the oldest first, once', async () => {
    expect(await closeAll(NOON - 29 * MINUTE)).toEqual([])
    expect(await closeAll(NOON + 32 * MINUTE)).toEqual(['heartbeats_p20300301_11', 'heartbeats_p20300301_12'])
    expect(await closeAll(NOON + 32 * MINUTE)).toEqual([])
  })

  test('lets nothing be added afterwards, and everything read', async () => {
    await insertAt(NOON - HOUR)
    await closeAll(NOON)
    await expect(insertAt(NOON - HOUR)).rejects.toMatchObject({ code: '23514' })
    await insertAt(NOON)
    const { rows } = await db.pool.query('SELECT count(*)::integer AS count FROM heartbeats')
    expect(rows).toEqual([{ count: 2 }])
  })

  test('waits for who is adding something, and tries again where that takes long', async () => {
    await withClient(async (writer) => {
      await writer.query('BEGIN')
      await insertAt(NOON - HOUR, writer)
      await expect(closePartition(db.database, NOON, 200)).rejects.toThrow('lock timeout')
      // Others who add and read do not wait.
      await insertAt(NOON - HOUR)
      await writer.query('COMMIT')
    })
    expect(await closeAll(NOON)).toEqual(['heartbeats_p20300301_11'])
  })

  test('makes nothing anew that is closed and gone', async () => {
    await closeAll(NOON)
    await markPacked(NOON)
    expect(await dropPackedPartitions(db.database, NOON + 5 * MINUTE, KEPT_MS)).toEqual([
      'heartbeats_p20300301_11',
    ])
    expect(await ensureHeartbeatPartitions(db.database, NOON)).toEqual([])
    expect(await dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)).toEqual([])
  })
})

describe('dropping partitions', () => {
  beforeEach(async () => {
    await ensureHeartbeatPartitions(db.database, NOON)
    await closeAll(NOON)
  })

  test('keeps what is not packed, however old, and for some minutes what is', async () => {
    await insertAt(NOON)
    expect(await dropPackedPartitions(db.database, NOON + 1_000 * HOUR, KEPT_MS)).toEqual([])
    await markPacked(NOON)
    expect(await dropPackedPartitions(db.database, NOON + 4 * MINUTE, KEPT_MS)).toEqual([])
    expect(await dropPackedPartitions(db.database, NOON + 5 * MINUTE, KEPT_MS)).toEqual([
      'heartbeats_p20300301_11',
    ])
    expect(await tables()).toEqual(await attached())
  })

  test('finishes a detachment that was cut short', async () => {
    await markPacked(NOON)
    await withClient(async (reader) => {
      // A transaction that has used the table keeps a concurrent detachment from finishing.
      await reader.query('BEGIN')
      await reader.query('SELECT count(*) FROM heartbeats')
      await withClient(async (detaching) => {
        await detaching.query("SET lock_timeout = '100ms'")
        await expect(
          detaching.query('ALTER TABLE heartbeats DETACH PARTITION heartbeats_p20300301_11 CONCURRENTLY'),
        ).rejects.toThrow('lock timeout')
      })
      await reader.query('COMMIT')
    })
    expect(await dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)).toEqual(['heartbeats_p20300301_11'])
  })

  test('drops what was detached and not dropped', async () => {
    await markPacked(NOON)
    await db.pool.query('ALTER TABLE heartbeats DETACH PARTITION heartbeats_p20300301_11')
    await dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)
    expect(await tables()).not.toContain('heartbeats_p20300301_11')
  })

  test('remembers of a packed partition that it is, as long as it is there', async () => {
    await markPacked(NOON)
    await closeAll(NOON + HOUR)
    await markPacked(NOON + 2 * HOUR)
    await withClient(async (other) => {
      // Whoever drops partitions at the same time.
      await other.query('SELECT pg_advisory_lock($1)', [0x7061727474])
      expect(await dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)).toEqual([])
    })
    const packing = async () => (await db.pool.query('SELECT begins FROM heartbeat_packing')).rowCount
    expect(await packing()).toBe(2)
    expect(await dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)).toEqual(['heartbeats_p20300301_11'])
    expect(await packing()).toBe(1)
  })

  test('gives up when a reader is in the way, without holding writers up, and is done next time', async () => {
    await markPacked(NOON)
    await withClient(async (reader) => {
      await reader.query('BEGIN')
      await reader.query('SELECT count(*) FROM heartbeats')
      const attempt = dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)
      const refused = expect(attempt).rejects.toThrow('lock timeout')
      await insertAt(NOON + HOUR)
      await refused
      await insertAt(NOON + HOUR)
      await reader.query('COMMIT')
    })
    expect(await dropPackedPartitions(db.database, NOON + HOUR, KEPT_MS)).toEqual(['heartbeats_p20300301_11'])
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
    await dropOldPartitions(database, HEARTBEATS, NOON, HOUR)
    const { rows } = await sql<{ timeout: string; locks: number }>`
      SELECT current_setting('lock_timeout') AS timeout,
             (SELECT count(*)::integer FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks
    `.execute(database)
    expect(rows[0]).toEqual({ timeout: '0', locks: 0 })
    await pool.end()
  })
})
