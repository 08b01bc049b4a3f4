import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { KEY, TestRobot } from './support/agent-process.ts'
import { hashOfBearer, problem, ROBOT_ID, startControlPlane } from './support/control-plane.ts'

describe('a robot enrols', () => {
  test('with a token of its own making, of which only the hash travels', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url, '--name', 'loader 7'])
    const claim = await server.claims.next()
    const upgrade = await server.upgrades.next()
    await agent.says(/enrolled as warehouse-bot-01 \(id /)

    expect(claim.authorization).toBe(`Bearer ${KEY}`)
    expect(claim.body).toMatchObject({ name: 'loader 7', claim_id: expect.stringMatching(/^[0-9a-f-]{36}$/) })
    expect(claim.body.fingerprint).toMatchObject({ platform: process.platform, arch: process.arch })
    expect(hashOfBearer(upgrade.authorization)).toBe(claim.body.token_hash)
    expect(JSON.stringify(claim.body)).not.toContain('rf_robot_')
  })

  test('and keeps what it became for its owner alone', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const agent = robot.run([], { BEACON_ENROLLMENT_KEY: KEY, BEACON_SERVER: server.url })
    await agent.says(/connected/)

    expect(statSync(robot.config).mode & 0o777).toBe(0o600)
    expect(robot.state().identity).toMatchObject({ robotId: ROBOT_ID, server: server.url, siteId: 'site-1' })
    expect(readFileSync(robot.config, 'utf8')).not.toContain(KEY)
    expect(readFileSync(`${robot.config}.bak`, 'utf8')).toBe(readFileSync(robot.config, 'utf8'))
  })

  test('and its key shows neither in the log nor in the list of processes', async () => {
    const server = await startControlPlane()
    server.onClaim = (number) =>
      number === 1 ? problem(503, 'overloaded', `try later, ${KEY}`, { 'retry-after': '0' }) : 'grant'
    const robot = new TestRobot()
    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url, '--log-level', 'debug'])
    await agent.says(/connected/)

    expect(agent.logText).toContain('rf_enroll_…')
    expect(agent.logText).not.toContain(KEY)
    if (process.platform === 'linux')
      expect(readFileSync(`/proc/${agent.pid}/cmdline`, 'utf8')).not.toContain('rf_enroll_')
  })

  test('with a key from a file, which it does not need again', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const keyFile = join(robot.folder, 'key')
    writeFileSync(keyFile, `${KEY}\n`)
    const flags = ['--enrollment-key-file', keyFile, '--server', server.url]
    const agent = robot.run(flags)
    await agent.says(/connected/)
    expect(await agent.stop()).toBe(0)
    rmSync(keyFile)

    const again = robot.run(flags)
    await again.says(/connected/)
    expect(server.claims.all).toHaveLength(1)
    expect(server.upgrades.all.at(-1)).toMatchObject({ authorization: server.upgrades.all[0]!.authorization })
  })

  test('once: a saved token wins over any key', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
    await agent.says(/connected/)
    await agent.stop()

    const again = robot.run(['--enrollment-key', KEY.replaceAll('5', '6'), '--server', server.url])
    await again.says(/connected as warehouse-bot-01, session 2/)
    expect(server.claims.all).toHaveLength(1)
  })
})

describe('a lost answer makes no second robot', () => {
  test('the same claim is sent again', async () => {
    const server = await startControlPlane()
    server.onClaim = (number) => (number === 1 ? 'cut' : 'grant')
    const robot = new TestRobot()
    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
    const [first, second] = await server.claims.first(2)
    await agent.says(/connected/)

    expect(second!.body).toEqual(first!.body)
  })

  test('also after the agent was killed between the claim and its answer', async () => {
    const server = await startControlPlane()
    server.onClaim = (number) => (number === 1 ? 'hang' : 'grant')
    const robot = new TestRobot()
    const killed = robot.run(['--enrollment-key', KEY, '--server', server.url])
    await server.claims.next()
    killed.kill('SIGKILL')
    await killed.exited
    expect(robot.state().identity).toBeUndefined()

    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
    const [first, second] = await server.claims.first(2)
    await agent.says(/connected/)
    expect(second!.body).toMatchObject({
      claim_id: first!.body.claim_id,
      token_hash: first!.body.token_hash,
    })
    expect(hashOfBearer(server.upgrades.all[0]!.authorization)).toBe(first!.body.token_hash)
  })

  test('whatever nonsense was answered', async () => {
    const server = await startControlPlane()
    const nonsense = [
      { status: 200, text: '<html>Welcome to the hotel network</html>' },
      { status: 502, text: 'Bad gateway' },
    ]
    server.onClaim = (number) => nonsense[number - 1] ?? 'grant'
    const robot = new TestRobot()
    const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
    await agent.says(/connected/)
    const ids = new Set(server.claims.all.map((claim) => claim.body.claim_id))
    expect([server.claims.all.length, ids.size]).toEqual([3, 1])
  })
})

