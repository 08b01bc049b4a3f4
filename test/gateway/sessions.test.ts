import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { connectInMemory, UpgradeRefused } from '../support/memory-transport.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'
import { connect, type RunningGateway, startGateway } from './support.ts'

let db: TestDatabase
let fleet: TestFleet
let clock: ManualClock
let running: RunningGateway

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())
beforeEach(async () => {
  clock = new ManualClock(Date.now())
  fleet = await insertFleet(db.database)
  running = await startGateway(db.database, clock)
})
afterEach(async () => {
  const stopped = running.gateway.stop()
  await settle(stopped)
})

/** Moves the clock until the promise is settled: for code that waits for time to pass. */
async function settle<Result>(promise: Promise<Result>): Promise<Result> {
  let done = false
  void promise.then(
    () => {
      done = true
    },
    () => {
      done = true
    },
  )
  await eventually(() => {
    clock.advance(5)
    return done
  })
  return promise
}

const status = (robotId: string) =>
  db.database.selectFrom('robot_status').selectAll().where('robot_id', '=', robotId).executeTakeFirstOrThrow()
const history = (robotId: string) =>
  db.database
    .selectFrom('heartbeats')
    .select(['seq', 'session_no', 'body'])
    .where('robot_id', '=', robotId)
    .orderBy('seq')
    .execute()
const timeline = (robotId: string) =>
  db.database.selectFrom('robot_events').selectAll().where('robot_id', '=', robotId).orderBy('id').execute()
const admit = (authorization?: string, subprotocols?: string[]) =>
  connectInMemory((request) => running.gateway.admit(request), {
    ...(authorization === undefined ? {} : { authorization }),
    ...(subprotocols ? { subprotocols } : {}),
  }).catch((error: unknown) => error)

describe('the upgrade', () => {
  it('is refused without a token, with noise, with a token of nobody', async () => {
    expect(await admit()).toMatchObject({ status: 401, code: 'credentials_required' })
    expect(await admit('Bearer rf_robot_nonsense')).toMatchObject({ status: 401, code: 'invalid_token' })
    expect(await admit('Basic abc')).toMatchObject({ status: 401, code: 'credentials_required' })
    expect(await admit(`Bearer ${mintCheckedToken('robot')}`)).toMatchObject({
      status: 401,
      code: 'invalid_token',
    })
    expect(await admit(`Bearer ${mintCheckedToken('personal')}`)).toMatchObject({ status: 401 })
  })

  it('is refused without the subprotocol', async () => {
    const robot = await insertRobot(db.database, fleet)
    expect(await admit(robot.authorization, ['chat'])).toMatchObject({
      status: 400,
      code: 'subprotocol_required',
    })
  })

  it('is refused to a retired robot and after a revocation, with the reason', async () => {
    const retired = await insertRobot(db.database, fleet, { lifecycle: 'retired' })
    expect(await admit(retired.authorization)).toMatchObject({ status: 401, code: 'robot_retired' })
    const revoked = await insertRobot(db.database, fleet)
    await db.database
      .updateTable('robots')
      .set({ token_revoked_at: new Date() })
      .where('id', '=', revoked.id)
      .execute()
    expect(await admit(revoked.authorization)).toMatchObject({ status: 401, code: 'token_revoked' })
  })

  it('remembers a token only until it is told otherwise', async () => {
    const robot = await insertRobot(db.database, fleet)
    expect(await admit(robot.authorization)).not.toBeInstanceOf(UpgradeRefused)
    await db.database
      .updateTable('robots')
      .set({ token_revoked_at: new Date() })
      .where('id', '=', robot.id)
      .execute()
    await running.bus.publish({ type: 'robots_revoked', robot_ids: [robot.id] })
    expect(await admit(robot.authorization)).toMatchObject({ code: 'token_revoked' })
  })

  it('is refused with 503 while the server drains', async () => {
    const stopping = running.gateway.stop()
    const robot = await insertRobot(db.database, fleet)
    const refusal = await admit(robot.authorization)
    expect(refusal).toMatchObject({ status: 503, code: 'draining' })
    expect(Number((refusal as UpgradeRefused).retryAfter)).toBeGreaterThan(0)
    await settle(stopping)
    running = await startGateway(db.database, clock)
  })
})

