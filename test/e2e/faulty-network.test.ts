import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest'
import { askRunningAgent } from '../../agent/lock.ts'
import { systemClock } from '../../agent/runtime.ts'
import type { AgentStatus } from '../../agent/status.ts'
import { placesAt } from '../agent/support/agent-process.ts'
import { eventually } from '../support/eventually.ts'
import { FaultyNetwork, type Way } from '../support/faulty-network.ts'
import { seededRandom } from '../support/random.ts'
import type { EnrollmentKey } from './independent/operator.ts'
import { type Scene, startScene, storedHeartbeats } from './scene.ts'

const BEACON = join(import.meta.dirname, '../../bin/beacon.js')
/** With a heartbeat every 0.5 s: 3 intervals and 5 s. */
const SILENCE_MS = 6_500
/** How much later than promised a busy machine may see it. */
const SLACK_MS = 3_000

let scene: Scene
let key: EnrollmentKey
/** With a server of its own, that is stopped for a while. */
let stopped: Scene

beforeAll(async () => {
  // One address for all that an agent does, so that all of it goes through the network.
  const env = { BEACON_GATEWAY_ENGINE: 'ws' }
  ;[scene, stopped] = await Promise.all([startScene({ env }), startScene({ env })])
  key = await scene.operator.key(scene.site, scene.fleet, { max_uses: 100 })
})
afterAll(() => Promise.all([scene?.end(), stopped?.end()]))

let robots = 0

/** A real agent whose every connection goes through a network of its own. */
class FaultyRobot {
  readonly network: FaultyNetwork
  readonly #scene: Scene
  readonly #agent: ChildProcess
  readonly #exited: Promise<number | null>
  readonly #name: string
  readonly #config: string
  #id = ''
  log = ''

  private constructor(from: Scene, network: FaultyNetwork, secret: string, folder: string) {
    robots += 1
    this.#scene = from
    this.network = network
    this.#name = `robot-${robots}`
    this.#config = join(folder, 'agent.toml')
    const args = ['--enrollment-key', secret, '--server', network.url, '--name', this.#name]
    this.#agent = spawn(process.execPath, [BEACON, 'agent', 'run', ...args], {
      env: {
        PATH: process.env.PATH ?? '',
        HOME: folder,
        NO_COLOR: '1',
        BEACON_CONFIG: this.#config,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#exited = once(this.#agent, 'close').then(([code]) => code)
    for (const stream of [this.#agent.stdout, this.#agent.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.log += text
      })
  }

  /** Starts one, and waits until it has enrolled and its heartbeats come. */
  static async start(
    { onTestFinished }: TestContext,
    { from = scene, secret = key.key_value, prepare = (_: FaultyNetwork) => {} } = {},
  ): Promise<FaultyRobot> {
    const network = await FaultyNetwork.before(from.servers[0]!.url)
    const folder = await mkdtemp(join(tmpdir(), 'beacon-faulty-'))
    prepare(network)
    const robot = new FaultyRobot(from, network, secret, folder)
    onTestFinished(async () => {
      robot.signal('SIGKILL')
      await robot.#exited
      await network.stop()
      await rm(folder, { recursive: true, force: true })
    })
    robot.#id = await eventually(async () => {
      const { rows } = await from.database.pool.query('SELECT id FROM robots WHERE name = $1', [robot.#name])
      return rows[0]?.id as string | undefined
    }, 'the robot')
    await robot.beats(2)
    return robot
  }

  signal(name: NodeJS.Signals): void {
    this.#agent.kill(name)
  }

  async says(pattern: RegExp): Promise<void> {
    await this.#until(() => pattern.test(this.log), `${pattern} in the agent’s log`)
  }

  /** `connection`, its reason, and the number of the newest session. */
  async presence(): Promise<{ connection: string; reason: string; sessionNo: number }> {
    const { rows } = await this.#scene.database.pool.query(
      `SELECT connection, connection_reason AS reason, session_no::int AS "sessionNo"
         FROM robot_status WHERE robot_id = $1`,
      [this.#id],
    )
    return rows[0]
  }

  async is(connection: string, reason: string): Promise<void> {
    await this.#until(async () => {
      const now = await this.presence()
      return now.connection === connection && now.reason === reason
    }, `${this.#name} ${connection}: ${reason}`)
  }

