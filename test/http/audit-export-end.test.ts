import { get, type IncomingMessage } from 'node:http'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { createStanding } from '../../src/access/standing.ts'
import { createPostgresBus } from '../../src/bus/postgres.ts'
import { insertAudit } from '../../src/db/audit.ts'
import { openPool } from '../../src/db/database.ts'
import { createHttp } from '../../src/http/server.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/runtime.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import { eventually } from '../support/eventually.ts'
import { useApi } from './api.ts'

const WITHIN_MS = 2_000
const api = useApi()

beforeAll(async () => {
  // More than any socket buffers: an export of it goes on for as long as nobody reads it.
  const filler = 'x'.repeat(16_000)
  for (let batch = 0; batch < 8; batch++)
    await insertAudit(
      api().db.database,
      Array.from({ length: 250 }, () => ({
        id: newId(),
        at: new Date(),
        action: 'test.filled',
        outcome: 'ok' as const,
        actor: { kind: 'server' as const, id: null, name: null },
        target: null,
        siteId: null,
        fleetId: null,
        requestId: null,
        address: null,
        data: { filler },
      })),
    )
})

/** A server of its own on the same database, on the bus between servers. */
async function startServer() {
  const { parts, db } = api()
  const log = createLog('silent')
  const pool = openPool({
    url: db.url,
    name: 'export test',
    maxConnections: 3,
    statementTimeoutMs: 5_000,
    onIdleError: () => {},
  })
  const bus = await createPostgresBus({ url: db.url, pool, serverId: newId(), clock: systemClock, log })
  const standing = createStanding({ database: db.database, bus, clock: systemClock, log })
  const app = createHttp({ ...parts, bus, standing })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  onTestFinished(async () => {
    standing.stop()
    await app.close()
    await bus.stop()
    await pool.end()
  })
  return { url, standing }
}

/** Begins an export and stops reading it. */
async function begin(
  url: string,
  token: string,
): Promise<{ answer: IncomingMessage; broken: Promise<number> }> {
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${url}/api/audit/export`, { headers: { authorization: `Bearer ${token}` } }, resolve).on(
      'error',
      reject,
    )
  })
  answer.pause()
  const broken = new Promise<number>((resolve) => {
    answer.on('error', () => {})
    answer.on('close', () => resolve(performance.now()))
  })
  return { answer, broken }
}

test.each(['the same server', 'another server'])(
  'an export that goes on is broken off within two seconds when its token is revoked at %s',
  async (where) => {
    const here = await startServer()
    const there = where === 'the same server' ? here : await startServer()
    const { database } = api().db
    const userId = await insertPerson(database, [{ role: 'admin' }])
    const { id, token } = await insertPersonalToken(database, userId)
    const { answer, broken } = await begin(here.url, token)
    expect(answer.statusCode).toBe(200)
    expect(here.standing.size).toBe(1)
    const revoked = await fetch(`${there.url}/api/tokens/${id}/revoke`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}` },
    })
    expect(revoked.status).toBe(200)
    const revokedAt = performance.now()
    await eventually(() => here.standing.size === 0)
    expect(performance.now() - revokedAt).toBeLessThan(WITHIN_MS)
    // What lies in the buffers is read; then the answer breaks off, short of its end.
    answer.resume()
    await broken
    expect(answer.complete).toBe(false)
  },
)

test('an export that nobody ends is whole, and is watched no longer', async () => {
  const { url, standing } = await startServer()
  const { token } = await insertPersonalToken(
    api().db.database,
    await insertPerson(api().db.database, [{ role: 'admin' }]),
  )
  const { answer, broken } = await begin(url, token)
  let length = 0
  answer.on('data', (chunk: Buffer) => {
    length += chunk.length
  })
  answer.resume()
  await broken
  expect(answer.complete).toBe(true)
  expect(length).toBeGreaterThan(2_000 * 16_000)
  expect(standing.size).toBe(0)
})
