import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { mintToken } from './independent/operator.ts'
import { enrol, newMachine, Robot, Session, sha256, UpgradeRefusedError } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

const WITHIN_MS = 2_000

let scene: Scene
let base: string

beforeAll(async () => {
  scene = await startScene()
  base = scene.servers[0]!.url
})
afterAll(() => scene?.end())

const key = (more = {}) => scene.operator.key(scene.site, scene.fleet, more)

interface HistoryItem {
  readonly seq: number
  readonly at: string
  readonly session_no: number
  readonly battery?: { readonly charge: number }
}
interface TimelineItem {
  readonly code: string
  readonly data: Record<string, unknown>
}

const historyOf = (robotId: string) => scene.operator.list<HistoryItem>(`/api/robots/${robotId}/heartbeats`)
const timelineOf = (robotId: string) => scene.operator.list<TimelineItem>(`/api/robots/${robotId}/events`)

/** A robot that has enrolled and said hello. */
async function connected(): Promise<{ id: string; token: string; session: Session }> {
  const { key_value } = await key()
  const machine = newMachine()
  const token = mintToken('rf_robot_')
  const claim = { claim_id: randomUUID(), token_hash: sha256(token), machine }
  const { status, body } = await enrol(base, key_value, claim)
  expect(status).toBe(201)
  const session = await Session.open(body.gateway_url, token)
  session.hello(machine)
  await session.welcome()
  return { id: body.robot_id, token, session }
}

const refusalOf = (opening: Promise<Session>) =>
  opening.then(
    () => {
      throw new Error('the upgrade was not refused')
    },
    (error: unknown) => {
      expect(error).toBeInstanceOf(UpgradeRefusedError)
      const { status, body } = error as UpgradeRefusedError
      return { status, code: (JSON.parse(body) as { code: string }).code }
    },
  )

