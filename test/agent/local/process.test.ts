import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { HeartbeatFrame } from '../../../src/protocol/frames.ts'
import { eventually } from '../../support/eventually.ts'
import { KEY, TestRobot } from '../support/agent-process.ts'
import { type ControlPlane, type RobotSession, startControlPlane } from '../support/control-plane.ts'

async function enrolled(
  env: Readonly<Record<string, string>> = {},
  prepare: (robot: TestRobot, server: ControlPlane) => void = () => {},
) {
  const server = await startControlPlane()
  const robot = new TestRobot()
  prepare(robot, server)
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url], env)
  const session = await server.sessions.next()
  await session.heartbeats.first(1)
  return { server, robot, agent, session }
}

/** The first heartbeat from now on that is as wanted. */
function beat(session: RobotSession, isWanted: (beat: HeartbeatFrame) => boolean): Promise<HeartbeatFrame> {
  return session.heartbeats.next(isWanted, session.heartbeats.all.length)
}

function eventsOf(session: RobotSession) {
  return session.frames.all.filter(({ type }) => type === 'event')
}

test('commands set metrics, and heartbeats carry them until they are taken back', async () => {
  const { robot, session } = await enrolled()
  expect(await robot.command('metric', 'set', 'arm_load=0.75', 'offset=-2', '--ttl', '600')).toEqual({
    code: 0,
    out: 'arm_load = 0.75\noffset = -2',
    err: '',
  })
  const told = await beat(session, ({ metrics }) => metrics?.arm_load !== undefined)
  expect(told.metrics).toMatchObject({ arm_load: 0.75, offset: -2 })
  expect(await robot.command('metric', 'unset', 'arm_load', '--json')).toMatchObject({
    code: 0,
    out: '{"ok":true}',
  })
  const after = await beat(session, ({ metrics }) => metrics?.arm_load === undefined)
  expect(after.metrics).toMatchObject({ offset: -2 })
  expect((await robot.status())!.local).toMatchObject({ metrics: 1, faults: 0, refused: { malformed: 0 } })
})

test('faults decide the robot’s health, and outlive an agent that was killed', async () => {
  const { robot, agent, server, session } = await enrolled()
  expect(await robot.command('fault', 'raise', 'no air', '--code', 'gripper')).toMatchObject({ code: 0 })
  const ill = await beat(session, ({ health }) => health === 'error')
  expect(ill.faults).toMatchObject([{ code: 'gripper', level: 'error', message: 'no air' }])
  await robot.command('metric', 'set', 'brief=1')
  agent.kill('SIGKILL')
  await agent.exited

  const again = robot.run()
  const [, second] = await server.sessions.first(2)
  const [first] = await second!.heartbeats.first(1)
  expect(first!.faults).toEqual(ill.faults)
  expect(first!.metrics?.brief).toBeUndefined()
  const list = await robot.command('fault', 'list', '--json')
  expect(JSON.parse(list.out)).toEqual({ ok: true, faults: ill.faults })
  expect((await robot.command('fault', 'list')).out).toMatch(/^error {2}gripper {2}since .* no air$/)
  expect(await robot.command('fault', 'clear', 'gripper')).toMatchObject({ code: 0 })
  await beat(second!, ({ faults }) => !faults?.some(({ code }) => code === 'gripper'))
  expect((await robot.command('fault', 'list')).out).toBe('no faults')
  expect(await again.stop()).toBe(0)
  expect(existsSync(`${robot.config}.sock`)).toBe(false)
})

test('events are sent until they are acknowledged, also by an agent that was killed and started again', async () => {
  const { robot, agent, server, session } = await enrolled()
  const data = JSON.stringify({ door: 3 })
  expect(
    await robot.command('event', 'door is open', '--code', 'door', '--level', 'warn', '--data', data),
  ).toMatchObject({ code: 0 })
  const event = await session.frames.next(({ type }) => type === 'event')
  expect(event).toMatchObject({ level: 'warn', code: 'door', message: 'door is open', data: { door: 3 } })
  expect((await robot.status())!.local!.events_waiting).toBe(1)
  agent.kill('SIGKILL')
  await agent.exited
  robot.run()

  const [, second] = await server.sessions.first(2)
  expect(await second!.frames.next(({ type }) => type === 'event')).toEqual(event)
  second!.send({ type: 'event_ack', ids: [String(event.id)] })
  await eventually(async () => (await robot.status())!.local!.events_waiting === 0)
  second!.vanish()
  const [, , third] = await server.sessions.first(3)
  await third!.heartbeats.first(2)
  expect(eventsOf(third!)).toEqual([])
})

