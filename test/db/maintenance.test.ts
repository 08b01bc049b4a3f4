import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Maintenance, startMaintenance } from '../../src/db/maintenance.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { ManualClock } from '../support/clock.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { RETENTION } from '../support/retention.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

let db: TestDatabase
let clock: ManualClock
let maintenance: Maintenance | undefined

beforeEach(async () => {
  db = await createTestDatabase()
  clock = new ManualClock('2030-03-01T12:30:00Z')
})

afterEach(async () => {
  await maintenance?.stop()
  await db.drop()
})

function start(): Maintenance {
  maintenance = startMaintenance({
    database: db.database,
    upkeep: db.database,
    clock,
    now: async () => clock.now(),
    retention: RETENTION,
    log: createLog('silent'),
  })
  return maintenance
}

/** One whole pass: when it is over, it sets the timer for the next one. */
async function onePass(): Promise<void> {
  start()
  await expect.poll(() => clock.pending).toBe(1)
}

async function partitionOf(time: number): Promise<boolean> {
  const { rows } = await db.pool.query<{ found: boolean }>('SELECT to_regclass($1) IS NOT NULL AS found', [
    `heartbeats_p${new Date(time).toISOString().slice(0, 13).replaceAll('-', '').replace('T', '_')}`,
  ])
  return rows[0]!.found
}

async function count(table: string): Promise<number> {
  const { rows } = await db.pool.query<{ count: number }>(`SELECT count(*)::integer AS count FROM ${table}`)
  return rows[0]!.count
}

async function addRobot(): Promise<string> {
  const [site, fleet, robot] = [newId(), newId(), newId()]
  await db.pool.query("INSERT INTO sites (id, name) VALUES ($1, 'site')", [site])
  await db.pool.query("INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, 'fleet')", [fleet, site])
  await db.pool.query("INSERT INTO robots (id, site_id, fleet_id, name) VALUES ($1, $2, $3, 'robot')", [
    robot,
    site,
    fleet,
  ])
  return robot
}

describe('maintenance', () => {
  test('has made the partitions when it is ready', async () => {
    await start().ready
    expect(await partitionOf(clock.now())).toBe(true)
    expect(await partitionOf(clock.now() + DAY / 2)).toBe(true)
  })

  test('comes back every ten minutes', async () => {
    await start().ready
    await expect.poll(() => clock.pending).toBe(1)
    clock.advance(DAY)
    await expect.poll(() => clock.pending).toBe(1)
    clock.advance(10 * MINUTE)
    await expect.poll(() => partitionOf(clock.now() + DAY / 2)).toBe(true)
  })

  test('tries again soon when the database could not be reached', async () => {
    await db.pool.query('ALTER TABLE heartbeats RENAME TO mislaid')
    let ready = false
    void start().ready.then(() => {
      ready = true
    })
    await expect.poll(() => clock.pending).toBe(1)
    expect(ready).toBe(false)
    await db.pool.query('ALTER TABLE mislaid RENAME TO heartbeats')
    clock.advance(2_000)
    await expect.poll(() => ready).toBe(true)
  })

  test('prunes events after 30 days and remembered answers after one, in batches', async () => {
    const robot = await addRobot()
    const insertEvents = `
      INSERT INTO robot_events (id, robot_id, source, received_at, at, level, code, message)
      SELECT gen_random_uuid(), $1, 'server', $2, $2, 'info', 'connected', '' FROM generate_series(1, $3)`
    await db.pool.query(insertEvents, [robot, new Date(clock.now() - 30 * DAY - 1), 4_500])
    await db.pool.query(insertEvents, [robot, new Date(clock.now() - 30 * DAY + 1), 3])
    const insertAnswers = `
      INSERT INTO idempotent_requests (principal_id, key, request_hash, status, body_sealed, created_at)
      SELECT gen_random_uuid(), 'key', '', 201, '', $1 FROM generate_series(1, $2)`
    await db.pool.query(insertAnswers, [new Date(clock.now() - DAY - 1), 2_500])
    await db.pool.query(insertAnswers, [new Date(clock.now() - DAY + 1), 2])
    await onePass()
    expect(await count('robot_events')).toBe(3)
    expect(await count('idempotent_requests')).toBe(2)
  })

  test('does nothing more once it is stopped', async () => {
    await start().stop()
    expect(clock.pending).toBe(0)
  })
})
