import { copyFileSync, linkSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { basename, dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { takeLock } from '../../../agent/lock.ts'
import { systemClock, systemRandom } from '../../../agent/runtime.ts'
import { eventually } from '../../support/eventually.ts'
import { type AgentProcess, KEY, placesAt, TestRobot } from '../support/agent-process.ts'
import { type ControlPlane, startControlPlane } from '../support/control-plane.ts'

async function beating(): Promise<{ server: ControlPlane; robot: TestRobot; agent: AgentProcess }> {
  const server = await startControlPlane()
  const robot = new TestRobot()
  const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
  await (await server.sessions.next()).heartbeats.first(1)
  return { server, robot, agent }
}

test('a second agent on one identity ends with 5, and the server hears nothing of it', async () => {
  const { server, robot, agent } = await beating()
  const second = robot.run(['--server', server.url])
  await second.says(/another agent runs on .*agent\.toml/)
  expect(await second.exited).toBe(5)
  expect(server.upgrades.all).toHaveLength(1)
  expect(await agent.stop()).toBe(0)
})

test('an agent that was stopped by a signal, and answers nobody, still has its identity', async () => {
  const { server, robot, agent } = await beating()
  agent.kill('SIGSTOP')
  const before = readFileSync(robot.config, 'utf8')
  const second = robot.run(['--server', server.url])
  expect(await second.exited).toBe(5)
  expect(await robot.command('forget', '--yes')).toMatchObject({ code: 5 })
  expect(readFileSync(robot.config, 'utf8')).toBe(before)
  expect(server.upgrades.all).toHaveLength(1)

  agent.kill('SIGCONT')
  const beats = server.sessions.all[0]!.heartbeats
  await beats.first(beats.all.length + 2)
  expect(await agent.stop()).toBe(0)
})

test('the next agent goes on after one that was killed, and clears up what it left', async () => {
  const { server, robot, agent } = await beating()
  agent.kill('SIGKILL')
  await agent.exited
  const { stateDir, stem } = placesAt(robot.config)
  const left = ['1.tmp', 'bak.1.tmp', 'seq.bak.77.tmp', 'session.99999.tmp', 'events.5.tmp'].map(
    (end) => `${stem}.${end}`,
  )
  const others = ['other.toml.1.tmp', `${stem}.two.1.tmp`, `${stem}.x.tmp`, `${stem}.d`, `${stem}.mine`]
  for (const name of [...left, ...others]) writeFileSync(join(stateDir, name), '')
  const next = robot.run(['--server', server.url])
  await server.sessions.next(undefined, 1)
  await eventually(() => {
    const names = readdirSync(stateDir)
    return left.every((name) => !names.includes(name)) && others.every((name) => names.includes(name))
  })
  expect(readdirSync(stateDir).filter((name) => /\.[0-9a-f]{16}\.sock$/.test(name))).toHaveLength(1)
  expect(await next.stop()).toBe(0)
})

test('a socket without a name, of a process that was killed, is cleared up; one that listens is left alone', async () => {
  const robot = new TestRobot()
  const places = placesAt(robot.config)
  const at = (digit: string) =>
    join(dirname(robot.config), `${basename(robot.config)}.${digit.repeat(16)}.sock.tmp`)
  const living = createServer((socket) => socket.end('{}')).listen(at('a'))
  await new Promise((resolve) => living.once('listening', resolve))
  onTestFinished(() => void living.close())
  // Nobody listens on a file that a socket was bound to.
  const dead = createServer().listen(at('b'))
  await new Promise((resolve) => dead.once('listening', resolve))
  linkSync(at('b'), at('c'))
  await new Promise((resolve) => dead.close(resolve))
  const names = () => readdirSync(places.stateDir).filter((name) => name.endsWith('.sock.tmp'))
  expect(names()).toHaveLength(2)
  const lock = await takeLock(places, systemClock, systemRandom)
  expect(names()).toEqual([basename(at('a'))])
  lock!.release()
})

test('a damaged agent.toml is written anew from its copy at the next start, once, and aloud', async () => {
  const { server, robot, agent } = await beating()
  expect(await agent.stop()).toBe(0)
  const before = robot.state().identity
  writeFileSync(robot.config, readFileSync(robot.config).fill(0, 100))
  // Whoever only looks changes nothing.
  expect(await robot.command('status')).toMatchObject({ code: 0 })
  expect(() => robot.state()).toThrow()

  const session = server.sessions.next(undefined, 1)
  const next = robot.run(['--server', server.url])
  await next.says(/going on with the copy before it/)
  await next.says(/is written anew from its copy; what stood there is now .*agent\.toml\.damaged/)
  await (await session).heartbeats.first(1)
  expect(robot.state().identity).toEqual(before)
  expect(await next.stop()).toBe(0)
  const clean = robot.run(['--server', server.url])
  await (await server.sessions.next(undefined, 2)).heartbeats.first(1)
  expect(await clean.stop()).toBe(0)
  expect(clean.logText).not.toMatch(/copy|damaged/)
  expect(server.claims.all).toHaveLength(1)

  expect(await robot.command('forget', '--yes')).toMatchObject({ code: 0 })
  expect(readdirSync(dirname(robot.config))).toEqual([])
})

test('both files damaged, the agent ends with 1 and makes no other robot of this one', async () => {
  const { server, robot, agent } = await beating()
  expect(await agent.stop()).toBe(0)
  const { config, backup } = placesAt(robot.config)
  for (const path of [config, backup]) writeFileSync(path, readFileSync(path).fill(0, 100))
  copyFileSync(config, `${config}.seen`)
  const next = robot.run(['--enrollment-key', KEY, '--server', server.url])
  expect(await next.exited).toBe(1)
  expect(next.logText).toMatch(/cannot be used: .*; nor can its copy: .*"beacon agent forget"/)
  expect(server.claims.all).toHaveLength(1)
  expect(readFileSync(config)).toEqual(readFileSync(`${config}.seen`))
  rmSync(`${config}.seen`)
})