describe('a robot written from the contract alone', () => {
  test.each(['a token of its own', 'a token that the server made'])('works with %s', async (which) => {
    const enrollment = await key({ max_uses: 1 })
    expect(enrollment.key_value).toMatch(/^rf_enroll_[0-9a-f]{64}$/)
    expect(enrollment).toMatchObject({ uses: 0, max_uses: 1, status: 'active' })
    expect(String((enrollment as unknown as Record<string, unknown>).setup_command)).toContain(
      `--enrollment-key ${enrollment.key_value}`,
    )

    const machine = newMachine()
    const own = which === 'a token of its own' ? mintToken('rf_robot_') : undefined
    const claim = own === undefined ? {} : { claim_id: randomUUID(), token_hash: sha256(own) }
    const { status, body } = await enrol(base, enrollment.key_value, { ...claim, machine })
    expect(status).toBe(201)
    expect(body).toMatchObject({
      site_id: scene.site.id,
      fleet_id: scene.fleet.id,
      heartbeat_interval_ms: 500,
    })
    expect(body.name).toBe(machine.hostname)
    const token = own ?? body.robot_token
    if (own === undefined) expect(token).toMatch(/^rf_robot_[0-9a-f]{72}$/)
    else expect(body).not.toHaveProperty('robot_token')

    expect(await scene.operator.robot(body.robot_id)).toMatchObject({ connection: 'unseen', heartbeat: null })
    const session = await Session.open(body.gateway_url, token!)
    session.hello(machine)
    const welcome = await session.welcome()
    expect(welcome).toMatchObject({
      robot_id: body.robot_id,
      name: body.name,
      session_no: 1,
      heartbeat_interval_ms: 500,
      lifecycle: 'active',
    })
    expect(Math.abs(Date.parse(String(welcome.server_time)) - Date.now())).toBeLessThan(5_000)

    for (let seq = 1; seq <= 5; seq += 1)
      session.heartbeat(seq, {
        health: 'warn',
        mode: 'auto',
        activity: 'docking',
        battery: { charge: seq / 10, charging: true, voltage: 24.5 },
        pose: { frame: 'map', x: 1, y: -2, theta: 0.5 },
        system: { cpu: 0.25, memory: 0.5, disk: 0.75, temperature_c: 51, load_1m: 0.4, uptime_s: 99 },
        estop: false,
        faults: [{ code: 'lidar', level: 'warn', message: 'dusty', since: new Date().toISOString() }],
        metrics: { crates: seq * 3 },
        something_newer: { than: 'this server' },
      })
    await session.acked(5)

    const seen = await scene.operator.robot(body.robot_id)
    expect(seen).toMatchObject({
      connection: 'online',
      health: 'warn',
      lifecycle: 'active',
      session_no: 1,
      heartbeat: { seq: 5, battery: { charge: 0.5 }, metrics: { crates: 15 }, pose: { frame: 'map', y: -2 } },
    })
    const { items } = await scene.operator.must<{ items: { id: string }[] }>(
      'GET',
      `/api/robots?fleet=${scene.fleet.id}&connection=online&q=${machine.hostname}`,
    )
    expect(items.map((item) => item.id)).toEqual([body.robot_id])

    const history = await historyOf(body.robot_id)
    expect(history.map((item) => item.seq)).toEqual([1, 2, 3, 4, 5])
    expect(history.map((item) => item.battery?.charge)).toEqual([0.1, 0.2, 0.3, 0.4, 0.5])
    const { items: summary } = await scene.operator.must<{ items: { values: Record<string, unknown> }[] }>(
      'GET',
      `/api/robots/${body.robot_id}/heartbeats?step=1h&fields=battery.charge`,
    )
    expect(summary).toHaveLength(1)
    expect(summary[0]!.values['battery.charge']).toMatchObject({ count: 5, min: 0.1, max: 0.5 })

    const { text: series } = await scene.operator.call('GET', '/metrics/robots')
    const line = (name: string) =>
      series.split('\n').find((one) => one.startsWith(`${name}{`) && one.includes(body.robot_id))
    expect(line('beacon_robot_info')).toContain(`name="${machine.hostname}"`)
    expect(line('beacon_robot_online')).toMatch(/ 1$/)
    expect(line('beacon_robot_battery_charge_ratio')).toMatch(/ 0\.5$/)
    expect(line('beacon_robot_metric')).toMatch(/metric="crates".* 15$/)
    const { text: process } = await scene.operator.call('GET', '/metrics')
    expect(process).toMatch(/^beacon_robots\{.*connection="online".*\} [1-9]/m)

    const codes = (
      await eventually(async () => {
        const events = await timelineOf(body.robot_id)
        return events.some((event) => event.code === 'connected') ? events : undefined
      })
    ).map((event) => event.code)
    expect(codes).toContain('enrolled')
    expect(codes.indexOf('enrolled')).toBeGreaterThan(codes.indexOf('connected'))

    expect(await scene.operator.keyById(enrollment.id)).toMatchObject({ uses: 1, status: 'exhausted' })
    const late = await enrol(base, enrollment.key_value)
    expect([late.status, late.body.code]).toEqual([403, 'key_exhausted'])

    session.send({ type: 'bye', reason: 'end of shift' })
    const closed = await session.closed
    expect(closed.code).toBe(1000)
    await eventually(async () => (await scene.operator.robot(body.robot_id)).connection === 'offline')
    expect(await scene.operator.robot(body.robot_id)).toMatchObject({ heartbeat: { seq: 5 } })
  })

  test('goes stale after 2.5 intervals of silence, and is heard again', async () => {
    const { id, session } = await connected()
    session.heartbeat(1)
    await session.acked(1)
    const heardAt = performance.now()
    await eventually(async () => (await scene.operator.robot(id)).connection === 'stale')
    expect(performance.now() - heardAt).toBeGreaterThan(1_000)
    session.heartbeat(2)
    await eventually(async () => (await scene.operator.robot(id)).connection === 'online')
    session.socket.terminate()
  })

  test('comes back after its connection was lost, under a higher session number', async () => {
    const { key_value } = await key()
    const robot = await Robot.enrol([base], key_value)
    robot.start()
    await eventually(() => robot.acknowledged.length >= 2)
    robot.session!.socket.terminate()
    await eventually(() => robot.sessions.length === 2 && robot.welcomed)
    robot.rest()
    await eventually(() => robot.unacknowledged.length === 0)
    expect(robot.sessions).toEqual([1, 2])
    const history = await historyOf(robot.id)
    expect(history.map(({ seq, at }) => ({ seq, at }))).toEqual(robot.acknowledged)
    const lost = (await timelineOf(robot.id)).find((event) => event.code === 'disconnected')
    expect(lost?.data).toMatchObject({ session_no: 1, close_code: 1006 })
    await robot.stop()
  })

  test('asks twice with the same claim and is the same robot; another hash under that claim is refused', async () => {
    const enrollment = await key()
    const claim = {
      claim_id: randomUUID(),
      token_hash: sha256(mintToken('rf_robot_')),
      machine: newMachine(),
    }
    const first = await enrol(base, enrollment.key_value, claim)
    const again = await enrol(base, enrollment.key_value, claim)
    expect([first.status, again.status]).toEqual([201, 200])
    expect(again.body).toEqual(first.body)
    const other = await enrol(base, enrollment.key_value, { ...claim, token_hash: sha256('another') })
    expect([other.status, other.body.code]).toEqual([409, 'claim_conflict'])
    expect(await scene.operator.keyById(enrollment.id)).toMatchObject({ uses: 1 })
  })

  test('waits for approval, then its heartbeats are taken', async () => {
    const { key_value } = await key({ require_approval: true })
    const machine = newMachine()
    const { body } = await enrol(base, key_value, { machine })
    const session = await Session.open(body.gateway_url, body.robot_token!)
    session.hello(machine)
    expect(await session.welcome()).toMatchObject({ lifecycle: 'pending' })
    session.heartbeat(1)
    await scene.operator.must('POST', `/api/robots/${body.robot_id}/approve`)
    await session.frame((frame) => frame.type === 'welcome' && frame.lifecycle === 'active', WITHIN_MS)
    session.heartbeat(2)
    await session.acked(2)
    expect((await historyOf(body.robot_id)).map((item) => item.seq)).toEqual([2])
    session.socket.terminate()
  })
})

