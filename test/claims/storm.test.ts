import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Claims } from '../../src/claims/claims.ts'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  connect,
  createFleet,
  createKey,
  outcomeOf,
  robotRequest,
  robotsOf,
  sha256,
  startClaims,
  type TestFleet,
  usesOf,
} from './fixture.ts'
import { lockedOut, meanwhile, tally } from './waiting.ts'

let shared: TestDatabase
let database: Database
let otherPool: pg.Pool
let servers: [Claims, Claims]
let fleet: TestFleet

beforeAll(async () => {
  shared = await createTestDatabase()
  database = shared.database
  otherPool = openPool({
    url: shared.url,
    name: 'the other server',
    maxConnections: 10,
    statementTimeoutMs: 20_000,
    onIdleError: () => {},
  })
  servers = [startClaims(database), startClaims(openDatabase(otherPool))]
})
afterAll(async () => {
  await Promise.all(servers.map((claims) => claims.idle()))
  await otherPool.end()
  await shared.drop()
})
beforeEach(async () => {
  fleet = await createFleet(database)
})

const either = (index: number) => servers[index % 2]!

describe('claims that race through two servers', () => {
  test('are admitted as often as the key says, and not once more', async () => {
    const key = await createKey(database, fleet, { maxUses: 37 })
    const outcomes = await Promise.all(
      Array.from({ length: 400 }, (_, index) =>
        outcomeOf(either(index).claim(claimCall(key, robotRequest(`robot-${index} of ${fleet.fleetId}`)))),
      ),
    )
    expect(tally(outcomes)).toEqual({ 201: 37, key_exhausted: 363 })
    expect(await usesOf(database, key)).toBe(37)
    expect((await robotsOf(database, key)).length).toBe(37)
  })

  test('and are repeated at the same time get one robot each', async () => {
    const key = await createKey(database, fleet, { maxUses: 100 })
    const requests = Array.from({ length: 100 }, (_, index) =>
      robotRequest(`robot-${index} of ${fleet.fleetId}`),
    )
    const answers = await Promise.all(
      [0, 1, 2, 3].flatMap((attempt) =>
        requests.map(async (request, index) => {
          const { response } = await either(attempt + index).claim(claimCall(key, request))
          return `${request.name} ${response.name} ${response.robot_id}`
        }),
      ),
    )
    expect(new Set(answers).size).toBe(100)
    expect(await usesOf(database, key)).toBe(100)
    expect((await robotsOf(database, key)).length).toBe(100)
  })

  test('with two keys of one fleet and the same names get names of their own', async () => {
    const keys = [await createKey(database, fleet), await createKey(database, fleet)]
    const answers = await Promise.all(
      Array.from({ length: 80 }, (_, index) =>
        either(index).claim(
          claimCall(keys[index % 2]!, {
            name: index % 4 < 2 ? 'arm' : 'arm-2',
            token_hash: sha256(`${fleet.fleetId} ${index}`),
            fingerprint: {},
          }),
        ),
      ),
    )
    expect(new Set(answers.map((answer) => answer.response.name)).size).toBe(80)
    expect([await usesOf(database, keys[0]!), await usesOf(database, keys[1]!)]).toEqual([40, 40])
  })

  test('with the same tokens in two fleets get one robot for each token', async () => {
    const keys = [await createKey(database, fleet), await createKey(database, await createFleet(database))]
    const tokens = Array.from({ length: 30 }, (_, index) => sha256(`${fleet.fleetId} ${index}`))
    // In opposite order, so that the two transactions would wait for each other.
    const outcomes = await Promise.all(
      keys.flatMap((key, server) =>
        (server === 0 ? tokens : tokens.toReversed()).map((token_hash) =>
          outcomeOf(servers[server]!.claim(claimCall(key, { token_hash, fingerprint: {} }))),
        ),
      ),
    )
    expect(tally(outcomes)).toEqual({ 201: 30, token_hash_taken: 30 })
  })

  test('with many keys at once are all heard', async () => {
    const keys = await Promise.all(
      Array.from({ length: 60 }, () => createKey(database, fleet, { maxUses: 2 })),
    )
    const outcomes = await Promise.all(
      keys.flatMap((key, index) =>
        [0, 1, 2].map((n) =>
          outcomeOf(
            either(index + n).claim(claimCall(key, robotRequest(`robot-${index}-${n} of ${fleet.fleetId}`))),
          ),
        ),
      ),
    )
    expect(tally(outcomes)).toEqual({ 201: 120, key_exhausted: 60 })
  })

  test('end with the revocation of their key', async () => {
    const key = await createKey(database, fleet, { maxUses: 5_000 })
    const storm = Array.from({ length: 2_000 }, (_, index) =>
      outcomeOf(either(index).claim(claimCall(key, robotRequest(`robot-${index} of ${fleet.fleetId}`)))),
    )
    await Promise.race(storm)
    await database
      .updateTable('claim_credentials')
      .set({ revoked_at: sql`now()` })
      .where('id', '=', key.id)
      .execute()
    const admitted = (await robotsOf(database, key)).length
    const counts = tally(await Promise.all(storm))
    expect((await robotsOf(database, key)).length).toBe(admitted)
    expect(counts[201]).toBe(admitted)
    expect((counts.key_revoked ?? 0) + (counts.rate_limited ?? 0)).toBe(2_000 - admitted)
    expect(await usesOf(database, key)).toBe(admitted)
  })
})

