import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { HeartbeatFrame } from '../../../src/protocol/frames.ts'
import { eventually } from '../../support/eventually.ts'
import { AgentProcess, KEY, TestRobot } from '../support/agent-process.ts'
import { type RobotSession, startControlPlane } from '../support/control-plane.ts'
import {
  batteryState,
  FakeRos,
  navSatFix,
  poseStamped,
  poseWithCovariance,
  status,
  turned,
} from './fake-ros.ts'

const BATTERY = 'sensor_msgs/msg/BatteryState'
const ODOMETRY = 'nav_msgs/msg/Odometry'
const AMCL = 'geometry_msgs/msg/PoseWithCovarianceStamped'

/** A real agent with a session, and a real bridge that hears a ROS of the test's own. */
async function bridged(args: readonly string[] = []) {
  const server = await startControlPlane()
  const robot = new TestRobot()
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
  const session = await server.sessions.next()
  await session.heartbeats.first(1)
  const ros = await FakeRos.start()
  const bridge = ros.bridge(['--config', robot.config, ...args])
  await ros.isHeard()
  return { server, robot, agent, session, ros, bridge }
}

function beat(session: RobotSession, isWanted: (beat: HeartbeatFrame) => boolean): Promise<HeartbeatFrame> {
  return session.heartbeats.next(isWanted, session.heartbeats.all.length)
}

function codesOf({ faults = [] }: HeartbeatFrame): string[] {
  return faults.map(({ code }) => code).filter((code) => code.startsWith('ros2'))
}

test('diagnostics, battery and pose are told in heartbeats', async () => {
  const { session, ros } = await bridged(['--pose-topic', '/odom', '--pose-type', 'Odometry'])
  ros.diagnostics(
    status(2, 'lidar', 'no scan', { hardware_id: 'SN-1' }),
    status(1, 'arm', 'warm'),
    status(0, 'ok'),
  )
  ros.publish('/battery_state', BATTERY, batteryState({ power_supply_status: 1 }))
  ros.publish('/odom', ODOMETRY, poseWithCovariance(1.5, -2, turned(0.5), 'odom'))
  const told = await beat(
    session,
    (one) => codesOf(one).length === 2 && one.battery?.voltage === 25.2 && one.pose !== undefined,
  )
  expect(told).toMatchObject({
    health: 'error',
    battery: { charge: 0.81, charging: true },
    pose: { frame: 'odom', x: 1.5, y: -2, theta: 0.5 },
    faults: [
      { code: 'ros2:lidar@SN-1', level: 'error', message: 'no scan' },
      { code: 'ros2:arm', level: 'warn', message: 'warm' },
    ],
  })
  ros.diagnostics(status(0, 'lidar', 'OK', { hardware_id: 'SN-1' }))
  expect((await beat(session, (one) => codesOf(one).length === 1)).health).toBe('warn')
  ros.diagnostics(status(0, 'arm'))
  await beat(session, (one) => codesOf(one).length === 0 && one.health === 'ok')
})

test('the bridge asks ROS for what fits publishers of every kind', async () => {
  const { ros } = await bridged([
    '--namespace',
    '/cart',
    '--pose-type',
    AMCL,
    '--',
    '--ros-args',
    '--log-level',
    'warn',
  ])
  await ros.seen.first(7)
  expect(ros.seen.all).toEqual([
    { init: ['--ros-args', '--log-level', 'warn'] },
    { node: { name: 'beacon_bridge', namespace: '/cart' } },
    {
      subscription: {
        type: 'diagnostic_msgs/msg/DiagnosticArray',
        topic: '/diagnostics',
        qos: { history: 1, depth: 200, reliability: 2, durability: 2 },
      },
    },
    {
      subscription: {
        type: BATTERY,
        topic: '/cart/battery_state',
        qos: { history: 1, depth: 5, reliability: 2, durability: 2 },
      },
    },
    {
      subscription: {
        type: AMCL,
        topic: '/cart/amcl_pose',
        qos: { history: 1, depth: 5, reliability: 2, durability: 2 },
      },
    },
    // The last pose of a robot that stands still.
    {
      subscription: {
        type: AMCL,
        topic: '/cart/amcl_pose',
        qos: { history: 1, depth: 1, reliability: 1, durability: 1 },
      },
    },
    { spin: 100 },
  ])
})

