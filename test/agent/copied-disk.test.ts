import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { KEY, TestRobot } from './support/agent-process.ts'
import { type ControlPlane, startControlPlane } from './support/control-plane.ts'

const OTHER_BOARD = 'f'.repeat(64)

/** A robot that was enrolled and has held session 1. */
async function robotWithSession(server: ControlPlane): Promise<TestRobot> {
  const robot = new TestRobot()
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
  await (await server.sessions.next()).heartbeats.first(1)
  expect(await agent.stop()).toBe(0)
  return robot
}

function bindTo(robot: TestRobot, board: string): void {
  const text = readFileSync(robot.config, 'utf8')
  expect(text).toMatch(/^bound_to = "[0-9a-f]{64}"$/m)
  // Who changes the identity by hand takes the checksum away.
  const bound = text.replace(/^bound_to = .*$/m, `bound_to = "${board}"`).replace(/^checksum = .*\n/m, '')
  writeFileSync(robot.config, bound)
}

/** The first session from now on. */
const nextSession = (server: ControlPlane) => server.sessions.next(undefined, server.sessions.all.length)

const boardOf = (robot: TestRobot) => /^bound_to = "(.*)"$/m.exec(readFileSync(robot.config, 'utf8'))?.[1]

test('the number of the session before comes with each hello, also after a restart', async () => {
  const server = await startControlPlane()
  const robot = await robotWithSession(server)
  const session = nextSession(server)
  const agent = robot.run(['--server', server.url])
  const first = await session
  expect(await first.hello()).toMatchObject({ last_session_no: 1 })
  await first.heartbeats.first(1)
  const again = nextSession(server)
  first.close(1012, 'service_restart; reconnect_in_ms=1')
  expect(await (await again).hello()).toMatchObject({ last_session_no: 2 })
  expect(await agent.stop()).toBe(0)
})

test('a robot that has held no session names none', async () => {
  const server = await startControlPlane()
  const robot = new TestRobot()
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
  expect(await (await server.sessions.next()).hello()).not.toHaveProperty('last_session_no')
  expect(await agent.stop()).toBe(0)
})

test('the number is of this identity alone, and a damaged one is none', async () => {
  const server = await startControlPlane()
  const robot = await robotWithSession(server)
  const file = `${robot.config}.session`
  const whole = readFileSync(file, 'utf8')
  expect(whole).toMatch(/^[0-9a-f]{8} [0-9a-f-]{36} 1\n$/)
  for (const damaged of ['', '1\n', 'someone-else 1\n', whole.slice(0, -1), whole.replace(/1\n$/, '2\n')]) {
    writeFileSync(file, damaged)
    const session = nextSession(server)
    const agent = robot.run(['--server', server.url])
    expect(await (await session).hello()).not.toHaveProperty('last_session_no')
    expect(await agent.stop()).toBe(0)
  }
})

test('a disk in another machine is refused with 5, and the server hears nothing of it', async () => {
  const server = await startControlPlane()
  const robot = await robotWithSession(server)
  bindTo(robot, OTHER_BOARD)
  const upgrades = server.upgrades.all.length
  const agent = robot.run(['--server', server.url])
  await agent.says(/bound to another machine.*--adopt/)
  expect(await agent.exited).toBe(5)
  expect(server.upgrades.all).toHaveLength(upgrades)
  expect(boardOf(robot)).toBe(OTHER_BOARD)
})

test('a disk that was moved for good is bound to its new machine once, when told so', async () => {
  const server = await startControlPlane()
  const robot = await robotWithSession(server)
  const board = boardOf(robot)
  bindTo(robot, OTHER_BOARD)
  const session = nextSession(server)
  const adopting = robot.run(['--server', server.url, '--adopt'])
  await (await session).heartbeats.first(1)
  expect(await adopting.stop()).toBe(0)
  expect(boardOf(robot)).toBe(board)
  const again = nextSession(server)
  const later = robot.run(['--server', server.url])
  await (await again).heartbeats.first(1)
  expect(await later.stop()).toBe(0)
})

test('an identity from before there was a binding is bound to the machine that it runs on', async () => {
  const server = await startControlPlane()
  const robot = await robotWithSession(server)
  const board = boardOf(robot)
  writeFileSync(robot.config, readFileSync(robot.config, 'utf8').replace(/^(bound_to|checksum) = .*\n/gm, ''))
  const session = nextSession(server)
  const agent = robot.run(['--server', server.url])
  await session
  await eventually(() => boardOf(robot) === board)
  expect(await agent.stop()).toBe(0)
})

test('another folder of the same machine is the same machine', async () => {
  const server = await startControlPlane()
  const robot = await robotWithSession(server)
  const moved = new TestRobot()
  cpSync(dirname(robot.config), dirname(moved.config), { recursive: true })
  const session = nextSession(server)
  const agent = moved.run(['--server', server.url])
  await (await session).heartbeats.first(1)
  expect(await agent.stop()).toBe(0)
})
