import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import pg from 'pg'
import { describe, expect, onTestFinished, test } from 'vitest'
import { startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/postgres.ts'
import {
  type Environment,
  embeddedUrl,
  killPostgres,
  makeDataFolder,
  NotReadyError,
  postgresProcesses,
  removeDataFolder,
  ServerProcess,
  startServer,
} from '../support/server-process.ts'
import { mintToken, Operator } from './independent/operator.ts'
import { enrol, Robot, Session, type UpgradeRefusedError } from './independent/robot.ts'
import { settings, startScene, storedHeartbeats } from './scene.ts'

async function start(env: Environment): Promise<ServerProcess> {
  const server = await startServer(env)
  onTestFinished(() => server.kill9())
  return server
}

async function folder(): Promise<string> {
  const made = await makeDataFolder()
  onTestFinished(() => removeDataFolder(made))
  return made
}

async function refusalOf(starting: Promise<ServerProcess>): Promise<NotReadyError> {
  const outcome = await starting.then(
    async (server) => {
      await server.kill9()
      return undefined
    },
    (error: unknown) => error,
  )
  expect(outcome).toBeInstanceOf(NotReadyError)
  return outcome as NotReadyError
}

describe('settings', () => {
  test('that are wrong are all told at once, without their secrets', async () => {
    const dataDir = await folder()
    const secret = `rf_pat_${'ab'.repeat(36)}`
    const { code, output } = await refusalOf(
      startServer({
        BEACON_DATA_DIR: dataDir,
        BEACON_PORT: '99999',
        BEACON_HEARTBEAT_SECONDS: 'often',
        BEACON_LOG_LEVEL: 'loud',
        BEACON_ADMIN_TOKEN: secret,
        BEACON_SECRET_KEY: 'tooshort-but-secret',
        BEACON_DATABASE_URL: 'mysql://root:hunter2@localhost/x',
        BEACON_TRUSTED_PROXIES: '10.0.0.0/33',
        BEACON_BUS: 'carrier-pigeon',
      }),
    )
    expect(code).toBe(2)
    for (const name of [
      'PORT',
      'HEARTBEAT_SECONDS',
      'LOG_LEVEL',
      'ADMIN_TOKEN',
      'SECRET_KEY',
      'DATABASE_URL',
      'TRUSTED_PROXIES',
      'BUS',
    ])
      expect(output.stderr.match(new RegExp(`BEACON_${name}\\b`, 'g'))).toHaveLength(1)
    expect(output.stderr).not.toMatch(/ab{10}|hunter2|tooshort|at .*\.js:\d+/)
    expect(output.stderr).not.toContain(secret)
    expect(output.stdout).toBe('')
    expect(await readdir(dataDir)).toEqual([])
  })

  test('that lead nowhere are told in a sentence, with exit code 1', async () => {
    const dataDir = await folder()
    const { code, output } = await refusalOf(
      startServer({ BEACON_DATA_DIR: dataDir, BEACON_DATABASE_URL: 'postgres://u:hunter2@127.0.0.1:9/x' }),
    )
    expect(code).toBe(1)
    expect(output.stderr).toMatch(/^beacon: .*BEACON_DATABASE_URL/m)
    expect(output.stderr).not.toMatch(/hunter2|at .*\.js:\d+/)
  })

  test.each(['no-such-host.invalid', '192.0.2.1'])('an address that is not its own: %s', async (host) => {
    const scene = await startScene()
    onTestFinished(() => scene.end())
    const { code, output } = await refusalOf(startServer({ ...scene.env, BEACON_HOST: host }))
    expect(code).toBe(1)
    expect(output.stderr).toMatch(/^beacon: BEACON_HOST is no address of this machine: .*$/m)
    expect(output.stderr).not.toContain('BEACON_DATABASE_URL cannot')
  })

  test('a port that is taken is told in a sentence, with exit code 1', async () => {
    const scene = await startScene()
    onTestFinished(() => scene.end())
    const port = new URL(scene.servers[0]!.url).port
    const { code, output } = await refusalOf(startServer({ ...scene.env, BEACON_PORT: port }))
    expect(code).toBe(1)
    expect(output.stderr).toContain('BEACON_PORT')
    expect((await fetch(`${scene.servers[0]!.url}/readyz`)).status).toBe(200)
  })
})

describe('file descriptors', () => {
  test('that are too few to start are told in a sentence, with exit code 1 and before anything is begun', async () => {
    const dataDir = await folder()
    const { code, output } = await refusalOf(startServer({ BEACON_DATA_DIR: dataDir }, 256))
    expect(code).toBe(1)
    expect(output.stdout).toBe('')
    expect(output.stderr).toMatch(
      /^beacon: a process may have only 256 files and sockets open here, [^\n]*ulimit[^\n]*\n$/,
    )
    expect(await readdir(dataDir)).toEqual([])
  })

  test('that are as few as it says it needs are enough', async () => {
    const scene = await startScene()
    onTestFinished(() => scene.end())
    const server = await startServer(scene.env, 512)
    onTestFinished(() => server.kill9())
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200)
  })
})

