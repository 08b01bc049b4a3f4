import { sql } from 'kysely'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { BusMessage } from '../../src/bus/bus.ts'
import { AGED_PACE, RotationRequests } from '../../src/gateway/rotation-requests.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet, type TestRobot } from '../support/robots.ts'

const DAY_MS = 86_400_000

let db: TestDatabase
let fleet: TestFleet
let clock: ManualClock
let servers: RotationRequests[]
let published: BusMessage[]

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())
beforeEach(async () => {
  clock = new ManualClock(Date.now())
  servers = []
  published = []
  await db.pool.query('DELETE FROM robots')
  fleet = await insertFleet(db.database)
  await allow({ days: 30 })
})
afterEach(async () => {
  for (const server of servers) await server.stop()
})

function startServer(): RotationRequests {
  const server = new RotationRequests({
    database: db.database,
    bus: {
      publish: (message) => {
        published.push(message)
        return Promise.resolve()
      },
    },
    clock,
    log: createLog('silent'),
    server: { id: newId(), hostname: 'test' },
  })
  server.start()
  servers.push(server)
  return server
}

const allow = ({ days, suspicion = true }: { days: number | null; suspicion?: boolean }) =>
  db.pool.query(
    'UPDATE security_settings SET robot_token_max_age_days = $1, rotate_on_suspicion = $2, rotation_pass_at = NULL',
    [days, suspicion],
  )
const setAge = ({ id }: TestRobot, days: number) =>
  db.pool.query('UPDATE robots SET token_issued_at = $2 WHERE id = $1', [
    id,
    new Date(Date.now() - days * DAY_MS),
  ])

async function robotOfAge(days: number): Promise<TestRobot> {
  const robot = await insertRobot(db.database, fleet)
  await setAge(robot, days)
  return robot
}

async function asked(): Promise<{ id: string; rotation_reason: string }[]> {
  const { rows } = await db.pool.query(
    'SELECT id, rotation_reason FROM robots WHERE rotation_requested_at IS NOT NULL ORDER BY token_issued_at',
  )
  return rows
}

/** The database's clock is the one that paces: another pass is allowed now. */
const letAnotherPass = () => db.pool.query('UPDATE security_settings SET rotation_pass_at = NULL')
const passMade = () =>
  eventually(async () => {
    const { rows } = await db.pool.query('SELECT FROM security_settings WHERE rotation_pass_at IS NOT NULL')
    return rows.length > 0
  }, 'a pass')

