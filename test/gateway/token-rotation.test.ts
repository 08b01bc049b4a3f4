import type pg from 'pg'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { revokeRobotTokens, setRobotRetired } from '../../src/db/robots.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { connectInMemory } from '../support/memory-transport.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet, type TestRobot } from '../support/robots.ts'
import { connect, INTERVAL_MS, type Robot, type RunningGateway, startGateway } from './support.ts'

const DAY_MS = 86_400_000

let db: TestDatabase
let fleet: TestFleet
let clock: ManualClock
let running: RunningGateway
let gateways: RunningGateway[]

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())
beforeEach(async () => {
  clock = new ManualClock(Date.now())
  fleet = await insertFleet(db.database)
  gateways = []
  running = await another()
})
afterEach(async () => {
  let left = gateways.length
  for (const { gateway } of gateways) void gateway.stop().finally(() => left--)
  await eventually(() => {
    clock.advance(5)
    return left === 0
  })
})

/** A server that hears nothing of what the others say. */
async function another(): Promise<RunningGateway> {
  const started = await startGateway(db.database, clock)
  gateways.push(started)
  return started
}

interface Token {
  readonly authorization: string
  readonly hash: string
}
const mint = (): Token => {
  const token = mintCheckedToken('robot')
  return { authorization: `Bearer ${token}`, hash: hashToken(token).toString('hex') }
}
const hashOf = ({ token }: TestRobot) => hashToken(token).toString('hex')
const by = (robot: TestRobot, { authorization }: Token): TestRobot => ({ ...robot, authorization })

/** A robot whose token is old enough for another. */
async function robotOfAge(ageMs = DAY_MS): Promise<TestRobot> {
  const robot = await insertRobot(db.database, fleet)
  await set(robot, { token_issued_at: new Date(clock.now() - ageMs) })
  return robot
}

const set = (robot: TestRobot, values: Record<string, unknown>) =>
  db.database.updateTable('robots').set(values).where('id', '=', robot.id).execute()
const stored = async ({ id }: TestRobot) => {
  const row = await db.database
    .selectFrom('robots')
    .selectAll()
    .where('id', '=', id)
    .executeTakeFirstOrThrow()
  return {
    token: row.token_hash?.toString('hex'),
    next: row.next_token_hash?.toString('hex'),
    requestedAt: row.rotation_requested_at,
    issuedAt: row.token_issued_at,
  }
}
const timeline = async ({ id }: TestRobot, code: string) =>
  db.database
    .selectFrom('robot_events')
    .selectAll()
    .where('robot_id', '=', id)
    .where('code', '=', code)
    .execute()
const auditOf = async ({ id }: TestRobot) =>
  db.database.selectFrom('audit_log').selectAll().where('target_id', '=', id).orderBy('seq').execute()
const request = async (robot: TestRobot, reason = 'operator') => {
  await set(robot, { rotation_requested_at: new Date(clock.now()), rotation_reason: reason })
  await running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
}
const admit = (authorization: string, to = running) =>
  connectInMemory((upgrade) => to.gateway.admit(upgrade), { authorization }).catch((error: unknown) => error)

/** Names a next token, which the server takes. */
async function name(end: Robot, token = mint()): Promise<Token> {
  end.say({ type: 'token_rotated', token_hash: token.hash })
  await end.hears('token_rotation_ack', (frame) => frame.token_hash === token.hash)
  return token
}

/** A heartbeat that is acknowledged: the session is good for what it is for. */
async function beats(end: Robot): Promise<void> {
  end.beat(1)
  clock.advance(5)
  await end.hears('ack')
}

