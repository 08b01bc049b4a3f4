import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { migrate } from '../../src/db/migrate.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { createEmptyDatabase } from '../support/postgres.ts'

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
