import fc from 'fast-check'
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { writeHeartbeats, writeLatestHeartbeats } from '../../src/db/heartbeat-writes.ts'
import { heartbeatRow, insertRobotsInSession, NOW } from '../support/heartbeats.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const ROBOTS = 12

let db: TestDatabase
let robotIds: string[]

beforeAll(async () => {
  db = await createTestDatabase()
  robotIds = await insertRobotsInSession(db.database, ROBOTS)
})
afterAll(() => db.drop())

/** What a write answers and leaves behind; nothing of it stays. */
async function outcomeOf(write: (database: Database) => Promise<unknown>) {
  let outcome: unknown
  const undo = new Error('undo')
  await db.database
    .transaction()
    .execute(async (transaction) => {
      const answer = await write(transaction)
      const { rows: status } = await sql`
        SELECT robot_id, session_no, last_seen_at, heartbeat_seq, heartbeat_at, heartbeat_received_at, heartbeat, health
        FROM robot_status WHERE robot_id = ANY (${robotIds}::uuid[]) ORDER BY robot_id
      `.execute(transaction)
      const { rows: history } = await sql`
        SELECT robot_id, received_at, at, session_no, seq, body FROM heartbeats ORDER BY robot_id, seq
      `.execute(transaction)
      outcome = { answer, status, history }
      throw undo
    })
    .catch((error: unknown) => {
      if (error !== undo) throw error
    })
  return outcome
}

const anyBody = fc
  .record(
    {
      health: fc.constantFrom('ok', 'warn'),
      mode: fc.string({ unit: 'grapheme', maxLength: 10 }).filter((text) => !text.includes('\u0000')),
      network: fc.dictionary(
        fc.stringMatching(/^[a-z]{1,4}$/),
        fc.string({ maxLength: 5 }).filter((text) => !text.includes('\u0000')),
      ),
      metrics: fc.dictionary(
        fc.stringMatching(/^[a-z]{1,4}$/),
        fc.double({ noNaN: true, noDefaultInfinity: true }),
      ),
    },
    { requiredKeys: [] },
  )
  .map((body) => JSON.stringify(body))

/** One row for each robot at the most, some of sessions that are over. */
const anyGroup = fc.uniqueArray(fc.nat(ROBOTS - 1), { minLength: 1 }).chain((places) =>
  fc.tuple(
    ...places.map((place) =>
      fc
        .record({
          sessionNo: fc.constantFrom(5, 5, 5, 5, 4, 6),
          seq: fc.maxSafeNat(),
          at: fc
            .date({ min: new Date(0), max: new Date('9999-12-31T23:59:59.999Z'), noInvalidDate: true })
            .map((date) => `${date.toISOString().slice(0, -1)}456+09:30`),
          receivedAt: fc.integer({ min: -3_600_000, max: 3_600_000 }).map((offset) => NOW + offset),
          health: fc.constantFrom('ok', 'warn', 'error', 'unknown'),
          body: anyBody,
        })
        .map((of) => heartbeatRow(robotIds[place]!, of)),
    ),
  ),
)

