import { randomUUID } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AgentProcess, TestRobot } from '../agent/support/agent-process.ts'
import { eventually } from '../support/eventually.ts'
import { enrol, newMachine, Session, sha256, UpgradeRefusedError } from './independent/robot.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const WITHIN_MS = 2_000
const INTERVAL_MS = 500

let scene: Scene
let urlA: string
let urlB: string

beforeAll(async () => {
  scene = await startScene({ servers: 2, env: { BEACON_BUS: 'postgres' } })
  ;[urlA, urlB] = scene.servers.map((server) => server.url) as [string, string]
})
afterAll(() => scene?.end())

interface Running {
  readonly robot: TestRobot
  readonly agent: AgentProcess
  readonly id: string
  readonly flags: readonly string[]
}

/** A real agent, connected to this server. */
async function runAgent(url: string): Promise<Running> {
  const { key_value } = await scene.operator.key(scene.site, scene.fleet)
  const robot = new TestRobot()
  const flags = ['--enrollment-key', key_value, '--server', url]
  const agent = robot.run(flags)
  await agent.says(/connected as/)
  const { robotId: id } = robot.state().identity!
  await eventually(async () => (await scene.operator.robot(id)).connection === 'online')
  return { robot, agent, id, flags }
}

const tokenOf = ({ robot }: Running) => robot.state().identity!.robotToken
const rotation = async (id: string) => (await scene.operator.robot(id)).rotation
const refusalOf = (url: string, token: string) => Session.open(url, token).catch((error: unknown) => error)
async function eventsOf(id: string, code: string): Promise<readonly Record<string, unknown>[]> {
  const page = await scene.operator.must<{ items: Record<string, unknown>[] }>(
    'GET',
    `/api/robots/${id}/events?code=${code}`,
  )
  return page.items
}
const stored = (id: string) => storedHeartbeats(scene.database.pool, id)

/** Every number once, and no longer pause between two than an interval and what a busy machine takes. */
async function expectUnbroken(id: string): Promise<void> {
  const beats = await stored(id)
  const seqs = beats.map(({ seq }) => seq)
  expect(seqs).toEqual(seqs.map((_, index) => seqs[0]! + index))
  const gaps = beats.slice(1).map(({ at }, index) => at.getTime() - beats[index]!.at.getTime())
  expect(Math.max(...gaps)).toBeLessThan(4 * INTERVAL_MS)
}

