import fc from 'fast-check'
import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Decision, decidePending, PENDING_FOR_MS } from '../../src/claims/approvals.ts'
import type { Claims } from '../../src/claims/claims.ts'
import { startPendingExpiry } from '../../src/claims/expiry.ts'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { lockRobot } from '../../src/db/robots.ts'
import { inTransaction } from '../../src/db/transaction.ts'
import { createLog } from '../../src/observe/log.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  createFleet,
  createKey,
  createProvisioningToken,
  createSetupToken,
  eventsOf,
  outcomeOf,
  robotRequest,
  robotsOf,
  sha256,
  startClaims,
  type TestFleet,
  type TestKey,
  usesOf,
} from './fixture.ts'
import { lockedOut, meanwhile } from './waiting.ts'

let shared: TestDatabase
let database: Database
let otherPool: pg.Pool
let other: Database
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
  other = openDatabase(otherPool)
  servers = [startClaims(database), startClaims(other)]
})
afterAll(async () => {
  await Promise.all(servers.map((claims) => claims.idle()))
  await otherPool.end()
  await shared.drop()
})
beforeEach(async () => {
  fleet = await createFleet(database)
})

let count = 0
const unused = (base = 'robot') => `${base}-of-test-${++count}`

const decide = (decision: Decision, filter: object, db = database) =>
  inTransaction(db, (transaction) =>
    decidePending(transaction, decision, { reach: 'everything', ...filter }, 1_000),
  )

async function lifecycleOf(id: string): Promise<string | undefined> {
  const row = await database.selectFrom('robots').select('lifecycle').where('id', '=', id).executeTakeFirst()
  return row?.lifecycle
}

/** Says that a robot has waited this long. */
const wait = (credentialId: string, ms: number) =>
  database
    .updateTable('robots')
    .set({ pending_since: sql`now() - ${ms}::float8 * interval '1 millisecond'` })
    .where('credential_id', '=', credentialId)
    .where('lifecycle', '=', 'pending')
    .execute()

type Step = {
  readonly do: 'claim' | 'again' | 'approve' | 'deny'
  readonly machine: number
  readonly key: number
}

const step: fc.Arbitrary<Step> = fc.record({
  do: fc.constantFrom('claim', 'claim', 'again', 'approve', 'deny', 'deny'),
  machine: fc.nat(5),
  key: fc.nat(2),
})

test('whatever claims, approvals and denials race, uses are the robots that are there', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 2, maxLength: 12 }), { maxLength: 4 }),
      async (rounds) => {
        const own = await createFleet(database)
        const keys = [
          await createKey(database, own, { maxUses: 3, requireApproval: true }),
          await createKey(database, own, { maxUses: 2, onExisting: 'approve' }),
          await createProvisioningToken(database, own, { requireApproval: true }),
        ]
        const machines = Array.from({ length: 6 }, () => unused('machine'))
        for (const round of rounds) {
          await Promise.all(
            round.map(async (each, index) => {
              const key = keys[each.key]!
              const name = machines[each.machine]!
              const again = { claim_id: unused('claim'), token_hash: sha256(unused('token')) }
              const request = robotRequest(name, each.do === 'again' ? again : {})
              if (each.do === 'claim' || each.do === 'again')
                return outcomeOf(servers[index % 2]!.claim(claimCall(key, request)))
              const credential = each.machine % 2 === 0 ? key.id : undefined
              return decide(each.do, { fleet: own.fleetId, credential }, index % 2 ? database : other)
            }),
          )
          for (const key of keys) {
            const robots = await robotsOf(database, key)
            expect(await usesOf(database, key)).toBe(robots.length)
            for (const robot of robots) {
              expect(robot.pending_since !== null).toBe(robot.lifecycle === 'pending')
              if (robot.lifecycle !== 'pending') expect(robot.lifecycle_before).toBeNull()
            }
          }
          expect(await usesOf(database, keys[0]!)).toBeLessThanOrEqual(3)
          expect(await usesOf(database, keys[1]!)).toBeLessThanOrEqual(2)
        }
      },
    ),
    { numRuns: 40 },
  )
}, 60_000)