describe('a request for a new token', () => {
  it('reaches a connected robot, once in a session', async () => {
    const robot = await robotOfAge()
    const end = await connect(running, clock, robot)
    await request(robot, 'suspicion')
    expect(await end.hears('rotate_token')).toEqual({ type: 'rotate_token', reason: 'suspicion' })
    await running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
    await set(robot, { name: 'told after it' })
    await running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
    await end.hears('welcome', (frame) => frame.name === 'told after it')
    expect(end.frames.filter(({ type }) => type === 'rotate_token')).toHaveLength(1)
  })

  it('made anew is told anew', async () => {
    const robot = await robotOfAge()
    const end = await connect(running, clock, robot)
    await request(robot)
    await end.hears('rotate_token')
    clock.advance(1)
    await request(robot, 'suspicion')
    await end.hears('rotate_token', ({ reason }) => reason === 'suspicion')
  })

  it('waits for a robot that is away, and is told in each of its sessions until it is met', async () => {
    const robot = await robotOfAge()
    await request(robot, 'age')
    for (const _ of [1, 2]) {
      const end = await connect(running, clock, robot)
      expect(await end.hears('rotate_token')).toMatchObject({ reason: 'age' })
      end.end.vanish()
    }
    const end = await connect(running, clock, robot)
    const token = await name(end)
    const after = await connect(running, clock, by(robot, token))
    await beats(after)
    expect(after.frames.map(({ type }) => type)).not.toContain('rotate_token')
    expect((await stored(robot)).requestedAt).toBeNull()
  })

  it('does nothing to a robot that knows nothing of it', async () => {
    const robot = await robotOfAge()
    const end = await connect(running, clock, robot)
    await request(robot)
    await end.hears('rotate_token')
    await beats(end)
    expect((await stored(robot)).requestedAt).not.toBeNull()
    expect(end.end.isOpen).toBe(true)
  })

  it('is not missed by a session that is being opened meanwhile', async () => {
    const robot = await robotOfAge()
    const blocker = await db.pool.connect()
    await blocker.query('BEGIN')
    await blocker.query('SELECT FROM robot_status WHERE robot_id = $1 FOR UPDATE', [robot.id])
    const end = await connect(running, clock, robot, { hello: false })
    end.say({ type: 'hello', protocol: 1 })
    await eventually(() => isWaiting(blocker), 'the session that waits')
    // Changed after the statement that opens the session has read it, and told before it is open.
    await db.database
      .updateTable('fleets')
      .set({ heartbeat_interval_ms: 1_234 })
      .where('id', '=', fleet.fleetId)
      .execute()
    await running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
    await eventually(async () => (await factsRead()) > 0, 'the look at the robot')
    await blocker.query('COMMIT')
    blocker.release()
    expect(await end.hears('welcome')).toMatchObject({ heartbeat_interval_ms: INTERVAL_MS })
    expect(await end.hears('settings')).toMatchObject({ heartbeat_interval_ms: 1_234 })
  })
})

async function isWaiting(connection: pg.PoolClient): Promise<boolean> {
  const { rows } = await connection.query(
    'SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))',
  )
  return rows.length > 0
}

async function factsRead(): Promise<number> {
  const { values } = await running.metrics.databaseSeconds.get()
  const count = values.find(
    ({ metricName, labels }) => metricName?.endsWith('_count') && labels.operation === 'read_session_facts',
  )
  return count?.value ?? 0
}

