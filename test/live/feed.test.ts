import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { BeaconError } from '../../src/errors.ts'
import { renderRobot } from '../../src/http/live-schema.ts'
import { createLiveFeeds, type LiveParts, type LiveRequest } from '../../src/live/feed.ts'
import type { Sink } from '../../src/live/reader.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { systemRandom } from '../../src/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot, type TestFleet } from '../support/robots.ts'

let db: TestDatabase
let fleet: TestFleet
let robotId: string
beforeAll(async () => {
  db = await createTestDatabase()
  fleet = await insertFleet(db.database)
  robotId = (await insertRobot(db.database, fleet)).id
})
afterAll(() => db?.drop())

const WANTED: LiveRequest = {
  holder: 'me',
  filter: {},
  reach: 'everything',
  detail: 'full',
  coding: 'identity',
  lastEventId: undefined,
}

/** Feeds on a clock of their own. */
function feeds(parts: Partial<LiveParts> = {}) {
  const clock = new ManualClock()
  const metrics = createMetrics()
  const statements: string[] = []
  const live = createLiveFeeds({
    database: db.database.withPlugin({
      transformQuery: ({ node }) => {
        statements.push(node.kind)
        return node
      },
      transformResult: async ({ result }) => result,
    }),
    clock,
    random: systemRandom,
    log: createLog('silent'),
    metrics,
    render: renderRobot,
    ...parts,
  })
  onTestFinished(() => live.stop())
  async function open(request: Partial<LiveRequest> = {}, { takes = true } = {}) {
    const seat = await live.take({ ...WANTED, ...request })
    const reader = { said: '', isEnded: false, isDestroyed: false }
    const sink: Sink = {
      write(bytes, taken) {
        reader.said += bytes
        if (takes) setImmediate(taken)
      },
      end(bytes) {
        reader.said += bytes
        reader.isEnded = true
      },
      destroy() {
        reader.isDestroyed = true
      },
    }
    const feed = seat.begin(sink)
    if (takes)
      await eventually(() => reader.said.includes('"done":true') || reader.said.includes('event: delta'))
    return { ...feed, reader }
  }
  /** Time passes, and every look at the database is over before it goes on. */
  async function seconds(many: number): Promise<void> {
    for (let second = 0; second < many; second += 1) {
      await clock.pass(1_000, 500)
      await eventually(() => clock.pending >= 2, 'the next look')
      // And whatever it found has been told.
      for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const count = async (name: 'liveReaders' | 'liveEnded' | 'liveBytes') => (await metrics[name].get()).values
  return { live, clock, seconds, statements, open, count }
}

const touch = () => db.pool.query('UPDATE robots SET updated_at = clock_timestamp() WHERE id = $1', [robotId])
const deltas = (said: string) => said.split('event: delta').length - 1
const idOf = (said: string) => [...said.matchAll(/^id: (.+)$/gm)].at(-1)![1]!

describe('live feeds', () => {
  test('ask the database once a second, however many read, and not at all while nobody does', async () => {
    const { open, clock, seconds, statements } = feeds()
    const readers = [
      await open(),
      await open({ detail: 'status' }),
      await open({ filter: { ids: [robotId] } }),
    ]
    for (let second = 0; second < 3; second += 1) {
      statements.length = 0
      await seconds(1)
      expect(statements).toHaveLength(1)
    }
    for (const reader of readers) reader.left()
    statements.length = 0
    await clock.pass(50_000, 1_000)
    expect(statements).toEqual([])
    // The store is still there: one look finds what changed.
    await touch()
    const before = idOf(readers[0]!.reader.said)
    const back = await open({ lastEventId: before })
    expect(back.reader.said).not.toContain('snapshot')
    expect(deltas(back.reader.said)).toBe(1)
    back.left()
    await clock.pass(61_000, 1_000)
    const late = await open({ lastEventId: idOf(back.reader.said) })
    expect(late.reader.said).toContain('event: reset\nid:\ndata: {"reason":"unknown_id"}')
    expect(clock.pending).toBeGreaterThan(0)
    late.left()
  })

  test('read a robot once for each change, however long a transaction stands open', async () => {
    const { open, seconds, statements } = feeds()
    const { reader } = await open()
    const connection = await db.pool.connect()
    try {
      await connection.query('BEGIN')
      await connection.query('SELECT pg_current_xact_id()')
      await touch()
      statements.length = 0
      await seconds(1)
      expect([statements.length, deltas(reader.said)]).toEqual([2, 1])
      statements.length = 0
      await seconds(2)
      expect([statements.length, deltas(reader.said)]).toEqual([2, 1])
    } finally {
      await connection.query('ROLLBACK')
      connection.release()
    }
  })

  test('tell a second later what changed', async () => {
    const { open, clock } = feeds()
    const { reader } = await open()
    await touch()
    await clock.pass(1_000)
    await eventually(() => deltas(reader.said) === 1)
    expect(reader.said).toMatch(/^retry: [2-5]\d{3}\n\n/)
  })

  test('comment every 5 seconds', async () => {
    const { open, seconds } = feeds()
    const { reader } = await open()
    const comments = () => reader.said.split(': still here').length - 1
    await seconds(4)
    expect(comments()).toBe(0)
    await seconds(12)
    expect(comments()).toBe(3)
    expect(idOf(reader.said)).toMatch(/^[0-9a-f]{12}-1-[0-9a-f]{12}$/)
  })

  test('let a reader go that takes nothing for 30 s, and say why to those who count', async () => {
    const { open, seconds, count } = feeds()
    const stuck = await open({}, { takes: false })
    const well = await open({ holder: 'another' })
    await seconds(29)
    expect(stuck.reader.isEnded || stuck.reader.isDestroyed).toBe(false)
    await seconds(5)
    expect(stuck.reader.isDestroyed).toBe(true)
    expect([well.reader.isEnded, well.reader.isDestroyed]).toEqual([false, false])
    expect(await count('liveEnded')).toMatchObject([{ labels: { reason: 'slow_reader' }, value: 1 }])
    expect(await count('liveReaders')).toMatchObject([{ value: 1 }])
  })

  test('end all readers when the server stops, and take no more', async () => {
    const { live, open, count, clock } = feeds()
    const { reader } = await open()
    live.stop()
    expect(reader.said).toMatch(/event: end\ndata: {"code":"server_stopping",.*}\n\n$/)
    expect(reader.isEnded).toBe(true)
    expect(await count('liveEnded')).toMatchObject([{ labels: { reason: 'server_stopping' }, value: 1 }])
    await expect(live.take(WANTED)).rejects.toMatchObject({ code: 'draining' })
    await clock.pass(1_000)
    expect(clock.pending).toBe(0)
  })

  test('are as many as there may be, in all and of one', async () => {
    const { open } = feeds({ limits: { readers: 3, readersOfOne: 2 } })
    const mine = [await open(), await open()]
    const refused = await open().catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(BeaconError)
    expect(refused).toMatchObject({ code: 'too_many_feeds' })
    expect((refused as BeaconError).retryAfterSeconds).toBeGreaterThan(0)
    const theirs = await open({ holder: 'them' })
    const full = (await open({ holder: 'another' }).catch((error: unknown) => error)) as BeaconError
    expect(full).toMatchObject({ code: 'overloaded' })
    expect(full.retryAfterSeconds).toBeGreaterThan(0)
    mine[0]!.left()
    mine[0]!.left()
    const again = await open()
    await expect(open()).rejects.toMatchObject({ code: 'too_many_feeds' })
    for (const one of [mine[1]!, theirs, again]) one.left()
  })

  test('give up a seat that nobody took', async () => {
    const { live, open } = feeds({ limits: { readers: 1 } })
    const seat = await live.take(WANTED)
    await expect(live.take(WANTED)).rejects.toMatchObject({ code: 'overloaded' })
    seat.leave()
    seat.leave()
    const { left } = await open()
    await expect(live.take(WANTED)).rejects.toMatchObject({ code: 'overloaded' })
    left()
    ;(await live.take(WANTED)).leave()
  })

  test('tell less often when they may not send so much, and in the end how it is', async () => {
    const perSecond = 300
    const { open, seconds } = feeds({ limits: { bytesPerSecond: perSecond } })
    const { reader } = await open()
    const begun = reader.said.length
    for (let second = 0; second < 40; second += 1) {
      await touch()
      await seconds(1)
    }
    const told = deltas(reader.said)
    expect(told).toBeGreaterThan(2)
    expect(told).toBeLessThan(20)
    // What is sent at one time may be more than is left; it is paid for before anything else goes.
    expect(reader.said.length - begun).toBeLessThan(41 * perSecond + 2_000)
    const { rows } = await db.pool.query('SELECT updated_at FROM robots WHERE id = $1', [robotId])
    await eventually(async () => {
      await seconds(1)
      return reader.said.includes(rows[0].updated_at.toISOString())
    })
  })

  test('tell those first who are told little', async () => {
    const { open, seconds } = feeds({ limits: { bytesPerSecond: 100 } })
    const full = await open()
    // Until there is something left to send.
    await seconds(20)
    const status = await open({ detail: 'status' })
    await db.pool.query("UPDATE robots SET name = name || '!' WHERE id = $1", [robotId])
    await eventually(async () => {
      await seconds(1)
      return deltas(full.reader.said) + deltas(status.reader.said) > 0
    })
    expect([deltas(status.reader.said), deltas(full.reader.said)]).toEqual([1, 0])
  })

  test('begin anew for a reader whose reach is another, and for no other', async () => {
    const { open } = feeds()
    const reach = { siteIds: [fleet.siteId], fleetIds: [] }
    const { reader, setReach } = await open({ reach })
    const before = reader.said
    setReach({ siteIds: [fleet.siteId, fleet.siteId], fleetIds: [] })
    setReach({ siteIds: [], fleetIds: [] })
    await eventually(() => reader.said.split('"done":true').length === 3)
    expect(reader.said.slice(before.length)).toMatch(
      /^event: reset\nid:\ndata: {"reason":"access_changed"}\n\nevent: snapshot\nid: .*\ndata: {.*"items":\[\],/,
    )
  })

  test('fail to open without a database, and end when it was away for too long', async () => {
    let isAway = true
    const database = new Proxy(db.database, {
      get(target, name, receiver) {
        if (isAway) throw Object.assign(new Error('Connection terminated'), { code: '08006' })
        const value = Reflect.get(target, name, receiver)
        return typeof value === 'function' ? value.bind(target) : value
      },
    }) as Database
    const { open, clock, seconds, count } = feeds({ database })
    await expect(open()).rejects.toThrow('Connection terminated')
    isAway = false
    const { reader } = await open()
    isAway = true
    await seconds(20)
    expect(reader.isEnded).toBe(false)
    isAway = false
    await touch()
    await seconds(10)
    expect(deltas(reader.said)).toBe(1)
    isAway = true
    await seconds(25)
    expect(reader.isEnded).toBe(false)
    await clock.pass(7_000, 1_000)
    expect(reader.said).toMatch(/event: end\ndata: {"code":"database_unavailable",.*}\n\n$/)
    expect(await count('liveEnded')).toMatchObject([{ labels: { reason: 'database_unavailable' }, value: 1 }])
  })
})
