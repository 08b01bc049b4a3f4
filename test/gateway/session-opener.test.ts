import { afterAll, beforeAll, expect, test } from 'vitest'
import { SessionOpener } from '../../src/gateway/session-opener.ts'
import { newId } from '../../src/ids.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { hashToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot } from '../support/robots.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

// Presence and heartbeats of other processes take the same rows in an order of their own.
test('sessions whose statement ran into a deadlock are opened by the next', async () => {
  const fleet = await insertFleet(db.database)
  const robots = [await insertRobot(db.database, fleet), await insertRobot(db.database, fleet)]
  const [first, last] = robots.map(({ id }) => id).sort()
  const other = await db.pool.connect()
  // Somebody else is to be the victim.
  await other.query(`SET deadlock_timeout = '10s'`)
  await other.query('BEGIN')
  await other.query('SELECT FROM robots WHERE id = $1 FOR UPDATE', [last])

  const opener = new SessionOpener(
    db.database,
    newId(),
    'alert',
    new ManualClock(Date.now()),
    createMetrics(),
  )
  const opened = Promise.all(
    robots.map(({ id, token }) =>
      opener.open({
        robotId: id,
        tokenHash: hashToken(token).toString('hex'),
        withNextToken: false,
        address: '192.0.2.1',
        hello: { protocol: 1, agent: {} },
        machineHash: undefined,
      }),
    ),
  )
  await eventually(async () => {
    const { rows } = await db.pool.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    )
    return rows.length === 1
  })
  await other.query('SELECT FROM robots WHERE id = $1 FOR UPDATE', [first])
  await other.query('COMMIT')
  other.release(true)
  expect((await opened).map((session) => session?.sessionNo)).toEqual([1, 1])
})
