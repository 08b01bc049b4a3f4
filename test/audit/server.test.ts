import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import WebSocket from 'ws'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { beacon } from '../cli/fake-terminal.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { makeDataFolder, type ServerProcess, startServer } from '../support/server-process.ts'

let db: TestDatabase
let folder: string
let servers: ServerProcess[]
let login: string
const adminToken = mintCheckedToken('personal')

beforeEach(async () => {
  db = await createTestDatabase()
  folder = await makeDataFolder()
  servers = []
  login = `test_login_${randomBytes(6).toString('hex')}`
  await db.pool.query(`CREATE ROLE ${login} LOGIN PASSWORD 'open'`)
})

afterEach(async () => {
  for (const server of servers) await server.kill9()
  await db.pool.query(`DROP OWNED BY ${login}; DROP ROLE ${login}`)
  await db.drop()
  await rm(folder, { recursive: true, force: true })
})

async function start(): Promise<ServerProcess> {
  const server = await startServer({
    BEACON_DATA_DIR: folder,
    BEACON_ADMIN_TOKEN: adminToken,
    BEACON_DATABASE_URL: db.url.replace(/\/\/[^@]*@/, `//${login}:open@`),
    BEACON_DATABASE_OWNER_URL: db.url,
  })
  servers.push(server)
  return server
}

const call = (server: ServerProcess, path: string, init: RequestInit = {}) =>
  fetch(server.url + path, {
    ...init,
    headers: { authorization: `Bearer ${adminToken}`, 'content-type': 'application/json', ...init.headers },
  })

describe('two servers with a login of their own on one database', () => {
  test('write one log of changes, uses and refusals, which is whole after a stop and a kill', {
    timeout: 90_000,
  }, async () => {
    const [first, second] = await Promise.all([start(), start()])
    for (const server of servers) expect(server.output).not.toContain('owns the audit log')
    const { rows } = await db.pool.query(
      `SELECT DISTINCT usename AS login, application_name AS name FROM pg_stat_activity
       WHERE datname = current_database() AND application_name LIKE 'beacon %' AND application_name <> 'beacon test'`,
    )
    expect(rows.length).toBeGreaterThan(1)
    for (const row of rows) expect(row.login === login, row.name).toBe(row.name !== 'beacon upkeep')

    const made = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        call(servers[index % 2]!, '/api/sites', {
          method: 'POST',
          body: JSON.stringify({ name: `site ${index}` }),
        }),
      ),
    )
    expect(new Set(made.map(({ status }) => status))).toEqual(new Set([201]))
    const unknown = { headers: { authorization: `Bearer ${mintCheckedToken('personal')}` } }
    for (let index = 0; index < 3; index++)
      expect((await call(second!, '/api/sites', unknown)).status).toBe(401)
    const robot = new WebSocket(`${first!.url.replace('http', 'ws')}/agent/ws`, 'beacon.v1', {
      headers: { authorization: `Bearer ${mintCheckedToken('robot')}` },
    })
    await new Promise((resolve) => robot.once('error', resolve))

    // The first refusals are there within a second or so, and a kill does not take them away.
    await eventually(async () => {
      const { rows: found } = await db.pool.query("SELECT FROM audit_log WHERE outcome = 'refused'")
      return found.length === 2
    }, 'two refusals')
    await second!.kill9()
    expect(await first!.stop()).toBe(0)

    const { rows: lines } = await db.pool.query(
      'SELECT action, outcome, count(*)::int AS lines FROM audit_log GROUP BY action, outcome',
    )
    const counts = Object.fromEntries(lines.map((line) => [`${line.action} ${line.outcome}`, line.lines]))
    expect(counts).toMatchObject({
      'site.created ok': 20,
      'request.refused refused': 1,
      'robot_session.refused refused': 1,
    })
    // The first wrote what it had gathered when it stopped.
    expect(counts['access_token.used ok']).toBeGreaterThanOrEqual(1)
    const { rows: tokens } = await db.pool.query('SELECT last_used_at, last_used_ip FROM access_tokens')
    expect(tokens).toEqual([{ last_used_at: expect.any(Date), last_used_ip: '127.0.0.1' }])
    const verified = await beacon(['audit', 'verify', '--direct'], { env: { BEACON_DATABASE_URL: db.url } })
    expect([verified.exitCode, verified.stdout]).toEqual([0, expect.stringContaining('is whole')])
  })
})
