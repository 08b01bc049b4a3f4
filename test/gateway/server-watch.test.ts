import { afterAll, beforeAll, expect, test } from 'vitest'
import { ServerWatch, WATCH_EVERY_MS } from '../../src/gateway/server-watch.ts'
import { TimelineWriter } from '../../src/gateway/timeline-writer.ts'
import { newId } from '../../src/ids.ts'
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

test('the last of many robots that wait for their turn is waited for, too, when most have returned', async () => {
  const { database } = db
  const fleet = await insertFleet(database)
  const robots = await Promise.all(Array.from({ length: 6 }, () => insertRobot(database, fleet)))
  const clock = new ManualClock(Date.now())
  const at = new Date(clock.now())
  await database
    .updateTable('robot_status')
    .set({ session_no: 1, server_id: newId(), connection: 'online', connection_since: at, last_seen_at: at })
    .execute()

  const log = createLog('silent')
  const metrics = createMetrics()
  const server = { id: newId(), hostname: 'test', processId: process.pid }
  const timeline = new TimelineWriter(database, {
    clock,
    log,
    metrics,
    signal: new AbortController().signal,
  })
  const watch = new ServerWatch({
    database,
    server,
    clock,
    log,
    metrics,
    timeline,
    defaultIntervalMs: 10_000,
    returnsPerSecond: 1 / 40,
    spread: { ms: 0 },
    onThoughtDead() {},
  })
  await watch.start()
  const lookFor = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += WATCH_EVERY_MS) {
      clock.advance(WATCH_EVERY_MS)
      await watch.pass()
    }
  }
  const last = robots.pop()!
  for (const robot of robots) {
    await lookFor(40_000)
    await database
      .updateTable('robot_status')
      .set({ server_id: server.id })
      .where('robot_id', '=', robot.id)
      .execute()
  }
  const connectionOfLast = async () => {
    const { connection } = await database
      .selectFrom('robot_status')
      .select('connection')
      .where('robot_id', '=', last.id)
      .executeTakeFirstOrThrow()
    return connection
  }
  await lookFor(40_000)
  expect(await connectionOfLast()).toBe('stale')
  // 60 s to come back, 3 intervals and 5 s, and half as long again as the turns of all six take.
  await lookFor(95_000 + 1.5 * 240_000 - 240_000)
  expect(await connectionOfLast()).toBe('offline')
  await watch.stop()
  await timeline.idle()
})