describe('a session', () => {
  it('opens with a growing number, beats, is acknowledged from the database, and says bye', async () => {
    const robot = await insertRobot(db.database, fleet, { name: 'warehouse-bot-01' })
    const link = await connect(running, clock, robot)
    expect(link.frames[0]).toMatchObject({
      type: 'welcome',
      robot_id: robot.id,
      name: 'warehouse-bot-01',
      session_no: 1,
      heartbeat_interval_ms: 10_000,
      lifecycle: 'active',
    })
    expect(await status(robot.id)).toMatchObject({
      connection: 'online',
      session_no: 1,
      server_id: running.serverId,
    })

    link.beat(1, { health: 'warn', battery: { charge: 0.5 } })
    link.beat(2, { health: 'ok', system: { cpu: 0.25 } })
    clock.advance(5)
    await link.hears('ack', (frame) => frame.seq === 2)
    expect(await history(robot.id)).toEqual([
      { seq: 1, session_no: 1, body: { health: 'warn', battery: { charge: 0.5 } } },
      { seq: 2, session_no: 1, body: { health: 'ok', system: { cpu: 0.25 } } },
    ])
    expect(await status(robot.id)).toMatchObject({
      health: 'ok',
      heartbeat_seq: 2,
      heartbeat: { health: 'ok', system: { cpu: 0.25 } },
    })

    link.say({ type: 'bye', reason: 'shutdown' })
    expect(await link.end.closed).toEqual({ code: 1000, reason: 'bye' })
    await eventually(async () => (await status(robot.id)).connection === 'offline')
    expect(await status(robot.id)).toMatchObject({ connection_reason: 'bye', health: 'ok' })
    const codes = await eventually(async () => {
      const found = (await timeline(robot.id)).map((row) => row.code)
      return found.length === 3 ? found : undefined
    })
    expect(codes.sort()).toEqual(['connected', 'disconnected', 'offline'])

    const again = await connect(running, clock, robot)
    expect(again.frames[0]).toMatchObject({ session_no: 2 })
  })

  it('of a robot that says hello and bye in one breath has its beginning before its end', async () => {
    const robot = await insertRobot(db.database, fleet)
    const end = await connectInMemory((request) => running.gateway.admit(request), {
      authorization: `Bearer ${robot.token}`,
    })
    end.send(JSON.stringify({ type: 'hello', protocol: 1 }))
    end.send(JSON.stringify({ type: 'bye', reason: 'shutdown' }))
    expect(await settle(end.closed)).toEqual({ code: 1000, reason: 'bye' })
    const codes = await settle(
      eventually(async () => {
        const found = (await timeline(robot.id)).map((row) => row.code)
        return found.length === 3 ? found : undefined
      }),
    )
    expect(codes.slice(0, 2)).toEqual(['connected', 'disconnected'])
  })

  it('that breaks while it is being opened stands on the timeline, and its robot is not offline before its time', async () => {
    const robot = await insertRobot(db.database, fleet)
    const end = await connectInMemory((request) => running.gateway.admit(request), {
      authorization: `Bearer ${robot.token}`,
    })
    end.send(JSON.stringify({ type: 'hello', protocol: 1 }))
    end.vanish()
    const rows = await settle(
      eventually(async () => {
        const found = await timeline(robot.id)
        return found.length === 2 ? found : undefined
      }),
    )
    expect(rows.map((row) => row.code)).toEqual(['connected', 'disconnected'])
    expect(rows[1]?.data).toMatchObject({ session_no: 1, close_code: 1006, closed_by: 'network' })
  })

  it('that the server ends while it is being opened says so', async () => {
    const robot = await insertRobot(db.database, fleet)
    const end = await connectInMemory((request) => running.gateway.admit(request), {
      authorization: `Bearer ${robot.token}`,
    })
    end.send(JSON.stringify({ type: 'hello', protocol: 1 }))
    for (let seq = 0; seq < 300; seq += 1)
      end.send(JSON.stringify({ type: 'heartbeat', seq, at: new Date(clock.now()).toISOString() }))
    expect((await settle(end.closed)).code).toBe(4004)
    const rows = await settle(
      eventually(async () => {
        const found = await timeline(robot.id)
        return found.length >= 2 ? found : undefined
      }),
    )
    expect(rows.slice(0, 2).map((row) => row.code)).toEqual(['connected', 'disconnected'])
    expect(rows[1]?.data).toMatchObject({ close_code: 4004, reason: 'too_many_frames', closed_by: 'server' })
  })

  it('of a robot with an event keeps it once, however often it is told', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    const event = {
      type: 'event',
      id: 'e1',
      at: '2026-01-01T00:00:00Z',
      level: 'warn',
      code: 'bumped',
      message: 'ouch',
    }
    link.say(event)
    link.say(event)
    await eventually(() => link.frames.filter((frame) => frame.type === 'event_ack').length === 2)
    expect((await timeline(robot.id)).filter((row) => row.code === 'bumped')).toHaveLength(1)
  })

  it('that ends with words which PostgreSQL does not take costs others nothing, and is told of, too', async () => {
    const [odd, other] = [await insertRobot(db.database, fleet), await insertRobot(db.database, fleet)]
    const [oddLink, otherLink] = [await connect(running, clock, odd), await connect(running, clock, other)]
    // Its end and the event go into the database together.
    oddLink.end.close(1000, 'a\u0000b')
    otherLink.say({
      type: 'event',
      id: 'at-the-same-time',
      at: new Date(clock.now()).toISOString(),
      level: 'info',
      code: 'docked',
      message: 'docked',
    })
    await new Promise(setImmediate)
    await otherLink.hears('event_ack')
    const found = await eventually(async () =>
      (await timeline(odd.id)).find((row) => row.code === 'disconnected'),
    )
    expect(found.data).toMatchObject({ close_code: 1000, reason: 'a\ufffdb' })
  })

  it('is replaced by the newest of the same robot, wherever the old one is', async () => {
    const robot = await insertRobot(db.database, fleet)
    const other = await startGateway(db.database, clock, running.bus)
    const first = await connect(running, clock, robot)
    const second = await connect(running, clock, robot)
    expect(await first.end.closed).toMatchObject({ code: 4510 })
    const third = await connect(other, clock, robot)
    expect(await second.end.closed).toMatchObject({ code: 4510 })
    expect(third.frames[0]).toMatchObject({ session_no: 3 })
    third.beat(1)
    clock.advance(5)
    await third.hears('ack')
    expect(await status(robot.id)).toMatchObject({
      connection: 'online',
      session_no: 3,
      server_id: other.serverId,
    })
    await settle(other.gateway.stop())
  })

  it('is replaced also when the newer one is heard of before its own opening', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot, { hello: false })
    link.say({ type: 'hello', protocol: 1 })
    await running.bus.publish({ type: 'sessions_opened', sessions: [{ robot_id: robot.id, session_no: 2 }] })
    expect(await link.end.closed).toMatchObject({ code: 4510 })
    expect(link.frames).toEqual([])
  })

  it('writes nothing any more once a newer one exists, even when nobody told it', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    await db.database
      .updateTable('robot_status')
      .set({ session_no: 9 })
      .where('robot_id', '=', robot.id)
      .execute()
    link.beat(1)
    clock.advance(5)
    expect(await link.end.closed).toMatchObject({ code: 4510 })
    expect(await history(robot.id)).toEqual([])
    expect(link.frames.some((frame) => frame.type === 'ack')).toBe(false)
  })

  it('is closed at once by a revocation, also before its hello, and by retirement', async () => {
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => insertRobot(db.database, fleet)))
    const open = await connect(running, clock, one!)
    const silent = await connect(running, clock, two!, { hello: false })
    const retired = await connect(running, clock, three!)
    await running.bus.publish({ type: 'robots_revoked', robot_ids: [one!.id, two!.id] })
    await running.bus.publish({ type: 'robots_retired', robot_ids: [three!.id] })
    expect(await open.end.closed).toEqual({ code: 4501, reason: 'token_revoked' })
    expect(await silent.end.closed).toEqual({ code: 4501, reason: 'token_revoked' })
    expect(await retired.end.closed).toEqual({ code: 4502, reason: 'robot_retired' })
    await eventually(async () => (await status(one!.id)).connection === 'offline')
    expect(await status(one!.id)).toMatchObject({ connection_reason: 'token_revoked' })
  })

  it('is not opened for a token that was revoked between the upgrade and the hello', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot, { hello: false })
    await db.database
      .updateTable('robots')
      .set({ token_revoked_at: new Date() })
      .where('id', '=', robot.id)
      .execute()
    link.say({ type: 'hello', protocol: 1 })
    expect(await link.end.closed).toEqual({ code: 4501, reason: 'token_revoked' })
    expect(await status(robot.id)).toMatchObject({ connection: 'unseen', session_no: 0 })
  })

  it('ends when the robot says nothing within ten seconds', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot, { hello: false })
    clock.advance(9_500)
    expect(link.end.isOpen).toBe(true)
    clock.advance(1_000)
    expect(await link.end.closed).toEqual({ code: 4000, reason: 'hello_timeout' })
  })

  it('hears of approval, of a new name and of a new interval', async () => {
    const robot = await insertRobot(db.database, fleet, { lifecycle: 'pending' })
    const link = await connect(running, clock, robot)
    link.beat(1)
    clock.advance(5)
    await db.database.updateTable('robots').set({ lifecycle: 'active' }).where('id', '=', robot.id).execute()
    await running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
    await link.hears('welcome', (frame) => frame.lifecycle === 'active')
    expect(await history(robot.id)).toEqual([])
    link.beat(2)
    clock.advance(5)
    await link.hears('ack', (frame) => frame.seq === 2)
    await db.database
      .updateTable('fleets')
      .set({ heartbeat_interval_ms: 2_000 })
      .where('id', '=', fleet.fleetId)
      .execute()
    await running.bus.publish({ type: 'fleet_changed', fleet_id: fleet.fleetId })
    expect(await link.hears('settings')).toMatchObject({ heartbeat_interval_ms: 2_000 })
  })

  it('that does not read is dropped before it fills the memory', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    link.end.unreadBytes = 300 * 1024
    link.say({ type: 'nonsense-that-is-ignored' })
    link.end.send('not json')
    expect(await link.end.closed).toMatchObject({ code: 4003 })
  })

  it('that floods is held back by its socket, loses nothing, and is not called silent for it', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    for (let seq = 1; seq <= 2_500; seq += 1) link.beat(seq)
    expect(link.end.paused).toBe(true)
    for (let quarters = 0; link.end.paused && quarters < 100; quarters += 1) clock.advance(250)
    clock.advance(5)
    await link.hears('ack', (frame) => frame.seq === 2_500)
    expect(link.end.isOpen).toBe(true)
    expect(await history(robot.id)).toHaveLength(2_500)
  })

  it('that floods without end is sent away after half a minute, to come back', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    const flood = () => {
      for (let frame = 0; frame < 100; frame += 1) link.say({ type: 'noise' })
      clock.advance(250)
    }
    while (!link.end.paused) flood()
    for (let quarters = 0; quarters < 116; quarters += 1) flood()
    expect(link.end.isOpen).toBe(true)
    for (let quarters = 0; quarters < 8; quarters += 1) flood()
    expect(await link.end.closed).toEqual({ code: 4004, reason: 'too_many_frames' })
  })

  it('that flooded once and then rests may stay', async () => {
    const robot = await insertRobot(db.database, fleet)
    const link = await connect(running, clock, robot)
    for (let frame = 0; frame < 2_500; frame += 1) link.say({ type: 'noise' })
    for (let seconds = 0; seconds < 60; seconds += 1) {
      clock.advance(1_000)
      link.say({ type: 'noise' })
    }
    expect(link.end.isOpen).toBe(true)
    expect(link.end.paused).toBe(false)
  })
})

