import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { closePool, openDatabase, openPool } from '../../src/db/database.ts'
import { systemClock } from '../../src/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { type DatabaseProxy, startDatabaseProxy } from '../support/database-proxy.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { type RunningGateway, startGateway } from './support.ts'

let db: TestDatabase
let proxy: DatabaseProxy
let pool: ReturnType<typeof openPool>
let statements: number
let clock: ManualClock

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())
beforeEach(async () => {
  proxy = await startDatabaseProxy(db.url)
  pool = openPool({
    url: proxy.url,
    name: 'test',
    maxConnections: 2,
    statementTimeoutMs: 60_000,
    onIdleError: () => {},
  })
  statements = 0
  pool.on('acquire', () => {
    statements += 1
  })
  clock = new ManualClock(Date.now())
})
afterEach(async () => {
  await closePool(pool, systemClock)
  await proxy.stop()
})

describe.each(['supervised', 'watching'] as const)('a gateway, %s', (kind) => {
  let running: RunningGateway
  beforeEach(async () => {
    running = await startGateway(openDatabase(pool), clock, undefined, { supervised: kind === 'supervised' })
  })
  const reasons = () => [...running.gateway.notReadyFor]
  /** Lets the next beat be due, and all statements that come with it be answered. */
  const beat = async () => {
    const before = statements
    clock.advance(5_000)
    await eventually(() => statements > before && pool.waitingCount === 0, 'the beat')
  }

  it('is ready while its beats are answered, and asks nothing of the database to say so', async () => {
    expect(reasons()).toEqual([])
    for (let beats = 0; beats < 3; beats++) {
      await beat()
      await eventually(() => reasons().length === 0 && pool.idleCount === pool.totalCount, 'the answer')
      clock.advance(4_900)
      const before = statements
      for (let asked = 0; asked < 1_000; asked++) expect(reasons()).toEqual([])
      expect(statements).toBe(before)
    }
  })

  it('is not while the database is away, and is again with the first beat that is answered', async () => {
    proxy.cut()
    clock.advance(5_000)
    await eventually(() => reasons()[0] === 'database_unavailable', 'the beat that fails')
    proxy.restore()
    clock.advance(5_000)
    await eventually(() => reasons().length === 0, 'the beat that works')
  })

  it('is not when the database has said nothing for two seconds', async () => {
    proxy.fallSilent()
    clock.advance(6_900)
    expect(reasons()).toEqual([])
    clock.advance(101)
    expect(reasons()).toEqual(['database_unavailable'])
    proxy.restore()
    await eventually(() => reasons().length === 0, 'the answer')
  })

  it('is not while it sends its robots away, and says that alone', async () => {
    proxy.cut()
    clock.advance(5_000)
    await eventually(() => reasons().length > 0, 'the beat that fails')
    const stopped = running.gateway.stop()
    expect(reasons()).toEqual(['draining'])
    await clock.pass(9_000, 20)
    await stopped
  })
})
