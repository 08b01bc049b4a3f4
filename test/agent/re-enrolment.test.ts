import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { hashToken } from '../../src/protocol/tokens.ts'
import { KEY, TestRobot } from './support/agent-process.ts'
import { type ControlPlane, problem, startControlPlane } from './support/control-plane.ts'

const NEWER_KEY = KEY.replaceAll('5', '6')
const SETUP_TOKEN = `rf_setup_${'abcdefghijk'.repeat(5)}`
const PROVISIONING_TOKEN = `apt_${'7b'.repeat(32)}`

const revoked = () => problem(401, 'token_revoked', 'this robot token was revoked')
const bearers = (server: ControlPlane) => server.claims.all.map(({ authorization }) => authorization)

/** A robot that enrolled with what its key file holds, and is connected. */
async function enrolledByFile() {
  const server = await startControlPlane()
  const robot = new TestRobot()
  const keyFile = join(robot.folder, 'key')
  writeFileSync(keyFile, `${KEY}\n`)
  const flags = ['--enrollment-key-file', keyFile, '--server', server.url]
  const agent = robot.run(flags)
  const session = await server.sessions.next()
  await session.heartbeats.first(1)
  return { server, robot, keyFile, flags, agent, session }
}

describe('a robot whose token was revoked', () => {
  test('enrols anew by itself when its key file holds another key', async () => {
    const { server, robot, keyFile, agent, session } = await enrolledByFile()
    const before = robot.state().identity!
    writeFileSync(keyFile, NEWER_KEY)
    session.close(4501, 'token_revoked')

    const [, second] = await server.sessions.first(2)
    await second!.heartbeats.first(1)
    await agent.says(/enrolling anew with the key in .*key/)
    await agent.says(/enrolled again as warehouse-bot-01/)
    expect(bearers(server)).toEqual([`Bearer ${KEY}`, `Bearer ${NEWER_KEY}`])
    const after = robot.state().identity!
    expect(after.robotToken).not.toBe(before.robotToken)
    expect(after.credentialHash).toBe(hashToken(NEWER_KEY).toString('hex'))
    expect(readFileSync(robot.config, 'utf8')).not.toContain(NEWER_KEY)
    expect(agent.logText).not.toContain(NEWER_KEY)
  })

  test('loses no heartbeat over it when it is the same robot', async () => {
    const { server, keyFile, session } = await enrolledByFile()
    server.isAcknowledging = false
    await session.heartbeats.first(session.heartbeats.all.length + 2)
    const unacknowledged = session.heartbeats.all.at(-1)!
    server.isAcknowledging = true
    writeFileSync(keyFile, NEWER_KEY)
    session.close(4501, 'token_revoked')
    const [, second] = await server.sessions.first(2)
    await second!.heartbeats.next(({ seq }) => seq === unacknowledged.seq)
  })

  test('looks at the file also when it starts', async () => {
    const { server, robot, keyFile, flags, agent } = await enrolledByFile()
    await agent.stop()
    writeFileSync(keyFile, NEWER_KEY)
    const upgrades = server.upgrades.all.length
    server.onUpgrade = (number) => (number === upgrades + 1 ? revoked() : undefined)
    const again = robot.run(flags)
    await again.says(/connected as/)
    expect(bearers(server).at(-1)).toBe(`Bearer ${NEWER_KEY}`)
  })

  test('stops with 3 and says what to do when it holds the same key, and sends nothing', async () => {
    const { server, robot, keyFile, agent, session } = await enrolledByFile()
    const before = robot.state().identity
    session.close(4501, 'token_revoked')
    expect(await agent.exited).toBe(3)
    expect(agent.logText).toContain(
      `the key in ${keyFile} is what it enrolled with. What to do: make a new enrollment key`,
    )
    expect(server.claims.all).toHaveLength(1)
    expect(robot.state().identity).toEqual(before)
  })

  test('stops with 3 when the file is gone, empty or holds something else', async () => {
    const { server, keyFile, agent, session, robot, flags } = await enrolledByFile()
    rmSync(keyFile)
    session.close(4501, 'token_revoked')
    expect(await agent.exited).toBe(3)
    expect(agent.logText).toMatch(/It cannot enrol anew: .*cannot be read \(ENOENT\)/)
    server.onUpgrade = revoked
    for (const [content, says] of [
      ['', /is empty/],
      ['rf_pat_something', /must be an enrollment key/],
    ] as const) {
      writeFileSync(keyFile, content)
      const again = robot.run(flags)
      expect(await again.exited).toBe(3)
      expect(again.logText).toMatch(says)
    }
    expect(server.claims.all).toHaveLength(1)
  })

  test('takes no for an answer: a key that the server refuses is tried once, over all starts', async () => {
    const { server, robot, keyFile, flags, agent, session } = await enrolledByFile()
    writeFileSync(keyFile, NEWER_KEY)
    server.onClaim = () => problem(403, 'robot_revoked', 'this key was made before the revocation')
    session.close(4501, 'token_revoked')
    expect(await agent.exited).toBe(3)
    expect(agent.logText).toMatch(/made before the revocation.*What to do: .*make a new enrollment key/)
    expect(server.claims.all).toHaveLength(2)

    server.onUpgrade = revoked
    const again = robot.run(flags)
    expect(await again.exited).toBe(3)
    expect(again.logText).toMatch(/the key in .* was refused before/)
    expect(server.claims.all).toHaveLength(2)
    expect(robot.state().identity).toBeDefined()
  })

  test('waits until the server has seen that it is gone', async () => {
    const { server, keyFile, agent, session } = await enrolledByFile()
    writeFileSync(keyFile, NEWER_KEY)
    server.onClaim = (number) =>
      number === 2 ? problem(409, 'robot_online', 'the robot of this machine is connected') : 'grant'
    session.close(4501, 'token_revoked')
    await agent.says(/still counts this robot as connected; trying again/)
    const [, second, third] = await server.claims.first(3)
    expect(third!.body).toEqual(second!.body)
    await agent.says(/enrolled again/)
  })

  test('finishes the claim it was killed over, and keeps its identity until then', async () => {
    const { server, robot, keyFile, flags, agent, session } = await enrolledByFile()
    const before = robot.state().identity!
    writeFileSync(keyFile, NEWER_KEY)
    server.onClaim = (number) => (number === 2 ? 'hang' : 'grant')
    session.close(4501, 'token_revoked')
    await server.claims.first(2)
    agent.kill('SIGKILL')
    await agent.exited
    expect(robot.state()).toMatchObject({ identity: before, pending: { claimId: expect.any(String) } })

    const upgrades = server.upgrades.all.length
    server.onUpgrade = (number) => (number === upgrades + 1 ? revoked() : undefined)
    const again = robot.run(flags)
    await again.says(/connected as/)
    const [, second, third] = await server.claims.first(3)
    expect(third!.body).toEqual(second!.body)
    expect(robot.state().pending).toBeUndefined()
  })

  test('stays away when it is the robot that was retired', async () => {
    const { server, robot, keyFile, flags, agent } = await enrolledByFile()
    await agent.stop()
    writeFileSync(keyFile, NEWER_KEY)
    server.onUpgrade = () => problem(401, 'robot_retired', 'this robot was retired')
    const again = robot.run(flags)
    expect(await again.exited).toBe(3)
    expect(server.claims.all).toHaveLength(1)
  })
})