describe('what an operator does reaches the live session', () => {
  test('revoking the token closes it with 4501 within 2 s, and the token opens no other', async () => {
    const { id, token, session } = await connected()
    const begun = Date.now()
    await scene.operator.must('POST', `/api/robots/${id}/revoke-token`)
    const closed = await session.closed
    expect(closed.code).toBe(4501)
    expect(closed.reason).not.toBe('')
    expect(closed.at - begun).toBeLessThan(WITHIN_MS)
    expect(await refusalOf(Session.open(base, token))).toEqual({ status: 401, code: 'token_revoked' })
    await eventually(async () => (await scene.operator.robot(id)).connection === 'offline')
    const codes = (await timelineOf(id)).map((event) => event.code)
    expect(codes).toContain('token_revoked')
  })

  test('retiring closes it with 4502 within 2 s', async () => {
    const { id, token, session } = await connected()
    const begun = Date.now()
    await scene.operator.must('POST', `/api/robots/${id}/retire`)
    const closed = await session.closed
    expect(closed.code).toBe(4502)
    expect(closed.at - begun).toBeLessThan(WITHIN_MS)
    expect((await refusalOf(Session.open(base, token))).status).toBe(401)
    expect(await scene.operator.robot(id)).toMatchObject({ lifecycle: 'retired' })
  })

  test('revoking a key refuses later claims and leaves enrolled robots alone', async () => {
    const enrollment = await key()
    const machine = newMachine()
    const { body } = await enrol(base, enrollment.key_value, { machine })
    const session = await Session.open(body.gateway_url, body.robot_token!)
    session.hello(machine)
    await session.welcome()
    await scene.operator.must('POST', `/api/enrollment-keys/${enrollment.id}/revoke`)
    const late = await enrol(base, enrollment.key_value)
    expect([late.status, late.body.code]).toEqual([403, 'key_revoked'])
    session.heartbeat(1)
    await session.acked(1)
    expect(session.ended).toBeNull()
    const again = await Session.open(body.gateway_url, body.robot_token!)
    again.hello(machine)
    expect(await again.welcome()).toMatchObject({ session_no: 2 })
    expect((await session.closed).code).toBe(4510)
    again.socket.terminate()
  })

  test('revoking a key with its robots closes their sessions', async () => {
    const enrollment = await key()
    const machine = newMachine()
    const { body } = await enrol(base, enrollment.key_value, { machine })
    const session = await Session.open(body.gateway_url, body.robot_token!)
    session.hello(machine)
    await session.welcome()
    await scene.operator.must('POST', `/api/enrollment-keys/${enrollment.id}/revoke`, {
      cascade: 'revoke_robots',
    })
    expect((await session.closed).code).toBe(4501)
  })
})