describe('a denial', () => {
  test('waits for the claim that binds its robot anew, and then finds the robot still waiting', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const request = robotRequest(unused())
    const { response } = await servers[0].claim(claimCall(key, request))
    // The claim waits for whoever holds the credential, as the denial does: the use is given back once.
    const again = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    const [outcome, { robots }] = await Promise.all([
      outcomeOf(servers[1].claim(claimCall(key, again))),
      decide('deny', { ids: [response.robot_id] }),
    ])
    expect(robots).toMatchObject([{ id: response.robot_id, outcome: 'removed' }])
    // Rebound and then denied, or denied and then admitted as new.
    const left = await robotsOf(database, key)
    expect(left).toHaveLength(outcome === 201 ? 1 : 0)
    expect(await usesOf(database, key)).toBe(left.length)
  })

  test('frees the name and the token for a claim that waits for it', async () => {
    const key = await createKey(database, fleet, { requireApproval: true, maxUses: 1 })
    const request = robotRequest(unused())
    const { response } = await servers[0].claim(claimCall(key, request))
    const answer = await meanwhile(
      database,
      (transaction) =>
        decidePending(transaction, 'deny', { reach: 'everything', ids: [response.robot_id] }, 1),
      () => servers[1].claim(claimCall(key, robotRequest(request.name!, { claim_id: 'another' }))),
    )
    expect(answer).toMatchObject({ status: 201, response: { name: request.name } })
    expect(answer.response.robot_id).not.toBe(response.robot_id)
    expect(await usesOf(database, key)).toBe(1)
  })

  test('does not wait in a circle with whoever redeems a setup token of the robot', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const { response } = await servers[0].claim(claimCall(key, robotRequest(unused())))
    const token = await createSetupToken(database, fleet, response.robot_id)
    // Circles are not found here before the statements in them have timed out.
    const pool = openPool({
      url: `${shared.url}${shared.url.includes('?') ? '&' : '?'}options=-cdeadlock_timeout%3D60s`,
      name: 'a patient server',
      maxConnections: 5,
      statementTimeoutMs: 3_000,
      onIdleError: () => {},
    })
    onTestFinished(() => pool.end())
    const patient = openDatabase(pool)
    let redemption: Promise<unknown> | undefined
    const { robots } = await meanwhile(
      database,
      (transaction) => lockRobot(transaction, response.robot_id),
      () => decide('deny', { ids: [response.robot_id] }, patient),
      async () => {
        redemption = outcomeOf(startClaims(patient).claim(claimCall(token, robotRequest(unused()))))
        await lockedOut(database, 2)
      },
    )
    expect(robots).toMatchObject([{ id: response.robot_id, outcome: 'removed' }])
    expect(await redemption).toBe('invalid_token')
  })

  test('of a robot whose key is gone gives nothing back', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const { response } = await servers[0].claim(claimCall(key, robotRequest(unused())))
    await database.deleteFrom('claim_credentials').where('id', '=', key.id).execute()
    const { robots } = await decide('deny', { ids: [response.robot_id] })
    expect(robots).toMatchObject([{ credential_id: null, outcome: 'removed' }])
    expect(await lifecycleOf(response.robot_id)).toBeUndefined()
  })
})

test.each(['approve', 'deny'] as const)(
  'a robot that is moved away while it is decided about stays as it is (%s)',
  async (decision) => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const { response } = await servers[0].claim(claimCall(key, robotRequest(unused())))
    const there = await createFleet(database)
    const decided = await meanwhile(
      database,
      (transaction) =>
        transaction
          .updateTable('robots')
          .set({ fleet_id: there.fleetId, site_id: there.siteId })
          .where('id', '=', response.robot_id)
          .execute(),
      () => decide(decision, { reach: { siteIds: [], fleetIds: [fleet.fleetId] } }, other),
    )
    expect(decided.robots).toEqual([])
    expect(await lifecycleOf(response.robot_id)).toBe('pending')
  },
)

