import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { closePool, isDatabaseUnavailable, openPool } from '../../src/db/database.ts'
import { ManualClock } from '../support/clock.ts'
import { type DatabaseProxy, startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
let proxy: DatabaseProxy

beforeAll(async () => {
  db = await createTestDatabase()
  proxy = await startDatabaseProxy(db.url)
})
afterAll(async () => {
  await proxy.stop()
  await db.drop()
})

describe('a connection that owes an answer', () => {
  it('is dropped after the silence it is granted, and the next one works', async () => {
    const idleErrors: Error[] = []
    const pool = openPool({
      url: proxy.url,
      name: 'silence',
      maxConnections: 1,
      statementTimeoutMs: 10_000,
      silenceTimeoutMs: 200,
      onIdleError: (error) => idleErrors.push(error),
    })
    await pool.query('SELECT 1')
    proxy.fallSilent()
    const error = await pool.query('SELECT 1').catch((thrown: unknown) => thrown)
    expect(isDatabaseUnavailable(error)).toBe(true)
    proxy.restore()
    expect((await pool.query('SELECT 2 AS two')).rows).toEqual([{ two: 2 }])
    expect(idleErrors).toEqual([])
    await pool.end()
  })
})

describe('a pool that is closed', () => {
  it('lets go of connections to a database that says nothing, at work or not', async () => {
    const clock = new ManualClock()
    const pool = openPool({
      url: proxy.url,
      name: 'close',
      maxConnections: 3,
      statementTimeoutMs: 60_000,
      onIdleError: () => {},
    })
    await Promise.all([1, 2, 3].map(() => pool.query('SELECT pg_sleep(0.05)')))
    expect([proxy.connections, pool.idleCount]).toEqual([3, 3])
    proxy.fallSilent()
    const asked = pool.query('SELECT 1').catch((thrown: unknown) => thrown)
    await eventually(() => pool.idleCount === 2, 'it to be asked')
    const closed = closePool(pool, clock)
    clock.advance(2_000)
    await closed
    expect(isDatabaseUnavailable(await asked)).toBe(true)
    expect(clock.pending).toBe(0)
    proxy.restore()
    await eventually(() => proxy.connections === 0, 'the last connection to go')
  })

  it('waits for what is under way, and is gone with it', async () => {
    const pool = openPool({
      url: proxy.url,
      name: 'close',
      maxConnections: 2,
      statementTimeoutMs: 60_000,
      onIdleError: () => {},
    })
    const asked = pool.query('SELECT 1 AS one')
    await closePool(pool, new ManualClock())
    expect((await asked).rows).toEqual([{ one: 1 }])
    expect(proxy.connections).toBe(0)
  })
})

it('tells a connection for which no descriptor was left from a file for which none was', () => {
  const without = (syscall: string) => Object.assign(new Error('EMFILE'), { code: 'EMFILE', syscall })
  expect(isDatabaseUnavailable(without('connect'))).toBe(true)
  expect(isDatabaseUnavailable(without('open'))).toBe(false)
})