describe('a data folder of its own', () => {
  test('one token is shown at the first start and never again; nothing is left running; no second owner', async () => {
    const dataDir = await folder()
    const env = { BEACON_DATA_DIR: dataDir, BEACON_HEARTBEAT_SECONDS: '0.5' }
    const first = await start(env)
    expect(first.ownerTokens).toHaveLength(1)
    const [token] = first.ownerTokens
    const operator = new Operator(first.url, token!)
    const site = await operator.site('Plant')
    const fleet = await operator.fleet(site.id, 'Carts')
    const key = await operator.key(site, fleet)
    expect(postgresProcesses(dataDir).length).toBeGreaterThan(1)

    const second = await refusalOf(startServer(env))
    expect(second.code).toBe(1)
    expect(second.output.stderr).toContain(`the data folder ${dataDir} is in use by another server`)
    expect(second.output.stderr).toContain(`process ${first.pid}`)
    expect((await fetch(`${first.url}/readyz`)).status).toBe(200)

    expect(await first.stop()).toBe(0)
    expect(postgresProcesses(dataDir)).toEqual([])

    const again = await start(env)
    expect(again.ownerTokens).toEqual([])
    const found = await new Operator(again.url, token!).keyById(key.id)
    expect(found.key_value).toBe(key.key_value)
    expect(await again.stop()).toBe(0)
    expect(postgresProcesses(dataDir)).toEqual([])
    expect(first.output.split(token!)).toHaveLength(2)
    expect(again.output).not.toContain(token!)
  }, 60_000)

  test.each([
    ['killed', false],
    ['killed together with its PostgreSQL', true],
  ])(
    '%s, it starts again on the same folder with all that it had answered for',
    async (_, everything) => {
      const dataDir = await folder()
      const adminToken = mintToken('rf_pat_')
      const first = await start(settings(dataDir, adminToken))
      const operator = new Operator(first.url, adminToken)
      const site = await operator.site('Plant')
      const fleet = await operator.fleet(site.id, 'Carts')
      const key = await operator.key(site, fleet)
      const { body } = await enrol(first.url, key.key_value)
      const session = await Session.open(first.url, body.robot_token!)
      session.send({ type: 'hello', protocol: 1 })
      await session.welcome()
      session.heartbeat(1)
      await session.acked(1)
      await first.kill9()
      if (everything) killPostgres(dataDir)
      else expect(postgresProcesses(dataDir).length).toBeGreaterThan(0)

      const second = await start(settings(dataDir, adminToken))
      const robot = await new Operator(second.url, adminToken).robot(body.robot_id)
      expect(robot).toMatchObject({ heartbeat: { seq: 1 }, session_no: 1 })
      expect(robot.connection).not.toBe('offline')
      const back = await Session.open(second.url, body.robot_token!)
      back.send({ type: 'hello', protocol: 1 })
      expect(await back.welcome()).toMatchObject({ session_no: 2 })
      back.socket.terminate()
      expect(await second.stop()).toBe(0)
      expect(postgresProcesses(dataDir)).toEqual([])
    },
    60_000,
  )

  test('stopped under heartbeats, it has kept each one that it acknowledged', async () => {
    const dataDir = await folder()
    const adminToken = mintToken('rf_pat_')
    const first = await start(settings(dataDir, adminToken))
    const operator = new Operator(first.url, adminToken)
    const site = await operator.site('Plant')
    const key = await operator.key(site, await operator.fleet(site.id, 'Carts'))
    const robots = await Promise.all(
      Array.from({ length: 10 }, () => Robot.enrol([first.url], key.key_value, 20)),
    )
    onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
    for (const robot of robots) robot.start()
    await eventually(() => robots.every((robot) => robot.acknowledged.length > 5))
    expect(await first.stop()).toBe(0)
    expect(postgresProcesses(dataDir)).toEqual([])
    for (const robot of robots) expect(robot.closes.map((close) => close.code)).toEqual([1012])

    const second = await start({ ...settings(dataDir, adminToken), ...first.ports })
    await eventually(() => robots.every((robot) => robot.sessions.length === 2 && robot.welcomed))
    for (const robot of robots) robot.rest()
    await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))
    const pool = new pg.Pool({ connectionString: await embeddedUrl(dataDir), max: 1 })
    for (const robot of robots) {
      const stored = await storedHeartbeats(pool, robot.id)
      expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(robot.acknowledged)
    }
    await pool.end()
    await Promise.all(robots.map((robot) => robot.stop()))
    expect(await second.stop()).toBe(0)
  }, 60_000)

  test('told to stop again and again, it drains once and leaves nothing behind', async () => {
    const dataDir = await folder()
    const server = await start({ BEACON_DATA_DIR: dataDir })
    server.signal('SIGTERM')
    await eventually(() => server.stderr.includes('draining'))
    server.signal('SIGTERM')
    server.signal('SIGINT')
    expect(await server.exited).toBe(0)
    expect(postgresProcesses(dataDir)).toEqual([])
  }, 60_000)

  test('stopped before it is ready, it leaves nothing behind', async () => {
    const dataDir = await folder()
    const server = new ServerProcess({ BEACON_PORT: '0', BEACON_DATA_DIR: dataDir })
    onTestFinished(() => server.kill9())
    await eventually(() => postgresProcesses(dataDir).length > 0)
    expect(server.stdout).toBe('')
    expect(await server.stop()).toBe(0)
    expect(postgresProcesses(dataDir)).toEqual([])
  }, 60_000)
})

