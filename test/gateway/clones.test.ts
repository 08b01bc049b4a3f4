import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest'
import type { ClonePolicy } from '../../src/db/sessions.ts'
import { machineHash } from '../../src/machine-hash.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestRobot } from '../support/robots.ts'
import { connect, type Robot, type RunningGateway, startGateway, stopGateway } from './support.ts'

let db: TestDatabase
let clock: ManualClock
let running: RunningGateway
let robot: TestRobot

const HOME = { machine_id: 'board-1' }
const AWAY = { machine_id: 'board-2' }

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())
beforeEach(async () => {
  clock = new ManualClock(Date.now())
  robot = await insertRobot(db.database, await insertFleet(db.database))
  await db.database
    .updateTable('robots')
    .set({ machine_hash: Buffer.from(machineHash(HOME.machine_id)!, 'hex') })
    .where('id', '=', robot.id)
    .execute()
})
afterEach(() => stopGateway(running, clock))

async function start(clonePolicy: ClonePolicy): Promise<void> {
  running = await startGateway(db.database, clock, undefined, { clonePolicy })
}

let instances = 0
let seq = 0

/** A process of the robot: it comes with what it wrote down, and writes down what it is told unless the power goes. */
class Disk {
  lastSessionNo: number | undefined
  readonly #said: object
  #instance = ''

  constructor(said: object = HOME, lastSessionNo?: number) {
    this.#said = said
    this.lastSessionNo = lastSessionNo
    this.restart()
  }

  restart(): void {
    this.#instance = `instance-${++instances}`
  }

  copy(said: object = this.#said): Disk {
    return new Disk(said, this.lastSessionNo)
  }