describe('the lean statement', () => {
  it('does as the general one, for any group of one new heartbeat for each robot', async () => {
    await fc.assert(
      fc.asyncProperty(anyGroup, async (rows) => {
        const lean = await outcomeOf(async (database) => {
          const places = await writeLatestHeartbeats(database, rows)
          return (
            places?.map((place) => rows[place - 1]!.robotId).sort() ??
            rows.map(({ robotId }) => robotId).sort()
          )
        })
        const general = await outcomeOf(async (database) =>
          (await writeHeartbeats(database, rows)).map(({ robotId }) => robotId).sort(),
        )
        expect(lean).toEqual(general)
      }),
      { numRuns: 60 },
    )
  })

  it('stores what the newest session says, and nothing of an older one in the same group', async () => {
    const [robotId] = robotIds
    const rows = [heartbeatRow(robotId!, { seq: 8 }), heartbeatRow(robotId!, { sessionNo: 4, seq: 9 })]
    const outcome = await outcomeOf((database) => writeLatestHeartbeats(database, rows))
    expect(outcome).toMatchObject({ answer: [1], history: [{ robot_id: robotId, session_no: 5, seq: 8 }] })
  })

  it('says so when it stored none', async () => {
    expect(
      await outcomeOf((database) =>
        writeLatestHeartbeats(database, [heartbeatRow(robotIds[0]!, { sessionNo: 9 })]),
      ),
    ).toMatchObject({ answer: [], history: [] })
  })

  it('keeps times to the millisecond, and a last seen that is later', async () => {
    const [robotId] = robotIds
    for (const receivedAt of [NOW, NOW + 1, NOW + 7, NOW + 333, NOW + 999]) {
      const outcome = await outcomeOf((database) =>
        writeLatestHeartbeats(database, [heartbeatRow(robotId!, { receivedAt })]),
      )
      expect(outcome).toMatchObject({ history: [{ received_at: new Date(receivedAt) }] })
    }
    const seenLater = await outcomeOf(async (database) => {
      await writeLatestHeartbeats(database, [heartbeatRow(robotId!, { receivedAt: NOW + 5_000 })])
      await writeLatestHeartbeats(database, [heartbeatRow(robotId!, { seq: 2, receivedAt: NOW })])
    })
    expect(seenLater).toMatchObject({
      status: expect.arrayContaining([
        expect.objectContaining({
          robot_id: robotId,
          last_seen_at: new Date(NOW + 5_000),
          heartbeat_received_at: new Date(NOW),
        }),
      ]),
    })
  })

  it('refuses all when one is data that PostgreSQL does not take, with an error that says so', async () => {
    for (const body of ['{"metrics":{"a":1e999999}}', '{"mode":"\\u0000"}'])
      await expect(
        outcomeOf((database) =>
          writeLatestHeartbeats(database, [heartbeatRow(robotIds[0]!), heartbeatRow(robotIds[1]!, { body })]),
        ),
      ).rejects.toMatchObject({ code: expect.stringMatching(/^22/) })
  })

  it('has one plan, which looks robots up one by one however many they are', async () => {
    await sql`
      INSERT INTO robots (id, site_id, fleet_id, name)
      SELECT gen_random_uuid(), site_id, fleet_id, 'robot ' || n
      FROM (SELECT site_id, fleet_id FROM robots LIMIT 1) AS one, generate_series(1, 3000) AS n
    `.execute(db.database)
    await sql`
      INSERT INTO robot_status (robot_id) SELECT id FROM robots ON CONFLICT DO NOTHING
    `.execute(db.database)
    await sql`ANALYZE robot_status`.execute(db.database)
    const pool = openPool({
      url: db.url,
      name: 'as the gateway',
      maxConnections: 1,
      statementTimeoutMs: 10_000,
      onePlanEach: true,
      onIdleError: () => {},
    })
    const checked = openDatabase(pool)
      .transaction()
      .execute(async (transaction) => {
        await writeLatestHeartbeats(
          transaction,
          robotIds.map((robotId) => heartbeatRow(robotId)),
        )
        const { rows: prepared } = await sql<{ name: string; custom_plans: number }>`
        SELECT name, custom_plans FROM pg_prepared_statements WHERE name LIKE 'beacon_write_heartbeats%'
      `.execute(transaction)
        expect(prepared).toEqual([{ name: expect.anything(), custom_plans: 0 }])
        const { rows: lines } = await sql<{ 'QUERY PLAN': string }>`
        EXPLAIN EXECUTE ${sql.id(prepared[0]!.name)} ('{}', '{}', '{}', '{}', '{}', '{}', '', 0)
      `.execute(transaction)
        const plan = lines.map((line) => line['QUERY PLAN']).join('\n')
        expect(plan).toContain('Index Scan using robot_status_pkey')
        expect(plan.match(/Nested Loop|Hash Join|Merge Join/g)).toEqual(['Nested Loop'])
      })
    await checked.finally(() => pool.end())
  })
})