describe('heartbeats sent again', () => {
  it('are acknowledged, and in the history once', async () => {
    const robot = await insertRobot(db.database, fleet)
    const base = clock.now()
    const at = (seq: number) => new Date(base + seq).toISOString()
    const first = await connect(running, clock, robot)
    for (const seq of [1, 2, 3]) first.say({ type: 'heartbeat', seq, at: at(seq) })
    clock.advance(5)
    await first.hears('ack', (frame) => frame.seq === 3)
    first.end.vanish()
    const again = [1, 2, 3, 4].map((seq) => ({ type: 'heartbeat', seq, at: at(seq) }))
    const second = await connect(running, clock, robot, { hello: { resume_seq: 1 } })
    for (const frame of again) second.say(frame)
    for (const frame of again) second.say(frame)
    clock.advance(5)
    await second.hears('ack', (frame) => frame.seq === 4)
    await eventually(async () => (await history(robot.id)).length >= 4)
    expect((await history(robot.id)).map((row) => row.seq)).toEqual([1, 2, 3, 4])
    expect(await status(robot.id)).toMatchObject({ heartbeat_seq: 4 })
  })

  it('with the same numbers but other times are new ones', async () => {
    const robot = await insertRobot(db.database, fleet)
    const first = await connect(running, clock, robot)
    first.beat(1, { activity: 'before' })
    clock.advance(5)
    await first.hears('ack')
    first.end.vanish()
    clock.advance(1_000)
    const second = await connect(running, clock, robot)
    second.beat(1, { activity: 'after' })
    clock.advance(5)
    await second.hears('ack')
    expect(await history(robot.id)).toHaveLength(2)
    expect(await status(robot.id)).toMatchObject({ heartbeat: { activity: 'after' } })
  })
})

describe('stopping', () => {
  it('stores and acknowledges what was sent, then sends robots away for different times, and calls nobody offline', async () => {
    const robots = await Promise.all(Array.from({ length: 5 }, () => insertRobot(db.database, fleet)))
    const links = await Promise.all(robots.map((robot) => connect(running, clock, robot)))
    for (const link of links) link.beat(1)
    await settle(running.gateway.stop())
    const delays = new Set<number>()
    for (const link of links) {
      const kinds = link.frames.map((frame) => frame.type)
      expect(kinds).toEqual(['welcome', 'ack', 'drain'])
      const end = await link.end.closed
      expect(end.code).toBe(1012)
      const delay = Number(/reconnect_in_ms=(\d+)/.exec(end.reason)?.[1])
      expect(link.frames[2]).toMatchObject({ reconnect_in_ms: delay })
      delays.add(delay)
    }
    expect(delays.size).toBeGreaterThan(1)
    for (const robot of robots) expect(await status(robot.id)).toMatchObject({ connection: 'online' })
    running = await startGateway(db.database, clock)
  })
})