describe('an external database', () => {
  test('servers that start at once on an empty one all come up, with one owner token in all', async () => {
    const database = await createEmptyDatabase()
    onTestFinished(() => database.drop())
    const secret = randomBytes(32).toString('hex')
    const env = async () => ({
      BEACON_DATA_DIR: await folder(),
      BEACON_DATABASE_URL: database.url,
      BEACON_SECRET_KEY: secret,
    })
    const servers = await Promise.all([start(await env()), start(await env()), start(await env())])
    const tokens = servers.flatMap((server) => server.ownerTokens)
    expect(tokens).toHaveLength(1)
    for (const server of servers) {
      const operator = new Operator(server.url, tokens[0]!)
      expect((await operator.call('GET', '/api/robots')).status).toBe(200)
    }
    const { rows } = await database.pool.query('SELECT count(*)::int AS count FROM access_tokens')
    expect(rows).toEqual([{ count: 1 }])
    for (const server of servers) {
      server.signal('SIGTERM')
      expect(await server.exited).toBe(0)
    }
  }, 60_000)

  test('away for a while: REST says so, robots stay connected, and what they sent is acknowledged on its return', async () => {
    const database = await createTestDatabase()
    onTestFinished(() => database.drop())
    const proxy = await startDatabaseProxy(database.url)
    onTestFinished(() => proxy.stop())
    const adminToken = mintToken('rf_pat_')
    const server = await start({ ...settings(await folder(), adminToken), BEACON_DATABASE_URL: proxy.url })
    const operator = new Operator(server.url, adminToken)
    const site = await operator.site('Plant')
    const fleet = await operator.fleet(site.id, 'Carts')
    const key = await operator.key(site, fleet)
    const robots = await Promise.all(
      Array.from({ length: 10 }, () => Robot.enrol([server.url], key.key_value, 50)),
    )
    onTestFinished(() => Promise.all(robots.map((robot) => robot.stop())).then(() => {}))
    for (const robot of robots) robot.start()
    await eventually(() => robots.every((robot) => robot.acknowledged.length > 3))

    proxy.cut()
    const away = await operator.call('GET', '/api/robots')
    expect([away.status, away.body.code]).toEqual([503, 'database_unavailable'])
    expect(Number(away.headers.get('retry-after'))).toBeGreaterThan(0)
    for (const [method, path, body] of [
      ['GET', `/api/robots/${robots[0]!.id}`],
      ['POST', '/api/sites', { name: 'Elsewhere' }],
      ['GET', '/metrics/robots'],
    ] as const) {
      const answer = await operator.call(method, path, body)
      expect([answer.status, answer.body.code], path).toEqual([503, 'database_unavailable'])
    }
    const claim = await enrol(server.url, key.key_value)
    expect([claim.status, claim.body.code]).toEqual([503, 'database_unavailable'])
    expect(Number(claim.retryAfter)).toBeGreaterThan(0)
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200)
    const refused = await Session.open(server.url, mintToken('rf_robot_')).catch((error: unknown) => error)
    expect((refused as UpgradeRefusedError).status).toBe(503)

    const stuck = robots.map((robot) => robot.acknowledged.length)
    const sent = robots.map((robot) => robot.lastSent)
    // Longer than it takes to fall silent: but it is not the robots that are silent.
    await eventually(() => robots.every((robot, index) => robot.lastSent > sent[index]! + 30))
    expect(robots.map((robot) => robot.acknowledged.length)).toEqual(stuck)
    expect(robots.every((robot) => robot.closes.length === 0 && robot.welcomed)).toBe(true)

    proxy.restore()
    await eventually(() => robots.every((robot, index) => robot.acknowledged.length > stuck[index]! + 30))
    await eventually(async () => (await fetch(`${server.url}/readyz`)).status === 200)
    for (const robot of robots) robot.rest()
    await eventually(() => robots.every((robot) => robot.unacknowledged.length === 0))
    for (const robot of robots) {
      const stored = await storedHeartbeats(database.pool, robot.id)
      expect(stored.map(({ seq, at }) => ({ seq, at: at.toISOString() }))).toEqual(robot.acknowledged)
      expect(robot.closes).toEqual([])
    }
    const { rows } = await database.pool.query(
      "SELECT 1 FROM robot_events WHERE code IN ('stale', 'offline')",
    )
    expect(rows).toEqual([])
  }, 60_000)
})
