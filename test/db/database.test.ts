import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isDatabaseUnavailable, openPool } from '../../src/db/database.ts'
import { type DatabaseProxy, startDatabaseProxy } from '../support/database-proxy.ts'
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

it('tells a connection for which no descriptor was left from a file for which none was', () => {
  const without = (syscall: string) => Object.assign(new Error('EMFILE'), { code: 'EMFILE', syscall })
  expect(isDatabaseUnavailable(without('connect'))).toBe(true)
  expect(isDatabaseUnavailable(without('open'))).toBe(false)
})