describe('a robot that beats gets a new token', () => {
  test('from an operator at another server, within 2 s and without a heartbeat lost', async () => {
    const running = await runAgent(urlB)
    const { id, robot, agent } = running
    const old = tokenOf(running)
    await eventually(async () => (await stored(id)).length >= 4)
    const begun = Date.now()
    const answer = await scene.operator.must<{ rotation: unknown }>(
      'POST',
      `/api/robots/${id}/rotate-token`,
      {},
    )
    expect(answer.rotation).toMatchObject({ reason: 'operator' })
    await eventually(async () => (await rotation(id)) === null, 'the new token')
    expect(Date.now() - begun).toBeLessThan(WITHIN_MS)
    await agent.says(/the one before is void/)

    expect(tokenOf(running)).not.toBe(old)
    const { rows } = await scene.database.pool.query('SELECT token_hash FROM robots WHERE id = $1', [id])
    expect(rows[0].token_hash.toString('hex')).toBe(sha256(tokenOf(running)))
    for (const url of [urlA, urlB]) {
      const refusal = await refusalOf(url, old)
      expect(refusal).toBeInstanceOf(UpgradeRefusedError)
      expect((refusal as UpgradeRefusedError).status).toBe(401)
    }
    const count = (await stored(id)).length
    await eventually(async () => (await stored(id)).length >= count + 4)
    expect(await eventsOf(id, 'offline')).toEqual([])
    await agent.stop()
    await expectUnbroken(id)
    expect((await eventsOf(id, 'token_rotation_requested')).length).toBe(1)
    expect((await eventsOf(id, 'token_rotated')).length).toBe(1)
    const told = agent.logText + JSON.stringify(await eventsOf(id, 'token_rotated'))
    for (const secret of [old, tokenOf({ ...running, robot })]) expect(told).not.toContain(secret)
  })

  test('when it was away while it was asked', async () => {
    const running = await runAgent(urlA)
    const { id, robot, agent, flags } = running
    const old = tokenOf(running)
    await agent.stop()
    await scene.operator.must('POST', `/api/robots/${id}/rotate-token`, {})
    await pause(WITHIN_MS / 4)
    expect(await rotation(id)).not.toBeNull()
    const again = robot.run(flags)
    await again.says(/the one before is void/)
    await eventually(async () => (await rotation(id)) === null)
    expect(tokenOf(running)).not.toBe(old)
  })

  test('for the age of the one it has', async () => {
    const running = await runAgent(urlB)
    const { id, agent } = running
    const old = tokenOf(running)
    await scene.operator.must('PATCH', '/api/security', { robot_token_max_age_days: 30 })
    await scene.database.pool.query(
      "UPDATE robots SET token_issued_at = now() - interval '31 days' WHERE id = $1",
      [id],
    )
    await agent.says(/the server wants a new token \(age\)/)
    await agent.says(/the one before is void/)
    expect(tokenOf(running)).not.toBe(old)
    expect(Date.parse(String((await scene.operator.robot(id)).token_issued_at))).toBeGreaterThan(
      Date.now() - 60_000,
    )
    // Once: two servers do not ask twice.
    expect((await eventsOf(id, 'token_rotation_requested')).length).toBe(1)
    await scene.operator.must('PATCH', '/api/security', { robot_token_max_age_days: null })
  }, 60_000)

  test('as do many at once by filter, after a dry run that named them', async () => {
    const fleet = await scene.operator.fleet(scene.site.id, 'Many')
    const { key_value } = await scene.operator.key(scene.site, fleet)
    const robots = await Promise.all(
      [urlA, urlB, urlA].map(async (url) => {
        const robot = new TestRobot()
        await robot.run(['--enrollment-key', key_value, '--server', url]).says(/connected as/)
        return robot
      }),
    )
    const before = robots.map((robot) => robot.state().identity!)
    const filter = { fleet: fleet.id }
    const path = '/api/robots/rotate-tokens'
    const dry = await scene.operator.must('POST', path, { filter, dry_run: true })
    expect(dry).toMatchObject({ matched: 3, requested: 3 })
    for (const { robotId } of before) expect(await rotation(robotId)).toBeNull()
    await scene.operator.must('POST', path, { filter })
    await eventually(() =>
      robots.every((robot, index) => {
        const { robotToken, nextToken } = robot.state().identity!
        return robotToken !== before[index]!.robotToken && nextToken === undefined
      }),
    )
  })

  test('when another machine says that it is this robot', async () => {
    const { key_value } = await scene.operator.key(scene.site, scene.fleet)
    const machine = newMachine()
    const { body } = await enrol(urlA, key_value, { machine, claim_id: randomUUID() })
    const session = await Session.open(urlB, body.robot_token!)
    session.hello(machine)
    await session.welcome()
    const clone = await enrol(urlA, key_value, { machine, claim_id: randomUUID() })
    expect(clone.body.code).toBe('robot_online')
    await eventually(() => session.frames.find(({ type }) => type === 'rotate_token'))
    expect(await rotation(body.robot_id)).toMatchObject({ reason: 'suspicion' })
    session.socket.terminate()
  })
})

describe('whatever dies in the middle', () => {
  test('an agent killed at any moment of it connects again, enrolled once', async () => {
    const running = await runAgent(urlA)
    const { id, robot, flags } = running
    let { agent } = running
    for (let round = 0; round < 8; round++) {
      await scene.operator.must('POST', `/api/robots/${id}/rotate-token`, {})
      await pause(round * 4)
      agent.kill('SIGKILL')
      await agent.exited
      // A young next token is not replaced at once: the agent that wrote it down is the one that uses it.
      agent = robot.run(flags)
      await agent.says(/connected as/)
    }
    await eventually(async () => (await rotation(id)) === null, 'the last new token')
    const count = (await stored(id)).length
    await eventually(async () => (await stored(id)).length > count + 1)
    const { rows } = await scene.database.pool.query('SELECT token_hash FROM robots WHERE id = $1', [id])
    await eventually(() => rows[0].token_hash.toString('hex') === sha256(tokenOf(running)))
    expect((await eventsOf(id, 'enrolled')).length).toBe(1)
  }, 90_000)

  test('a server killed while robots are at every step of it: all come back, none enrolls again', async () => {
    const server = await scene.addServer()
    const running = await Promise.all(Array.from({ length: 8 }, () => runAgent(server.url)))
    const old = running.map(tokenOf)
    for (const { id } of running) await scene.operator.must('POST', `/api/robots/${id}/rotate-token`, {})
    await server.kill9()
    const before = new Map<string, number>()
    for (const { id } of running) before.set(id, Number((await scene.operator.robot(id)).session_no))
    await scene.addServer(server.ports)
    for (const { id } of running)
      await eventually(async () => {
        const { session_no, rotation: left } = await scene.operator.robot(id)
        return Number(session_no) > before.get(id)! && left === null
      }, 'the new token')
    for (const [index, one] of running.entries()) {
      const count = (await stored(one.id)).length
      await eventually(async () => (await stored(one.id)).length > count + 1)
      await one.agent.stop()
      const seqs = (await stored(one.id)).map(({ seq }) => seq)
      expect(seqs).toEqual(seqs.map((_, at) => seqs[0]! + at))
      expect((await eventsOf(one.id, 'enrolled')).length).toBe(1)
      expect(tokenOf(one)).not.toBe(old[index])
    }
  }, 120_000)
})