  get hello(): object {
    const counted = this.lastSessionNo === undefined ? {} : { last_session_no: this.lastSessionNo }
    return { ...this.#said, instance_id: this.#instance, ...counted }
  }

  /** Holds a session in which a heartbeat is stored, and drops it. */
  async session(writes: 'written' | 'lost' = 'written'): Promise<number> {
    const connected = await connect(running, clock, robot, { hello: this.hello })
    const sessionNo = (await connected.hears('welcome')).session_no as number
    await beat(connected)
    if (writes === 'written') this.lastSessionNo = sessionNo
    connected.end.vanish()
    await eventually(() => running.gateway.sessions === 0)
    return sessionNo
  }
}

async function beat(connected: Robot): Promise<void> {
  connected.beat(++seq)
  await eventually(() => {
    // What the writer waits for company.
    clock.advance(1)
    return connected.frames.find((frame) => frame.type === 'ack' && frame.seq === seq)
  })
}

async function suspicions(): Promise<object[]> {
  const rows = await db.database
    .selectFrom('robot_events')
    .select('data')
    .where('robot_id', '=', robot.id)
    .where('code', '=', 'clone_suspected')
    .orderBy('id')
    .execute()
  return rows.map(({ data }) => data as object)
}

/** Everything that was noted so far is on the timeline once this session is. */
async function settledSuspicions(): Promise<object[]> {
  const marker = await new Disk().session()
  await eventually(async () => {
    const { rows } = await db.pool.query(
      `SELECT FROM robot_events WHERE robot_id = $1 AND code = 'disconnected' AND data ->> 'session_no' = $2`,
      [robot.id, String(marker)],
    )
    return rows.length === 1
  })
  return suspicions()
}

it('believes a robot that restarts, reboots and loses one session in a power cut', async () => {
  await start('quarantine_newcomer')
  const disk = new Disk()
  await disk.session()
  disk.restart()
  await disk.session()
  disk.restart()
  await disk.session('lost')
  disk.restart()
  await disk.session()
  disk.restart()
  await disk.session('lost')
  disk.restart()
  expect(await disk.session()).toBe(6)
  expect(await settledSuspicions()).toEqual([])
})

it('believes a robot whose welcomes were lost, however many, also after it was switched off and on', async () => {
  await start('quarantine_newcomer')
  const disk = new Disk()
  await disk.session()
  for (let times = 0; times < 3; times++) {
    const unheard = await connect(running, clock, robot, { hello: disk.hello })
    unheard.end.vanish()
    await eventually(() => running.gateway.sessions === 0)
    if (times === 1) disk.restart()
  }
  disk.restart()
  expect(await disk.session()).toBe(5)
  expect(await settledSuspicions()).toEqual([])
})

it('believes the same process, whatever it could not write down', async () => {
  await start('quarantine_newcomer')
  const disk = new Disk(HOME, 0)
  for (let times = 0; times < 4; times++) await disk.session('lost')
  expect(await settledSuspicions()).toEqual([])
})

it('tells of a copied disk as soon as both have held sessions in turn', async () => {
  await start('alert')
  const disk = new Disk()
  await disk.session()
  const copy = disk.copy()
  await copy.session()
  // One session forgotten: it might have been the power.
  await disk.session()
  expect(await suspicions()).toEqual([])
  await copy.session()
  expect(await settledSuspicions()).toEqual([
    expect.objectContaining({
      reason: 'old_session_count',
      quarantined: false,
      last_session_no: 2,
      expected_session_no: 3,
    }),
  ])
  const { value } = (await running.metrics.clonesSuspected.get()).values[0]!
  expect(value).toBe(1)
})

it('tells of a disk that is two sessions behind at once', async () => {
  await start('alert')
  const disk = new Disk()
  await disk.session()
  const copy = disk.copy()
  await disk.session()
  await disk.session()
  await copy.session()
  expect(await settledSuspicions()).toEqual([expect.objectContaining({ reason: 'old_session_count' })])
})

it('leaves the robot its session and sends the newcomer away for good, where that is the policy', async () => {
  await start('quarantine_newcomer')
  const disk = new Disk()
  await disk.session()
  const copy = disk.copy()
  await disk.session()
  await disk.session()
  const connected = await connect(running, clock, robot, { hello: disk.hello })
  await beat(connected)

  const newcomer = await connect(running, clock, robot, { hello: false })
  newcomer.say({ type: 'hello', protocol: 1, ...copy.hello })
  expect(await newcomer.end.closed).toEqual({ code: 4511, reason: 'quarantined' })
  expect(newcomer.frames).toEqual([])
  // Nothing of the robot's was touched.
  await beat(connected)
  expect(running.gateway.sessions).toBe(1)
  const status = await db.database
    .selectFrom('robot_status')
    .select(['session_no', 'connection', 'hello'])
    .where('robot_id', '=', robot.id)
    .executeTakeFirstOrThrow()
  expect(status).toMatchObject({ session_no: 4, connection: 'online', hello: disk.hello })
  await eventually(async () => (await suspicions()).length === 1)
  expect(await suspicions()).toEqual([expect.objectContaining({ quarantined: true, address: '192.0.2.1' })])
})

it('tells of another machine once, and not with each of its sessions', async () => {
  await start('alert')
  const disk = new Disk()
  await disk.session()
  const elsewhere = disk.copy(AWAY)
  for (let times = 0; times < 3; times++) {
    elsewhere.restart()
    await elsewhere.session()
  }
  const told = await suspicions()
  expect(told).toEqual([expect.objectContaining({ reason: 'other_machine', quarantined: false })])
})

it('keeps another machine out each time, where that is the policy', async () => {
  await start('quarantine_newcomer')
  const disk = new Disk()
  await disk.session()
  const elsewhere = disk.copy(AWAY)
  for (let times = 0; times < 2; times++) {
    const newcomer = await connect(running, clock, robot, { hello: false })
    newcomer.say({ type: 'hello', protocol: 1, ...elsewhere.hello })
    expect(await newcomer.end.closed).toEqual({ code: 4511, reason: 'quarantined' })
  }
  expect(await disk.session()).toBe(2)
})

it('does not let a copy make the robot’s next token its own', async () => {
  await start('quarantine_newcomer')
  const disk = new Disk()
  await disk.session()
  const other = await insertRobot(db.database, await insertFleet(db.database))
  await db.pool.query(
    `UPDATE robots r SET next_token_hash = o.token_hash, next_token_at = now() FROM robots o WHERE r.id = $1 AND o.id = $2`,
    [robot.id, other.id],
  )
  await db.pool.query('DELETE FROM robots WHERE id = $1', [other.id])
  const newcomer = await connect(
    running,
    clock,
    { ...robot, authorization: other.authorization },
    { hello: false },
  )
  newcomer.say({ type: 'hello', protocol: 1, ...disk.copy(AWAY).hello })
  expect(await newcomer.end.closed).toMatchObject({ code: 4511 })
  expect(await disk.session()).toBe(2)
})