  /** In a session after the one with this number, and heard in it. */
  async isBackAfter(sessionNo: number): Promise<void> {
    await this.#until(async () => {
      const now = await this.presence()
      return now.connection === 'online' && now.sessionNo > sessionNo
    }, `${this.#name} to be back`)
    await this.beats(1)
  }

  /** Waits for more heartbeats than are stored now. */
  async beats(more: number): Promise<void> {
    const before = (await this.#stored()).length
    await this.#until(async () => (await this.#stored()).length >= before + more, 'heartbeats')
  }

  /** What its timeline says of each of these, oldest first, in the reason where there is one. */
  async told(...codes: string[]): Promise<string[]> {
    const { rows } = await this.#scene.database.pool.query(
      `SELECT concat_ws(' ', code, data ->> 'close_code', nullif(data ->> 'reason', '')) AS told
         FROM robot_events WHERE robot_id = $1 AND code = ANY ($2) ORDER BY id`,
      [this.#id, codes],
    )
    return rows.map(({ told }) => told)
  }

  async latestHeartbeat(): Promise<{ network?: { rtt_ms?: number } }> {
    const { rows } = await this.#scene.database.pool.query(
      'SELECT heartbeat FROM robot_status WHERE robot_id = $1',
      [this.#id],
    )
    return rows[0].heartbeat
  }

  /** As `eventually`; a failure shows what the agent said. */
  async #until(look: () => boolean | Promise<boolean>, what: string): Promise<void> {
    await eventually(look, what).catch((error: Error) => {
      throw new Error(`${error.message}; the agent said:\n${this.log}`)
    })
  }

  #stored() {
    return storedHeartbeats(this.#scene.database.pool, this.#id)
  }

  /**
   * The process never ended by itself, every heartbeat that it made is stored, once, and operators were told of its
   * presence what is given, up to its leave.
   */
  async lostNothing(...presence: string[]): Promise<void> {
    await this.#until(async () => {
      const status = (await askRunningAgent(placesAt(this.#config), systemClock)) as AgentStatus | undefined
      return status?.link?.backlog === 0 && status.link.dropped === 0
    }, 'the agent to have caught up')
    expect(this.#agent.exitCode, this.log).toBeNull()
    this.signal('SIGTERM')
    expect(await this.#exited).toBe(0)
    expect(this.log).toMatch(/ stopped\n$/)
    const numbers = (await this.#stored()).map(({ seq }) => seq)
    expect(numbers).toEqual(numbers.map((_, index) => numbers[0]! + index))
    await this.is('offline', 'bye')
    const expected = [...presence, 'offline bye']
    await this.#until(
      async () => (await this.told('stale', 'online', 'offline')).length >= expected.length,
      'its leave',
    )
    expect(await this.told('stale', 'online', 'offline'), this.log).toEqual(expected)
  }
}

describe.concurrent('a connection that is', () => {
  test.for(['reset', 'fin'] as const)(
    'cut (%s) is replaced within a second, and nobody is called offline',
    async (how, context) => {
      const robot = await FaultyRobot.start(context)
      robot.network.cut(how)
      await robot.isBackAfter(1)
      expect(robot.log).toMatch(/connection lost \(1006.*trying again in \d+ ms/)
      await robot.lostNothing(...(await robot.told('stale')))
      expect(await robot.told('disconnected')).toContain('disconnected 1006')
    },
  )

  test.for(['to_server', 'to_client'] as const)(
    'cut in the middle of a frame (%s) takes no half frame for a whole one',
    async (way, context) => {
      const robot = await FaultyRobot.start(context)
      robot.network.cutInside(way)
      await robot.isBackAfter(1)
      await robot.lostNothing(...(await robot.told('stale')))
      expect(robot.log).not.toMatch(/not a frame|complains/)
    },
  )

  test('half open is found out at both ends: no acknowledgement comes, and no sign of life', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.network.refuse()
    robot.network.halfOpen()
    const lostAt = performance.now()
    await robot.is('stale', 'silent')
    await robot.says(/connection lost \(1006 the server fell silent\)/)
    const noticedMs = performance.now() - lostAt
    expect(noticedMs).toBeGreaterThan(SILENCE_MS - 1_500)
    expect(noticedMs).toBeLessThan(SILENCE_MS + SLACK_MS)
    await robot.is('offline', 'heartbeat_timeout')
    await robot.says(/cannot connect/)

    robot.network.restore()
    await robot.isBackAfter(1)
    expect(await robot.presence()).toEqual({ connection: 'online', reason: 'connected', sessionNo: 2 })
    await robot.lostNothing('stale silent', 'offline heartbeat_timeout')
    expect(await robot.told('disconnected')).toContain('disconnected 4002 heartbeat_timeout')
  })

  test('deaf on the robot’s side alone is replaced, while the server heard it all the time', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.network.halfOpen('to_client')
    await robot.says(/connection lost \(1006 the server fell silent\)/)
    expect(await robot.presence()).toMatchObject({ connection: 'online', sessionNo: 1 })
    await robot.isBackAfter(1)
    await robot.lostNothing(...(await robot.told('stale')))
    expect(await robot.told('disconnected')).toContain('disconnected 1006')
  })

  test('dumb on the robot’s side alone is replaced, too', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.network.halfOpen('to_server')
    await robot.is('stale', 'silent')
    await robot.says(/connection lost \(1006 the server fell silent\)/)
    await robot.isBackAfter(1)
    await robot.lostNothing(...(await robot.told('stale', 'offline')))
  })

  test('gone for a moment is the same connection again', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.network.hold()
    await robot.is('stale', 'silent')
    robot.network.restore()
    await robot.is('online', 'heard_again')
    await robot.beats(4)
    expect(await robot.presence()).toMatchObject({ sessionNo: 1 })
    await robot.lostNothing('stale silent', 'online heard_again')
  })
})

