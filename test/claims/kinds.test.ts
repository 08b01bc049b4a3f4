import { sql } from 'kysely'
import type pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { Claims } from '../../src/claims/claims.ts'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { updateRobot } from '../../src/db/robots.ts'
import { moveSetupTokens } from '../../src/db/setup-tokens.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  connect,
  createFleet,
  createProvisioningToken,
  createRobot,
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
import { meanwhile, tally } from './waiting.ts'

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
let count = 0
const unused = (base = 'robot') => `${base}-of-test-${++count}`
const claim = (key: TestKey, request = robotRequest(unused()), server = 0) =>
  outcomeOf(servers[server]!.claim(claimCall(key, request)))

async function robot(id: string) {
  return database.selectFrom('robots').selectAll().where('id', '=', id).executeTakeFirstOrThrow()
}

async function credential(key: TestKey) {
  return database
    .selectFrom('claim_credentials')
    .selectAll()
    .where('id', '=', key.id)
    .executeTakeFirstOrThrow()
}

const revoke = (key: TestKey, db = database) =>
  db
    .updateTable('claim_credentials')
    .set({ revoked_at: sql`coalesce(revoked_at, now())` })
    .where('id', '=', key.id)
    .execute()

/** The audit log's lines of what a credential did, in order. */
async function deedsOf(key: TestKey) {
  return database
    .selectFrom('audit_log')
    .select(['action', 'target_id', 'request_id', 'data'])
    .where('actor_id', '=', key.id)
    .orderBy('seq')
    .execute()
}

