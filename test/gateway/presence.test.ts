import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'
import { connect, type RunningGateway, startGateway } from './support.ts'

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
})

const connection = async (robotId: string) => {
  const row = await db.database
    .selectFrom('robot_status')
    .select(['connection', 'connection_reason'])
    .where('robot_id', '=', robotId)
    .executeTakeFirstOrThrow()
  return `${row.connection} ${row.connection_reason}`
}
const becomes = (robotId: string, expected: string) =>
  eventually(async () => (await connection(robotId)) === expected, expected)

/** Lets time pass in ticks, as it would, with all that is written meanwhile. */
const pass = (ms: number) => clock.pass(ms, 250)

/**
 * Lets time pass until the robot is what is expected; answers how much passed, in milliseconds. That may be more than
 * is needed: a round of watching that takes long in real time misses some of the time that passes here.
 */
async function passUntil(robotId: string, expected: string, eachSecond = async () => {}): Promise<number> {
  let passed = 0
  await eventually(async () => {
    if ((await connection(robotId)) === expected) return true
    await clock.pass(1_000, 250)
    passed += 1_000
    await eachSecond()
    return false
  }, expected)
  return passed
}

async function stop({ gateway }: RunningGateway): Promise<void> {
  let stopped = false
  void gateway.stop().then(() => {
    stopped = true
  })
  await eventually(() => {
    clock.advance(5)
    return stopped
  })
}

describe('a half-open socket', () => {
  it('is found by silence: stale, then offline and closed with a code that says come back', async () => {
    const running = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    await pass(24_500)
    expect(await connection(robot.id)).toBe('online connected')
    await pass(1_000)
    await becomes(robot.id, 'stale silent')
    expect(link.end.isOpen).toBe(true)
    await pass(10_000)
    await becomes(robot.id, 'offline heartbeat_timeout')
    expect(await link.end.closed).toEqual({ code: 4002, reason: 'heartbeat_timeout' })
    await stop(running)
  })

  it('that speaks again in time is online again', async () => {
    const running = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    await pass(26_000)
    await becomes(robot.id, 'stale silent')
    link.beat(1)
    await becomes(robot.id, 'online heard_again')
    await stop(running)
  })
})

describe('a robot that waits for approval', () => {
  it('is online by its heartbeats, though they are not taken', async () => {
    const running = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet, { lifecycle: 'pending' })
    const link = await connect(running, clock, robot)
    for (let seq = 1; seq <= 6; seq += 1) {
      link.beat(seq)
      await pass(10_000)
    }
    expect(await connection(robot.id)).toBe('online connected')
    expect(link.frames.map((frame) => frame.type)).toEqual(['welcome'])
    await stop(running)
  })
})

describe('a lost socket', () => {
  it('leaves the robot online until its silence has lasted', async () => {
    const running = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    link.end.vanish()
    await pass(20_000)
    expect(await connection(robot.id)).toBe('online connected')
    await pass(6_000)
    await becomes(robot.id, 'stale connection_lost')
    await pass(10_000)
    await becomes(robot.id, 'offline connection_lost')
    await stop(running)
  })

  it('does not matter when the robot is back, here or on another server', async () => {
    const one = await startGateway(db.database, clock)
    const two = await startGateway(db.database, clock, one.bus)
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(one, clock, robot)
    link.end.vanish()
    await pass(20_000)
    const back = await connect(two, clock, robot)
    for (let seq = 1; seq <= 6; seq += 1) {
      back.beat(seq)
      await pass(10_000)
    }
    expect(await connection(robot.id)).toBe('online connected')
    await stop(one)
    await stop(two)
  })
})

