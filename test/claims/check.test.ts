import { afterAll, beforeAll, expect, test } from 'vitest'
import type { TokenUse } from '../../src/audit/audit.ts'
import type { AuditEntry } from '../../src/db/audit.ts'
import type { Database } from '../../src/db/database.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  createFleet,
  createKey,
  createProvisioningToken,
  createRobot,
  createSetupToken,
  outcomeOf,
  robotRequest,
  startClaims,
  type TestFleet,
} from './fixture.ts'

let shared: TestDatabase
let database: Database
let fleet: TestFleet

beforeAll(async () => {
  shared = await createTestDatabase()
  database = shared.database
  fleet = await createFleet(database)
})
afterAll(() => shared.drop())

const call = (secret: string, address = '192.0.2.1') => ({ secret, address, requestId: 'request-1' })

test('a check burns no use, and tells how many are left', async () => {
  const claims = startClaims(database)
  const key = await createKey(database, fleet, { maxUses: 2 })
  const state = () => claims.check(call(key.secret))
  for (let n = 0; n < 5; n++)
    expect(await state()).toMatchObject({ kind: 'enrollment_key', status: 'active', uses_left: 2 })
  expect(await outcomeOf(claims.claim(claimCall(key, robotRequest('one'))))).toBe(201)
  expect(await state()).toMatchObject({ status: 'active', uses_left: 1 })
  expect(await outcomeOf(claims.claim(claimCall(key, robotRequest('two'))))).toBe(201)
  expect(await state()).toMatchObject({ status: 'exhausted', uses_left: 0 })
  await database
    .updateTable('claim_credentials')
    .set({ revoked_at: new Date() })
    .where('id', '=', key.id)
    .execute()
  expect(await state()).toMatchObject({ status: 'revoked' })
})

test('a token without an end, one for a robot, and one for another network', async () => {
  const claims = startClaims(database)
  const token = await createProvisioningToken(database, fleet)
  expect(await claims.check(call(token.secret))).toMatchObject({
    kind: 'provisioning_token',
    status: 'active',
    uses_left: null,
  })
  const setup = await createSetupToken(database, fleet, await createRobot(database, fleet))
  expect(await claims.check(call(setup.secret))).toMatchObject({ kind: 'setup_token', status: 'active' })
  expect(await outcomeOf(claims.claim(claimCall(setup, robotRequest('by hand'))))).toBe(201)
  expect(await claims.check(call(setup.secret))).toMatchObject({ status: 'consumed', uses_left: 0 })
  const near = await createKey(database, fleet, { allowedCidrs: ['198.51.100.0/24'] })
  expect(await claims.check(call(near.secret))).toMatchObject({ address_allowed: false })
  expect(await claims.check(call(near.secret, '198.51.100.9'))).toMatchObject({ address_allowed: true })
})

test('a robot token is told from a revoked one, and its session is not touched', async () => {
  const claims = startClaims(database)
  const key = await createKey(database, fleet)
  const token = mintCheckedToken('robot')
  const token_hash = hashToken(token).toString('hex')
  const request = robotRequest('checked', { token_hash })
  const { response } = await claims.claim(claimCall(key, request))
  const status = () =>
    database
      .selectFrom('robot_status')
      .selectAll()
      .where('robot_id', '=', response.robot_id)
      .executeTakeFirstOrThrow()
  const before = await status()
  expect(await claims.check(call(token))).toEqual({
    kind: 'robot_token',
    status: 'active',
    server_time: expect.any(String),
  })
  expect(await status()).toEqual(before)
  const robot = (changes: object) =>
    database.updateTable('robots').set(changes).where('id', '=', response.robot_id).execute()
  await robot({ token_revoked_at: new Date() })
  expect(await claims.check(call(token))).toMatchObject({ status: 'revoked' })
  await robot({ lifecycle: 'retired' })
  expect(await claims.check(call(token))).toMatchObject({ status: 'retired' })
})

test('unknown secrets count as refused claims do, and both are written down', async () => {
  const clock = new ManualClock()
  const refused: AuditEntry[] = []
  const used: TokenUse[] = []
  const audit = {
    refused: (entry: AuditEntry) => void refused.push(entry),
    used: (use: TokenUse) => void used.push(use),
  }
  const claims = startClaims(database, { clock, audit })
  const key = await createKey(database, fleet)
  await claims.check(call(key.secret))
  expect(used).toMatchObject([
    { actor: { kind: 'claim_credential', id: key.id }, deed: { action: 'claim_credential.checked' } },
  ])

  const guesses = [`rf_enroll_${'0'.repeat(64)}`, mintCheckedToken('robot'), 'rf_robot_x', 'noise']
  for (let n = 0; n < 60; n++)
    await expect(claims.check(call(guesses[n % 4]!))).rejects.toMatchObject({ code: 'invalid_token' })
  await expect(claims.check(call(guesses[0]!))).rejects.toMatchObject({ code: 'rate_limited' })
  const guess = { secret: guesses[0]! }
  expect(await outcomeOf(claims.claim(claimCall(guess, robotRequest('guess'))))).toBe('rate_limited')
  expect(await claims.check(call(key.secret))).toMatchObject({ status: 'active' })
  expect(refused.length).toBeGreaterThan(60)
  expect(refused[0]).toMatchObject({ action: 'claim.refused', data: { code: 'invalid_token' } })
})