describe('a provisioning token', () => {
  test('admits as many as come through two servers, and counts them', async () => {
    const token = await createProvisioningToken(database, fleet)
    const outcomes = await Promise.all(
      Array.from({ length: 400 }, (_, index) =>
        outcomeOf(either(index).claim(claimCall(token, robotRequest(unused())))),
      ),
    )
    expect(tally(outcomes)).toEqual({ 201: 400 })
    expect(await usesOf(database, token)).toBe(400)
    const robots = await robotsOf(database, token)
    expect(robots).toHaveLength(400)
    for (const { token_credential_id } of robots) expect(token_credential_id).toBe(token.id)
    const deeds = await deedsOf(token)
    expect(deeds.map(({ target_id }) => target_id).sort()).toEqual(robots.map(({ id }) => id).sort())
    expect(new Set(deeds.map(({ action }) => action))).toEqual(new Set(['robot.enrolled']))
  })

  test('for one robot admits one, however many come through two servers, and revokes itself', async () => {
    const token = await createProvisioningToken(database, fleet, { singleUse: true })
    const requests = Array.from({ length: 300 }, () => robotRequest(unused()))
    const attempts = await Promise.all(
      [...requests, ...requests].map(async (request, index) => ({
        request,
        outcome: await outcomeOf(either(index).claim(claimCall(token, request))),
      })),
    )
    const granted = attempts.filter(({ outcome }) => outcome === 201)
    expect(granted).toHaveLength(1)
    // Of the same claim sent twice, either may be the one that was first.
    const { 201: _, 200: repeated = 0, ...refusals } = tally(attempts.map(({ outcome }) => outcome))
    expect(repeated).toBeLessThanOrEqual(1)
    expect(Object.keys(refusals)).toEqual(['key_revoked'])
    const [only, ...others] = await robotsOf(database, token)
    expect([only?.name, others.length]).toEqual([granted[0]!.request.name, 0])
    const kept = await credential(token)
    expect([kept.uses, kept.revoked_at]).toEqual([1, kept.last_used_at])
    expect((await deedsOf(token)).map(({ action }) => action)).toEqual([
      'robot.enrolled',
      'provisioning_token.revoked',
    ])
    // The one that was admitted may still ask for its answer; nobody else gets one.
    expect(await claim(token, granted[0]!.request, 1)).toBe(200)
    expect(await claim(token, { ...granted[0]!.request, token_hash: sha256('other') })).toBe('claim_conflict')
    expect(await claim(token)).toBe('key_revoked')
    expect(await deedsOf(token)).toHaveLength(2)
  })

  test('for one robot is spent by binding a known machine anew, too', async () => {
    const before = await createProvisioningToken(database, fleet)
    const request = robotRequest(unused())
    const { response } = await servers[0].claim(claimCall(before, request))
    const token = await createProvisioningToken(database, fleet, { singleUse: true })
    const again = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    expect(await claim(token, again)).toBe(200)
    expect((await robot(response.robot_id)).token_credential_id).toBe(token.id)
    expect((await credential(token)).uses).toBe(0)
    expect(await claim(token)).toBe('key_revoked')
    expect(await claim(token, again)).toBe(200)
    // Without a claim id a token is known by its credential alone once that is spent.
    expect(await claim(token, { token_hash: again.token_hash, fingerprint: {} })).toBe(200)
    const later = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    expect(await claim(before, later)).toBe(200)
    expect(await claim(token, again)).toBe('key_revoked')
    expect(await claim(token, { token_hash: later.token_hash, fingerprint: request.fingerprint })).toBe(
      'key_revoked',
    )
  })

  test('for one robot that an operator revoked before admits nobody', async () => {
    const token = await createProvisioningToken(database, fleet, { singleUse: true })
    const outcome = await meanwhile(
      database,
      (transaction) => revoke(token, transaction),
      () => claim(token, robotRequest(unused()), 1),
    )
    expect(outcome).toBe('key_revoked')
    expect(await robotsOf(database, token)).toEqual([])
  })

  test('for one robot races its revocation to one robot or none', async () => {
    for (let round = 0; round < 10; round++) {
      const token = await createProvisioningToken(database, fleet, { singleUse: true })
      const outcomes = await Promise.all([
        claim(token, robotRequest(unused()), 0),
        revoke(token),
        claim(token, robotRequest(unused()), 1),
      ])
      const admitted = outcomes.filter((outcome) => outcome === 201).length
      expect(admitted).toBeLessThanOrEqual(1)
      expect(await usesOf(database, token)).toBe(admitted)
      expect(await robotsOf(database, token)).toHaveLength(admitted)
    }
  })

  test('holds its refusals in the order of a key’s', async () => {
    const expired = await createProvisioningToken(database, fleet, { expiresAt: new Date(0) })
    expect(await claim(expired)).toBe('key_expired')
    const elsewhere = await createProvisioningToken(database, fleet, {
      singleUse: true,
      allowedCidrs: ['198.51.100.0/24'],
    })
    expect(await claim(elsewhere)).toBe('address_not_allowed')
    expect((await credential(elsewhere)).revoked_at).toBeNull()
    await revoke(expired)
    expect(await claim(expired)).toBe('key_revoked')
  })

  test('does not bring back a robot that was revoked after it was made', async () => {
    const request = robotRequest(unused())
    const { response } = await servers[0].claim(
      claimCall(await createProvisioningToken(database, fleet), request),
    )
    const before = await createProvisioningToken(database, fleet, { singleUse: true })
    await database
      .updateTable('robots')
      .set({ token_revoked_at: sql`now()` })
      .where('id', '=', response.robot_id)
      .execute()
    const again = () => ({ ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) })
    expect(await claim(before, again())).toBe('robot_revoked')
    expect((await credential(before)).revoked_at).toBeNull()
    const after = await createProvisioningToken(database, fleet, { singleUse: true })
    expect(await claim(after, again())).toBe(200)
  })
})

