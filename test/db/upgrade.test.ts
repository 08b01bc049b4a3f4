import { cp, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { listHeartbeats, summarizeHeartbeats } from '../../src/db/heartbeat-history.ts'
import { packSome } from '../../src/db/heartbeat-packer.ts'
import {
  closePartition,
  dropPackedPartitions,
  ensureHeartbeatPartitions,
} from '../../src/db/heartbeat-partitions.ts'
import { migrate } from '../../src/db/migrate.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { ManualClock } from '../support/clock.ts'
import { createEmptyDatabase } from '../support/postgres.ts'
import { RETENTION } from '../support/retention.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR

const log = createLog('silent')
const MIGRATIONS = join(import.meta.dirname, '../../migrations')

test('robots that waited before denials were there get their time, and are not taken for new without reason', async () => {
  const { url, pool, drop } = await createEmptyDatabase()
  onTestFinished(drop)
  const folder = await mkdtemp(join(tmpdir(), 'beacon-migrations-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  await cp(join(MIGRATIONS, '0001_spine.sql'), join(folder, '0001_spine.sql'))
  await migrate({ url, log, folder })

  const [site, fleet, key] = [newId(), newId(), newId()]
  await pool.query("INSERT INTO sites (id, name) VALUES ($1, 'site')", [site])
  await pool.query("INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, 'fleet')", [fleet, site])
  await pool.query(
    `INSERT INTO claim_credentials (id, kind, secret_hash, last_four, name, site_id, fleet_id, max_uses, uses)
     VALUES ($1, 'enrollment_key', sha256('key'), 'last', 'key', $2, $3, 10, 4)`,
    [key, site, fleet],
  )
  const robot = async (name: string, lifecycle: string, status: string, event?: string) => {
    const id = newId()
    await pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name, lifecycle, credential_id, token_hash, updated_at)
       VALUES ($1, $2, $3, $4, $5, $6, sha256($4::text::bytea), '2020-01-01')`,
      [id, site, fleet, name, lifecycle, key],
    )
    await pool.query(
      `INSERT INTO robot_status (robot_id${status ? ', heartbeat_at' : ''}) VALUES ($1${status})`,
      [id],
    )
    if (event)
      await pool.query(
        `INSERT INTO robot_events (id, robot_id, source, at, level, code, message)
         VALUES ($1, $2, 'server', now(), 'info', $3, '')`,
        [newId(), id, event],
      )
  }
  await robot('active', 'active', '')
  await robot('new', 'pending', '', 'enrolled')
  await robot('heard before', 'pending', ', now()')
  await robot('bound anew', 'pending', '', 'rebound')

  await migrate({ url, log })
  const { rows } = await pool.query(
    `SELECT name, lifecycle_before, pending_since > now() - interval '1 hour' AS has_time,
       token_credential_id = credential_id AS by_its_key FROM robots ORDER BY name`,
  )
  expect(rows).toEqual([
    { name: 'active', lifecycle_before: null, has_time: null, by_its_key: true },
    { name: 'bound anew', lifecycle_before: 'active', has_time: true, by_its_key: true },
    { name: 'heard before', lifecycle_before: 'active', has_time: true, by_its_key: true },
    { name: 'new', lifecycle_before: null, has_time: true, by_its_key: true },
  ])
})

test('heartbeats of a database from before packs are kept, packed with the partition that they are in, and read', async () => {
  const { url, pool, database, drop } = await createEmptyDatabase()
  onTestFinished(drop)
  const folder = await mkdtemp(join(tmpdir(), 'beacon-migrations-'))
  onTestFinished(() => rm(folder, { recursive: true }))
  for (const file of (await readdir(MIGRATIONS)).filter((name) => /^000[1-7]_/.test(name)))
    await cp(join(MIGRATIONS, file), join(folder, file))
  await migrate({ url, log, folder })

  // As the version before made them: six hours each, for more than a day ahead.
  const noon = Date.parse('2030-03-01T12:00:00Z')
  for (let start = noon - 6 * HOUR; start <= noon + 30 * HOUR; start += 6 * HOUR) {
    const name = `heartbeats_p${new Date(start).toISOString().slice(0, 13).replaceAll('-', '').replace('T', '_')}`
    await pool.query(`CREATE TABLE ${name} (LIKE heartbeats INCLUDING ALL)`)
    await pool.query(
      `ALTER TABLE heartbeats ATTACH PARTITION ${name}
       FOR VALUES FROM ('${new Date(start).toISOString()}') TO ('${new Date(start + 6 * HOUR).toISOString()}')`,
    )
  }
  const robot = newId()
  await pool.query(
    `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
     SELECT $1, at, at, 1, number, '{"battery": {"charge": 0.5}}'
     FROM generate_series(0, 659) AS number, LATERAL (SELECT $2::timestamptz + number * interval '1 minute' AS at) AS time`,
    [robot, new Date(noon - 5 * HOUR)],
  )

  await migrate({ url, log })
  const range = { from: new Date(noon - DAY), to: new Date(noon + 2 * DAY) }
  const seqs = async () =>
    (await listHeartbeats(database, robot, range, { limit: 1_000, after: undefined })).map((row) => row.seq)
  const hourly = async (now: number) => {
    const options = { stepMs: HOUR, fields: ['battery.charge'], retention: RETENTION, now }
    return (await summarizeHeartbeats(database, robot, range, options)).numbers.map(({ count }) => count)
  }
  const all = Array.from({ length: 660 }, (_, seq) => seq)
  expect(await seqs()).toEqual(all)
  const metrics = createMetrics()
  for (const now of [noon + 2 * HOUR, noon + 7 * HOUR, noon + 40 * HOUR]) {
    const clock = new ManualClock(now)
    await ensureHeartbeatPartitions(database, now)
    for (let closed: string | undefined = ''; closed !== undefined; )
      closed = await closePartition(database, now)
    const options = { upkeep: database, clock, now: async () => now, retention: RETENTION, log, metrics }
    while ((await packSome(options)) !== 'idle');
    await dropPackedPartitions(database, now + HOUR, RETENTION.rawMs)
    expect(await seqs()).toEqual(all)
    expect(await hourly(now)).toEqual(new Array(11).fill(60))
  }
  const { rows } = await pool.query<{ name: string }>(
    "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'heartbeats'::regclass ORDER BY 1",
  )
  // All of what was, and only hours in their place.
  expect(rows[0]!.name).toBe('heartbeats_p20300303_03')
}, 60_000)
