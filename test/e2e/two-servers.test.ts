import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { Operator } from './independent/operator.ts'
import { enrol, newClaim, newMachine, Robot, Session, UpgradeRefusedError } from './independent/robot.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const WITHIN_MS = 2_000

let scene: Scene
let urlA: string
let urlB: string

beforeAll(async () => {
  scene = await startScene({ servers: 2, env: { BEACON_BUS: 'postgres' } })
  ;[urlA, urlB] = scene.servers.map((server) => server.url) as [string, string]
})
afterAll(() => scene?.end())

async function robotAt(base: string) {
  const { key_value } = await scene.operator.key(scene.site, scene.fleet)
  const machine = newMachine()
  const { body } = await enrol(urlA, key_value, { machine, claim_id: randomUUID() })
  const session = await connect(base, body.robot_token!, machine)
  return { id: body.robot_id, token: body.robot_token!, machine, key: key_value, session }
}

async function connect(base: string, token: string, machine = newMachine()): Promise<Session> {
  const session = await Session.open(base, token)
  session.hello(machine)
  await session.welcome()
  return session
}

describe('what is done at one server reaches the sessions of the other', () => {
  test.each([
    ['revoke-token', 4501],
    ['retire', 4502],
  ])('%s closes with %i within 2 s, and the robot is let in nowhere', async (action, code) => {
    const { id, token, session } = await robotAt(urlB)
    const begun = Date.now()
    await scene.operator.must('POST', `/api/robots/${id}/${action}`)
    const closed = await session.closed
    expect(closed.code).toBe(code)
    expect(closed.at - begun).toBeLessThan(WITHIN_MS)
    for (const base of [urlA, urlB]) {
      const refusal = await Session.open(base, token).catch((error: unknown) => error)
      expect(refusal).toBeInstanceOf(UpgradeRefusedError)
      expect((refusal as UpgradeRefusedError).status).toBe(401)
    }
    await eventually(async () => (await scene.operator.robot(id)).connection === 'offline')
  })

  test('a key revoked together with its robots', async () => {
    const key = await scene.operator.key(scene.site, scene.fleet)
    const machine = newMachine()
    const { body } = await enrol(urlB, key.key_value, { machine })
    const session = await connect(urlB, body.robot_token!, machine)
    await scene.operator.must('POST', `/api/enrollment-keys/${key.id}/revoke`, { cascade: 'revoke_robots' })
    expect((await session.closed).code).toBe(4501)
    expect((await enrol(urlB, key.key_value)).body.code).toBe('key_revoked')
  })

  test('a new session elsewhere replaces the old one with 4510, to and fro', async () => {
    const { id, token, machine, session } = await robotAt(urlA)
    const begun = Date.now()
    const second = await connect(urlB, token, machine)
    const closed = await session.closed
    expect(closed.code).toBe(4510)
    expect(closed.at - begun).toBeLessThan(WITHIN_MS)
    const third = await connect(urlA, token, machine)
    expect((await second.closed).code).toBe(4510)
    const numbers = [session, second, third].map((one) => Number(one.frames[0]!.session_no))
    expect(numbers).toEqual([1, 2, 3])
    third.heartbeat(1)
    await third.acked(1)
    expect(await scene.operator.robot(id)).toMatchObject({ connection: 'online', session_no: 3 })
    third.socket.terminate()
  })

  test('of 100 sockets of one robot at both servers at once the newest is left', async () => {
    const { id, token, machine } = await robotAt(urlA)
    const sessions = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const session = await Session.open(index % 2 === 0 ? urlA : urlB, token)
        session.hello(machine)
        return session
      }),
    )
    const open = () => sessions.filter((session) => session.ended === null)
    await eventually(() => open().length === 1)
    const [winner] = open()
    const { session_no } = await winner!.welcome()
    for (const session of sessions) if (session !== winner) expect((await session.closed).code).toBe(4510)
    const numbers = sessions.flatMap((session) =>
      session.frames.filter((frame) => frame.type === 'welcome').map((frame) => Number(frame.session_no)),
    )
    expect(new Set(numbers).size).toBe(numbers.length)
    expect(Math.max(...numbers)).toBe(session_no)
    winner!.heartbeat(1)
    await winner!.acked(1)
    expect(await scene.operator.robot(id)).toMatchObject({ connection: 'online', session_no })
    winner!.socket.terminate()
  })

  test("a fleet's heartbeat interval", async () => {
    const { session } = await robotAt(urlB)
    await scene.operator.must('PATCH', `/api/fleets/${scene.fleet.id}`, { heartbeat_interval_ms: 700 })
    onTestFinished(async () => {
      await scene.operator.must('PATCH', `/api/fleets/${scene.fleet.id}`, { heartbeat_interval_ms: null })
    })
    const settings = await session.frame((frame) => frame.type === 'settings', WITHIN_MS)
    expect(settings.heartbeat_interval_ms).toBe(700)
    session.socket.terminate()
  })

  test('a name and an approval', async () => {
    const { key_value } = await scene.operator.key(scene.site, scene.fleet, { require_approval: true })
    const machine = newMachine()
    const { body } = await enrol(urlB, key_value, { machine })
    const session = await connect(urlB, body.robot_token!, machine)
    await scene.operator.must('POST', `/api/robots/${body.robot_id}/approve`)
    await session.frame((frame) => frame.type === 'welcome' && frame.lifecycle === 'active', WITHIN_MS)
    await scene.operator.must('PATCH', `/api/robots/${body.robot_id}`, { name: 'Renamed' })
    await session.frame((frame) => frame.type === 'welcome' && frame.name === 'Renamed', WITHIN_MS)
    session.socket.terminate()
  })

  test('a machine that enrols again after its connection was lost: its old token opens nothing', async () => {
    const { token, machine, key, session } = await robotAt(urlB)
    session.send({ type: 'bye', reason: 'new disk' })
    await session.closed
    const again = await eventually(async () => {
      const answer = await enrol(urlA, key, { machine })
      return answer.status === 409 ? undefined : answer
    })
    expect(again.status).toBe(200)
    await eventually(async () =>
      Session.open(urlB, token).then(
        (open) => open.socket.terminate(),
        (error: unknown) => (error as UpgradeRefusedError).status === 401,
      ),
    )
    await connect(urlB, again.body.robot_token!, machine)
  })
})

