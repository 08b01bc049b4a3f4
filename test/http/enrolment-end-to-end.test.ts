import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createClaims } from '../../src/claims/claims.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { isCheckedToken } from '../../src/protocol/tokens.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { type Api, expectProblem, type Json, makeFleet, startApi } from './api.ts'

/** Keys made over REST, claimed with over REST, by the real claims. */
describe('a robot that enrols', () => {
  let api: Api
  beforeAll(async () => {
    let claims: ReturnType<typeof createClaims> | undefined
    api = await startApi({
      claims: { claim: (call) => claims!.claim(call), check: (call) => claims!.check(call) },
    })
    claims = createClaims({
      database: api.db.database,
      clock: systemClock,
      random: systemRandom,
      audit: { refused: () => {}, used: () => {} },
      log: createLog('silent'),
      metrics: createMetrics(),
      defaults: { heartbeatIntervalMs: 10_000 },
    })
  })
  afterAll(() => api.close())

  const makeKey = async (body: Json = {}): Promise<Json> =>
    (await api.post('/api/enrollment-keys', { ...(await makeFleet(api)), name: 'key', ...body })).body
  const claim = (key: Json, body: Json = {}) =>
    api.post(
      '/agent/enroll',
      { token_hash: randomBytes(32).toString('hex'), ...body },
      { token: key.key_value },
    )

  test('gets a record in the fleet of its key, which shows up everywhere', async () => {
    const key = await makeKey({ labels: { role: 'mover' } })
    const body = { name: 'R2', claim_id: 'c1', fingerprint: { hostname: 'r2', machine_id: 'm-1' } }
    const hash = createHash('sha256').update('token').digest('hex')
    const first = await claim(key, { ...body, token_hash: hash })
    expect(first.status).toBe(201)
    expect(first.body).toMatchObject({ name: 'R2', site_id: key.site_id, fleet_id: key.fleet_id })
    expect(first.body.robot_token).toBeUndefined()
    const again = await claim(key, { ...body, token_hash: hash })
    expect([again.status, again.body]).toEqual([200, first.body])

    const robot = await api.get(`/api/robots/${first.body.robot_id}`)
    expect(robot.body).toMatchObject({
      name: 'R2',
      labels: { role: 'mover' },
      lifecycle: 'active',
      credential_id: key.id,
      fingerprint: { hostname: 'r2' },
    })
    expect(robot.text).not.toContain('m-1')
    const shown = (await api.get(`/api/enrollment-keys/${key.id}`)).body
    expect(shown).toMatchObject({ uses: 1, status: 'active', last_used_at: expect.any(String) })
  })

  test('with nothing but curl gets its token once', async () => {
    const key = await makeKey()
    const answer = await api.post('/agent/enroll', {}, { token: key.key_value })
    expect(answer.status).toBe(201)
    expect(isCheckedToken('robot', answer.body.robot_token)).toBe(true)
    const everything = [
      await api.get('/api/robots'),
      await api.get(`/api/robots/${answer.body.robot_id}/events`),
    ]
    for (const { text } of everything) expect(text).not.toContain(answer.body.robot_token)
    expect(JSON.stringify(api.logged)).not.toContain(answer.body.robot_token)
  })

  test('is refused with a key that is revoked, expired, used up, or for another network', async () => {
    const revoked = await makeKey()
    await api.post(`/api/enrollment-keys/${revoked.id}/revoke`)
    expectProblem(await claim(revoked), 403, 'key_revoked')
    const expired = await makeKey({ expires_in_hours: 1e-7 })
    expect((await api.get(`/api/enrollment-keys/${expired.id}`)).body.status).toBe('expired')
    expectProblem(await claim(expired), 403, 'key_expired')
    const once = await makeKey({ max_uses: 1 })
    expect((await claim(once)).status).toBe(201)
    expectProblem(await claim(once), 403, 'key_exhausted')
    const elsewhere = await makeKey({ allowed_cidrs: ['192.0.2.0/24'] })
    expectProblem(await claim(elsewhere), 403, 'address_not_allowed')
    expectProblem(await claim({ key_value: `rf_enroll_${'0'.repeat(64)}` }), 401, 'invalid_token')
  })

  test('while its key is revoked with all robots does not slip through', async () => {
    for (let round = 0; round < 5; round++) {
      const key = await makeKey({ max_uses: 1_000 })
      const claims = Array.from({ length: 20 }, () => claim(key))
      const revoke = api.post(`/api/enrollment-keys/${key.id}/revoke`, { cascade: 'revoke_robots' })
      const answers = await Promise.all(claims)
      const { robots_revoked } = (await revoke).body
      expect(answers.filter(({ status }) => status === 201)).toHaveLength(robots_revoked)
      const { items } = (await api.get(`/api/robots?fleet=${key.fleet_id}`)).body
      expect(items).toHaveLength(robots_revoked)
      for (const robot of items) expect(robot.token_revoked_at).not.toBeNull()
    }
  })
})