describe.concurrent('a network that', () => {
  test('takes connections and answers nothing is given up, and tried again', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.network.blackHole()
    robot.network.cut('reset')
    await robot.is('stale', 'connection_lost')
    await robot.is('offline', 'connection_lost')
    await robot.says(/cannot connect: no answer in time; trying again/)
    robot.network.restore()
    await robot.isBackAfter(1)
    await robot.lostNothing('stale connection_lost', 'offline connection_lost')
  }, 45_000)

  test('needs three seconds there and back is slow, and nothing else', async (context) => {
    const robot = await FaultyRobot.start(context, { prepare: (network) => network.delay(1_500) })
    const measured = await eventually(
      async () => (await robot.latestHeartbeat()).network?.rtt_ms,
      'a measure',
    )
    expect(measured).toBeGreaterThanOrEqual(3_000)
    expect(measured).toBeLessThan(3_000 + SLACK_MS)
    expect(await robot.presence()).toMatchObject({ connection: 'online', sessionNo: 1 })
    robot.network.restore()
    await robot.lostNothing(...(await robot.told('stale', 'online')))
  })

  test('carries 30 KB a second takes longer for what waited, and loses none of it', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.network.refuse()
    robot.network.cut('reset')
    await robot.is('offline', 'connection_lost')
    robot.network.restore()
    robot.network.throttle(30_000)
    await robot.isBackAfter(1)
    await robot.beats(4)
    expect(await robot.presence()).toMatchObject({ connection: 'online', sessionNo: 2 })
    await robot.lostNothing('stale connection_lost', 'offline connection_lost')
  })

  test('breaks again and again, at moments of its own, loses nothing and makes nothing twice', async (context) => {
    const random = seededRandom(20_260_101)
    const flapping = await Promise.all(Array.from({ length: 5 }, () => FaultyRobot.start(context)))
    const cuts = flapping.map(() =>
      Array.from({ length: 4 }, () => ({
        kind: Math.floor(random.fraction() * 5),
        way: (random.fraction() < 0.5 ? 'to_server' : 'to_client') as Way,
        afterBeats: Math.floor(random.fraction() * 3),
      })),
    )
    await Promise.all(
      flapping.map(async (robot, index) => {
        for (const { kind, way, afterBeats } of cuts[index]!) {
          if (afterBeats > 0) await robot.beats(afterBeats)
          const { sessionNo } = await robot.presence()
          if (kind < 2) robot.network.cut(kind === 0 ? 'reset' : 'fin')
          else if (kind < 4) robot.network.cutInside(way)
          else robot.network.halfOpen(way)
          await robot.isBackAfter(sessionNo)
        }
      }),
    )
    for (const robot of flapping) await robot.lostNothing(...(await robot.told('stale', 'online', 'offline')))
  }, 90_000)
})

describe.concurrent('a process that stands still', () => {
  test('is a robot that is offline, and online again when it goes on', async (context) => {
    const robot = await FaultyRobot.start(context)
    robot.signal('SIGSTOP')
    await robot.is('stale', 'silent')
    await robot.is('offline', 'heartbeat_timeout')
    robot.signal('SIGCONT')
    await robot.isBackAfter(1)
    expect(await robot.presence()).toEqual({ connection: 'online', reason: 'connected', sessionNo: 2 })
    await robot.lostNothing('stale silent', 'offline heartbeat_timeout')
  })

  test('is a server that calls nobody offline for what it did not hear itself', async (context) => {
    const { key_value: secret } = await stopped.operator.key(stopped.site, stopped.fleet)
    const robot = await FaultyRobot.start(context, { from: stopped, secret })
    const server = stopped.servers[0]!
    server.signal('SIGSTOP')
    await robot.says(/connection lost \(1006 the server fell silent\)/)
    expect(await robot.presence()).toMatchObject({ connection: 'online', sessionNo: 1 })
    server.signal('SIGCONT')
    await robot.says(/connected as \S+ session 2|HTTP 503/)
    expect(await robot.told('offline')).toEqual([])
    // One that finds itself late may ask for patience first, 20 s at the most.
    await robot.isBackAfter(1).catch(() => robot.isBackAfter(1))
    await robot.lostNothing(...(await robot.told('stale', 'offline')))
  }, 60_000)
})