describe('a next token', () => {
  it('stands beside the old one until a session was opened with it', async () => {
    const robot = await robotOfAge()
    const end = await connect(running, clock, robot)
    const next = await name(end)
    expect(await stored(robot)).toMatchObject({ token: hashOf(robot), next: next.hash })

    const old = await connect(running, clock, robot)
    expect((await stored(robot)).token).toBe(hashOf(robot))
    const fresh = await connect(running, clock, by(robot, next))
    expect(await old.end.closed).toMatchObject({ code: 4510 })
    expect(await stored(robot)).toMatchObject({ token: next.hash, next: undefined })
    expect(await admit(robot.authorization)).toMatchObject({ status: 401, code: 'invalid_token' })
    await beats(fresh)
  })

  it('is as old as it is: from the moment it was named', async () => {
    const robot = await robotOfAge()
    const next = await name(await connect(running, clock, robot))
    const namedAt = clock.now()
    clock.advance(5_000)
    await connect(running, clock, by(robot, next))
    expect((await stored(robot)).issuedAt?.getTime()).toBe(namedAt)
  })

  it('is told on the timeline and in the audit log, and no secret with it', async () => {
    const robot = await robotOfAge()
    await request(robot, 'suspicion')
    const end = await connect(running, clock, robot)
    const next = await name(end)
    await connect(running, clock, by(robot, next))
    const [event] = await timeline(robot, 'token_rotated')
    expect(event).toMatchObject({ source: 'server', data: { reason: 'suspicion', session_no: 2 } })
    const lines = await auditOf(robot)
    expect(lines.map(({ action }) => action)).toEqual(['robot.next_token_stored', 'robot.token_rotated'])
    for (const line of lines)
      expect(line).toMatchObject({
        actor_kind: 'robot',
        actor_id: robot.id,
        fleet_id: fleet.fleetId,
        address: '192.0.2.1',
      })
    const told = JSON.stringify([event, lines])
    for (const secret of [next.hash, next.authorization.slice(7), robot.token, hashOf(robot)])
      expect(told).not.toContain(secret)
  })

  it('named again is confirmed again, and takes no second line', async () => {
    const robot = await robotOfAge()
    const end = await connect(running, clock, robot)
    const next = await name(end)
    end.say({ type: 'token_rotated', token_hash: next.hash })
    await eventually(() => end.frames.filter(({ type }) => type === 'token_rotation_ack').length === 2)
    expect(await auditOf(robot)).toHaveLength(1)
  })

  it('gives way to another that is named later', async () => {
    const robot = await robotOfAge()
    await request(robot)
    const lost = await name(await connect(running, clock, robot))
    clock.advance(10_001)
    const next = await name(await connect(running, clock, robot))
    expect(await admit(lost.authorization)).toMatchObject({ status: 401 })
    await connect(running, clock, by(robot, next))
  })

  it('goes with the one it was made for: when that is revoked, replaced or its robot retired', async () => {
    const ends: [(robot: TestRobot) => Promise<unknown>, string][] = [
      [(robot) => revokeRobotTokens(db.database, { id: robot.id }), 'invalid_token'],
      [(robot) => set(robot, { token_hash: hashToken(mintCheckedToken('robot')) }), 'invalid_token'],
      [(robot) => setRobotRetired(db.database, robot.id), 'invalid_token'],
    ]
    for (const [end, code] of ends) {
      const robot = await robotOfAge()
      await request(robot)
      const next = await name(await connect(running, clock, robot))
      await end(robot)
      expect(await stored(robot)).toMatchObject({ next: undefined, requestedAt: null })
      const elsewhere = await another()
      expect(await admit(next.authorization, elsewhere)).toMatchObject({ status: 401, code })
      expect(await admit(robot.authorization, elsewhere)).toMatchObject({ status: 401 })
    }
  })

  it('does not come back with a revoked token that is given anew', async () => {
    const robot = await robotOfAge()
    const next = await name(await connect(running, clock, robot))
    await revokeRobotTokens(db.database, { id: robot.id })
    await set(robot, { token_hash: hashToken(mintCheckedToken('robot')), token_revoked_at: null })
    expect(await admit(next.authorization, await another())).toMatchObject({ status: 401 })
  })
})

describe('what is no next token', () => {
  async function refusal(robot: TestRobot, tokenHash: unknown): Promise<string> {
    const end = await connect(running, clock, robot)
    end.say({ type: 'token_rotated', token_hash: tokenHash })
    return String((await end.hears('error')).code)
  }

  it('is refused when it is or was a token of anybody', async () => {
    const robot = await robotOfAge()
    const neighbour = await robotOfAge()
    const neighboursNext = await name(await connect(running, clock, neighbour))
    for (const taken of [hashOf(robot), hashOf(neighbour), neighboursNext.hash])
      expect(await refusal(robot, taken)).toBe('token_rotation_refused')

    const next = await name(await connect(running, clock, robot))
    const renewed = by(robot, next)
    await connect(running, clock, renewed)
    clock.advance(DAY_MS)
    expect(await refusal(renewed, hashOf(robot))).toBe('token_rotation_refused')
    expect(await stored(robot)).toMatchObject({ token: next.hash, next: undefined })
  })

  it('is refused when it has no form', async () => {
    const robot = await robotOfAge()
    for (const hash of ['', 'AB'.repeat(32), 'ab'.repeat(31), 7, null, `${'ab'.repeat(32)}00`])
      expect(await refusal(robot, hash)).toBe('invalid_frame')
    expect((await stored(robot)).next).toBeUndefined()
  })

  it('is refused when it comes unasked and the token is young, and taken when it is asked for', async () => {
    const robot = await robotOfAge(30_000)
    expect(await refusal(robot, mint().hash)).toBe('token_rotation_refused')
    await request(robot)
    await name(await connect(running, clock, robot))
    // Not one after the other, asked for or not.
    expect(await refusal(robot, mint().hash)).toBe('token_rotation_refused')
  })

  it('is refused from a session that is not the newest', async () => {
    const robot = await robotOfAge()
    const older = await connect(running, clock, robot)
    await connect(await another(), clock, robot)
    older.say({ type: 'token_rotated', token_hash: mint().hash })
    expect(await older.end.closed).toMatchObject({ code: 4510 })
    expect((await stored(robot)).next).toBeUndefined()
  })

  it('ends a session that names no end of them', async () => {
    const robot = await robotOfAge()
    await request(robot)
    const end = await connect(running, clock, robot)
    for (let count = 0; count < 50; count++) end.say({ type: 'token_rotated', token_hash: mint().hash })
    expect(await end.end.closed).toMatchObject({ code: 4001 })
    const acks = end.frames.filter(({ type }) => type === 'token_rotation_ack')
    expect(acks.length).toBeLessThanOrEqual(1)
    expect((await auditOf(robot)).length).toBeLessThanOrEqual(1)
  })

  it('is not taken from a robot that was not welcomed', async () => {
    const robot = await robotOfAge()
    const end = await connect(running, clock, robot, { hello: false })
    end.say({ type: 'token_rotated', token_hash: mint().hash })
    expect(await end.hears('error')).toMatchObject({ code: 'hello_expected' })
  })
})