test('the type of a pose is looked up when its topic appears, and another thing is told of', async () => {
  const { session, ros, bridge } = await bridged(['--pose-topic', 'where', '--diagnostics-topic', 'off'])
  ros.graph({ name: '/where', types: ['std_msgs/msg/String'], publishers: 1 })
  await bridge.says(/\/where is std_msgs\/msg\/String, which is no pose/)
  ros.graph({ name: '/where', types: ['sensor_msgs/msg/NavSatFix'], publishers: 1 })
  await ros.subscription('/where')
  ros.publish('/where', 'sensor_msgs/msg/NavSatFix', navSatFix(52.52, 13.405))
  const { pose } = await beat(session, (one) => one.pose !== undefined)
  expect(pose).toEqual({ lat: 52.52, lon: 13.405 })
  ros.publish('/where', 'sensor_msgs/msg/NavSatFix', navSatFix(Number.NaN, Number.NaN, -1))
  await beat(session, (one) => one.pose === undefined)
})

test('an agent that was killed is told everything again when it is back', async () => {
  const { server, robot, agent, ros, bridge } = await bridged()
  ros.diagnostics(status(2, 'lidar', 'no scan'), status(2, 'arm'))
  ros.publish('/battery_state', BATTERY, batteryState())
  const [session] = server.sessions.all
  await beat(session!, (one) => codesOf(one).length === 2 && one.battery?.voltage === 25.2)
  agent.kill('SIGKILL')
  await agent.exited
  await bridge.says(/warn .*it is tried again until it answers/)
  // What ends while nobody listens is ended when somebody does.
  ros.diagnostics(status(0, 'arm'))
  robot.run()
  const [, second] = await server.sessions.first(2)
  const told = await beat(second!, (one) => one.battery?.voltage === 25.2 && codesOf(one).length === 1)
  expect(codesOf(told)).toEqual(['ros2:lidar'])
})

test.each(['SIGTERM', 'SIGINT'] as const)(
  'at %s it takes back what it told, leaves ROS and ends well',
  async (signal) => {
    const { robot, session, ros, bridge } = await bridged(['--metric', 'load=cpu#load'])
    ros.diagnostics(status(2, 'lidar'), status(0, 'cpu', '', { values: [{ key: 'load', value: '55 %' }] }))
    ros.publish('/battery_state', BATTERY, batteryState())
    await robot.command('fault', 'raise', 'no air', '--code', 'gripper')
    await beat(
      session,
      (one) => codesOf(one).length === 1 && one.metrics?.load === 55 && one.battery?.voltage === 25.2,
    )
    bridge.kill(signal)
    expect(await bridge.exited).toBe(0)
    expect(ros.seen.all.at(-1)).toEqual({ shutdown: true })
    const after = await beat(session, () => true)
    expect(codesOf(after)).toEqual([])
    expect(after.faults).toMatchObject([{ code: 'gripper' }])
    expect(after.battery?.voltage).not.toBe(25.2)
    expect(
      Object.keys(after.metrics ?? {}).filter((name) => name === 'load' || name.startsWith('ros2_')),
    ).toEqual([])
  },
)

test('messages that make no sense cost nothing but themselves', async () => {
  const { session, ros, bridge } = await bridged(['--pose-type', 'PoseStamped'])
  const POSE = 'geometry_msgs/msg/PoseStamped'
  for (const wrong of [
    undefined,
    null,
    7,
    'x',
    5n,
    [],
    {},
    new Uint8Array(3),
    { status: [null, 7n, { level: {} }] },
  ]) {
    ros.publish('/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray', wrong)
    ros.publish('/battery_state', BATTERY, wrong)
    ros.publish('/amcl_pose', POSE, wrong)
  }
  ros.publish('/amcl_pose', POSE, poseStamped(Number.NaN, 1, turned(0)))
  ros.publish('/amcl_pose', POSE, poseStamped(1, 1, { x: 0, y: 0, z: 0, w: 0 }))
  ros.diagnostics(status(1, 'a\u0000\ud800\u202e', 'b\u0000\ud800\n'.repeat(400)), status(7, 'no such level'))
  const told = await beat(
    session,
    (one) => codesOf(one).length === 1 && (one.metrics?.ros2_malformed ?? 0) > 20,
  )
  expect(told.pose).toBeUndefined()
  await bridge.says(/messages could not be read/)
})