describe('robots that nobody approves', () => {
  const HOUR = 3_600_000

  function startExpiry(db: Database, clock: ManualClock, failures = 0) {
    const published: { type: string; robot_ids: readonly string[] }[] = []
    const expiry = startPendingExpiry({
      database: db,
      clock,
      log: createLog('silent'),
      bus: {
        publish: async (message) => {
          if (failures-- > 0) throw new Error('nobody can be told')
          published.push(message)
        },
      },
    })
    onTestFinished(() => expiry.stop())
    return { expiry, published }
  }

  async function claimed(key: TestKey, robots: number): Promise<string[]> {
    const answers = await Promise.all(
      Array.from({ length: robots }, () => servers[0].claim(claimCall(key, robotRequest(unused())))),
    )
    return answers.map(({ response }) => response.robot_id)
  }

  test('are denied after 72 hours, by whichever servers look, once each', async () => {
    expect(PENDING_FOR_MS).toBe(72 * HOUR)
    const late = await createKey(database, fleet, { requireApproval: true, maxUses: 300 })
    const inTime = await createKey(database, fleet, { requireApproval: true })
    const old = await claimed(late, 250)
    const young = await claimed(inTime, 3)
    await wait(late.id, 72 * HOUR + 1_000)
    await wait(inTime.id, 72 * HOUR - 60_000)
    const clock = new ManualClock()
    const looking = [startExpiry(database, clock), startExpiry(other, clock)]
    await eventually(() => clock.pending === 2, 'both passes are over')
    const told = looking.flatMap(({ published }) => published)
    expect(told.flatMap(({ robot_ids }) => robot_ids).sort()).toEqual([...old].sort())
    for (const { type, robot_ids } of told) {
      expect(type).toBe('robots_denied')
      expect(robot_ids.length).toBeLessThanOrEqual(100)
    }
    expect([await usesOf(database, late), await usesOf(database, inTime)]).toEqual([0, 3])
    expect((await robotsOf(database, inTime)).map(({ id }) => id).sort()).toEqual([...young].sort())
    const lines = await database
      .selectFrom('audit_log')
      .select(['actor_kind', 'target_id', 'data'])
      .where('action', '=', 'robot.denied')
      .where(sql<boolean>`data ->> 'credential_id' = ${late.id}`)
      .execute()
    expect(lines).toHaveLength(250)
    expect(lines[0]).toMatchObject({
      actor_kind: 'server',
      data: { reason: 'expired', outcome: 'removed', credential_id: late.id },
    })
  })

  test('are looked for every minute, and are what they were before if they were anything', async () => {
    const clock = new ManualClock()
    const { published } = startExpiry(database, clock)
    await eventually(() => clock.pending === 1, 'the first pass is over')
    const first = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await servers[0].claim(claimCall(first, request))
    const key = await createKey(database, fleet, { onExisting: 'approve' })
    const again = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    await servers[0].claim(claimCall(key, again))
    await wait(first.id, 73 * HOUR)
    clock.advance(60_000)
    await eventually(() => published.length === 1, 'the next pass')
    expect(published).toEqual([{ type: 'robots_denied', robot_ids: [response.robot_id] }])
    const [robot] = await robotsOf(database, first)
    expect(robot).toMatchObject({ lifecycle: 'active', pending_since: null, lifecycle_before: null })
    expect(robot!.token_revoked_at).not.toBeNull()
    expect(await eventsOf(database, response.robot_id)).toEqual([
      'enrolled',
      'rebound',
      'approval_requested',
      'denied',
    ])
    expect(await outcomeOf(servers[0].claim(claimCall(key, again)))).toBe('robot_revoked')
  })

  test('are told of with the next pass when nobody can be told at once', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const ids = await claimed(key, 2)
    await wait(key.id, 73 * HOUR)
    const clock = new ManualClock()
    const { published } = startExpiry(database, clock, 1)
    await eventually(() => clock.pending === 1, 'the first pass is over')
    expect(await usesOf(database, key)).toBe(0)
    expect(published).toEqual([])
    clock.advance(60_000)
    await eventually(() => published.length === 1, 'the next pass')
    expect([...published[0]!.robot_ids].sort()).toEqual([...ids].sort())
  })

  test('do not wait longer for asking again', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const request = robotRequest(unused())
    const { response } = await servers[0].claim(claimCall(key, request))
    await wait(key.id, 71 * HOUR)
    const sinceOf = async () => (await robotsOf(database, key))[0]!.pending_since
    const before = await sinceOf()
    const again = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    expect(await outcomeOf(servers[0].claim(claimCall(key, again)))).toBe(200)
    expect(await sinceOf()).toEqual(before)
    expect(await lifecycleOf(response.robot_id)).toBe('pending')
  })

  test('that are approved in the last moment stay', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const [id] = (await claimed(key, 1)) as [string]
    await wait(key.id, 73 * HOUR)
    const clock = new ManualClock()
    await meanwhile(
      database,
      (transaction) => decidePending(transaction, 'approve', { reach: 'everything', ids: [id] }, 1),
      async () => startExpiry(other, clock),
    )
    await eventually(() => clock.pending === 1, 'the pass is over')
    expect(await lifecycleOf(id)).toBe('active')
    expect(await usesOf(database, key)).toBe(1)
  })
})