describe('a robot whose token was revoked', () => {
  /** An agent whose key lies in a file, connected to the second server. */
  async function runByFile() {
    const key = await scene.operator.key(scene.site, scene.fleet)
    const robot = new TestRobot()
    const keyFile = join(robot.folder, 'key')
    writeFileSync(keyFile, key.key_value)
    const flags = ['--enrollment-key-file', keyFile, '--server', urlB]
    const agent = robot.run(flags)
    await agent.says(/connected as/)
    return { robot, agent, keyFile, key, flags, id: robot.state().identity!.robotId }
  }
  const revoke = (id: string) => scene.operator.must('POST', `/api/robots/${id}/revoke-token`)
  const newKey = () => scene.operator.key(scene.site, scene.fleet)

  test('comes back as itself by a key made after it, and stays away with the one it has', async () => {
    const { robot, agent, keyFile, flags, id } = await runByFile()
    await revoke(id)
    expect(await agent.exited).toBe(3)
    expect(agent.logText).toMatch(/is what it enrolled with. What to do: make a new enrollment key/)

    writeFileSync(keyFile, (await newKey()).key_value)
    const again = robot.run(flags)
    await again.says(/enrolled again as/)
    await again.says(/connected as/)
    expect(robot.state().identity!.robotId).toBe(id)
    await eventually(async () => (await scene.operator.robot(id)).connection === 'online')
  })

  test('comes back without anybody starting it when the newer key is there by the time it learns', async () => {
    const { agent, keyFile, key, id } = await runByFile()
    agent.kill('SIGSTOP')
    await scene.operator.must('POST', `/api/enrollment-keys/${key.id}/revoke`, { cascade: 'revoke_robots' })
    writeFileSync(keyFile, (await newKey()).key_value)
    agent.kill('SIGCONT')
    await agent.says(/enrolled again as/)
    const count = (await stored(id)).length
    await eventually(async () => (await stored(id)).length > count + 2)
    expect(await scene.operator.robot(id)).toMatchObject({ connection: 'online', token_revoked_at: null })
  })

  test('is not brought back by a key from before, however new that is to it', async () => {
    const { agent, keyFile, id } = await runByFile()
    writeFileSync(keyFile, (await newKey()).key_value)
    await revoke(id)
    expect(await agent.exited).toBe(3)
    expect(agent.logText).toMatch(/enrolling anew with the key in .*enrolment refused.*shut out on purpose/s)
    expect((await scene.operator.robot(id)).token_revoked_at).not.toBeNull()
  })
})

test('a setup token gives a robot that works new credentials, and the old ones stop', async () => {
  const running = await runAgent(urlA)
  const { id, robot, agent } = running
  const old = tokenOf(running)
  await agent.stop()
  const setup = await scene.operator.must('POST', `/api/robots/${id}/setup-token`, {})
  const flags = ['--setup-token', String(setup.setup_token), '--server', urlB]
  const again = robot.run(flags)
  await again.says(/connected as/)
  expect(robot.state().identity!.robotId).toBe(id)
  expect(tokenOf(running)).not.toBe(old)
  expect((await refusalOf(urlA, old)) as UpgradeRefusedError).toMatchObject({ status: 401 })
  await again.stop()

  // Started again with the same command, as a unit file does.
  const third = robot.run(flags)
  await third.says(/connected as/)
  await third.stop()

  const stranger = new TestRobot().run(flags)
  expect(await stranger.exited).toBe(3)
  expect(stranger.logText).toMatch(
    /this setup token was used already: get a new one with .*beacon robots setup-token/,
  )
})
