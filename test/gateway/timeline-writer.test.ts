import { afterAll, beforeAll, expect, test } from 'vitest'
import { TimelineWriter } from '../../src/gateway/timeline-writer.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { ManualClock } from '../support/clock.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot } from '../support/robots.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

test('a row that PostgreSQL does not take costs none of those that are written with it', async () => {
  const robot = await insertRobot(db.database, await insertFleet(db.database))
  const timeline = new TimelineWriter(db.database, {
    clock: new ManualClock(Date.now()),
    log: createLog('silent'),
    metrics: createMetrics(),
    signal: new AbortController().signal,
  })
  const kept = Array.from({ length: 7 }, (_, index) =>
    timeline.keep(robot.id, {
      type: 'event',
      id: `event-${index}`,
      at: new Date().toISOString(),
      level: 'info',
      code: index === 4 ? 'a\u0000b' : 'fine',
      message: '',
    }),
  )
  expect(await Promise.all(kept)).toEqual([true, true, true, true, false, true, true])
  const { rows } = await db.pool.query('SELECT event_id FROM robot_events ORDER BY event_id')
  expect(rows.map((row) => row.event_id)).toEqual([0, 1, 2, 3, 5, 6].map((index) => `event-${index}`))
})

test('how far the time of an event is to be believed stands with what belongs to it', async () => {
  const robot = await insertRobot(db.database, await insertFleet(db.database))
  const timeline = new TimelineWriter(db.database, {
    clock: new ManualClock(Date.now()),
    log: createLog('silent'),
    metrics: createMetrics(),
    signal: new AbortController().signal,
  })
  const event = { type: 'event', at: '2026-01-01T00:00:00Z', level: 'info', code: 'c', message: '' } as const
  await timeline.keep(robot.id, { ...event, id: 'plain' })
  await timeline.keep(robot.id, { ...event, id: 'put-right', data: { door: 3 }, clock_offset_ms: -5_000 })
  await timeline.keep(robot.id, { ...event, id: 'unsure', clock_unsure: true })
  const { rows } = await db.pool.query(
    'SELECT event_id, data FROM robot_events WHERE robot_id = $1 ORDER BY event_id',
    [robot.id],
  )
  expect(rows).toEqual([
    { event_id: 'plain', data: {} },
    { event_id: 'put-right', data: { door: 3, clock_offset_ms: -5_000 } },
    { event_id: 'unsure', data: { clock_unsure: true } },
  ])
})
