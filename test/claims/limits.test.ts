import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { ManualClock } from '../support/clock.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  createFleet,
  createKey,
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

const UNKNOWN = { secret: `rf_enroll_${'0'.repeat(64)}` }

test('unknown secrets of an address are told to wait, good keys behind the same address are not', async () => {
  const clock = new ManualClock()
  const claims = startClaims(database, { clock })
  const guess = (address?: string) => claims.claim(claimCall(UNKNOWN, robotRequest('guess'), address))
  for (let n = 0; n < 60; n++) expect(await outcomeOf(guess())).toBe('invalid_token')
  await expect(guess()).rejects.toMatchObject({ code: 'rate_limited', retryAfterSeconds: 1 })
  const key = await createKey(database, fleet)
  expect(await outcomeOf(claims.claim(claimCall(key, robotRequest('neighbour'))))).toBe(201)
  expect(await outcomeOf(guess('192.0.2.2'))).toBe('invalid_token')
  clock.advance(1_000)
  expect(await outcomeOf(guess())).toBe('invalid_token')
  expect(await outcomeOf(guess())).toBe('rate_limited')
})

test('an address that goes on guessing is not listened to for a while, whatever it sends', async () => {
  const clock = new ManualClock()
  const claims = startClaims(database, { clock })
  const key = await createKey(database, fleet)
  const addresses = ['2001:db8::1', '2001:db8::2', '2001:db8:0:0:ffff::3']
  for (let n = 0; n < 600; n++)
    await outcomeOf(claims.claim(claimCall(UNKNOWN, robotRequest('guess'), addresses[n % 3])))
  const good = (name: string) => outcomeOf(claims.claim(claimCall(key, robotRequest(name), addresses[0])))
  expect(await good('blocked')).toBe('rate_limited')
  clock.advance(100)
  expect(await good('heard')).toBe(201)
})

test('refusals of one key are told to wait, its good claims are not', async () => {
  const claims = startClaims(database, { clock: new ManualClock() })
  const key = await createKey(database, fleet, { maxUses: 1 })
  const first = robotRequest('only')
  await claims.claim(claimCall(key, first))
  const refusals = await Promise.all(
    Array.from({ length: 1_001 }, (_, n) =>
      outcomeOf(claims.claim(claimCall(key, robotRequest(`late-${n}`)))),
    ),
  )
  expect(refusals.filter((outcome) => outcome === 'key_exhausted').length).toBe(1_000)
  expect(refusals.at(-1)).toBe('rate_limited')
  expect(await outcomeOf(claims.claim(claimCall(key, first)))).toBe(200)
})

test('every claim is counted by its outcome, and no log line holds a secret', async () => {
  const lines: string[] = []
  const metrics = createMetrics()
  const log = createLog('trace', { write: (line) => void lines.push(line) })
  const claims = startClaims(database, { metrics, log })
  const key = await createKey(database, fleet)
  const request = robotRequest('counted')
  const { claim_id, fingerprint } = request
  await claims.claim(claimCall(key, request))
  await claims.claim(claimCall(key, request))
  await claims.claim(claimCall(key, { ...request, claim_id: 'rebound' }))
  const minted = await claims.claim(claimCall(key, { fingerprint: {} }))
  await outcomeOf(claims.claim(claimCall(key, { claim_id: 'rebound', fingerprint })))
  await outcomeOf(claims.claim(claimCall(UNKNOWN, request)))
  const counts = (await metrics.claims.get()).values.map(({ labels, value }) => [labels.outcome, value])
  expect(Object.fromEntries(counts)).toEqual({
    admitted: 2,
    repeated: 1,
    rebound: 1,
    claim_conflict: 1,
    invalid_token: 1,
  })
  const refusals = lines.map((line) => JSON.parse(line)).filter((line) => line.msg === 'claim refused')
  expect(refusals).toEqual([
    expect.objectContaining({
      key_id: key.id,
      code: 'claim_conflict',
      address: '192.0.2.1',
      request_id: 'request-1',
    }),
    expect.objectContaining({ code: 'invalid_token', address: '192.0.2.1' }),
  ])
  const text = lines.join('')
  for (const secret of [
    key.secret,
    UNKNOWN.secret,
    minted.response.robot_token!,
    request.token_hash!,
    claim_id!,
  ])
    expect(text).not.toContain(secret)
})