describe('a setup token', () => {
  test('enrols a robot, by flag, variable or file', async () => {
    const server = await startControlPlane()
    const file = join(new TestRobot().folder, 'setup')
    writeFileSync(file, `${SETUP_TOKEN}\n`)
    const runs = [
      [['--setup-token', SETUP_TOKEN], {}],
      [['--setup-token-file', file], {}],
      [[], { BEACON_SETUP_TOKEN: SETUP_TOKEN }],
      [[], { BEACON_SETUP_TOKEN_FILE: file }],
    ] as const
    for (const [flags, env] of runs) {
      const agent = new TestRobot().run(['--server', server.url, ...flags], env)
      await agent.says(/connected as/)
      expect(agent.logText).not.toContain(SETUP_TOKEN)
      if (process.platform === 'linux')
        expect(readFileSync(`/proc/${agent.pid}/cmdline`, 'utf8')).not.toContain('rf_setup_')
    }
    expect(new Set(bearers(server))).toEqual(new Set([`Bearer ${SETUP_TOKEN}`]))
  })

  test('that was not used yet gives an enrolled robot new credentials, once', async () => {
    const { server, robot, agent } = await enrolledByFile()
    await agent.stop()
    const before = robot.state().identity!
    const flags = ['--setup-token', SETUP_TOKEN, '--server', server.url]
    const second = robot.run(flags)
    await second.says(/an operator wants this robot to have new credentials/)
    await second.says(/connected as/)
    expect(bearers(server)).toEqual([`Bearer ${KEY}`, `Bearer ${SETUP_TOKEN}`])
    expect(robot.state().identity!.robotToken).not.toBe(before.robotToken)
    await second.stop()

    const third = robot.run(flags)
    await third.says(/connected as/)
    expect(server.claims.all).toHaveLength(2)
  })

  test('that is refused leaves an enrolled robot what it is, and is not sent again', async () => {
    const { server, robot, agent } = await enrolledByFile()
    await agent.stop()
    const before = robot.state().identity!
    const hint = 'this setup token was used already: get a new one with "beacon robots setup-token x"'
    server.onClaim = () => problem(403, 'setup_token_consumed', hint)
    for (const run of [1, 2]) {
      const again = robot.run(['--setup-token', SETUP_TOKEN, '--server', server.url])
      await again.says(/connected as/)
      if (run === 1) await again.says(/used already: get a new one .*Going on as warehouse-bot-01/)
      await again.stop()
    }
    expect(server.claims.all).toHaveLength(2)
    expect(robot.state().identity!.robotToken).toBe(before.robotToken)
  })

  test('that nobody answers for keeps an enrolled robot from nothing, and is asked for again', async () => {
    const { server, robot, agent } = await enrolledByFile()
    await agent.stop()
    server.onClaim = () => problem(503, 'overloaded', 'too much to do')
    const flags = ['--setup-token', SETUP_TOKEN, '--server', server.url]
    const again = robot.run(flags)
    await again.says(/Going on as warehouse-bot-01/)
    await again.says(/connected as/)
    await again.stop()

    server.onClaim = () => 'grant'
    const third = robot.run(flags)
    await third.says(/enrolled again as/)
    expect(server.claims.all.at(-1)!.body).toEqual(server.claims.all.at(-2)!.body)
  })

  for (const code of ['setup_token_consumed', 'setup_token_expired'])
    test(`${code} ends a robot that is nobody yet with 3 and the server's hint`, async () => {
      const server = await startControlPlane()
      server.onClaim = () => problem(403, code, 'get a new one with "beacon robots setup-token x"')
      const agent = new TestRobot().run(['--setup-token', SETUP_TOKEN, '--server', server.url])
      expect(await agent.exited).toBe(3)
      expect(agent.logText).toContain('enrolment refused: get a new one with "beacon robots setup-token x"')
    })
})

test('a provisioning token is taken as an enrollment key', async () => {
  const server = await startControlPlane()
  const agent = new TestRobot().run(['--enrollment-key', PROVISIONING_TOKEN, '--server', server.url])
  await agent.says(/connected as/)
  expect(bearers(server)).toEqual([`Bearer ${PROVISIONING_TOKEN}`])
  expect(agent.logText).not.toContain(PROVISIONING_TOKEN)
})
