import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Finding, Report } from '../../agent/doctor/report.ts'
import { AgentProcess, TestRobot } from '../agent/support/agent-process.ts'
import { eventually } from '../support/eventually.ts'
import { countsOf, type Scene, startScene } from './scene.ts'

let scene: Scene
beforeAll(async () => {
  scene = await startScene()
}, 60_000)
afterAll(() => scene?.end())

/** The command as a person runs it on that robot. */
async function doctor(robot: TestRobot, args: readonly string[] = [], env: Record<string, string> = {}) {
  const process = new AgentProcess(['doctor', ...args], { BEACON_CONFIG: robot.config, ...env })
  const code = await process.exited
  return { code, out: process.answers.all.join('\n') }
}

async function examined(robot: TestRobot, env: Record<string, string> = {}) {
  const { code, out } = await doctor(robot, ['--json'], env)
  const report = JSON.parse(out) as Report
  const of = (check: string): Finding | undefined =>
    report.findings.find((finding) => finding.check === check)
  return { code, report, of, out }
}

test('beacon agent doctor examines a real server, burns no use of a key, and leaves a running session alone', async () => {
  const { operator, database, servers, site, fleet } = scene
  const url = servers[0]!.url
  const key = await operator.key(site, fleet)
  const robot = new TestRobot()
  const given = { BEACON_SERVER: url, BEACON_ENROLLMENT_KEY: key.key_value }

  const before = await examined(robot, given)
  expect(before.of('credential')).toMatchObject({ verdict: 'ok' })
  expect(await countsOf(database.pool, key.id)).toEqual({ uses: 0, robots: 0 })

  robot.run(['--enrollment-key', key.key_value, '--server', url])
  const session = async () => {
    const { rows } = await database.pool.query(
      "SELECT robot_id, session_no, connection FROM robot_status WHERE connection = 'online'",
    )
    return rows[0]
  }
  const held = await eventually(session, 'a robot online')
  await eventually(async () => (await robot.status())?.link?.connection === 'connected', 'a session')

  const during = await examined(robot)
  expect(during.report.findings.filter(({ verdict }) => verdict === 'fail')).toEqual([])
  expect(during.code).toBe(0)
  for (const check of [
    'identity',
    'files',
    'disk',
    'agent',
    'server.connection',
    'server.http',
    'clock',
    'credential',
    'gateway.websocket',
  ])
    expect(during.of(check), check).toMatchObject({ verdict: 'ok' })
  expect(during.out).not.toMatch(/rf_robot_|rf_enroll_/)
  expect(await session()).toEqual(held)

  await operator.call('POST', `/api/robots/${held.robot_id}/revoke-token`, {})
  const after = await examined(robot)
  expect(after.code).toBe(1)
  expect(after.of('credential')).toMatchObject({
    verdict: 'fail',
    message: expect.stringContaining('revoked'),
  })

  const elsewhere = await doctor(robot, [], { BEACON_SERVER: 'http://127.0.0.1:9' })
  expect(elsewhere.code).toBe(1)
  expect(elsewhere.out).toMatch(/FAIL.*ECONNREFUSED[\s\S]*What to do: /)
})
