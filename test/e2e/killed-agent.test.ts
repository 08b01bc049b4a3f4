import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import type { EnrollmentKey } from './independent/operator.ts'
import { countsOf, type Scene, startScene } from './scene.ts'
import { startWireTap, type WireTap } from './wire-tap.ts'

const BEACON = join(import.meta.dirname, '../../bin/beacon.js')

let scene: Scene
let tap: WireTap
let key: EnrollmentKey
let home: string
const agents: Agent[] = []

beforeAll(async () => {
  // One address for all that an agent does, so that the tap hears it all.
  scene = await startScene({ env: { BEACON_GATEWAY_ENGINE: 'ws' } })
  tap = await startWireTap(scene.servers[0]!.url)
})
afterAll(async () => {
  await tap?.stop()
  await scene?.end()
})
beforeEach(async () => {
  key = await scene.operator.key(scene.site, scene.fleet, { max_uses: 5 })
  home = await mkdtemp(join(tmpdir(), 'beacon-agent-e2e-'))
  tap.clear()
  return async () => {
    tap.holdAnswers(false)
    // Before its folder goes: a running agent writes in it.
    for (const agent of agents.splice(0)) await agent.kill9()
    await rm(home, { recursive: true, force: true })
  }
})

interface Agent {
  readonly child: ChildProcess
  readonly log: string
  kill9(): Promise<void>
}

/** The real agent, started with the key each time, as a unit file would. */
function startAgent(): Agent {
  const child = spawn(
    process.execPath,
    [BEACON, 'agent', 'run', '--enrollment-key', key.key_value, '--server', tap.url],
    {
      env: {
        PATH: process.env.PATH ?? '',
        HOME: home,
        NO_COLOR: '1',
        BEACON_CONFIG: join(home, 'agent.toml'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  )
  const exited = once(child, 'close')
  let log = ''
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      log += text
    })
  const agent = {
    child,
    get log() {
      return log
    },
    async kill9() {
      child.kill('SIGKILL')
      await exited
    },
  }
  agents.push(agent)
  return agent
}

async function robotsOfKey() {
  const { rows } = await scene.database.pool.query(
    `SELECT id, session_no::int, connection, heartbeat_seq IS NOT NULL AS has_beaten
       FROM robots JOIN robot_status ON robot_id = id WHERE credential_id = $1`,
    [key.id],
  )
  return rows as { id: string; session_no: number; connection: string; has_beaten: boolean }[]
}

const beating = (sessionNo: number) =>
  eventually(async () => {
    const [robot] = await robotsOfKey()
    const isThere = robot?.session_no === sessionNo && robot.connection === 'online' && robot.has_beaten
    return isThere ? robot : undefined
  }, `session ${sessionNo}`)

async function expectNothingTwice(id: string): Promise<void> {
  const { rows } = await scene.database.pool.query(
    'SELECT seq, at FROM heartbeats WHERE robot_id = $1 GROUP BY seq, at HAVING count(*) > 1',
    [id],
  )
  expect(rows).toEqual([])
}

test('an agent killed while it is connected comes back as the same robot, and sends no key again', async () => {
  const first = startAgent()
  const before = await beating(1)
  expect(tap.heard).toContain(key.key_value)
  await first.kill9()
  const state = await stat(join(home, 'agent.toml'))
  expect(state.mode & 0o777).toBe(0o600)
  const saved = await readFile(join(home, 'agent.toml'), 'utf8')
  tap.clear()

  const second = startAgent()
  const after = await beating(2)
  expect(after.id).toBe(before.id)
  expect(tap.heard).toMatch(/^GET \/agent\/ws /)
  expect(tap.heard).not.toContain('/agent/enroll')
  expect(tap.heard).not.toContain('rf_enroll_')
  expect(await readFile(join(home, 'agent.toml'), 'utf8')).toBe(saved)
  expect(await countsOf(scene.database.pool, key.id)).toEqual({ uses: 1, robots: 1 })
  await expectNothingTwice(after.id)
  expect(first.log + second.log).not.toContain(key.key_value)
})

test('an agent killed before it heard the answer to its claim asks with the same claim', async () => {
  tap.holdAnswers(true)
  const first = startAgent()
  const granted = await eventually(async () => (await robotsOfKey())[0])
  await first.kill9()
  tap.holdAnswers(false)
  startAgent()
  expect((await beating(1)).id).toBe(granted.id)
  expect(await countsOf(scene.database.pool, key.id)).toEqual({ uses: 1, robots: 1 })
})

test('an agent killed at one moment after the other is never a second robot', async () => {
  // Killed when its first, second, … piece of data passes: before the claim is written, during the upgrade, at the hello.
  for (const piece of [1, 1, 2, 3, 4]) {
    tap.clear()
    const agent = startAgent()
    await eventually(() => tap.pieces >= piece)
    await agent.kill9()
    expect((await countsOf(scene.database.pool, key.id)).uses).toBeLessThanOrEqual(1)
  }
  startAgent()
  const robot = await eventually(async () => {
    const [one] = await robotsOfKey()
    return one?.connection === 'online' && one.has_beaten ? one : undefined
  })
  expect(await countsOf(scene.database.pool, key.id)).toEqual({ uses: 1, robots: 1 })
  await expectNothingTwice(robot.id)
})
