import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, cpSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { HANDED_OUT, Stranger } from '../../install/stranger.ts'
import { KEY, TestRobot } from '../support/agent-process.ts'
import { startControlPlane } from '../support/control-plane.ts'
import { FAKE_RCLNODEJS, FakeRos, status } from './fake-ros.ts'

/** The agent as one file takes rclnodejs from where its user installed it. */

const stranger = new Stranger()
const bundle = join(stranger.home, 'beacon-agent.mjs')
copyFileSync(join(HANDED_OUT, 'beacon-agent.mjs'), bundle)
afterAll(() => stranger.leave())

function install(folder: string): string {
  mkdirSync(folder, { recursive: true })
  cpSync(FAKE_RCLNODEJS, join(folder, 'node_modules/rclnodejs'), { recursive: true })
  return folder
}

test('it has the command, and says what is missing', async () => {
  const help = await stranger.run(process.execPath, [bundle, 'ros2', '--help'])
  expect(help).toMatchObject({ code: 0, stdout: expect.stringContaining('BEACON_ROS2_') })
  expect(await stranger.run(process.execPath, [bundle, 'ros2'])).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^error: rclnodejs is not installed/),
  })
})

test('it loads rclnodejs from NODE_PATH, from a named folder and from the working folder', async () => {
  const elsewhere = install(join(stranger.home, 'elsewhere'))
  const ros = { AMENT_PREFIX_PATH: '/opt/ros/fake', FAKE_ROS: '/nowhere' }
  const isLoaded = { code: 1, stderr: expect.stringContaining('ROS 2 cannot be joined') }
  const ros2 = (args: readonly string[], env: Readonly<Record<string, string>>) =>
    stranger.run(process.execPath, [bundle, 'ros2', ...args], { env: { ...ros, ...env } })
  expect(await ros2([], {})).toMatchObject({ stderr: expect.stringContaining('not installed') })
  expect(await ros2([], { NODE_PATH: join(elsewhere, 'node_modules') })).toMatchObject(isLoaded)
  expect(await ros2(['--rclnodejs', elsewhere], {})).toMatchObject(isLoaded)
  install(stranger.home)
  expect(await ros2([], {})).toMatchObject(isLoaded)
})

test('it tells the agent what it hears', async () => {
  install(stranger.home)
  const server = await startControlPlane()
  const robot = new TestRobot()
  robot.run(['--enrollment-key', KEY, '--server', server.url])
  const session = await server.sessions.next()
  const ros = await FakeRos.start()
  const bridge = spawn(process.execPath, [bundle, 'ros2'], {
    cwd: stranger.home,
    env: stranger.environment(ros.env({ BEACON_CONFIG: robot.config })),
    stdio: 'ignore',
  })
  const exited = once(bridge, 'close')
  try {
    await ros.isHeard()
    ros.diagnostics(status(2, 'lidar', 'no scan'))
    const told = await session.heartbeats.next(
      ({ faults }) => faults?.some(({ code }) => code === 'ros2:lidar') === true,
    )
    expect(told.health).toBe('error')
  } finally {
    bridge.kill('SIGTERM')
  }
  expect(await exited).toEqual([0, null])
})
