import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hashToken } from '../../../src/protocol/tokens.ts'
import { eventually } from '../../support/eventually.ts'
import { KEY, TestRobot, temporaryFolder } from '../support/agent-process.ts'
import { problem, startControlPlane } from '../support/control-plane.ts'
import { Recorder } from '../support/recorder.ts'

function managed() {
  const manager = new Recorder().add('systemd-notify')
  const env = { NOTIFY_SOCKET: '/run/nobody', PATH: `${manager.path}:/usr/bin:/bin` }
  return { manager, env, heard: () => manager.calls.map((call) => call.replace('systemd-notify -- ', '')) }
}

describe('an agent under a service manager', () => {
  test('says that it is ready once it is acknowledged, who it is, and that it stops', async () => {
    const server = await startControlPlane()
    server.isAcknowledging = false
    const { heard, env } = managed()
    const agent = new TestRobot().run(['--enrollment-key', KEY, '--server', server.url], env)
    await (await server.sessions.next()).heartbeats.first(2)
    expect(heard().join()).not.toContain('READY=1')
    server.isAcknowledging = true
    await eventually(() => heard().some((call) => call.includes('READY=1')), 'ready')
    expect(heard().find((call) => call.includes('READY=1'))).toMatch(/STATUS=Connected as warehouse-bot-01/)
    expect(await agent.stop()).toBe(0)
    expect(heard().at(-1)).toBe('STOPPING=1 STATUS=Stopping')
  })

  test('says why it stops for good', async () => {
    const server = await startControlPlane()
    server.onClaim = () => problem(403, 'key_revoked', 'The key was revoked')
    const { heard, env } = managed()
    const agent = new TestRobot().run(['--enrollment-key', KEY, '--server', server.url], env)
    expect(await agent.exited).toBe(3)
    expect(heard().at(-1)).toMatch(/STOPPING=1 STATUS=.*The key was revoked/)
    expect(heard().join()).not.toContain('READY=1')
  })
})

describe('a credential that was handed over', () => {
  test('is enrolled with and then removed', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const file = `${robot.config}.enrollment-key`
    writeFileSync(file, `${KEY}\n`, { mode: 0o600 })
    const agent = robot.run(['--server', server.url])
    await agent.says(/removed .*enrollment-key: this robot is enrolled/)
    expect(existsSync(file)).toBe(false)
    expect((await server.claims.next()).authorization).toBe(`Bearer ${KEY}`)
    expect(await agent.stop()).toBe(0)
  })

  test('stays until the robot is enrolled', async () => {
    const server = await startControlPlane()
    server.onClaim = () => problem(403, 'key_revoked', 'The key was revoked')
    const robot = new TestRobot()
    const file = `${robot.config}.enrollment-key`
    writeFileSync(file, KEY, { mode: 0o600 })
    expect(await robot.run(['--server', server.url]).exited).toBe(3)
    expect(readFileSync(file, 'utf8')).toBe(KEY)
  })

  test("a person's own key file is not touched, and one that is named counts more", async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const other = `rf_enroll_${'6b'.repeat(32)}`
    const own = join(robot.folder, 'key')
    writeFileSync(own, other)
    writeFileSync(`${robot.config}.enrollment-key`, KEY)
    const agent = robot.run(['--server', server.url, '--enrollment-key-file', own])
    await agent.says(/connected/)
    expect((await server.claims.next()).authorization).toBe(`Bearer ${other}`)
    expect(readdirSync(robot.folder)).toEqual(expect.arrayContaining(['key', 'agent.toml.enrollment-key']))
    expect(await agent.stop()).toBe(0)
  })

  test("may also be one of systemd's credentials", async () => {
    const server = await startControlPlane()
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'beacon.enrollment-key'), KEY)
    const robot = new TestRobot()
    const agent = robot.run(['--server', server.url], { CREDENTIALS_DIRECTORY: folder })
    await agent.says(/connected/)
    expect(robot.state().identity?.credentialHash).toBe(hashToken(KEY).toString('hex'))
    expect(await agent.stop()).toBe(0)
  })
})

