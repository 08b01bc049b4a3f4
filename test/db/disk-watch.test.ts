import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type DiskSpace, type DiskWatch, startDiskWatch } from '../../src/db/disk-watch.ts'
import { readHistorySizes } from '../../src/db/history-size.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const HOUR = 3_600_000
const GIB = 2 ** 30

let db: TestDatabase
let clock: ManualClock
let watch: DiskWatch
let space: DiskSpace
let said: { level: number; msg: string }[]
let metrics: ReturnType<typeof createMetrics>

beforeEach(async () => {
  db = await createTestDatabase()
  clock = new ManualClock()
  said = []
  metrics = createMetrics()
  space = { freeBytes: 50 * GIB, totalBytes: 100 * GIB }
})

afterEach(async () => {
  await watch.stop()
  await db.drop()
})

async function start(folder: string | undefined = '/data'): Promise<void> {
  watch = startDiskWatch({
    database: db.database,
    folder,
    clock,
    log: createLog('warn', { write: (line) => void said.push(JSON.parse(line)) }),
    metrics,
    spaceOf: async () => space,
  })
  await eventually(() => clock.pending === 1)
}

/** Looks every ten minutes, with so much less room after each. */
async function pass(hours: number, bytesPerHour: number): Promise<void> {
  for (let look = 0; look < hours * 6; look++) {
    space = { ...space, freeBytes: space.freeBytes - bytesPerHour / 6 }
    clock.advance(HOUR / 6)
    await eventually(() => clock.pending === 1)
  }
}

describe('the watch over the disk', () => {
  test('says nothing while there is room', async () => {
    await start()
    await pass(30, GIB / 10)
    expect(said).toEqual([])
  })

  test('warns when little is left, and once a day that it is so', async () => {
    space = { ...space, freeBytes: 9 * GIB }
    await start()
    expect(said.map(({ msg }) => msg)).toEqual([expect.stringContaining('has 9 % left')])
    expect(said[0]!.msg).toContain('BEACON_HISTORY_HOURS')
    await pass(23, 0)
    expect(said).toHaveLength(1)
    await pass(2, 0)
    expect(said).toHaveLength(2)
  })

  test('warns days before the disk is full, once it has seen it grow for hours', async () => {
    await start()
    await pass(2, GIB / 2)
    expect(said).toEqual([])
    await pass(2, GIB / 2)
    expect(said.map(({ msg }) => msg)).toEqual([expect.stringContaining('full in about 4 days')])
  })

  test('tells what the history takes, and of the disk where the database is on it', async () => {
    await start()
    const series = await metrics.registry.metrics()
    expect(series).toMatch(/beacon_disk_free_bytes\{folder="data"\} 53687091200/)
    expect(series).toMatch(/beacon_disk_size_bytes\{folder="data"\} 107374182400/)
    for (const level of ['heartbeats', 'raw', 'minutes', 'hours'])
      expect(series).toMatch(new RegExp(`beacon_history_bytes\\{level="${level}"\\} \\d+`))
  })

  test('of another’s database tells the size alone', async () => {
    watch = startDiskWatch({
      database: db.database,
      folder: undefined,
      clock,
      log: createLog('silent'),
      metrics,
    })
    await expect.poll(async () => metrics.registry.metrics()).toMatch(/beacon_history_bytes\{level="raw"\} 0/)
    expect(await metrics.registry.metrics()).not.toMatch(/beacon_disk_free_bytes\{/)
  })
})

test('the size of the history counts tables, their indexes and what is beside them', async () => {
  watch = { stop: async () => {} }
  const before = await readHistorySizes(db.database)
  expect(before).toMatchObject({ raw: 0, minutes: 0, hours: 0 })
  await db.pool.query(
    `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
     SELECT gen_random_uuid(), now(), now(), 1, number, '{}' FROM generate_series(1, 2000) AS number`,
  )
  const after = await readHistorySizes(db.database)
  expect(after.heartbeats - before.heartbeats).toBeGreaterThan(2000 * 100)
})