test('without diagnostics for long the robot has a fault that says so', async () => {
  const { session, ros } = await bridged(['--silence-seconds', '1', '--stale-seconds', '1'])
  await beat(session, (one) => codesOf(one).includes('ros2-bridge:silent'))
  await eventually(async () => {
    ros.diagnostics(status(0, 'lidar', 'fine'))
    return !codesOf(session.heartbeats.all.at(-1)!).includes('ros2-bridge:silent')
  }, 'the end of the silence')
  const later = await beat(session, (one) => codesOf(one).length === 2)
  expect(later.faults).toMatchObject([{ level: 'warn' }, { code: 'ros2:lidar', level: 'warn' }])
})

test('an agent that does not run yet is waited for; the bridge ends well without one, too', async () => {
  const robot = new TestRobot()
  const ros = await FakeRos.start()
  const bridge = ros.bridge([], { BEACON_CONFIG: robot.config })
  await bridge.says(/no agent listens on .*agent\.toml\.sock/)
  expect(await bridge.stop()).toBe(0)
})

test('messages that are not installed cost their own topic, and all of them the bridge', async () => {
  const robot = new TestRobot()
  const ros = await FakeRos.start()
  const MISSING = 'diagnostic_msgs/msg/DiagnosticArray'
  const bridge = ros.bridge([], { BEACON_CONFIG: robot.config, FAKE_ROS_MISSING_TYPES: MISSING })
  await bridge.says(
    /error cannot listen to \/diagnostics \(diagnostic_msgs.*The message required does not exist/,
  )
  await ros.isHeard()
  expect(await bridge.stop()).toBe(0)
  const alone = ros.bridge(['--battery-topic', 'off', '--pose-topic', 'off'], {
    BEACON_CONFIG: robot.config,
    FAKE_ROS_MISSING_TYPES: MISSING,
  })
  expect(await alone.exited).toBe(1)
  expect(alone.logText).toMatch(/there is nothing to listen to/)
})

test('what is missing, and what is mistaken, is said in a sentence', async () => {
  const run = async (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const started = new AgentProcess(['ros2', ...args], env)
    return { code: await started.exited, text: started.logText }
  }
  expect(await run([])).toEqual({
    code: 1,
    text: expect.stringMatching(/^error: rclnodejs is not installed: .*npm install rclnodejs[^\n]*$/),
  })
  const ros = await FakeRos.start()
  expect(await run([], { BEACON_ROS2_RCLNODEJS: '/nowhere', ...ros.env() })).toMatchObject({ code: 1 })
  expect(await run(['--rate', '1000'])).toEqual({
    code: 2,
    text: 'error: --rate "1000" must lie between 1 and 20',
  })
})

test('every flag is in the handbook, with the name that it has in the environment', async () => {
  const help = new AgentProcess(['ros2', '--help'], {})
  expect(await help.exited).toBe(0)
  const flags = [...help.answers.all.join('\n').matchAll(/^ {2}--([a-z0-9-]+)/gm)].map(([, name]) => name!)
  expect(flags.length).toBeGreaterThan(14)
  const handbook = readFileSync(join(import.meta.dirname, '../../../docs/agent.md'), 'utf8')
  const text = handbook.slice(
    handbook.indexOf('\n## ROS 2\n'),
    handbook.indexOf('\n## Without a connection\n'),
  )
  const variables: Record<string, string> = { metric: 'BEACON_ROS2_METRICS' }
  for (const name of flags) {
    expect(text, name).toContain(`\`--${name}`)
    if (name !== 'config')
      expect(text).toContain(
        `\`${variables[name] ?? `BEACON_ROS2_${name.toUpperCase().replaceAll('-', '_')}`}`,
      )
  }
})
