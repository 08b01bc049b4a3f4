import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { BusMessage } from '../../src/bus/bus.ts'
import { createLocalBus } from '../../src/bus/local.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'
import { connect, startGateway } from './support.ts'

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

async function isListed(serverId: string): Promise<boolean> {
  const rows = await db.database.selectFrom('servers').select('id').where('id', '=', serverId).execute()
  return rows.length > 0
}

/** What a robot's connection is in the database. */
async function connectionOf(robotId: string): Promise<string> {
  const { connection } = await db.database
    .selectFrom('robot_status')
    .select('connection')
    .where('robot_id', '=', robotId)
    .executeTakeFirstOrThrow()
  return connection
}

/** A bus for one gateway that remembers which sessions it told the others of. */
function listeningBus() {
  const bus = createLocalBus()
  const opened: BusMessage[] = []
  bus.subscribe((message) => {
    if (message.type === 'sessions_opened') opened.push(message)
  })
  return { bus, opened }
}

describe('a server whose process was seen to end', () => {
  it('is off the list without time passing, and its robots are told of until they are back', async () => {
    const told: (readonly string[])[] = []
    const watching = await startGateway(db.database, clock, undefined, {
      onGoneChanged: (serverIds) => told.push(serverIds),
    })
    const dying = await startGateway(db.database, new ManualClock(clock.now()))
    const robot = await insertRobot(db.database, fleet)
    await connect(dying, clock, robot)
    watching.gateway.declareGone(dying.serverId)
    expect(told.at(-1)).toContain(dying.serverId)
    await eventually(async () => !(await isListed(dying.serverId)), 'its row to go')
    const back = await connect(watching, clock, robot)
    await eventually(async () => {
      // Much time may pass until PostgreSQL has answered: the robot is heard meanwhile.
      back.say({ type: 'here' })
      await clock.pass(5_000, 250)
      return !told.at(-1)!.includes(dying.serverId)
    }, 'the end of the waiting')
    expect(await connectionOf(robot.id)).toBe('online')
  })
})

describe('a supervised process', () => {
  it('beats, and leaves the robots of others to its supervisor', async () => {
    const dead = await startGateway(db.database, new ManualClock(clock.now()))
    const robot = await insertRobot(db.database, fleet)
    await connect(dead, clock, robot)
    const supervised = await startGateway(db.database, clock, undefined, { supervised: true })
    const beat = async () => {
      const row = await db.database
        .selectFrom('servers')
        .select('beat')
        .where('id', '=', supervised.serverId)
        .executeTakeFirstOrThrow()
      return Number(row.beat)
    }
    const before = await beat()
    await eventually(async () => {
      await clock.pass(5_000, 250)
      return (await beat()) > before + 30
    }, 'beats')
    expect(await connectionOf(robot.id)).toBe('online')
    expect(await isListed(dead.serverId)).toBe(true)
  })

  it('tells the others of a robot that comes from one that lives, and not of one that is gone', async () => {
    const { bus, opened } = listeningBus()
    const [living, gone] = [await startGateway(db.database, clock), await startGateway(db.database, clock)]
    const supervised = await startGateway(db.database, clock, bus, { supervised: true })
    supervised.gateway.serversGone([gone.serverId])
    const [moved, orphan] = [await insertRobot(db.database, fleet), await insertRobot(db.database, fleet)]
    await connect(living, clock, moved)
    await connect(gone, clock, orphan)
    await connect(supervised, clock, orphan)
    await connect(supervised, clock, moved)
    await eventually(() => opened.length > 0, 'the announcement')
    expect(opened).toEqual([{ type: 'sessions_opened', sessions: [{ robot_id: moved.id, session_no: 2 }] }])

    // Whoever is no longer named was heard of again.
    supervised.gateway.serversGone([])
    const other = await insertRobot(db.database, fleet)
    await connect(gone, clock, other)
    await connect(supervised, clock, other)
    await eventually(() => opened.length > 1, 'the second announcement')
  })
})