describe('status --check', () => {
  test('live and ready, with their exit codes', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    expect(await robot.command('status', '--check', 'live')).toMatchObject({
      code: 1,
      out: 'not live: no agent runs',
    })
    server.onUpgrade = () => problem(503, 'overloaded', 'Too many', { 'retry-after': '600' })
    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
    await agent.says(/Too many/)
    expect((await robot.command('status', '--check', 'live')).code).toBe(0)
    const notReady = await robot.command('status', '--check', 'ready', '--json')
    expect(notReady.code).toBe(1)
    const { check, last_errors } = JSON.parse(notReady.out)
    expect(check).toMatchObject({ check: 'ready', passed: false, because: expect.stringMatching(/Too many/) })
    expect(last_errors[0]).toMatchObject({ times: 1, sentence: expect.stringMatching(/Too many/) })
    expect((await robot.command('status')).out).toMatch(/last errors: +\d{4}-.*Too many/)
    await agent.stop()

    server.onUpgrade = () => undefined
    const next = robot.run()
    await (await server.sessions.next()).heartbeats.first(2)
    await next.says(/connected/)
    const ready = await eventually(async () => {
      const answer = await robot.command('status', '--check', 'ready')
      return answer.code === 0 ? answer : undefined
    }, 'ready')
    expect(ready.out).toMatch(/^ready: connected, last acknowledgement/)
    expect((await robot.command('status', '--check', 'well')).code).toBe(2)
    expect(await next.stop()).toBe(0)
  })
})

describe('forget --image', () => {
  test('leaves a disk that enrols afresh, with its settings and its key', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const key = join(robot.folder, 'key')
    writeFileSync(key, KEY)
    writeFileSync(
      robot.config,
      `server = "${server.url}"\nname = "bot"\nenrollment_key_file = "${key}"\nown_thing = 7\n`,
      { mode: 0o600 },
    )
    const agent = robot.run()
    await agent.says(/connected/)
    const running = await robot.command('forget', '--image', '--yes')
    expect(running).toMatchObject({ code: 5, err: expect.stringMatching(/stop it first/) })
    await agent.stop()
    const before = robot.state().identity!
    const { code, out } = await robot.command('forget', '--image', '--yes')
    expect(code).toBe(0)
    expect(out).toMatch(/kept the settings in .*agent\.toml/)
    expect(out).toMatch(/enrol with the key in .*key/)
    expect(out).toMatch(/the name "warehouse-bot-01" was this robot's own and is not kept/)
    expect(readdirSync(robot.folder).sort()).toEqual(['agent.toml', 'key'])
    const text = readFileSync(robot.config, 'utf8')
    expect(text).not.toMatch(/rf_robot_|machine|claim|state/)
    expect(robot.state()).toMatchObject({
      settings: { server: server.url, enrollmentKeyFile: key },
      others: { own_thing: 7 },
    })
    expect(robot.state().settings.name).toBeUndefined()

    const copy = robot.run()
    await copy.says(/enrolled as/)
    expect(robot.state().identity!.robotToken).not.toBe(before.robotToken)
    expect(server.claims.all).toHaveLength(2)
    expect(server.claims.all[1]!.body.claim_id).not.toBe(server.claims.all[0]!.body.claim_id)
    await copy.stop()
  })

  test('a claim that was under way is given up, and its handed-over key stays', async () => {
    const server = await startControlPlane()
    server.onClaim = () => 'cut'
    const robot = new TestRobot()
    writeFileSync(`${robot.config}.enrollment-key`, KEY)
    const agent = robot.run(['--server', server.url])
    await server.claims.next()
    await agent.stop()
    expect(robot.state().pending).toBeDefined()
    const { code, out } = await robot.command('forget', '--image', '--yes')
    expect(code).toBe(0)
    expect(out).toMatch(/enrol with the key in .*enrollment-key/)
    expect(readdirSync(robot.folder)).toEqual(['agent.toml.enrollment-key'])
    const again = await robot.command('forget', '--image', '--yes')
    expect(again.code).toBe(0)
  })

  test('says when no key is left to enrol with', async () => {
    const robot = new TestRobot()
    writeFileSync(robot.config, 'name = "bot"\n', { mode: 0o600 })
    const { code, out } = await robot.command('forget', '--image', '--yes')
    expect(code).toBe(0)
    expect(out).toMatch(/no key lies ready/)
    expect(out).toMatch(/will ask for the name "bot"/)
    expect(robot.state().settings.name).toBe('bot')
  })
})