test('mistakes have exit codes and say what to do', async () => {
  const robot = new TestRobot()
  const nobody = await robot.command('metric', 'set', 'a=1')
  expect(nobody).toMatchObject({
    code: 1,
    err: expect.stringMatching(/no agent listens on .*agent\.toml\.sock/),
  })
  const asJson = await robot.command('fault', 'list', '--json')
  expect(asJson.code).toBe(1)
  expect(JSON.parse(asJson.out)).toEqual({ ok: false, error: expect.stringMatching(/no agent listens/) })
  for (const wrong of [
    ['metric', 'set'],
    ['metric', 'set', 'A=1'],
    ['event', 'x'],
  ])
    expect(await robot.command(...wrong), wrong.join(' ')).toMatchObject({
      code: 2,
      err: expect.stringMatching(/./),
    })
})

test('a program that floods the socket costs the robot neither its heartbeats nor its fleet anything', async () => {
  const { robot, session } = await enrolled()
  const path = `${robot.config}.sock`
  expect(statSync(path).mode & 0o777).toBe(0o660)
  for (let number = 0; number < 20; number++) {
    const socket = connect(path)
    socket.on('error', () => {})
    socket.on('data', () => {})
    socket.write(`${JSON.stringify({ event: { code: 'loop', message: 'x'.repeat(500) } })}\n`.repeat(5_000))
  }
  await eventually(async () => (await robot.status())!.local!.refused.lines > 1_000, 'refusals')
  const later = await beat(session, ({ metrics }) => (metrics?.beacon_refused ?? 0) > 1_000)
  expect(later.health).toBeDefined()
  const { refused } = (await robot.status())!.local!
  expect(refused.connections).toBeGreaterThan(0)
  expect(eventsOf(session).length).toBeLessThan(80)
})

test('programs in the exec folder are run and heard, and get nothing of the agent’s secrets', async () => {
  const script = `#!/bin/sh
echo "{\\"metric\\":{\\"arm\\":4},\\"activity\\":\\"$(env | grep -c -e rf_ -e SECRET)\\"}"
`
  const { robot, agent, session } = await enrolled(
    { BEACON_ENROLLMENT_KEY: KEY, SOME_SECRET: 'x' },
    (made) => {
      const folder = join(made.folder, 'agent.d')
      mkdirSync(folder, { mode: 0o755 })
      for (const [name, mode] of [
        ['1s-arm', 0o755],
        ['open', 0o777],
      ] as const) {
        writeFileSync(join(folder, name), script)
        chmodSync(join(folder, name), mode)
      }
    },
  )
  const told = await session.heartbeats.next(({ metrics }) => metrics?.arm === 4)
  expect(told.activity).toBe('0')
  await agent.says(/not run: open can be written by other users/)
  const { exec } = (await robot.status())!.local!
  expect(exec.programs).toMatchObject([{ name: '1s-arm', every_s: 1, failures: 0 }])
  expect(exec.skipped).toEqual([{ name: 'open', why: 'can be written by other users' }])
  expect((await robot.command('status')).out).toMatch(/1s-arm every 1 s/)
})

test('nothing that a program started outlives an agent that is killed', async () => {
  const { robot, agent } = await enrolled({}, (made) => {
    const folder = join(made.folder, 'agent.d')
    mkdirSync(folder, { mode: 0o755 })
    const script = `#!/bin/sh\nsleep 1000 &\necho "$$ $!" > ${made.folder}/pids.new\nmv ${made.folder}/pids.new ${made.folder}/pids\nwait\n`
    writeFileSync(join(folder, '1s-arm'), script)
    chmodSync(join(folder, '1s-arm'), 0o755)
  })
  const file = join(robot.folder, 'pids')
  await eventually(() => existsSync(file), 'the program')
  const pids = readFileSync(file, 'utf8').trim().split(' ').map(Number)
  expect(pids.map(runs)).toEqual([true, true])
  agent.kill('SIGKILL')
  await agent.exited
  await eventually(() => !pids.some(runs), 'the end of the program and of what it started')
})

/** A zombie that nobody has collected yet has ended, too. */
function runs(pid: number): boolean {
  try {
    return !/ Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

test('the way to the server and back is measured and told', async () => {
  const { session } = await enrolled()
  const { network } = await session.heartbeats.next((beat) => beat.network?.rtt_ms !== undefined)
  expect(network!.rtt_ms).toBeGreaterThanOrEqual(0)
  expect(network!.rtt_ms).toBeLessThan(5_000)
})

test('the socket can lie elsewhere, and a place that it cannot have costs the robot only the socket', async () => {
  const elsewhere = join(new TestRobot().folder, 'local.sock')
  const { robot } = await enrolled({ BEACON_AGENT_SOCKET: elsewhere })
  expect((await robot.status())!.local!.socket).toBe(elsewhere)
  expect(existsSync(`${robot.config}.sock`)).toBe(false)

  const { agent, session } = await enrolled({ BEACON_AGENT_SOCKET: '/proc/none/local.sock' })
  await agent.says(/the robot's software cannot reach the agent/)
  await session.heartbeats.first(2)
})
