import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { closePool, openDatabase, openPool } from '../../src/db/database.ts'
import { systemClock } from '../../src/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { type DatabaseProxy, startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'
import { connect, type RunningGateway, startGateway } from './support.ts'

const CONNECTIONS = 6

let db: TestDatabase
let fleet: TestFleet
let proxy: DatabaseProxy
let pool: ReturnType<typeof openPool>
let clock: ManualClock
let running: RunningGateway

beforeAll(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
})
afterAll(() => db.drop())
beforeEach(async () => {
  proxy = await startDatabaseProxy(db.url)
  // Patient enough for a statement to be waited for until the test itself is over.
  pool = openPool({
    url: proxy.url,
    name: 'test',
    maxConnections: CONNECTIONS,
    statementTimeoutMs: 60_000,
    onIdleError: () => {},
  })
  // What is asked from now on has a connection: one that is still to be made would hear nothing.
  await Promise.all(Array.from({ length: CONNECTIONS }, () => pool.query('SELECT pg_sleep(0.05)')))
  clock = new ManualClock(Date.now())
  running = await startGateway(openDatabase(pool), clock)
})
afterEach(async () => {
  await closePool(pool, systemClock)
  await proxy.stop()
})

/** Stops the gateway, and answers with the milliseconds that its clock was moved for it. */
async function stopped(): Promise<number> {
  const from = clock.monotonic()
  let took: number | undefined
  const stopping = running.gateway.stop().then(() => {
    took = clock.monotonic() - from
  })
  // Nothing but the clock brings it on: a statement's own limits are minutes away.
  while (took === undefined && clock.monotonic() - from < 20_000) await clock.pass(20)
  expect(took, 'it has stopped').toBeDefined()
  await stopping
  return took!
}

const history = async (robotId: string) =>
  (await db.database.selectFrom('heartbeats').select('seq').where('robot_id', '=', robotId).execute()).map(
    ({ seq }) => seq,
  )

describe('stopping while PostgreSQL says nothing', () => {
  it('gives up on statements that are under way, and acknowledges nothing of them', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    proxy.holdAnswers()
    link.beat(1)
    link.say({
      type: 'event',
      id: robot.id,
      at: new Date(clock.now()).toISOString(),
      level: 'info',
      code: 'held',
      message: 'held',
    })
    clock.advance(5)
    await eventually(async () => (await history(robot.id)).length === 1, 'the statement to take effect')
    expect(await stopped()).toBeLessThanOrEqual(9_000)
    expect(await link.end.closed).toMatchObject({ code: 1012 })
    // What comes now is nobody's.
    proxy.restore()
    await eventually(() => pool.idleCount === pool.totalCount, 'the answers')
    expect(link.frames.map(({ type }) => type)).not.toContain('ack')
    expect(link.frames.map(({ type }) => type)).not.toContain('event_ack')
  })

  it('gives up on a session that is being opened, and on the list of servers', async () => {
    const link = await connect(running, clock, await insertRobot(db.database, fleet), { hello: false })
    proxy.fallSilent()
    const asked = pool.waitingCount + pool.totalCount - pool.idleCount
    link.say({ type: 'hello', protocol: 1 })
    await eventually(() => pool.totalCount - pool.idleCount > asked, 'the statement that opens it')
    // A beat that hangs, too.
    clock.advance(5_000)
    expect(await stopped()).toBeLessThanOrEqual(9_000)
    expect(await link.end.closed).toMatchObject({ code: 1012 })
  })
})

it('stopping waits for a session that is being opened, and tells of its beginning and its end', async () => {
  const robot = await insertRobot(db.database, fleet)
  const link = await connect(running, clock, robot, { hello: false })
  proxy.holdAnswers()
  link.say({ type: 'hello', protocol: 1 })
  let done = false
  const stopping = running.gateway.stop().then(() => {
    done = true
  })
  // Sockets have until then to close; what is left is for the database alone.
  await clock.pass(3_000, 20)
  expect(await link.end.closed).toMatchObject({ code: 1012 })
  proxy.restore()
  await eventually(() => {
    clock.advance(1)
    return done
  }, 'the end')
  await stopping
  const told = await db.database
    .selectFrom('robot_events')
    .select('code')
    .where('robot_id', '=', robot.id)
    .orderBy('id')
    .execute()
  expect(told.map(({ code }) => code)).toEqual(['connected', 'disconnected'])
})
