import { Kysely, PostgresDialect, sql } from 'kysely'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import type { HeartbeatRow } from '../../src/db/heartbeat-writes.ts'
import type { Tables } from '../../src/db/tables.ts'
import { HeartbeatWriter, lingerFor } from '../../src/gateway/heartbeat-writer.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { beginSessions, heartbeatRow, insertRobotsInSession } from '../support/heartbeats.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const ROBOTS = 40

let db: TestDatabase
let robotIds: string[]
let writer: HeartbeatWriter
let clock: ManualClock
/** The texts of the statements that wrote heartbeats. */
let written: string[]

beforeAll(async () => {
  db = await createTestDatabase()
  robotIds = await insertRobotsInSession(db.database, ROBOTS)
})
afterAll(() => db.drop())

beforeEach(async () => {
  await sql`DELETE FROM heartbeats`.execute(db.database)
  await beginSessions(db.database, robotIds)
  written = []
  clock = new ManualClock()
  const log = createLog('silent')
  const database: Database = new Kysely<Tables>({
    dialect: new PostgresDialect({ pool: db.pool }),
    log: ({ level, query }) => {
      if (level === 'query' && query.sql.includes('INSERT INTO heartbeats')) written.push(query.sql)
    },
  })
  writer = new HeartbeatWriter(
    database,
    { clock, log, metrics: createMetrics(), signal: new AbortController().signal },
    () => {},
  )
})

class Sender {
  heartbeatGroup = 0
  readonly told: (number | 'fenced' | 'rejected')[] = []

  heartbeatsStored(seq: number): void {
    this.told.push(seq)
  }
  heartbeatRejected(): void {
    this.told.push('rejected')
  }
  fenced(): void {
    this.told.push('fenced')
  }
}

function add(sender: Sender, robot: number, of: Partial<HeartbeatRow> = {}): void {
  writer.add({ ...heartbeatRow(robotIds[robot]!, of), sender })
}

const stored = async () => {
  const { rows } = await sql<{ robot: number; seq: number }>`
    SELECT array_position(${robotIds}::uuid[], robot_id) - 1 AS robot, seq FROM heartbeats ORDER BY robot, seq
  `.execute(db.database)
  return rows.map(({ robot, seq }) => [robot, seq])
}

const one = () => written.filter((text) => text.includes('prepared: write_heartbeats')).length

describe('a group of heartbeats', () => {
  it('is one statement when each robot has one, and each is told of its own', async () => {
    const senders = robotIds.map(() => new Sender())
    for (const [robot, sender] of senders.entries()) add(sender, robot, { seq: robot + 10 })
    await writer.flush()
    expect(senders.map(({ told }) => told)).toEqual(robotIds.map((_, robot) => [robot + 10]))
    expect(await stored()).toEqual(robotIds.map((_, robot) => [robot, robot + 10]))
    expect([written.length, one()]).toEqual([1, 1])
  })

  it('tells those of sessions that are over, and only them, that they are', async () => {
    const [first, over, last, older] = [new Sender(), new Sender(), new Sender(), new Sender()]
    add(first, 0)
    add(over, 1, { sessionNo: 4 })
    add(older, 2, { sessionNo: 4, seq: 7 })
    add(last, 2, { seq: 8 })
    await writer.flush()
    expect([first, over, older, last].map(({ told }) => told)).toEqual([[1], ['fenced'], ['fenced'], [8]])
    expect(await stored()).toEqual([
      [0, 1],
      [2, 8],
    ])
    expect(one()).toBe(1)
  })

  it('tells a robot that has several in it of the last, once, and keeps all', async () => {
    const [many, single] = [new Sender(), new Sender()]
    for (const seq of [3, 4, 5]) add(many, 0, { seq })
    add(single, 1)
    await writer.flush()
    expect([many.told, single.told]).toEqual([[5], [1]])
    expect(await stored()).toEqual([
      [0, 3],
      [0, 4],
      [0, 5],
      [1, 1],
    ])
    expect(one()).toBe(0)
  })

  it('looks for those that may be there already, and leaves the latest as it is for those that are not', async () => {
    const sender = new Sender()
    add(sender, 0, { seq: 9, body: '{"mode":"new"}' })
    await writer.flush()
    add(sender, 0, { seq: 9, recheck: true, latest: false })
    add(new Sender(), 1, { seq: 2, latest: false })
    await writer.flush()
    expect(await stored()).toEqual([
      [0, 9],
      [1, 2],
    ])
    const { rows } = await sql`SELECT heartbeat FROM robot_status WHERE robot_id = ${robotIds[0]}`.execute(
      db.database,
    )
    expect(rows).toEqual([{ heartbeat: { mode: 'new' } }])
    expect(one()).toBe(1)
  })

  it('loses none for one that PostgreSQL refuses', async () => {
    const senders = robotIds.map(() => new Sender())
    for (const [robot, sender] of senders.entries())
      add(sender, robot, robot === 17 ? { body: '{"metrics":{"a":1e999999}}' } : {})
    await writer.flush()
    expect(senders.map(({ told }) => told)).toEqual(
      robotIds.map((_, robot) => (robot === 17 ? ['rejected'] : [1])),
    )
    expect(await stored()).toHaveLength(ROBOTS - 1)
  })
})

describe('the next group', () => {
  const isTold = (sender: Sender) => eventually(() => sender.told.includes(1), 'word of a heartbeat')

  it('waits for company while one is written, and no shorter when that is quick', async () => {
    const [first, second, third] = [new Sender(), new Sender(), new Sender()]
    add(first, 0)
    clock.advance(5)
    add(second, 1)
    clock.advance(4)
    await isTold(first)
    add(third, 2)
    clock.advance(1)
    await isTold(second)
    await isTold(third)
    expect(written).toHaveLength(2)
  })

  it('waits longer where more processes than processors have statements of their own', () => {
    expect(lingerFor(1, 2)).toBe(5)
    expect(lingerFor(2, 2)).toBe(5)
    expect(lingerFor(5, 2)).toBe(13)
    expect(lingerFor(55, 2)).toBe(50)
  })

  it('waits as long as it is told', async () => {
    const slow = new HeartbeatWriter(
      db.database,
      { clock, log: createLog('silent'), metrics: createMetrics(), signal: new AbortController().signal },
      () => {},
      20,
    )
    const sender = new Sender()
    slow.add({ ...heartbeatRow(robotIds[0]!), sender })
    clock.advance(19)
    expect(slow.waiting).toBe(1)
    clock.advance(1)
    expect(slow.waiting).toBe(0)
    await isTold(sender)
  })

  it('goes at once when it has waited while one was written', async () => {
    const [first, second] = [new Sender(), new Sender()]
    add(first, 0)
    clock.advance(5)
    add(second, 1)
    clock.advance(5)
    await isTold(first)
    await isTold(second)
    expect(written).toHaveLength(2)
  })

  it('waits as ever after a flush that found nothing but what was being written', async () => {
    const [first, second] = [new Sender(), new Sender()]
    add(first, 0)
    clock.advance(5)
    await writer.flush()
    expect(first.told).toEqual([1])
    add(second, 1)
    clock.advance(5)
    await isTold(second)
  })
})
