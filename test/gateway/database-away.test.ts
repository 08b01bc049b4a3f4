import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { systemClock } from '../../src/runtime.ts'
import { type DatabaseProxy, startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { connectInMemory, UpgradeRefused } from '../support/memory-transport.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'
import { connect, type RunningGateway, startGateway } from './support.ts'

let db: TestDatabase
let fleet: TestFleet
let proxy: DatabaseProxy
let database: Database
let running: RunningGateway

beforeAll(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
})
afterAll(() => db.drop())
beforeEach(async () => {
  proxy = await startDatabaseProxy(db.url)
  database = openDatabase(
    openPool({
      url: proxy.url,
      name: 'test',
      maxConnections: 4,
      statementTimeoutMs: 10_000,
      silenceTimeoutMs: 500,
      onIdleError: () => {},
    }),
  )
  running = await startGateway(database, systemClock)
})
afterEach(async () => {
  proxy.restore()
  await running.gateway.stop()
  await database.destroy()
  await proxy.stop()
})

const history = async (robotId: string) =>
  (
    await db.database
      .selectFrom('heartbeats')
      .select('seq')
      .where('robot_id', '=', robotId)
      .orderBy('seq')
      .execute()
  ).map((row) => row.seq)

describe('while PostgreSQL is away', () => {
  it('robots stay connected, and their heartbeats are acknowledged once they are written', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, systemClock, robot)
    link.beat(1)
    await link.hears('ack')
    proxy.cut()
    for (let seq = 2; seq <= 50; seq += 1) link.beat(seq)
    await eventually(async () => (await running.metrics.databaseErrors.get()).values.length > 0)
    expect(link.frames.filter((frame) => frame.type === 'ack')).toHaveLength(1)
    expect(link.end.isOpen).toBe(true)
    proxy.restore()
    await link.hears('ack', (frame) => frame.seq === 50)
    expect(await history(robot.id)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1))
  })

  it('nobody new is let in: 503 with Retry-After for an unknown token, and a close code that says come back', async () => {
    const robot = await insertRobot(db.database, fleet)
    const waiting = await connect(running, systemClock, robot, { hello: false })
    proxy.cut()
    waiting.say({ type: 'hello', protocol: 1 })
    const end = await waiting.end.closed
    expect(end.code).toBe(4005)
    expect(end.reason).toMatch(/^overloaded; reconnect_in_ms=\d+$/)
    const other = await insertRobot(db.database, fleet)
    const refusal = await connectInMemory((request) => running.gateway.admit(request), {
      authorization: other.authorization,
    }).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(UpgradeRefused)
    expect(refusal).toMatchObject({ status: 503, code: 'database_unavailable' })
    expect(Number((refusal as UpgradeRefused).retryAfter)).toBeGreaterThan(0)
  })

  it('sockets that go on sending are paused before memory runs out, also when they go on, and nothing is lost', async () => {
    const robots = await Promise.all(Array.from({ length: 60 }, () => insertRobot(db.database, fleet)))
    const depths = vi.spyOn(running.metrics.queueDepth, 'set')
    const links = await Promise.all(robots.map((robot) => connect(running, systemClock, robot)))
    proxy.cut()
    for (let seq = 1; seq <= 1_900; seq += 1) for (const link of links) link.beat(seq)
    expect(links.some((link) => link.end.paused)).toBe(true)
    const waiting = (await running.metrics.pausedSessions.get()).values[0]?.value
    expect(waiting).toBeGreaterThan(0)
    proxy.restore()
    for (const link of links) await link.hears('ack', (frame) => frame.seq === 1_900)
    for (const robot of robots) expect(await history(robot.id)).toHaveLength(1_900)
    const waited = (depths.mock.calls as unknown as [{ queue: string }, number][])
      .filter(([{ queue }]) => queue === 'heartbeats')
      .map(([, depth]) => depth)
    expect(Math.max(...waited)).toBeGreaterThan(40_000)
    // Each robot may have one on its way when the last place is taken.
    expect(Math.max(...waited)).toBeLessThanOrEqual(50_000 + robots.length)
  }, 60_000)
})

describe('a database that says nothing at all', () => {
  it('is given up for a new connection, and heartbeats are stored once it answers', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, systemClock, robot)
    proxy.fallSilent()
    for (let seq = 1; seq <= 10; seq += 1) link.beat(seq)
    await eventually(async () => (await running.metrics.databaseErrors.get()).values.length > 0)
    expect(link.frames.some((frame) => frame.type === 'ack')).toBe(false)
    proxy.restore()
    await link.hears('ack', (frame) => frame.seq === 10)
    expect(await history(robot.id)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
  })
})

describe('a write whose outcome is not known', () => {
  it('is in the history once', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, systemClock, robot)
    link.beat(1)
    await link.hears('ack')
    proxy.swallowAnswers()
    for (let seq = 2; seq <= 20; seq += 1) link.beat(seq)
    // The statement takes effect, its answer never comes.
    await eventually(async () => (await history(robot.id)).length === 20)
    proxy.restore()
    await link.hears('ack', (frame) => frame.seq === 20)
    expect(await history(robot.id)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
  })
})
