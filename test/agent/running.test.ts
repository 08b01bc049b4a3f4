import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { HeartbeatFrame } from '../../src/protocol/frames.ts'
import { heartbeatSchema, helloSchema } from '../../src/protocol/frames.ts'
import { eventually } from '../support/eventually.ts'
import { type AgentProcess, KEY, TestRobot } from './support/agent-process.ts'
import { type ControlPlane, problem, ROBOT_ID, startControlPlane } from './support/control-plane.ts'

interface Running {
  readonly server: ControlPlane
  readonly robot: TestRobot
  readonly agent: AgentProcess
}

/** A robot that enrols with a control plane prepared by the test. */
async function enrolled(prepare: (server: ControlPlane) => void = () => {}): Promise<Running> {
  const server = await startControlPlane()
  prepare(server)
  const robot = new TestRobot()
  return { server, robot, agent: robot.run(['--enrollment-key', KEY, '--server', server.url]) }
}

const seqs = (heartbeats: readonly HeartbeatFrame[]) => heartbeats.map((heartbeat) => heartbeat.seq)

describe('a session', () => {
  test('begins with hello, and heartbeats follow with real values', async () => {
    const { server } = await enrolled()
    const session = await server.sessions.next()
    const hello = await session.hello()
    const beats = await session.heartbeats.first(3)

    expect(helloSchema.parse(hello)).toMatchObject({
      protocol: 1,
      agent: { platform: process.platform, arch: process.arch },
      instance_id: expect.any(String),
      resume_seq: beats[0]!.seq,
    })
    for (const beat of beats)
      expect(heartbeatSchema.parse(beat)).toMatchObject({ health: expect.any(String) })
    expect(seqs(beats)).toEqual([beats[0]!.seq, beats[0]!.seq + 1, beats[0]!.seq + 2])
    expect(beats[2]!.system).toMatchObject({
      cpu: expect.any(Number),
      memory: expect.any(Number),
      disk: expect.any(Number),
      uptime_s: expect.any(Number),
    })
  })

  test('ends with bye when the agent is told to stop, once all is acknowledged', async () => {
    const { server, agent } = await enrolled((plane) => {
      plane.isAcknowledging = false
    })
    const session = await server.sessions.next()
    const [first] = await session.heartbeats.first(1)
    agent.kill('SIGTERM')
    await agent.says(/stopping/)
    session.send({ type: 'ack', seq: session.heartbeats.all.at(-1)!.seq })

    expect(await session.frames.next((frame) => frame.type === 'bye')).toMatchObject({ reason: 'shutdown' })
    expect(await session.closed).toMatchObject({ code: 1000 })
    expect(await agent.exited).toBe(0)
    expect(first).toBeDefined()
    await agent.says(/stopped$/)
  })

  test('ends within two seconds when nobody acknowledges', async () => {
    const { server, agent } = await enrolled((plane) => {
      plane.isAcknowledging = false
    })
    const session = await server.sessions.next()
    await session.heartbeats.first(1)
    const toldAt = performance.now()
    expect(await agent.stop()).toBe(0)
    expect(performance.now() - toldAt).toBeLessThan(4_000)
    await agent.says(/stopped; \d+ heartbeats were not acknowledged/)
  })

  test('ends at once at the second signal', async () => {
    const { server, agent } = await enrolled((plane) => {
      plane.isAcknowledging = false
    })
    await (await server.sessions.next()).heartbeats.first(1)
    agent.kill('SIGINT')
    await agent.says(/stopping/)
    let isOver = false
    void agent.exited.then(() => {
      isOver = true
    })
    // One that follows within a moment counts as an echo of the first.
    await eventually(() => {
      agent.kill('SIGINT')
      return isOver
    })
    expect(await agent.exited).toBe(1)
  })

  test('follows the interval that the server sets', async () => {
    const { server } = await enrolled((plane) => {
      plane.heartbeatIntervalMs = 3_600_000
    })
    const session = await server.sessions.next()
    await session.heartbeats.first(1)
    session.send({ type: 'settings', heartbeat_interval_ms: 100 })
    expect(await session.heartbeats.first(4)).toHaveLength(4)
  })

  test('beats faster than the server asks when the robot wants to', async () => {
    const server = await startControlPlane()
    server.heartbeatIntervalMs = 3_600_000
    const robot = new TestRobot()
    robot.run(['--enrollment-key', KEY, '--server', server.url, '--heartbeat-seconds', '0.5'])
    const session = await server.sessions.next()
    expect(await session.heartbeats.first(3)).toHaveLength(3)
  })

  test('survives whatever the server sends, and starts anew when it is nothing but garbage', async () => {
    const { server, agent } = await enrolled()
    const session = await server.sessions.next()
    await session.heartbeats.first(1)
    for (const text of ['', '{', '[]', '{"type":"ack"}', '{"type":"ack","seq":-1}', '{"type":"novelty"}'])
      session.sendText(text)
    session.sendBytes(Buffer.from([1, 2, 3]))
    await session.heartbeats.first(session.heartbeats.all.length + 2)
    for (let count = 0; count < 10; count++) session.sendText('nonsense')
    expect(await session.closed).toMatchObject({ code: 1002 })

    const [, second] = await server.sessions.first(2)
    await second!.heartbeats.first(1)
    second!.sendText(JSON.stringify({ type: 'error', code: 'x', message: 'y'.repeat(100_000) }))
    const [, , third] = await server.sessions.first(3)
    await third!.heartbeats.first(1)
    await agent.says(/connection lost \(100[69] .*payload/i)
  })
})

describe('heartbeats that were not acknowledged', () => {
  test('are sent again after a lost connection, the same and in order', async () => {
    const { server } = await enrolled((plane) => {
      plane.isAcknowledging = false
    })
    const first = await server.sessions.next()
    const lost = await first.heartbeats.first(3)
    first.send({ type: 'ack', seq: lost[0]!.seq })
    first.vanish()

    const [, second] = await server.sessions.first(2)
    const hello = await second!.hello()
    const again = await second!.heartbeats.first(3)
    expect(hello.resume_seq).toBe(lost[1]!.seq)
    expect(again.slice(0, 2)).toEqual(lost.slice(1))
    expect(seqs(again)).toEqual(seqs(again).toSorted((one, other) => one - other))
  })

  test('are made while there is no server, and arrive late with their own time', async () => {
    const { server, robot, agent } = await enrolled()
    const before = (await (await server.sessions.next()).heartbeats.first(1))[0]!
    const { port } = server
    await server.stop()
    await eventually(async () => (await robot.status())!.link!.backlog >= 3, 'a backlog')
    const backAt = Date.now()
    await server.listen(port)

    const [, second] = await server.sessions.first(2)
    const late = await second!.heartbeats.first(3)
    expect(late.every((beat) => Date.parse(beat.at) <= backAt)).toBe(true)
    expect(late[0]!.seq).toBeGreaterThan(before.seq)
    expect(new Set(seqs(late)).size).toBe(3)
    await agent.says(/connected as .*, \d+ heartbeats to make up for/)
  })

  test('never carry a number twice, also when the agent was killed', async () => {
    const { server, robot, agent } = await enrolled()
    const used = seqs(await (await server.sessions.next()).heartbeats.first(3))
    agent.kill('SIGKILL')
    await agent.exited

    robot.run()
    const [, second] = await server.sessions.first(2)
    const [next] = await second!.heartbeats.first(1)
    expect(next!.seq).toBeGreaterThan(Math.max(...used, ...seqs(server.sessions.all[0]!.heartbeats.all)))
  })
})

describe('a robot that waits for approval', () => {
  test('gives signs of life that it does not keep, and begins when it is approved', async () => {
    const { server, agent } = await enrolled((plane) => {
      plane.lifecycle = 'pending'
    })
    const session = await server.sessions.next()
    await agent.says(/waiting for an operator to approve/)
    const signs = await session.heartbeats.first(3)

    session.welcome('active')
    await agent.says(/approved/)
    server.lifecycle = 'active'
    session.close(4005, 'overloaded; reconnect_in_ms=1')
    const [, second] = await server.sessions.first(2)
    const [kept] = await second!.heartbeats.first(1)
    expect(kept!.seq).toBeGreaterThan(signs[2]!.seq)
    expect(agent.log.all.filter((line) => /waiting for an operator/.test(line))).toHaveLength(1)
  })
})

describe('the server decides when a robot returns', () => {
  test('a drain', async () => {
    const { server, agent } = await enrolled()
    const session = await server.sessions.next()
    await session.heartbeats.first(1)
    const toldAt = performance.now()
    session.send({ type: 'drain', reconnect_in_ms: 700 })
    session.close(1012, 'service_restart')
    const [, second] = await server.sessions.first(2)
    expect(second!.openedAt - toldAt).toBeGreaterThanOrEqual(690)
    await agent.says(/asks to come back \(1012 service_restart\)/)
  })

  test('the reason of a close', async () => {
    const { server } = await enrolled()
    const session = await server.sessions.next()
    await session.heartbeats.first(1)
    const toldAt = performance.now()
    session.close(4005, 'overloaded; reconnect_in_ms=600')
    const [, second] = await server.sessions.first(2)
    expect(second!.openedAt - toldAt).toBeGreaterThanOrEqual(590)
  })

  test('Retry-After of a refused upgrade', async () => {
    const { server, agent } = await enrolled((plane) => {
      plane.onUpgrade = (number) =>
        number === 1
          ? problem(503, 'draining', 'The server is shutting down', { 'retry-after': '1' })
          : undefined
    })
    const [first, second] = await server.upgrades.first(2)
    expect(second!.at - first!.at).toBeGreaterThanOrEqual(990)
    await agent.says(/shutting down \(HTTP 503\)/)
    await agent.says(/connected/)
  })

  test('a server without the subprotocol, a wrong status and a broken answer are no reason to give up', async () => {
    const { agent } = await enrolled((plane) => {
      plane.onUpgrade = (number) =>
        [
          { status: 403, text: '<html>' },
          { status: 200 },
          // A gateway in between, with codes of its own.
          { status: 401, headers: { 'content-type': 'application/json' }, body: { code: 'unauthorized' } },
        ][number - 1]
    })
    await agent.says(/the server answers HTTP 403/)
    await agent.says(/the server answers HTTP 401/)
    await agent.says(/connected/)
  })
})

describe('the server can send a robot away for good', () => {
  const closes = [
    {
      code: 4501,
      reason: 'token_revoked',
      exit: 3,
      says: /token of this robot was revoked.*What to do: make a new enrollment key/,
    },
    { code: 4502, reason: 'robot_retired', exit: 3, says: /retired/ },
    { code: 4503, reason: 'protocol_unsupported', exit: 3, says: /Update the agent/ },
    {
      code: 4510,
      reason: 'replaced_by_newer_session',
      exit: 5,
      says: /another agent connected as this robot/,
    },
    { code: 4511, reason: 'quarantined', exit: 3, says: /quarantined/ },
    { code: 4599, reason: 'something new', exit: 3, says: /something new/ },
  ]
  for (const { code, reason, exit, says } of closes)
    test(`close ${code} → ${exit}`, async () => {
      const { server, agent } = await enrolled()
      const session = await server.sessions.next()
      await session.heartbeats.first(1)
      session.close(code, reason)
      expect(await agent.exited).toBe(exit)
      expect(agent.logText).toMatch(says)
    })

  test('401 before the session → 3', async () => {
    const { agent, robot } = await enrolled((plane) => {
      plane.onUpgrade = () => problem(401, 'token_revoked', 'The token was revoked')
    })
    expect(await agent.exited).toBe(3)
    expect(agent.logText).toMatch(/The token was revoked.*What to do: make a new enrollment key/)
    expect(robot.state().identity).toBeDefined()
  })
})

describe('one identity, one agent', () => {
  test('a second one is told so', async () => {
    const { robot, agent } = await enrolled()
    await agent.says(/connected/)
    const second = robot.run()
    expect(await second.exited).toBe(5)
    expect(second.logText).toMatch(/another agent runs on .*agent\.toml/)
  })

  test('two that start together: one works, one is told so', async () => {
    const server = await startControlPlane()
    const robot = new TestRobot()
    const flags = ['--enrollment-key', KEY, '--server', server.url]
    const agents = [robot.run(flags), robot.run(flags)]
    expect(await Promise.race(agents.map((agent) => agent.exited))).toBe(5)
    await Promise.race(agents.map((agent) => agent.says(/connected/)))
    expect(server.claims.all).toHaveLength(1)
  })

  test('a killed one is not in the way', async () => {
    const { robot, agent } = await enrolled()
    await agent.says(/connected/)
    agent.kill('SIGKILL')
    await agent.exited
    const next = robot.run()
    await next.says(/connected/)
    expect(await next.stop()).toBe(0)
    expect(readdirSync(robot.folder).filter((name) => name.includes('.sock'))).toEqual([])
  })
})

describe('the identity survives its disk', () => {
  test('a file cut short is replaced by its copy, aloud', async () => {
    const { server, robot, agent } = await enrolled()
    await agent.says(/connected/)
    await agent.stop()
    truncateSync(robot.config, Math.floor(statSync(robot.config).size / 2))

    const again = robot.run()
    await again.says(/cannot be used.*going on with the copy before it/)
    await again.says(/connected/)
    expect(server.claims.all).toHaveLength(1)
  })

  test('with both gone bad the robot does not become another one', async () => {
    const { server, robot, agent } = await enrolled()
    await agent.says(/connected/)
    await agent.stop()
    writeFileSync(robot.config, '')
    writeFileSync(`${robot.config}.bak`, 'state = "enrolled"\n')

    const again = robot.run(['--enrollment-key', KEY, '--server', server.url])
    expect(await again.exited).toBe(1)
    expect(again.logText).toMatch(/beacon agent forget/)
    expect(server.claims.all).toHaveLength(1)
  })
})

describe('beacon agent status', () => {
  test('of a running agent, from itself', async () => {
    const { server, robot, agent } = await enrolled()
    await (await server.sessions.next()).heartbeats.first(2)
    await agent.says(/connected/)
    const { code, out } = await robot.command('status', '--json')
    const status = JSON.parse(out)
    expect(code).toBe(0)
    expect(status).toMatchObject({
      enrolled: true,
      running: true,
      robot_id: ROBOT_ID,
      pid: agent.pid,
      link: { connection: 'connected', session_no: 1, lifecycle: 'active', dropped: 0, last_error: null },
    })
    expect(status.link.last_ack_age_ms).toBeLessThan(10_000)
    expect(out).not.toContain('rf_robot_')
    expect((await robot.command('status')).out).toMatch(/connection: +session 1/)
  })

  test('of a stopped agent, from its file', async () => {
    const { robot, agent } = await enrolled()
    await agent.says(/connected/)
    await agent.stop()
    const { code, out } = await robot.command('status', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(out)).toMatchObject({ enrolled: true, running: false, name: 'warehouse-bot-01' })
    expect(out).not.toContain('rf_robot_')
  })

  test('where nobody is enrolled', async () => {
    const { code, out } = await new TestRobot().command('status')
    expect(code).toBe(1)
    expect(out).toMatch(/not enrolled/)
  })

  test('callers that never read do no harm', async () => {
    const { robot, agent } = await enrolled()
    await agent.says(/connected/)
    const socket = readdirSync(robot.folder).find((name) => name.endsWith('.sock'))!
    const silent = connect({ path: join(robot.folder, socket) })
    silent.on('error', () => {})
    expect((await robot.command('status')).code).toBe(0)
    expect(await agent.stop()).toBe(0)
    silent.destroy()
  })
})

describe('beacon agent forget', () => {
  test('removes the identity and all that belongs to it', async () => {
    const { robot, agent } = await enrolled()
    await agent.says(/connected/)
    await agent.stop()
    const { code, out } = await robot.command('forget', '--yes')
    expect(code).toBe(0)
    expect(out).toMatch(/removed .*agent\.toml\n/)
    expect(readdirSync(robot.folder)).toEqual([])
    expect((await robot.command('forget', '--yes')).out).toMatch(/nothing to forget/)
  })

  test('not under a running agent', async () => {
    const { robot, agent } = await enrolled()
    await agent.says(/connected/)
    const { code, err } = await robot.command('forget', '--yes')
    expect(code).toBe(5)
    expect(err).toMatch(/stop it first/)
    expect(existsSync(robot.config)).toBe(true)
    expect(readFileSync(robot.config, 'utf8')).toContain('robot_token')
  })
})