test('one server goes down in peace: told when to come back, its robots go to the other and are never offline', async () => {
  const third = await scene.addServer({ BEACON_BUS: 'postgres' })
  const { key_value } = await scene.operator.key(scene.site, scene.fleet)
  const robots = await Promise.all(
    Array.from({ length: 20 }, () => Robot.enrol([third.url, urlB], key_value, 100)),
  )
  onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
  for (const robot of robots) robot.start()
  await eventually(() => robots.every((robot) => robot.acknowledged.length > 3))

  const ids = new Set(robots.map((robot) => robot.id))
  const watcher = new Operator(urlB, scene.adminToken)
  const seen = new Set<string>()
  let watching = true
  const watch = (async () => {
    while (watching)
      for (const robot of await watcher.list<{ id: string; connection: string }>('/api/robots'))
        if (ids.has(robot.id)) seen.add(robot.connection)
  })()

  const exited = third.stop()
  await eventually(() => robots.every((robot) => robot.closes.length > 0))
  for (const robot of robots) {
    const { code, reason } = robot.closes[0]!
    expect(code).toBe(1012)
    expect(reason).toMatch(/reconnect_in_ms=\d+/)
  }
  const delays = robots.map((robot) => Number(/reconnect_in_ms=(\d+)/.exec(robot.closes[0]!.reason)![1]))
  expect(new Set(delays).size).toBeGreaterThan(10)
  expect(await exited).toBe(0)
  await eventually(() => robots.every((robot) => robot.welcomed && robot.sessions.length === 2))
  for (const robot of robots) robot.rest()
  await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))
  for (const robot of robots) {
    const stored = await storedHeartbeats(scene.database.pool, robot.id)
    expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(robot.acknowledged)
  }
  watching = false
  await watch
  expect(seen).toContain('online')
  expect(seen).not.toContain('offline')
}, 60_000)

test('a server that drains lets nobody in, and says when to ask again', async () => {
  const third = await scene.addServer({ BEACON_BUS: 'postgres' })
  const { token } = await robotAt(urlB)
  const { key_value } = await scene.operator.key(scene.site, scene.fleet)
  const robot = await Robot.enrol([third.url], key_value)
  // It holds its socket open, so that draining takes its time.
  const held = await connect(third.url, robot.token, robot.machine)
  held.socket.pause()
  const exited = third.stop()
  const ready = async () => (await fetch(`${third.url}/readyz`).catch(() => undefined))?.status
  await eventually(async () => (await ready()) !== 200)
  const refusal = await Session.open(third.url, token).catch((error: unknown) => error)
  if (refusal instanceof UpgradeRefusedError) {
    expect(refusal.status).toBe(503)
    expect(Number(refusal.headers['retry-after'])).toBeGreaterThan(0)
  } else expect((refusal as NodeJS.ErrnoException).code).toBe('ECONNREFUSED')
  const claim = newClaim()
  const answer = await enrol(third.url, key_value, { claim_id: claim.claim_id }).catch(() => undefined)
  expect([503, undefined]).toContain(answer?.status)
  expect(await exited).toBe(0)
}, 60_000)
