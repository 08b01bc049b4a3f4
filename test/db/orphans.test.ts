import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { markOrphansOffline, markOrphansStale, ORPHANS_PER_STATEMENT } from '../../src/db/presence.ts'
import { beatServer, removeServer } from '../../src/db/servers.ts'
import { inTransaction } from '../../src/db/transaction.ts'
import { newId } from '../../src/ids.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot } from '../support/robots.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const INTERVAL_MS = 10_000
const NOW = new Date('2026-01-01T00:00:00Z')
const LONG_AGO = new Date(NOW.getTime() - 600_000)

async function orphans(count: number): Promise<{ serverId: string; robotIds: string[] }> {
  const fleet = await insertFleet(db.database)
  const serverId = newId()
  const robots = await Promise.all(Array.from({ length: count }, () => insertRobot(db.database, fleet)))
  const robotIds = robots.map((robot) => robot.id).toSorted()
  await db.database
    .updateTable('robot_status')
    .set({ session_no: 1, server_id: serverId, connection: 'online', last_seen_at: LONG_AGO })
    .where('robot_id', 'in', robotIds)
    .execute()
  return { serverId, robotIds }
}

test('robots that somebody is opening at this moment are left alone, and nobody waits for them', async () => {
  const { serverId, robotIds } = await orphans(5)
  await inTransaction(db.database, async (opening) => {
    await sql`SELECT FROM robot_status WHERE robot_id = ${robotIds[2]!}::uuid FOR NO KEY UPDATE`.execute(
      opening,
    )
    const others = robotIds.filter((id) => id !== robotIds[2])
    expect((await markOrphansStale(db.database, [serverId], INTERVAL_MS, NOW)).toSorted()).toEqual(others)
    const offline = await markOrphansOffline(db.database, [serverId], [300_000], 60_000, INTERVAL_MS, NOW)
    expect(offline.toSorted()).toEqual(others)
  })
  expect(await markOrphansStale(db.database, [serverId], INTERVAL_MS, NOW)).toEqual([robotIds[2]])
})

test('robots of a server that was thought dead and says that it lives are left alone', async () => {
  const { serverId, robotIds } = await orphans(2)
  await beatServer(db.database, { id: serverId, hostname: 'back', processId: 1 })
  expect(await markOrphansStale(db.database, [serverId], INTERVAL_MS, NOW)).toEqual([])
  expect(await markOrphansOffline(db.database, [serverId], [300_000], 60_000, INTERVAL_MS, NOW)).toEqual([])
  await removeServer(db.database, serverId)
  expect(await markOrphansStale(db.database, [serverId], INTERVAL_MS, NOW)).toHaveLength(robotIds.length)
})

test('many are taken in parts', async () => {
  const { serverId, robotIds } = await orphans(ORPHANS_PER_STATEMENT + 3)
  const first = await markOrphansStale(db.database, [serverId], INTERVAL_MS, NOW)
  expect(first).toHaveLength(ORPHANS_PER_STATEMENT)
  const second = await markOrphansStale(db.database, [serverId], INTERVAL_MS, NOW)
  expect([...first, ...second].toSorted()).toEqual(robotIds)
})
