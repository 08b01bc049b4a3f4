import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type AgentProcess, TestRobot } from '../agent/support/agent-process.ts'
import { eventually } from '../support/eventually.ts'
import { sha256 } from './independent/robot.ts'
import { countsOf, type Scene, startScene } from './scene.ts'

const KILL_AT_CALL = join(import.meta.dirname, '../agent/disk/kill-at-call.mjs')

let scene: Scene
beforeAll(async () => {
  scene = await startScene()
})
afterAll(() => scene?.end())

/** One call of each stretch of this many, at random, so that rounds differ and together reach over all. */
const STRETCH = 6
const callIn = (stretch: number) => 1 + stretch * STRETCH + Math.floor(Math.random() * STRETCH)

/** For an agent that is killed at its file call with this number, from the start or from a signal on. */
function killedAt(robot: TestRobot, call: number, from?: NodeJS.Signals): Record<string, string> {
  return {
    NODE_OPTIONS: `--import=${KILL_AT_CALL}`,
    FAULT_FOLDER: robot.folder,
    FAULT_AT: String(call),
    FAULT: 'before',
    ...(from ? { FAULT_FROM: from } : {}),
  }
}

const ended = (agent: AgentProcess) => agent.exited.then(() => 'killed' as const)

async function killed(agent: AgentProcess): Promise<void> {
  agent.kill('SIGKILL')
  await agent.exited
}

async function storedTwice(id: string): Promise<unknown[]> {
  const { rows } = await scene.database.pool.query(
    'SELECT seq FROM heartbeats WHERE robot_id = $1 GROUP BY seq HAVING count(*) > 1',
    [id],
  )
  return rows
}

async function isBeating(id: string): Promise<void> {
  const count = async () => {
    const { rows } = await scene.database.pool.query(
      'SELECT count(*)::int AS count FROM heartbeats WHERE robot_id = $1',
      [id],
    )
    return rows[0].count as number
  }
  const before = await count()
  await eventually(async () => (await count()) > before)
}

test('killed again and again while it enrols, it is one robot and uses the key once', {
  timeout: 120_000,
}, async () => {
  const key = await scene.operator.key(scene.site, scene.fleet, { max_uses: 50 })
  const flags = ['--enrollment-key', key.key_value, '--server', scene.servers[0]!.url]
  const told: string[] = []
  let kills = 0
  // A kill costs what was reached, so that each comes later than the one before.
  for (let enrolment = 0; enrolment < 2; enrolment++) {
    const robot = new TestRobot()
    for (let stretch = 0; stretch < 9; stretch++) {
      const call = callIn(stretch)
      const agent = robot.run(flags, killedAt(robot, call))
      const outcome = await Promise.race([
        ended(agent),
        agent.says(/connected as/).then(() => 'connected' as const),
      ])
      told.push(`${enrolment}: call ${call}: ${outcome}`)
      await killed(agent)
      if (outcome === 'killed') kills++
      expect((await countsOf(scene.database.pool, key.id)).uses, told.join('\n')).toBeLessThanOrEqual(
        enrolment + 1,
      )
    }
    const agent = robot.run(flags)
    await agent.says(/connected as/)
    const { robotId } = robot.state().identity!
    await isBeating(robotId)
    expect(await countsOf(scene.database.pool, key.id), told.join('\n')).toEqual({
      uses: enrolment + 1,
      robots: enrolment + 1,
    })
    expect(await storedTwice(robotId), told.join('\n')).toEqual([])
    expect(readdirSync(robot.folder).filter((name) => name.endsWith('.tmp'))).toEqual([])
    expect(await agent.stop()).toBe(0)
  }
  expect(kills, told.join('\n')).toBeGreaterThan(8)
})

test('killed again and again while it changes its token, it comes back each time, with one that stands', {
  timeout: 120_000,
}, async () => {
  const key = await scene.operator.key(scene.site, scene.fleet)
  const robot = new TestRobot()
  const flags = ['--enrollment-key', key.key_value, '--server', scene.servers[0]!.url]
  const first = robot.run(flags)
  await first.says(/connected as/)
  const { robotId } = robot.state().identity!
  expect(await first.stop()).toBe(0)
  const rotation = async () => (await scene.operator.robot(robotId)).rotation
  const told: string[] = []
  let kills = 0
  for (let stretch = 0; stretch < 10; stretch++) {
    const call = callIn(stretch)
    const agent = robot.run(flags, killedAt(robot, call, 'SIGUSR2'))
    await agent.says(/connected as/)
    agent.kill('SIGUSR2')
    await scene.operator.must('POST', `/api/robots/${robotId}/rotate-token`, {})
    const outcome = await Promise.race([
      ended(agent),
      agent.says(/the one before is void/).then(() => 'changed' as const),
    ])
    told.push(`call ${call}: ${outcome}`)
    await killed(agent)
    if (outcome === 'killed') kills++

    const next = robot.run(flags)
    await next.says(/connected as/)
    await eventually(async () => (await rotation()) === null, told.join('\n'))
    await eventually(() => robot.state().identity?.nextToken === undefined, told.join('\n'))
    const { identity } = robot.state()
    expect(identity?.robotId, told.join('\n')).toBe(robotId)
    const { rows } = await scene.database.pool.query('SELECT token_hash FROM robots WHERE id = $1', [robotId])
    expect(rows[0].token_hash.toString('hex'), told.join('\n')).toBe(sha256(identity!.robotToken))
    expect(await next.stop()).toBe(0)
  }
  expect(kills, told.join('\n')).toBeGreaterThan(4)
  expect(await countsOf(scene.database.pool, key.id)).toEqual({ uses: 1, robots: 1 })
  expect(await storedTwice(robotId)).toEqual([])
})
