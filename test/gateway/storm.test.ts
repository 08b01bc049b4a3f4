import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { ADMISSION_TICK_MS } from '../../src/gateway/admission.ts'
import { closingMs, DRAIN_SLICE } from '../../src/gateway/drain.ts'
import { SAMPLE_EVERY_MS, SAMPLES_IN_A_ROW } from '../../src/gateway/overload.ts'
import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import type { Admission } from '../../src/transport/transport.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { MemoryRobotEnd } from '../support/memory-transport.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet, type TestRobot } from '../support/robots.ts'
import { connect, PLENTY, Robot, type RunningGateway, startGateway } from './support.ts'

let db: TestDatabase
let fleet: TestFleet
let robots: TestRobot[]
let clock: ManualClock
let running: RunningGateway
let acquired: number
let pool: ReturnType<typeof openPool>

const ROBOTS = 260

beforeAll(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
  robots = await Promise.all(Array.from({ length: ROBOTS }, () => insertRobot(db.database, fleet)))
})
afterAll(() => db.drop())
beforeEach(() => {
  clock = new ManualClock(Date.now())
  acquired = 0
  pool = openPool({
    url: db.url,
    name: 'test',
    maxConnections: 4,
    statementTimeoutMs: 10_000,
    silenceTimeoutMs: 10_000,
    onIdleError: () => {},
  })
  pool.on('acquire', () => {
    acquired += 1
  })
})
afterEach(async () => {
  await stopped()
  await pool.end()
})

const start = async (perSecond: number, resources = PLENTY) => {
  running = await startGateway(openDatabase(pool), clock, undefined, {
    sessionsPerSecond: perSecond,
    resources,
  })
}

/** Stops the gateway, moving time until it has. */
async function stopped(): Promise<void> {
  let done = false
  void running.gateway.stop().then(() => {
    done = true
  })
  await eventually(() => {
    clock.advance(5)
    return done
  })
}

