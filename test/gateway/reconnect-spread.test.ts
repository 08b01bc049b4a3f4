import fc from 'fast-check'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase, openPool } from '../../src/db/database.ts'
import type { GatewayParts } from '../../src/gateway/gateway.ts'
import { COUNT_EVERY_MS, ReconnectSpread, spreadFor } from '../../src/gateway/reconnect-spread.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { MAX_RECONNECT_SPREAD_MS } from '../../src/protocol/limits.ts'
import { ManualClock } from '../support/clock.ts'
import { startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet, type TestRobot } from '../support/robots.ts'
import { connect, startGateway, stopGateway } from './support.ts'

describe('the time over which so many robots come back', () => {
  it('is as long as it takes to let them in, and at most two minutes', () => {
    expect(spreadFor(3, 1_000)).toBe(0)
    expect(spreadFor(999, 1_000)).toBe(0)
    expect(spreadFor(1_000, 1_000)).toBe(1_000)
    expect(spreadFor(100_000, 1_000)).toBe(100_000)
    expect(spreadFor(100_000, 8_000)).toBe(12_500)
    expect(spreadFor(1_000_000, 1_000)).toBe(120_000)
  })

  it('is what one core takes where no rate is set', () => {
    expect(spreadFor(100_000, 0)).toBe(100_000)
  })

  it('is a whole number that a robot takes, and never shorter for more robots', () => {
    const rates = fc.oneof(fc.constant(0), fc.double({ min: 0.01, max: 1e6, noNaN: true }))
    fc.assert(
      fc.property(fc.nat({ max: 5_000_000 }), fc.nat({ max: 5_000_000 }), rates, (some, more, rate) => {
        const [spread, longer] = [spreadFor(some, rate), spreadFor(some + more, rate)]
        expect(Number.isInteger(spread)).toBe(true)
        expect(spread === 0 || (spread >= 1_000 && spread <= MAX_RECONNECT_SPREAD_MS)).toBe(true)
        expect(longer).toBeGreaterThanOrEqual(spread)
      }),
    )
  })
})

describe('a welcome', () => {
  let db: TestDatabase
  let fleet: TestFleet
  let clock: ManualClock

  beforeAll(async () => {
    db = await createTestDatabase()
  })
  afterAll(() => db.drop())
  beforeEach(async () => {
    clock = new ManualClock(Date.now())
    fleet = await insertFleet(db.database)
    // Nobody of the tests before is expected.
    await db.database
      .updateTable('robot_status')
      .set({ connection: 'offline', last_seen_at: null, connection_since: new Date(0) })
      .execute()
    return async () => {
      for (const gateway of gateways.splice(0)) await stopGateway(gateway, clock)
    }
  })

  const gateways: Awaited<ReturnType<typeof startGateway>>[] = []
  async function start(more: Partial<GatewayParts> = {}) {
    const gateway = await startGateway(db.database, clock, undefined, { returnsPerSecond: 0.5, ...more })
    gateways.push(gateway)
    return gateway
  }
  /** Robots that another server holds, or held when they were last heard. */
  async function insertElsewhere(connection: 'online' | 'offline', lastSeenMsAgo: number) {
    const robot = await insertRobot(db.database, fleet)
    const at = new Date(clock.now() - lastSeenMsAgo)
    await db.database
      .updateTable('robot_status')
      .set({ session_no: 1, server_id: newId(), connection, connection_since: at, last_seen_at: at })
      .where('robot_id', '=', robot.id)
      .execute()
  }
  async function spreadToldTo(gateway: Awaited<ReturnType<typeof start>>, robot?: TestRobot) {
    const link = await connect(gateway, clock, robot ?? (await insertRobot(db.database, fleet)))
    return (await link.hears('welcome')).reconnect_spread_ms
  }

  it('names no spread to a small fleet', async () => {
    const gateway = await start({ returnsPerSecond: 1_000 })
    expect(await spreadToldTo(gateway)).toBeUndefined()
  })

  it('counts robots of all servers, and those that were heard within a day', async () => {
    await insertElsewhere('online', 0)
    await insertElsewhere('offline', 23 * 3_600_000)
    await insertElsewhere('offline', 25 * 3_600_000)
    // Enrolled, and never heard.
    await insertRobot(db.database, fleet)
    expect(await spreadToldTo(await start())).toBe(4_000)
  })

  it('names what was counted last, a minute ago at the most, and never less than the sessions here ask for', async () => {
    const gateway = await start({ returnsPerSecond: 1 })
    for (const expected of [1_000, 2_000]) expect(await spreadToldTo(gateway)).toBe(expected)
    for (let count = 0; count < 10; count += 1) await insertElsewhere('online', 0)
    expect(await spreadToldTo(gateway)).toBe(3_000)
    await clock.pass(COUNT_EVERY_MS, 250)
    const robot = await insertRobot(db.database, fleet)
    await eventually(async () => (await spreadToldTo(gateway, robot)) === 13_000, 'the new count')
  })

  it('names what an operator wants instead, and nothing where that is nothing', async () => {
    for (let count = 0; count < 10; count += 1) await insertElsewhere('online', 0)
    expect(await spreadToldTo(await start({ reconnectSpreadMs: 45_000 }))).toBe(45_000)
    expect(await spreadToldTo(await start({ reconnectSpreadMs: 0 }))).toBeUndefined()
  })

  it('names it again when it is said again', async () => {
    await insertElsewhere('online', 0)
    const gateway = await start()
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(gateway, clock, robot)
    await db.database.updateTable('robots').set({ name: 'renamed' }).where('id', '=', robot.id).execute()
    await gateway.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
    const again = await link.hears('welcome', (frame) => frame.name === 'renamed')
    expect(again.reconnect_spread_ms).toBe(2_000)
  })

  it('goes by what its supervisor counted in a process that has one', async () => {
    const told: number[] = []
    await insertElsewhere('online', 0)
    await start({ onExpectedRobots: (robots) => told.push(robots) })
    expect(told).toEqual([1])
    const supervised = await start({ supervised: true })
    supervised.gateway.setExpectedRobots(30)
    expect(await spreadToldTo(supervised)).toBe(60_000)
  })

  it('is what was counted before while the database cannot be asked', async () => {
    await insertElsewhere('online', 0)
    const proxy = await startDatabaseProxy(db.url)
    const database = openDatabase(
      openPool({
        url: proxy.url,
        name: 'test',
        maxConnections: 1,
        statementTimeoutMs: 5_000,
        onIdleError() {},
      }),
    )
    const warnings: string[] = []
    const log = createLog('silent')
    log.warn = ((_: object, message: string) => warnings.push(message)) as never
    const spread = new ReconnectSpread({ database, clock, log, returnsPerSecond: 0.1, sessions: () => 0 })
    await spread.start()
    expect(spread.ms).toBe(10_000)
    proxy.cut()
    clock.advance(COUNT_EVERY_MS)
    await eventually(() => warnings.length > 0)
    expect(spread.ms).toBe(10_000)
    await insertElsewhere('online', 0)
    proxy.restore()
    clock.advance(COUNT_EVERY_MS)
    await eventually(() => spread.ms === 20_000)
    await spread.stop()
    await database.destroy()
    await proxy.stop()
  })
})
