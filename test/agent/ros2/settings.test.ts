import { chmodSync, chownSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { findRclnodejs, type LoadFrom, loadRclnodejs } from '../../../agent/ros2/load.ts'
import { type Ros2Flags, readRos2Settings } from '../../../agent/ros2/settings.ts'
import { fullName } from '../../../agent/ros2/subscriptions.ts'
import { temporaryFolder } from '../support/agent-process.ts'
import { FAKE_RCLNODEJS } from './fake-ros.ts'

describe('settings', () => {
  test('what holds when nothing is said', () => {
    expect(readRos2Settings({}, {})).toEqual({
      socket: undefined,
      rclnodejs: undefined,
      namespace: '',
      nodeName: 'beacon_bridge',
      diagnosticsTopic: '/diagnostics',
      batteryTopic: 'battery_state',
      battery: undefined,
      perHundred: false,
      poseTopic: 'amcl_pose',
      poseType: undefined,
      metrics: [],
      rate: 5,
      staleMs: 30_000,
      silenceMs: 60_000,
      logLevel: 'info',
    })
  })

  test('each from the environment, and from a flag before that', () => {
    const env = {
      BEACON_ROS2_SOCKET: '/run/a.sock',
      BEACON_ROS2_RCLNODEJS: '/opt/bridge',
      BEACON_ROS2_NAMESPACE: '/r1',
      BEACON_ROS2_NODE_NAME: 'n',
      BEACON_ROS2_DIAGNOSTICS_TOPIC: 'off',
      BEACON_ROS2_BATTERY_TOPIC: '~/battery',
      BEACON_ROS2_BATTERY: 'front',
      BEACON_ROS2_BATTERY_PERCENT: 'true',
      BEACON_ROS2_POSE_TOPIC: '/odom',
      BEACON_ROS2_POSE_TYPE: 'nav_msgs/Odometry',
      BEACON_ROS2_METRICS: 'a=b#c; d=e#f;',
      BEACON_ROS2_RATE: '1.5',
      BEACON_ROS2_STALE_SECONDS: 'off',
      BEACON_ROS2_SILENCE_SECONDS: '5',
      BEACON_LOG_LEVEL: 'warn',
    }
    const fromEnv = readRos2Settings({}, env)
    expect(fromEnv).toEqual({
      socket: '/run/a.sock',
      rclnodejs: '/opt/bridge',
      namespace: '/r1',
      nodeName: 'n',
      diagnosticsTopic: undefined,
      batteryTopic: '~/battery',
      battery: 'front',
      perHundred: true,
      poseTopic: '/odom',
      poseType: 'nav_msgs/msg/Odometry',
      metrics: [
        { metric: 'a', status: 'b', key: 'c' },
        { metric: 'd', status: 'e', key: 'f' },
      ],
      rate: 1.5,
      staleMs: undefined,
      silenceMs: 5_000,
      logLevel: 'warn',
    })
    const flags: Ros2Flags = { rate: '20', metric: ['x=y#z'], diagnosticsTopic: 'diag', logLevel: 'debug' }
    expect(readRos2Settings(flags, { ...env, BEACON_ROS2_LOG_LEVEL: 'error' })).toMatchObject({
      rate: 20,
      metrics: [{ metric: 'x' }],
      diagnosticsTopic: 'diag',
      logLevel: 'debug',
    })
  })

  test('all mistakes are told at once', () => {
    const wrong: Ros2Flags = {
      namespace: 'a b',
      nodeName: '1',
      diagnosticsTopic: '/a//b',
      batteryTopic: '',
      poseTopic: 'a-b',
      poseType: 'Pose',
      metric: ['a=b#c', 'a=d#e'],
      rate: '0',
      staleSeconds: '-1',
      silenceSeconds: 'x',
      logLevel: 'loud',
    }
    const told = (() => {
      try {
        return readRos2Settings(wrong, { BEACON_ROS2_BATTERY_PERCENT: 'perhaps' })
      } catch (error) {
        return (error as Error).message.split('\n').map((line) => line.split(' ')[0])
      }
    })()
    expect(told).toEqual([
      '--namespace',
      '--node-name',
      '--diagnostics-topic',
      '--battery-topic',
      'BEACON_ROS2_BATTERY_PERCENT',
      '--pose-topic',
      '--pose-type',
      '--metric',
      '--rate',
      '--stale-seconds',
      '--silence-seconds',
      '--log-level',
    ])
  })

  test('more metrics than a robot has room for are refused', () => {
    const metric = Array.from({ length: 33 }, (_, number) => `m${number}=s#k`)
    expect(() => readRos2Settings({ metric }, {})).toThrow(/more than 32/)
  })
})

test('a topic’s whole name', () => {
  const at = (namespace: string) => ({ namespace, nodeName: 'n' })
  expect(fullName('/odom', at('/r1'))).toBe('/odom')
  expect(fullName('odom', at('/r1'))).toBe('/r1/odom')
  expect(fullName('odom', at(''))).toBe('/odom')
  expect(fullName('~/odom', at('r1'))).toBe('/r1/n/odom')
})

describe('rclnodejs', () => {
  const from = (more: Partial<LoadFrom>): LoadFrom => ({
    named: undefined,
    folder: temporaryFolder(),
    execPath: '/nowhere/bin/node',
    ownUid: process.getuid?.(),
    env: { AMENT_PREFIX_PATH: '/opt/ros/jazzy' },
    ...more,
  })

  function installed(code = 'module.exports = {}', where = 'node_modules'): { folder: string; file: string } {
    const folder = temporaryFolder()
    const place = join(folder, where, 'rclnodejs')
    mkdirSync(place, { recursive: true })
    writeFileSync(join(place, 'package.json'), '{"name":"rclnodejs","main":"index.js"}')
    writeFileSync(join(place, 'index.js'), code)
    return { folder, file: join(place, 'index.js') }
  }

  test('is found in the working folder and those above, by name, and where npm installs globally', () => {
    const { folder, file } = installed()
    mkdirSync(join(folder, 'deep/er'), { recursive: true })
    expect(findRclnodejs(from({ folder }))).toBe(file)
    expect(findRclnodejs(from({ folder: join(folder, 'deep/er') }))).toBe(file)
    expect(findRclnodejs(from({ named: folder }))).toBe(file)
    expect(findRclnodejs(from({ named: join(folder, 'node_modules/rclnodejs') }))).toBe(file)
    expect(findRclnodejs(from({ folder, named: 'node_modules/rclnodejs' }))).toBe(file)
    const global = installed('', 'lib/node_modules')
    expect(findRclnodejs(from({ execPath: join(global.folder, 'bin/node') }))).toBe(global.file)
  })

  test('where it is not there, the sentence says how it is installed', () => {
    expect(() => findRclnodejs(from({}))).toThrow(/not installed: .*npm install rclnodejs.*--rclnodejs/)
    expect(() => findRclnodejs(from({ named: '/nowhere' }))).toThrow(/not at \/nowhere: .*npm install/)
  })

  test('it is loaded as it is, and only with ROS 2 sourced', async () => {
    const ros = await loadRclnodejs(from({ named: FAKE_RCLNODEJS }))
    expect(ros.Node).toBeTypeOf('function')
    ros.removeSignalHandlers()
    await expect(loadRclnodejs(from({ named: FAKE_RCLNODEJS, env: {} }))).rejects.toThrow(
      /no ROS 2 is sourced/,
    )
  })

  test('one that is broken or another thing is told of', async () => {
    const broken = installed('throw new Error("librcl.so: cannot open")')
    await expect(loadRclnodejs(from({ named: broken.folder }))).rejects.toThrow(
      /cannot be loaded: librcl.so: cannot open.*the ROS 2 that is sourced/,
    )
    const other = installed('module.exports = { init() {} }')
    await expect(loadRclnodejs(from({ named: other.folder }))).rejects.toThrow(/is no rclnodejs/)
  })

  test('code of another user, or that everybody can write, is not run', async () => {
    const { folder, file } = installed('throw new Error("was run")')
    await expect(loadRclnodejs(from({ folder }))).rejects.toThrow(/was run/)
    chmodSync(file, 0o646)
    await expect(loadRclnodejs(from({ folder }))).rejects.toThrow(/can be written by every user/)
    chmodSync(file, 0o644)
    // Root's own files are believed by everybody, so that root has to give them away for this.
    if (process.getuid?.() === 0) chownSync(file, 4_242, 4_242)
    await expect(loadRclnodejs(from({ folder, ownUid: 4_243 }))).rejects.toThrow(/belongs to another user/)
  })
})