describe('a refused claim ends the agent with what to do', () => {
  const cases = [
    { reply: problem(401, 'invalid_token', 'The key is not known'), code: 3, says: /The key is not known/ },
    { reply: problem(403, 'key_revoked', 'The key was revoked'), code: 3, says: /make a new enrollment key/ },
    { reply: problem(403, 'key_exhausted', 'The key is used up'), code: 3, says: /used up/ },
    { reply: problem(403, 'robot_revoked', 'Shut out'), code: 3, says: /shut out on purpose/ },
    { reply: problem(409, 'robot_online', 'It is connected'), code: 5, says: /machine id of its own/ },
    { reply: problem(409, 'machine_known', 'Enrolled before'), code: 5, says: /Enrolled before/ },
    { reply: problem(422, 'invalid_request', 'The name is odd'), code: 1, says: /The name is odd/ },
  ]
  for (const { reply, code, says } of cases)
    test(`${(reply.body as { code: string }).code} → ${code}`, async () => {
      const server = await startControlPlane()
      server.onClaim = () => reply
      const robot = new TestRobot()
      const agent = robot.run(['--enrollment-key', KEY, '--server', server.url])
      expect(await agent.exited).toBe(code)
      expect(agent.logText).toMatch(says)
      expect(server.claims.all).toHaveLength(1)
    })

  test('a claim that can never work is not made again', async () => {
    const server = await startControlPlane()
    server.onClaim = (number) => (number === 1 ? problem(409, 'claim_conflict', 'Another token') : 'grant')
    const robot = new TestRobot()
    expect(await robot.run(['--enrollment-key', KEY, '--server', server.url]).exited).toBe(5)
    await robot.run(['--enrollment-key', KEY, '--server', server.url]).says(/connected/)
    expect(server.claims.all[1]!.body.claim_id).not.toBe(server.claims.all[0]!.body.claim_id)
  })

  test('a server that asks for patience gets it', async () => {
    const server = await startControlPlane()
    const at: number[] = []
    server.onClaim = (number) => {
      at.push(performance.now())
      return number === 1 ? problem(429, 'rate_limited', 'Too many', { 'retry-after': '1' }) : 'grant'
    }
    await new TestRobot().run(['--enrollment-key', KEY, '--server', server.url]).says(/connected/)
    expect(at[1]! - at[0]!).toBeGreaterThanOrEqual(995)
  })
})

describe('what a person got wrong', () => {
  test('is told all at once, before anything is made', async () => {
    const robot = new TestRobot()
    const agent = robot.run([
      '--server',
      'warehouse',
      '--heartbeat-seconds',
      '0',
      '--enrollment-key',
      'rf_enroll_12',
    ])
    expect(await agent.exited).toBe(2)
    expect(agent.logText).toMatch(/--server must be/)
    expect(agent.logText).toMatch(/--heartbeat-seconds must lie between/)
    expect(agent.logText).toMatch(/--enrollment-key is not whole/)
    expect(existsSync(robot.config)).toBe(false)
  })

  test('no key and no identity', async () => {
    const agent = new TestRobot().run()
    expect(await agent.exited).toBe(2)
    expect(agent.logText).toMatch(/not enrolled yet/)
  })

  test('an unknown flag', async () => {
    expect(await new TestRobot().run(['--enrolment-key', KEY]).exited).toBe(2)
  })
})