describe('by age', () => {
  it('asks robots whose tokens are older than allowed, and tells of it', async () => {
    const old = await robotOfAge(31)
    await robotOfAge(29)
    startServer()
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => published.length > 0, 'the message')
    expect(await asked()).toEqual([{ id: old.id, rotation_reason: 'age' }])
    expect(published).toEqual([{ type: 'robots_changed', robot_ids: [old.id] }])
    const { rows: events } = await db.pool.query('SELECT code, data FROM robot_events WHERE robot_id = $1', [
      old.id,
    ])
    expect(events).toEqual([{ code: 'token_rotation_requested', data: { reason: 'age' } }])
    const { rows: lines } = await db.pool.query('SELECT * FROM audit_log WHERE target_id = $1', [old.id])
    expect(lines).toEqual([
      expect.objectContaining({
        action: 'robot.token_rotation_requested',
        actor_kind: 'server',
        fleet_id: fleet.fleetId,
        data: { reason: 'age' },
      }),
    ])
  })

  it('asks nobody when the deployment allows any age', async () => {
    await robotOfAge(3_000)
    await allow({ days: null })
    const server = startServer()
    clock.advance(AGED_PACE.everyMs)
    await server.stop()
    expect(await asked()).toEqual([])
  })

  it('asks each robot once, however long it takes its time', async () => {
    await robotOfAge(31)
    startServer()
    for (let pass = 0; pass < 3; pass++) {
      await letAnotherPass()
      await eventually(() => clock.pending > 0, 'the next pass')
      clock.advance(AGED_PACE.everyMs)
      await passMade()
    }
    await servers[0]!.stop()
    const { rows } = await db.pool.query(`SELECT FROM robot_events WHERE code = 'token_rotation_requested'`)
    expect(rows).toHaveLength(1)
  })

  it('asks the oldest first, a bounded number at a time', async () => {
    const robots = await Promise.all(Array.from({ length: AGED_PACE.robots + 20 }, () => robotOfAge(40)))
    const oldest = robots.at(-1)!
    await setAge(oldest, 400)
    startServer()
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => published.length > 0, 'the message')
    const first = await asked()
    expect(first).toHaveLength(AGED_PACE.robots)
    expect(first[0]!.id).toBe(oldest.id)
    await letAnotherPass()
    await eventually(() => clock.pending > 0, 'the next pass')
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => published.length > 1, 'the second message')
    expect(await asked()).toHaveLength(robots.length)
  })

  it('is no faster with several servers', async () => {
    await Promise.all(Array.from({ length: AGED_PACE.robots * 2 }, () => robotOfAge(40)))
    for (let count = 0; count < 5; count++) startServer()
    clock.advance(AGED_PACE.everyMs)
    for (const server of servers) await server.stop()
    expect(await asked()).toHaveLength(AGED_PACE.robots)
    expect(published).toHaveLength(1)
  })

  it('passes over robots without a token that stands', async () => {
    const [revoked, retired] = [await robotOfAge(40), await robotOfAge(40)]
    await db.pool.query('UPDATE robots SET token_revoked_at = now() WHERE id = $1', [revoked.id])
    await db.pool.query(`UPDATE robots SET lifecycle = 'retired' WHERE id = $1`, [retired.id])
    const waiting = await robotOfAge(40)
    startServer()
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => published.length > 0, 'the message')
    expect((await asked()).map(({ id }) => id)).toEqual([waiting.id])
  })

  it('is not held up by a clock that was set back', async () => {
    const old = await robotOfAge(31)
    await db.pool.query("UPDATE security_settings SET rotation_pass_at = now() + interval '1 day'")
    startServer()
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => published.length > 0, 'the message')
    expect((await asked()).map(({ id }) => id)).toEqual([old.id])
  })

  it('goes on when the database was away for a pass', async () => {
    const old = await robotOfAge(31)
    await db.pool.query('ALTER TABLE security_settings RENAME TO gone')
    startServer()
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => clock.pending > 0, 'the next pass')
    await db.pool.query('ALTER TABLE gone RENAME TO security_settings')
    clock.advance(AGED_PACE.everyMs)
    await eventually(() => published.length > 0, 'the message')
    expect((await asked()).map(({ id }) => id)).toEqual([old.id])
  })
})

describe('on suspicion', () => {
  it('asks robots that another machine says it is', async () => {
    const [suspected, other] = [await robotOfAge(1), await robotOfAge(1)]
    await startServer().suspect([suspected.id])
    expect(await asked()).toEqual([{ id: suspected.id, rotation_reason: 'suspicion' }])
    expect(published).toEqual([{ type: 'robots_changed', robot_ids: [suspected.id] }])
    expect(other).toBeDefined()
  })

  it('asks nobody where the deployment does not want it, and nobody twice', async () => {
    const robot = await robotOfAge(1)
    const server = startServer()
    await allow({ days: null, suspicion: false })
    await server.suspect([robot.id])
    expect(await asked()).toEqual([])
    await allow({ days: null })
    await server.suspect([robot.id])
    await server.suspect([robot.id])
    expect(published).toHaveLength(1)
  })
})

it('stopping does not wait for a database that does not answer', async () => {
  const server = startServer()
  await db.database.transaction().execute(async (transaction) => {
    // Whoever asks now waits for this transaction.
    await sql`LOCK TABLE security_settings`.execute(transaction)
    const asked = server.suspect([newId()])
    const stopped = server.stop()
    clock.advance(2_000)
    await stopped
    expect(clock.pending).toBe(0)
    void asked
  })
})