describe('a claim meets a change that is not committed yet', () => {
  test('another robot takes its name', async () => {
    const key = await createKey(database, fleet)
    const { response } = await servers[0].claim(claimCall(key, robotRequest('before')))
    const answer = await meanwhile(
      database,
      (transaction) =>
        transaction
          .updateTable('robots')
          .set({ name: 'wished' })
          .where('id', '=', response.robot_id)
          .execute(),
      () => servers[1].claim(claimCall(key, robotRequest('wished'))),
    )
    expect(answer.response.name).toBe('wished-2')
    expect(await usesOf(database, key)).toBe(2)
  })

  test.each([
    ['the robot connects', 'robot_online'],
    ['the robot is revoked', 'robot_revoked'],
    ['the robot is retired', 201],
  ])('%s that the machine would be bound to', async (event, outcome) => {
    const key = await createKey(database, fleet)
    const request = robotRequest(`robot-of-${fleet.fleetId}`)
    const { response } = await servers[0].claim(claimCall(key, request))
    const changes = {
      'the robot connects': (transaction: Database) => connect(transaction, response.robot_id),
      'the robot is revoked': (transaction: Database) =>
        transaction
          .updateTable('robots')
          .set({ token_revoked_at: sql`now()` })
          .where('id', '=', response.robot_id)
          .execute(),
      'the robot is retired': (transaction: Database) =>
        transaction
          .updateTable('robots')
          .set({ lifecycle: 'retired' })
          .where('id', '=', response.robot_id)
          .execute(),
    }
    const again = {
      ...request,
      name: 'again',
      claim_id: 'again',
      token_hash: sha256(`again ${fleet.fleetId}`),
    }
    const claim = () => outcomeOf(servers[1].claim(claimCall(key, again)))
    expect(await meanwhile(database, changes[event as keyof typeof changes], claim)).toBe(outcome)
  })

  test('which then waits for the claim in turn', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(`robot-of-${fleet.fleetId}`)
    const { response } = await servers[0].claim(claimCall(key, request))
    const again = { ...request, claim_id: 'again', token_hash: sha256(`again ${fleet.fleetId}`) }
    const answer = await meanwhile(
      database,
      async (transaction) => {
        // PostgreSQL ends whoever notices the deadlock: it has to be the claim.
        await sql`SET LOCAL deadlock_timeout = '1h'`.execute(transaction)
        await transaction
          .updateTable('robots')
          .set({ name: 'renamed' })
          .where('id', '=', response.robot_id)
          .execute()
      },
      () => servers[1].claim(claimCall(key, again)),
      (transaction) =>
        transaction
          .updateTable('claim_credentials')
          .set({ name: 'renamed' })
          .where('id', '=', key.id)
          .execute(),
    )
    expect(answer.response).toMatchObject({ robot_id: response.robot_id, name: 'renamed' })
  })
})

describe('a database in trouble', () => {
  test('that cannot be reached is said so', async () => {
    const pool = openPool({
      url: 'postgres://127.0.0.1:1/nowhere',
      name: 'nobody',
      maxConnections: 1,
      statementTimeoutMs: 1_000,
      onIdleError: () => {},
    })
    const lost = startClaims(openDatabase(pool))
    const claim = lost.claim(claimCall({ secret: `rf_enroll_${'1'.repeat(64)}` }, robotRequest('robot')))
    await expect(claim).rejects.toMatchObject({
      code: 'database_unavailable',
      retryAfterSeconds: expect.any(Number),
    })
    await pool.end()
  })

  test('that drops the connection in the middle loses nothing and counts nothing twice', async () => {
    const key = await createKey(database, fleet)
    const requests = [robotRequest(`a-${fleet.fleetId}`), robotRequest(`b-${fleet.fleetId}`)]
    const claim = () =>
      Promise.all(requests.map((request) => outcomeOf(servers[0].claim(claimCall(key, request)))))
    const lost = await database.transaction().execute(async (transaction) => {
      await transaction
        .selectFrom('claim_credentials')
        .select('id')
        .where('id', '=', key.id)
        .forUpdate()
        .execute()
      const claiming = claim()
      await lockedOut(database)
      await sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
      `.execute(database)
      return claiming
    })
    expect(lost).toEqual(['database_unavailable', 'database_unavailable'])
    expect(await claim()).toEqual([201, 201])
    expect(await usesOf(database, key)).toBe(2)
  })

  test('that is slower than claims arrive makes the last of them wait elsewhere', async () => {
    const key = await createKey(database, fleet, { maxUses: 1 })
    await servers[0].claim(claimCall(key, robotRequest(`first-${fleet.fleetId}`)))
    const outcomes = await meanwhile(
      database,
      (transaction) =>
        transaction
          .selectFrom('claim_credentials')
          .select('id')
          .where('id', '=', key.id)
          .forUpdate()
          .execute(),
      () =>
        Promise.all(
          Array.from({ length: 10_300 }, (_, index) =>
            outcomeOf(servers[0].claim(claimCall(key, { claim_id: `c-${index}`, fingerprint: {} }))),
          ),
        ),
    )
    const { overloaded, ...others } = tally(outcomes)
    expect(overloaded).toBe(300)
    expect(others).toEqual({ key_exhausted: expect.any(Number), rate_limited: expect.any(Number) })
  })
})
