import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { NotReadyError, type ServerProcess, startServer } from '../support/server-process.ts'
import { mintToken } from './independent/operator.ts'
import { enrol, newMachine, Robot, Session, UpgradeRefusedError } from './independent/robot.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const PROCESSES = 3
const WITHIN_MS = 2_000

/** The gateway processes of a server: what it started, apart from PostgreSQL. */
function gatewaysOf(pid: number): number[] {
  const listing = execFileSync('ps', ['-ww', '-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
  return [...listing.matchAll(/^\s*(\d+)\s+(\d+)\s+.*processes\/main\.js$/gm)]
    .filter(([, , parent]) => Number(parent) === pid)
    .map(([, child]) => Number(child))
}

function runs(pid: number): boolean {
  try {
    // Ended, and nobody has asked how: as good as gone.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}

async function series(scene: Scene, name: string): Promise<Record<string, number>> {
  const response = await fetch(`${scene.servers[0]!.url}/metrics`, {
    headers: { authorization: `Bearer ${scene.adminToken}` },
  })
  const found = (await response.text()).matchAll(new RegExp(`^${name}(\\{[^}]*\\})? (\\S+)$`, 'gm'))
  return Object.fromEntries([...found].map(([, labels = '', value]) => [labels, Number(value)]))
}

/** Which process holds each robot, as the database says. */
async function holders({ database }: Scene): Promise<Map<string, number>> {
  const { rows } = await database.pool.query<{ robot_id: string; process_id: number }>(
    'SELECT robot_id, process_id FROM robot_status JOIN servers ON servers.id = server_id',
  )
  return new Map(rows.map((row) => [row.robot_id, row.process_id]))
}

interface Held {
  readonly id: string
  readonly token: string
  readonly machine: ReturnType<typeof newMachine>
  readonly session: Session
  readonly holder: number
}

async function connect(base: string, token: string, machine: Held['machine']): Promise<Session> {
  const session = await Session.open(base, token)
  session.hello(machine)
  await session.welcome()
  return session
}

/** Robots until every process holds one: one robot for each. */
async function oneOnEach(scene: Scene, settings: Record<string, unknown> = {}): Promise<Held[]> {
  const [server] = scene.servers as [ServerProcess]
  const { key_value } = await scene.operator.key(scene.site, scene.fleet, { max_uses: 200, ...settings })
  const held = new Map<number, Held>()
  const others: Session[] = []
  for (let count = 0; held.size < PROCESSES; count += 1) {
    if (count === 150) throw new Error(`robots come to ${held.size} of ${PROCESSES} processes only`)
    const machine = newMachine()
    const { body } = await enrol(server.url, key_value, { machine })
    expect(body.gateway_url).toBe(server.gatewayUrl)
    const session = await connect(body.gateway_url, body.robot_token!, machine)
    const holder = (await holders(scene)).get(body.robot_id)!
    if (held.has(holder)) others.push(session)
    else held.set(holder, { id: body.robot_id, token: body.robot_token!, machine, session, holder })
  }
  for (const session of others) session.socket.terminate()
  const all = [...held.values()]
  onTestFinished(() => {
    for (const { session } of all) session.socket.terminate()
  })
  return all
}

/** Robots that live on, so many or a few more: whoever comes at once may all come to one process, but not to the end. */
async function liveRobots(scene: Scene, count: number): Promise<Robot[]> {
  const [server] = scene.servers as [ServerProcess]
  const { key_value } = await scene.operator.key(scene.site, scene.fleet, { max_uses: count + 150 })
  const robots: Robot[] = []
  onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
  async function add(many: number): Promise<void> {
    const added = await Promise.all(
      Array.from({ length: many }, () => Robot.enrol([server.url], key_value, 100)),
    )
    robots.push(...added)
    for (const robot of added) {
      robot.goTo([server.gatewayUrl])
      robot.start()
    }
    await eventually(() => added.every((robot) => robot.acknowledged.length > 2), 'first heartbeats')
  }
  await add(count)
  for (let more = 0; ; more += 1) {
    const holderOf = await holders(scene)
    if (new Set(robots.map(({ id }) => holderOf.get(id))).size > 1) return robots
    if (more === 150) throw new Error('all robots came to one process')
    await add(1)
  }
}

describe.each(['ws', 'uws'])('robots on %s in three processes', (engine) => {
  const env = { BEACON_GATEWAY_ENGINE: engine, BEACON_GATEWAY_PROCESSES: String(PROCESSES) }
  let scene: Scene
  let server: ServerProcess

  beforeAll(async () => {
    scene = await startScene({ env })
    server = scene.servers[0]!
  })
  afterAll(() => scene?.end())

  test('are told of one port, and come to all of them', async () => {
    expect(server.stdout).toContain(`engine ${engine} (`)
    expect(server.stdout).toContain('in 3 processes')
    expect(new URL(server.gatewayUrl).port).not.toBe(new URL(server.url).port)
    const info = (await (await fetch(`${server.url}/api/info`)).json()) as { gateway_url: string }
    expect(info.gateway_url).toBe(server.gatewayUrl)
    const gateways = gatewaysOf(server.pid)
    expect(gateways).toHaveLength(PROCESSES)
    const held = await oneOnEach(scene)
    expect(held.map(({ holder }) => holder).sort()).toEqual(gateways.sort())
    for (const { session } of held) {
      session.heartbeat(1)
      await session.acked(1)
    }
    await eventually(async () => (await series(scene, 'beacon_sessions'))[''] === PROCESSES)
    expect(await series(scene, 'beacon_heartbeats_stored_total')).toEqual({ '': PROCESSES })
    expect(Object.keys(await series(scene, 'beacon_nodejs_eventloop_lag_p99_seconds'))).toHaveLength(
      PROCESSES + 1,
    )
    const port = new URL(server.gatewayUrl.replace(/^ws/, 'http')).origin
    expect((await fetch(`${port}/readyz`)).status).toBe(200)
  })

  test('with no secret in what everybody on the machine can see of a process', () => {
    const secrets = [
      scene.adminToken,
      scene.env.BEACON_SECRET_KEY!,
      scene.database.url,
      new URL(scene.database.url.replace('@/', '@host/')).password,
    ]
    for (const pid of gatewaysOf(server.pid))
      for (const file of ['environ', 'cmdline']) {
        const text = readFileSync(`/proc/${pid}/${file}`, 'utf8')
        expect(text).not.toBe('')
        expect(text).not.toContain('BEACON_')
        for (const secret of secrets.filter(Boolean)) expect(text).not.toContain(secret)
      }
  })

  test.each([
    ['revoke-token', 4501],
    ['retire', 4502],
  ])('%s closes with %i on every process within 2 s, and none lets it in again', async (action, code) => {
    const held = await oneOnEach(scene)
    const begun = Date.now()
    await Promise.all(held.map(({ id }) => scene.operator.must('POST', `/api/robots/${id}/${action}`)))
    for (const { session } of held) {
      const closed = await session.closed
      expect([closed.code, closed.at - begun < WITHIN_MS]).toEqual([code, true])
    }
    for (const { token } of held)
      for (let attempt = 0; attempt < 6; attempt += 1) {
        const refusal = await Session.open(server.gatewayUrl, token).catch((error: unknown) => error)
        expect((refusal as UpgradeRefusedError).status).toBe(401)
      }
    await eventually(async () => {
      const { rows } = await scene.database.pool.query(
        "SELECT 1 FROM audit_log WHERE action = 'robot_session.refused' AND data ->> 'code' = $1",
        [action === 'retire' ? 'robot_retired' : 'token_revoked'],
      )
      return rows.length > 0
    }, 'the refusals in the audit log')
  })

  test('a session on another process ends the one before, with 4510', async () => {
    const [robot] = (await oneOnEach(scene)) as [Held]
    let { session, holder } = robot
    let moves = 0
    for (let attempt = 0; attempt < 50 && moves < 3; attempt += 1) {
      const begun = Date.now()
      const next = await connect(server.gatewayUrl, robot.token, robot.machine)
      const closed = await session.closed
      expect([closed.code, closed.at - begun < WITHIN_MS]).toEqual([4510, true])
      const now = (await holders(scene)).get(robot.id)!
      if (now !== holder) moves += 1
      session = next
      holder = now
    }
    expect(moves).toBe(3)
    session.heartbeat(1)
    await session.acked(1)
    // The server's own door is one more.
    const old = await connect(server.url, robot.token, robot.machine)
    expect((await session.closed).code).toBe(4510)
    expect((await holders(scene)).get(robot.id)).toBe(server.pid)
    old.socket.terminate()
  })

  test('hear of their interval, their approval and a token to make, wherever they are', async () => {
    const held = await oneOnEach(scene, { require_approval: true })
    for (const { id, session } of held) {
      await scene.operator.must('POST', `/api/robots/${id}/approve`)
      await session.frame((frame) => frame.type === 'welcome' && frame.lifecycle === 'active', WITHIN_MS)
    }
    await scene.operator.must('PATCH', `/api/fleets/${scene.fleet.id}`, { heartbeat_interval_ms: 700 })
    onTestFinished(async () => {
      await scene.operator.must('PATCH', `/api/fleets/${scene.fleet.id}`, { heartbeat_interval_ms: null })
    })
    for (const { id, session } of held) {
      const isNew = (frame: { type: string; heartbeat_interval_ms?: unknown }) =>
        frame.type === 'settings' && frame.heartbeat_interval_ms === 700
      await session.frame(isNew, WITHIN_MS)
      await scene.operator.must('POST', `/api/robots/${id}/rotate-token`)
      await session.frame((frame) => frame.type === 'rotate_token', WITHIN_MS)
    }
  })

  test('of a process that is killed come back, those of the others stay, and it is replaced', async () => {
    const robots = await liveRobots(scene, 30)
    const before = await holders(scene)
    const gateways = gatewaysOf(server.pid)
    const victim = before.get(robots[0]!.id)!
    const counted = await series(scene, 'beacon_heartbeats_stored_total')
    const exits = (await series(scene, 'beacon_gateway_process_exits_total'))['{reason="crash"}'] ?? 0
    process.kill(victim, 'SIGKILL')

    const [lost, kept] = [true, false].map((of) =>
      robots.filter(({ id }) => (before.get(id) === victim) === of),
    )
    expect(lost!.length).toBeGreaterThan(0)
    expect(kept!.length).toBeGreaterThan(0)
    await eventually(
      () => lost!.every((robot) => robot.sessions.length === 2 && robot.welcomed),
      'their return',
    )
    await eventually(() => gatewaysOf(server.pid).length === PROCESSES, 'the replacement')
    await eventually(
      async () => (await series(scene, 'beacon_gateway_processes'))['{state="ready"}'] === PROCESSES,
    )
    for (const robot of kept!) expect([robot.closes, robot.sessions.length]).toEqual([[], 1])
    expect(gatewaysOf(server.pid).filter((pid) => !gateways.includes(pid))).toHaveLength(1)
    expect(await series(scene, 'beacon_gateway_process_exits_total')).toMatchObject({
      '{reason="crash"}': exits + 1,
    })
    await eventually(async () => {
      const { rows } = await scene.database.pool.query('SELECT 1 FROM servers WHERE process_id = $1', [
        victim,
      ])
      return rows.length === 0
    }, "the dead one's row to go")
    // What it had counted when it was last asked is still counted.
    const after = await series(scene, 'beacon_heartbeats_stored_total')
    expect(after['']).toBeGreaterThanOrEqual(counted['']!)
    const { rows } = await scene.database.pool.query(
      "SELECT 1 FROM robot_events WHERE code = 'offline' AND robot_id = ANY ($1)",
      [robots.map(({ id }) => id)],
    )
    expect(rows).toEqual([])
    for (const robot of robots) robot.rest()
    await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))
    for (const robot of robots) {
      const stored = await storedHeartbeats(scene.database.pool, robot.id)
      expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(robot.acknowledged)
    }
  })
})

describe.each(['ws', 'uws'])('processes on %s that are nearly full', (engine) => {
  interface Guest extends Omit<Held, 'holder'> {
    session: Session
    readonly refusals: number[]
  }

  /** Connects as a robot that obeys, until it is let in. */
  async function come(guest: Guest, gatewayUrl: string): Promise<void> {
    for (;;) {
      const outcome = await connect(gatewayUrl, guest.token, guest.machine).catch((error: unknown) => error)
      if (outcome instanceof Session) {
        guest.session = outcome
        return
      }
      if (!(outcome instanceof UpgradeRefusedError)) {
        await delay(100 + 400 * Math.random())
        continue
      }
      expect(outcome.status).toBe(503)
      const seconds = Number(outcome.headers['retry-after'])
      // Not for long: the replacement comes at once.
      expect(seconds).toBeLessThanOrEqual(10)
      guest.refusals.push(seconds)
      await delay(seconds * 1_000)
    }
  }

  test('leave robots to those with room, and those of one that is killed to its replacement', async () => {
    const scene = await startScene({
      descriptors: 1024,
      env: {
        NODE_OPTIONS: `--import ${new URL('../support/take-descriptors.mjs', import.meta.url)}`,
        TEST_DESCRIPTORS_LEFT: '110',
        BEACON_GATEWAY_ENGINE: engine,
        BEACON_GATEWAY_PROCESSES: String(PROCESSES),
        BEACON_HEARTBEAT_SECONDS: '30',
      },
    })
    onTestFinished(() => scene.end())
    const [server] = scene.servers as [ServerProcess]
    const { key_value } = await scene.operator.key(scene.site, scene.fleet, { max_uses: 500 })
    const guests: Guest[] = []
    onTestFinished(() => {
      for (const { session } of guests) session.socket.terminate()
    })
    const listening = async () => (await series(scene, 'beacon_gateway_processes_listening'))['']
    expect(await listening()).toBe(PROCESSES)
    // As the metrics say, too, at a far higher price.
    const left = () => server.output.match(/left the shared port/g)?.length ?? 0
    while (left() < PROCESSES - 1) {
      const machine = newMachine()
      const { body } = await enrol(server.url, key_value, { machine })
      const robot = { id: body.robot_id, token: body.robot_token!, machine, refusals: [] }
      // No robot is turned away while there is room for it anywhere.
      const session = await connect(server.gatewayUrl, robot.token, machine)
      guests.push({ ...robot, session })
    }
    await eventually(async () => (await listening()) === 1, 'one that listens')
    const before = await holders(scene)
    const victim = before.get(guests[0]!.id)!
    const [lost, kept] = [true, false].map((of) =>
      guests.filter(({ id }) => (before.get(id) === victim) === of),
    ) as [Guest[], Guest[]]
    expect(lost.length).toBeGreaterThan(guests.length / 5)
    process.kill(victim, 'SIGKILL')
    await Promise.all(lost.map(({ session }) => session.closed))
    const begun = Date.now()
    // Who is faster than the supervisor, by milliseconds, hears from one that is full that all are.
    await eventually(
      async () => (await series(scene, 'beacon_gateway_process_exits_total'))['{reason="crash"}'],
    )
    await Promise.all(lost.map((guest) => come(guest, server.gatewayUrl)))
    expect(Date.now() - begun).toBeLessThan(20_000)

    // Who was turned away meanwhile was not turned away again and again.
    for (const { refusals } of lost) expect(refusals.length).toBeLessThanOrEqual(2)
    for (const { session } of kept) {
      expect(session.ended).toBeNull()
      session.heartbeat(1)
    }
    await Promise.all(kept.map(({ session }) => session.acked(1)))
    const gateways = gatewaysOf(server.pid)
    const replacement = gateways.find((pid) => ![...before.values()].includes(pid))
    const after = await holders(scene)
    const there = lost.filter(({ id }) => after.get(id) === replacement)
    // Only as many go elsewhere as there is room: about as many as the fullest has more.
    const held = new Map<number, number>()
    for (const holder of before.values()) held.set(holder, (held.get(holder) ?? 0) + 1)
    const most = Math.max(...held.values())
    held.delete(victim)
    const room = [...held.values()].reduce((sum, count) => sum + most + 3 - count, 0)
    expect(there.length).toBeGreaterThanOrEqual(Math.max(1, lost.length - room))
    for (const { id } of kept) expect(after.get(id)).toBe(before.get(id))

    // With room again, all are on the port.
    for (const { session } of guests) session.socket.terminate()
    await eventually(async () => (await listening()) === PROCESSES, 'all of them to be on the port again')
  }, 90_000)
})

describe('a server of several processes', () => {
  const env = { BEACON_GATEWAY_PROCESSES: String(PROCESSES) }

  async function begin(more: Record<string, string> = {}): Promise<Scene> {
    const scene = await startScene({ env: { ...env, ...more } })
    onTestFinished(() => scene.end())
    return scene
  }

  test.each(['ws', 'uws'])('on %s drains all of them, and keeps what it acknowledged', async (engine) => {
    const scene = await begin({ BEACON_GATEWAY_ENGINE: engine })
    const [server] = scene.servers as [ServerProcess]
    const robots = await liveRobots(scene, 30)
    const gateways = gatewaysOf(server.pid)
    const begun = Date.now()
    expect(await server.stop()).toBe(0)
    expect(Date.now() - begun).toBeLessThan(20_000)
    expect(gateways.filter(runs)).toEqual([])
    for (const robot of robots) expect(robot.closes[0]).toMatchObject({ code: 1012 })
    for (const robot of robots) {
      // One that came while its socket was closing is kept, too, and was not acknowledged any more.
      const stored = await storedHeartbeats(scene.database.pool, robot.id)
      expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(
        expect.arrayContaining(robot.acknowledged),
      )
    }
    const { rows } = await scene.database.pool.query('SELECT 1 FROM servers')
    expect(rows).toEqual([])
  })

  test('told to stop as a group, as by a terminal, drains in order all the same', async () => {
    const scene = await begin()
    const [server] = scene.servers as [ServerProcess]
    const robots = await liveRobots(scene, 10)
    const gateways = gatewaysOf(server.pid)
    for (const pid of gateways) for (const signal of ['SIGINT', 'SIGTERM'] as const) process.kill(pid, signal)
    // Nobody but the server says when.
    await eventually(() => robots.every((robot) => robot.acknowledged.length > 10))
    expect([gatewaysOf(server.pid), robots.flatMap((robot) => robot.closes)]).toEqual([gateways, []])
    server.signal('SIGINT')
    expect(await server.exited).toBe(0)
    for (const robot of robots) expect(robot.closes[0]).toMatchObject({ code: 1012 })
  })

  test.each(['ws', 'uws'])(
    'that is killed leaves nothing running, and its successor takes the port (%s)',
    async (engine) => {
      const scene = await begin({ BEACON_GATEWAY_ENGINE: engine })
      const [server] = scene.servers as [ServerProcess]
      const robots = await liveRobots(scene, 10)
      const gateways = gatewaysOf(server.pid)
      server.signal('SIGKILL')
      const port = new URL(server.gatewayUrl).port
      const successor = await scene.addServer({ BEACON_GATEWAY_PORT: port, BEACON_GATEWAY_ENGINE: engine })
      expect(successor.gatewayUrl).toBe(server.gatewayUrl)
      await eventually(() => gateways.every((pid) => !runs(pid)), 'their end')
      await eventually(
        () => robots.every((robot) => robot.welcomed && robot.sessions.length > 1),
        'their return',
      )
    },
  )

  test('replaces a process that stands still, and counts it', async () => {
    const scene = await begin()
    const [server] = scene.servers as [ServerProcess]
    const [stuck] = gatewaysOf(server.pid) as [number]
    process.kill(stuck, 'SIGSTOP')
    await eventually(async () => {
      const counted = await series(scene, 'beacon_gateway_reports_missed_total')
      return counted['']! > 0
    }, 'the missing answer to be counted')
    const isReplaced = () => !runs(stuck) && gatewaysOf(server.pid).length === PROCESSES
    for (let patience = 0; patience < 3 && !isReplaced(); patience += 1)
      await eventually(isReplaced, 'the replacement').catch(() => {})
    expect(isReplaced()).toBe(true)
    expect(await series(scene, 'beacon_gateway_process_exits_total')).toEqual({ '{reason="hang"}': 1 })
  }, 60_000)

  test('starts one that dies again and again more and more rarely, and says when nobody takes robots', async () => {
    const scene = await begin({ BEACON_GATEWAY_PROCESSES: '2' })
    const [server] = scene.servers as [ServerProcess]
    const seen = new Set<number>()
    let unready: unknown
    await eventually(async () => {
      for (const pid of gatewaysOf(server.pid)) {
        seen.add(pid)
        process.kill(pid, 'SIGKILL')
      }
      const ready = await fetch(`${server.url}/readyz`)
      if (ready.status === 503) unready = await ready.json()
      const { '{state="waiting"}': waiting } = await series(scene, 'beacon_gateway_processes')
      return waiting === 2 && unready !== undefined
    }, 'both to wait, and the server to say so')
    expect(unready).toEqual({ ready: false, reasons: ['no_gateway_process'] })
    expect(seen.size).toBeLessThan(12)
    await eventually(async () => (await fetch(`${server.url}/readyz`)).status === 200, 'its return')
  })

  test.each(['ws', 'uws'])(
    'says so in a sentence when another program has the port (%s)',
    async (engine) => {
      const squatter = createServer().listen(0, '127.0.0.1')
      onTestFinished(() => void squatter.close())
      await eventually(() => squatter.listening)
      const { port } = squatter.address() as { port: number }
      const outcome = await startServer({
        ...(await begin()).env,
        BEACON_GATEWAY_ENGINE: engine,
        BEACON_GATEWAY_PORT: String(port),
      }).catch((error: unknown) => error)
      expect(outcome).toBeInstanceOf(NotReadyError)
      expect((outcome as NotReadyError).code).toBe(1)
      expect((outcome as NotReadyError).output.stderr).toMatch(/^beacon: .*BEACON_GATEWAY_PORT/m)
    },
    60_000,
  )

  test('lets nobody in without a token, on any process', async () => {
    const scene = await begin()
    const [server] = scene.servers as [ServerProcess]
    for (let attempt = 0; attempt < 9; attempt += 1) {
      const refusal = await Session.open(server.gatewayUrl, mintToken('rf_robot_')).catch(
        (error: unknown) => error,
      )
      expect(refusal).toBeInstanceOf(UpgradeRefusedError)
      expect((refusal as UpgradeRefusedError).status).toBe(401)
    }
  })
})