describe('the old token', () => {
  it('opens nothing where another server let it in while it stood, and lets nobody in from then on', async () => {
    const robot = await robotOfAge()
    const elsewhere = await another()
    const next = await name(await connect(running, clock, robot))
    const late = await connect(elsewhere, clock, robot, { hello: false })
    await connect(running, clock, by(robot, next))

    late.say({ type: 'hello', protocol: 1 })
    expect(await late.end.closed).toMatchObject({ code: 4501 })
    for (const server of [running, elsewhere])
      await expect(connect(server, clock, robot)).rejects.toMatchObject({ status: 401 })
    expect((await stored(robot)).token).toBe(next.hash)
  })

  it('never opens a session after the new one has, though both come in the same moment', async () => {
    const elsewhere = await another()
    for (let round = 0; round < 30; round++) {
      const robot = await robotOfAge()
      const next = await name(await connect(running, clock, robot))
      const [old, fresh] = await Promise.all([
        connect(elsewhere, clock, robot, { hello: false }),
        connect(running, clock, by(robot, next), { hello: false }),
      ])
      const hello = { type: 'hello', protocol: 1 }
      const ends = round % 2 === 0 ? [old, fresh] : [fresh, old]
      for (const end of ends) end.say(hello)
      const welcome = await fresh.hears('welcome')
      const outcome = await eventually(async () => {
        const opened = old.frames.find(({ type }) => type === 'welcome')
        return opened ?? (old.end.isOpen ? undefined : 'refused')
      })
      if (outcome !== 'refused') expect(Number(outcome.session_no)).toBeLessThan(Number(welcome.session_no))
      expect((await stored(robot)).token).toBe(next.hash)
    }
  })

  it('is not opened by a session that waited while the new one took its place', async () => {
    const robot = await robotOfAge()
    const next = await name(await connect(running, clock, robot))
    const blocker = await db.pool.connect()
    await blocker.query('BEGIN')
    await blocker.query('SELECT FROM robots WHERE id = $1 FOR UPDATE', [robot.id])
    const old = await connect(await another(), clock, robot, { hello: false })
    old.say({ type: 'hello', protocol: 1 })
    await eventually(() => isWaiting(blocker), 'the session that waits')
    await blocker.query(
      `UPDATE robots SET token_hash = next_token_hash, next_token_hash = NULL WHERE id = $1`,
      [robot.id],
    )
    await blocker.query('COMMIT')
    blocker.release()
    expect(await old.end.closed).toMatchObject({ code: 4501 })
    expect(old.frames.map(({ type }) => type)).not.toContain('welcome')
    await connect(running, clock, by(robot, next))
  })
})

it('a token that became another robot’s own meanwhile opens none for this one, and harms nobody', async () => {
  const robot = await robotOfAge()
  const thief = await robotOfAge()
  const bystander = await robotOfAge()
  const next = await name(await connect(running, clock, robot))
  const end = await connect(running, clock, by(robot, next), { hello: false })
  await set(thief, { token_hash: Buffer.from(next.hash, 'hex') })
  const other = await connect(running, clock, bystander, { hello: false })
  for (const each of [end, other]) each.say({ type: 'hello', protocol: 1 })
  expect(await end.end.closed).toMatchObject({ code: 4501 })
  await other.hears('welcome')
  expect((await stored(robot)).token).toBe(hashOf(robot))
})