describe('a restart of the control plane', () => {
  it('calls nobody offline who returns within the longest backoff', async () => {
    const before = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    await connect(before, clock, robot)
    await stop(before)
    // Away for ten minutes: that is nobody's silence.
    clock.advance(600_000)
    const after = await startGateway(db.database, clock)
    await passUntil(robot.id, 'stale server_gone')
    await pass(50_000)
    expect(await connection(robot.id)).toBe('stale server_gone')
    const back = await connect(after, clock, robot)
    expect(await connection(robot.id)).toBe('online connected')
    expect(back.frames[0]).toMatchObject({ session_no: 2 })
    for (let seq = 1; seq <= 6; seq += 1) {
      back.beat(seq)
      await pass(10_000)
    }
    expect(await connection(robot.id)).toBe('online connected')
    await stop(after)
  })

  it('calls those offline who do not return: after 60 s, 3 intervals and 5 s', async () => {
    const before = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    await connect(before, clock, robot)
    await stop(before)
    const after = await startGateway(db.database, clock)
    const took = await passUntil(robot.id, 'offline did_not_return')
    expect(took).toBeGreaterThanOrEqual(90_000)
    await stop(after)
  })

  it('grants more time where so many return that they have to wait for their turn', async () => {
    const before = await startGateway(db.database, clock)
    const robots = await Promise.all([1, 2, 3].map(() => insertRobot(db.database, fleet)))
    for (const robot of robots) await connect(before, clock, robot)
    await stop(before)
    // As if each robot's turn took 20 s.
    const after = await startGateway(db.database, clock, undefined, { returnsPerSecond: 0.05 })
    const took = await passUntil(robots[0]!.id, 'offline did_not_return')
    expect(took).toBeGreaterThanOrEqual(90_000 + 3 * 20_000)
    await stop(after)
  })
})

describe('robots that spread their return over 100 s, as their server told them', () => {
  it('are not offline before the last of them had the time', async () => {
    const dying = await startGateway(db.database, new ManualClock(clock.now()), undefined, {
      reconnectSpreadMs: 100_000,
    })
    const robot = await insertRobot(db.database, fleet)
    const last = await insertRobot(db.database, fleet)
    const link = await connect(dying, clock, robot)
    expect((await link.hears('welcome')).reconnect_spread_ms).toBe(100_000)
    await connect(dying, clock, last)
    // Killed: its clock stands still. Another server comes, that welcomes with the same spread.
    const after = await startGateway(db.database, clock, undefined, { reconnectSpreadMs: 100_000 })
    const stale = await passUntil(robot.id, 'stale server_gone')
    await pass(100_000 - stale)
    expect(await connection(robot.id)).toBe('stale server_gone')
    const back = await connect(after, clock, last)
    let seq = 0
    const took = await passUntil(robot.id, 'offline did_not_return', async () => {
      seq += 1
      back.beat(seq)
    })
    // Known to be gone after 20 s; from then on 100 s, 3 intervals and 5 s.
    expect(Math.max(stale, 100_000) + took).toBeGreaterThanOrEqual(150_000)
    expect(await connection(last.id)).toBe('online connected')
    const { rows } = await db.pool.query(
      "SELECT 1 FROM robot_events WHERE robot_id = $1 AND code = 'offline'",
      [last.id],
    )
    expect(rows).toEqual([])
    await stop(after)
  })

  it('are offline by their silence alone while their server lives: it is their own network that is gone', async () => {
    const gateway = await startGateway(db.database, clock, undefined, { reconnectSpreadMs: 100_000 })
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(gateway, clock, robot)
    link.end.vanish()
    const stale = await passUntil(robot.id, 'stale connection_lost')
    const offline = stale + (await passUntil(robot.id, 'offline connection_lost'))
    expect(offline).toBeLessThan(60_000)
    await stop(gateway)
  })
})

describe('a server that dies without a word', () => {
  it('is noticed by another, and its robots get the same time to return', async () => {
    const dying = await startGateway(db.database, new ManualClock(clock.now()))
    const watching = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    const returning = await insertRobot(db.database, fleet)
    await connect(dying, clock, robot)
    await connect(dying, clock, returning)
    // The dying server's clock never moves again: it does not beat, it watches nobody.
    await passUntil(robot.id, 'stale server_gone')
    const link = await connect(watching, clock, returning)
    let seq = 0
    const took = await passUntil(robot.id, 'offline did_not_return', async () => {
      seq += 1
      link.beat(seq)
    })
    expect(took).toBeGreaterThanOrEqual(60_000)
    expect(await connection(returning.id)).toBe('online connected')
    await stop(watching)
  })

  it('says again who is here when the others were wrong', async () => {
    const slowClock = new ManualClock(clock.now())
    const slow = await startGateway(db.database, slowClock)
    const watching = await startGateway(db.database, clock)
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(slow, slowClock, robot)
    await passUntil(robot.id, 'offline did_not_return')
    // It was merely stuck: its robot was there all along.
    slowClock.advance(5_000)
    link.beat(1)
    await becomes(robot.id, 'online restated')
    await stop(watching)
  })
})