/** Asks to be let in and keeps the answer, once there is one. */
class Knock {
  admission: Admission | undefined
  isGone = false
  /** It was its turn, or nearly: the first of the queue is asked. */
  isAsked = false
  constructor(authorization: string | undefined, subprotocols: readonly string[] = [SUBPROTOCOL]) {
    void running.gateway
      .admit({ authorization, subprotocols, remoteAddress: '192.0.2.1', isGone: () => this.#ask() })
      .then((admission) => {
        this.admission = admission
      })
  }

  #ask(): boolean {
    this.isAsked = true
    return this.isGone
  }

  get verdict(): string | undefined {
    const { admission } = this
    return admission?.kind === 'refuse' ? admission.error.code : admission?.kind
  }

  get retryAfter(): number | undefined {
    return this.admission?.kind === 'refuse' ? this.admission.error.retryAfterSeconds : undefined
  }

  /** Takes the socket that was granted; the robot says nothing yet. */
  open(): Robot {
    if (this.admission?.kind !== 'accept') throw new Error('it was not let in')
    const end = new MemoryRobotEnd('192.0.2.1')
    end.handler = this.admission.open(end.serverSide)
    return new Robot(end, clock)
  }
}

const verdicts = (knocks: readonly Knock[]) => {
  const counts: Record<string, number> = {}
  for (const { verdict = 'waits' } of knocks) counts[verdict] = (counts[verdict] ?? 0) + 1
  return counts
}
const settle = () => new Promise((resolve) => setImmediate(resolve))
/** Answers that the database has to give need more than one turn. */
const answered = (knocks: readonly Knock[], count: number) =>
  eventually(() => knocks.filter((knock) => knock.verdict !== undefined).length >= count, `${count} answers`)

describe('who is turned away', () => {
  it('is told so before any work of the database, with times of their own', async () => {
    await start(20)
    // 1 passes, 50 wait.
    const waiting = robots.slice(0, 51).map((robot) => new Knock(robot.authorization))
    await answered(waiting, 1)
    const before = acquired
    const late = robots.slice(51, 251).map((robot) => new Knock(robot.authorization))
    await answered(late, 200)
    expect(verdicts(late)).toEqual({ overloaded: 200 })
    expect(acquired).toBe(before)
    const times = late.map((knock) => knock.retryAfter!)
    // 50 wait, 200 are turned away: at 20 a second that is from second 2 to second 13.
    expect(Math.min(...times)).toBeGreaterThanOrEqual(2)
    expect(Math.max(...times)).toBeLessThanOrEqual(13)
    expect(new Set(times).size).toBeGreaterThanOrEqual(10)
    expect((await running.metrics.overloadRefusals.get()).values).toMatchObject([
      { labels: { reason: 'queue_full' }, value: 200 },
    ])
  })

  it('for a token that is none takes no place in the queue, and waits for none', async () => {
    await start(20)
    const waiting = robots.slice(0, 51).map((robot) => new Knock(robot.authorization))
    await answered(waiting, 1)
    const before = acquired
    const bad = [
      new Knock(undefined),
      new Knock('Bearer rf_robot_nonsense'),
      new Knock(`Bearer ${mintCheckedToken('personal')}`),
    ]
    const foreign = new Knock(robots[60]!.authorization, ['chat'])
    await answered([...bad, foreign], 4)
    expect(bad.map((knock) => knock.verdict)).toEqual([
      'credentials_required',
      'invalid_token',
      'invalid_token',
    ])
    expect(foreign.verdict).toBe('subprotocol_required')
    expect([verdicts(waiting).waits, acquired]).toEqual([50, before])
  })

  it('because something runs out is told what, whatever the token, and those inside stay', async () => {
    let loopMs = 0
    await start(0, { ...PLENTY, eventLoopDelayMs: () => loopMs })
    const inside = await connect(running, clock, robots[0]!)
    loopMs = 1_000
    clock.advance(SAMPLES_IN_A_ROW * SAMPLE_EVERY_MS)
    const knock = new Knock('Bearer nonsense')
    await answered([knock], 1)
    expect(knock.verdict).toBe('overloaded')
    expect(knock.retryAfter).toBeGreaterThanOrEqual(2)
    inside.beat(1)
    clock.advance(5)
    await inside.hears('ack')
    expect(inside.end.isOpen).toBe(true)
    loopMs = 0
    clock.advance(SAMPLES_IN_A_ROW * SAMPLE_EVERY_MS)
    await connect(running, clock, robots[1]!)
    expect((await running.metrics.overloadRefusals.get()).values).toMatchObject([
      { labels: { reason: 'event_loop' }, value: 1 },
    ])
  })

  it('at the last descriptors, those that wait counted in', async () => {
    await start(20, { ...PLENTY, descriptorLimit: 64 + 30 })
    const knocks = robots.slice(0, 40).map((robot) => new Knock(robot.authorization))
    await answered(knocks, 11)
    expect(verdicts(knocks)).toMatchObject({ overloaded: 10 })
    expect((await running.metrics.overloadRefusals.get()).values).toMatchObject([
      { labels: { reason: 'descriptors' }, value: 10 },
    ])
  })

  it('is everybody who waits when the server begins to stop', async () => {
    await start(20)
    const knocks = robots.slice(0, 51).map((robot) => new Knock(robot.authorization))
    await answered(knocks, 1)
    const stopping = stopped()
    const late = new Knock(robots[60]!.authorization)
    await answered([...knocks, late], 52)
    await stopping
    expect(verdicts(knocks)).toEqual({ accept: 1, draining: 50 })
    expect(late.verdict).toBe('draining')
    expect(new Set(knocks.map((knock) => knock.retryAfter)).size).toBeGreaterThan(3)
  })
})

describe('a storm', () => {
  it('comes in at the known rate, and robots inside are heard and answered all the while', async () => {
    await start(100)
    const inside = await connect(running, clock, robots[0]!)
    clock.advance(1_000)
    const knocks = robots.slice(1, 251).map((robot) => new Knock(robot.authorization))
    await answered(knocks, 5)
    const asked = () => knocks.filter((knock) => knock.isAsked).length
    let seq = 0
    for (let before = asked(); verdicts(knocks).waits; before = asked()) {
      inside.beat(++seq)
      clock.advance(ADMISSION_TICK_MS)
      await inside.hears('ack', (frame) => frame.seq === seq)
      // One in ten milliseconds, and the next.
      expect(asked() - before).toBeLessThanOrEqual(2)
    }
    expect(verdicts(knocks)).toEqual({ accept: 250 })
    // 245 of them waited, at 100 a second.
    expect(seq).toBeGreaterThanOrEqual(245)
  })

  it('stands still while too many are on their way to a session, and goes on when they are there', async () => {
    await start(20)
    // Accepted, but silent: these hold all room that there is.
    const silent: Robot[] = []
    for (const robot of robots.slice(0, 100)) {
      clock.advance(60)
      const knock = new Knock(robot.authorization)
      await answered([knock], 1)
      silent.push(knock.open())
    }
    const knock = new Knock(robots[100]!.authorization)
    for (let ticks = 0; ticks < 20; ticks++) {
      clock.advance(ADMISSION_TICK_MS)
      await settle()
    }
    expect(knock.verdict).toBeUndefined()
    silent[0]!.say({ type: 'hello', protocol: 1 })
    await silent[0]!.hears('welcome')
    clock.advance(ADMISSION_TICK_MS)
    await answered([knock], 1)
    expect(knock.verdict).toBe('accept')
  })

  it('whose robots have given up costs nothing', async () => {
    await start(20)
    const knocks = robots.slice(0, 51).map((robot) => new Knock(robot.authorization))
    await answered(knocks, 1)
    for (const knock of knocks.slice(0, 50)) knock.isGone = true
    clock.advance(100)
    await answered(knocks, 51)
    expect(verdicts(knocks)).toEqual({ accept: 2, overloaded: 49 })
    const outcomes = (await running.metrics.upgrades.get()).values
    expect(outcomes.find((value) => value.labels.outcome === 'client_gone')?.value).toBe(49)
  })
})

describe('stopping', () => {
  it('acknowledges, and sends robots away in slices, each to return at a time of its own', async () => {
    await start(100)
    // Let in faster than the rate, for the rate is not what this is about.
    const inside: Robot[] = []
    for (const robot of robots.slice(0, 250)) {
      clock.advance(20)
      inside.push(await connect(running, clock, robot))
    }
    for (const robot of inside) robot.beat(1)
    let done = false
    void running.gateway.stop().then(() => {
      done = true
    })
    const closed = () => inside.filter((robot) => !robot.end.isOpen).length
    await eventually(() => closed() > 0)
    expect(closed()).toBe(DRAIN_SLICE)
    clock.advance(1)
    await settle()
    expect(closed()).toBe(2 * DRAIN_SLICE)
    await eventually(() => {
      clock.advance(5)
      return done
    })
    expect(closed()).toBe(250)
    // 250 robots at 100 a second, and a quarter more.
    const spanMs = 3_125
    const times = inside.map((robot) => robot.frames.find((frame) => frame.type === 'drain')!.reconnect_in_ms)
    const fifths = new Array<number>(5).fill(0)
    for (const time of times as number[])
      fifths[Math.min(Math.floor(((time - closingMs(250)) / spanMs) * 5), 4)]! += 1
    // Times are whole milliseconds, so one may count for its neighbour.
    for (const count of fifths) expect(Math.abs(count - 50)).toBeLessThanOrEqual(2)
    for (const [index, robot] of inside.entries()) {
      expect(robot.frames.map((frame) => frame.type)).toEqual(['welcome', 'ack', 'drain'])
      expect(await robot.end.closed).toEqual({
        code: 1012,
        reason: `service_restart; reconnect_in_ms=${times[index]}`,
      })
    }
    await start(100)
  })
})
