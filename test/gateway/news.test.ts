import { Kysely, PostgresDialect } from 'kysely'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Tables } from '../../src/db/tables.ts'
import { ManualClock } from '../support/clock.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { insertFleet, insertRobot } from '../support/robots.ts'
import { connect, startGateway } from './support.ts'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

it('news of one robot that come faster than it can be looked at wait as one, and the last is not missed', async () => {
  const fleet = await insertFleet(db.database)
  const robot = await insertRobot(db.database, fleet)
  /** How many robots each statement that looked at some was about. */
  const looks: number[] = []
  const database = new Kysely<Tables>({
    dialect: new PostgresDialect({ pool: db.pool }),
    log: ({ level, query }) => {
      if (level !== 'query' || !query.sql.includes('JOIN robots r ON r.id = asked.robot_id')) return
      looks.push(query.parameters.flat().length)
    },
  })
  const clock = new ManualClock(Date.now())
  const running = await startGateway(database, clock)
  const link = await connect(running, clock, robot)
  looks.length = 0
  const changed = () => running.bus.publish({ type: 'robots_changed', robot_ids: [robot.id] })
  for (let times = 0; times < 5_000; times++) void changed()
  await db.database.updateTable('robots').set({ name: 'renamed' }).where('id', '=', robot.id).execute()
  for (let times = 0; times < 5_000; times++) void changed()
  await link.hears('welcome', ({ name }) => name === 'renamed')
  expect(looks.length).toBeGreaterThan(0)
  expect(looks.reduce((sum, robots) => sum + robots, 0)).toBeLessThanOrEqual(3)
})