describe('a setup token', () => {
  test('that many machines redeem at once through two servers goes to one', async () => {
    const id = await createRobot(database, fleet)
    const token = await createSetupToken(database, fleet, id)
    const requests = Array.from({ length: 60 }, () => robotRequest(unused()))
    const attempts = await Promise.all(
      requests.map(async (request, index) => ({
        request,
        outcome: await outcomeOf(either(index).claim(claimCall(token, request))),
      })),
    )
    expect(tally(attempts.map(({ outcome }) => outcome))).toEqual({ 201: 1, setup_token_consumed: 59 })
    const winner = attempts.find(({ outcome }) => outcome === 201)!.request
    const bound = await robot(id)
    expect(bound.token_hash!.toString('hex')).toBe(winner.token_hash)
    expect(bound).toMatchObject({ token_credential_id: token.id, credential_id: null, lifecycle: 'active' })
    expect(bound.fingerprint.hostname).toBe(winner.fingerprint.hostname)
    expect((await credential(token)).uses).toBe(1)
    expect(await eventsOf(database, id)).toEqual(['enrolled'])
    expect(await deedsOf(token)).toMatchObject([{ action: 'robot.enrolled', target_id: id }])
    expect(await claim(token, winner, 1)).toBe(200)
  })

  test('waits for what happens to its robot meanwhile', async () => {
    const set = (id: string, change: object) => (transaction: Database) =>
      transaction.updateTable('robots').set(change).where('id', '=', id).execute()
    const retired = await createRobot(database, fleet)
    const first = await createSetupToken(database, fleet, retired)
    expect(
      await meanwhile(database, set(retired, { lifecycle: 'retired' }), () =>
        claim(first, robotRequest(unused()), 1),
      ),
    ).toBe('robot_retired')
    const online = await createRobot(database, fleet)
    const second = await createSetupToken(database, fleet, online)
    expect(
      await meanwhile(
        database,
        async (transaction) => {
          await set(online, { name: 'renamed' })(transaction)
          await connect(transaction, online)
        },
        () => servers[1].claim(claimCall(second, robotRequest(unused()))),
      ),
    ).toMatchObject({ status: 201, response: { robot_id: online, name: 'renamed' } })
  })

  test('goes on with its robot to where that is moved while it waits', async () => {
    const there = await createFleet(database, 4_000)
    const robotId = await createRobot(database, fleet)
    const token = await createSetupToken(database, fleet, robotId)
    const answer = await meanwhile(
      database,
      async (transaction) => {
        await updateRobot(transaction, robotId, { site_id: there.siteId, fleet_id: there.fleetId })
        await moveSetupTokens(transaction, robotId, there)
      },
      () => servers[0].claim(claimCall(token, robotRequest(unused()))),
    )
    expect(answer.response).toMatchObject({
      robot_id: robotId,
      site_id: there.siteId,
      fleet_id: there.fleetId,
      heartbeat_interval_ms: 4_000,
    })
  })

  test('that is revoked while it is redeemed either worked or did not', async () => {
    const id = await createRobot(database, fleet)
    const token = await createSetupToken(database, fleet, id)
    const outcome = await meanwhile(
      database,
      (transaction) => revoke(token, transaction),
      () => claim(token, robotRequest(unused()), 1),
    )
    expect(outcome).toBe('key_revoked')
    expect((await robot(id)).token_hash).toBeNull()
  })

  test('takes the machine that redeems it for the robot’s own, whatever it was bound to', async () => {
    const id = await createRobot(database, fleet)
    await claim(await createSetupToken(database, fleet, id))
    const { machine_hash: first } = await robot(id)
    await claim(await createSetupToken(database, fleet, id))
    const { machine_hash: second } = await robot(id)
    expect(first).not.toBeNull()
    expect(second).not.toEqual(first)
    await claim(await createSetupToken(database, fleet, id), { fingerprint: { hostname: 'no id' } })
    expect(await robot(id)).toMatchObject({ machine_hash: null, fingerprint: { hostname: 'no id' } })
  })

  test('makes the machine known to the keys of the fleet', async () => {
    const id = await createRobot(database, fleet)
    const request = robotRequest(unused())
    await claim(await createSetupToken(database, fleet, id), request)
    const token = await createProvisioningToken(database, fleet)
    const again = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    const { status, response } = await servers[0].claim(claimCall(token, again))
    expect([status, response.robot_id]).toEqual([200, id])
    expect(await usesOf(database, token)).toBe(0)
  })

  test('lets two robots of one fleet race for one machine to one of them', async () => {
    const [one, two] = [await createRobot(database, fleet), await createRobot(database, fleet)]
    const machine = robotRequest(unused())
    const outcomes = await Promise.all(
      [one, two].map(async (id, index) =>
        claim(
          await createSetupToken(database, fleet, id),
          { ...machine, token_hash: sha256(unused('token')) },
          index,
        ),
      ),
    )
    expect(tally(outcomes)).toEqual({ 201: 1, machine_known: 1 })
  })

  test.each([
    'rf_setup_',
    `rf_setup_${'a'.repeat(54)}`,
    `rf_setup_${'a'.repeat(56)}`,
    `rf_setup_${'A'.repeat(55)}`,
    `rf_setup_${'1'.repeat(55)}`,
    `apt_${'g'.repeat(64)}`,
    `apt_${'0'.repeat(63)}`,
    `rf_setup_${'a'.repeat(55)}`,
    `apt_${'0'.repeat(64)}`,
  ])('or provisioning token that nobody issued is invalid (%s)', async (secret) => {
    expect(await claim({ id: 'none', secret })).toBe('invalid_token')
  })
})
