import { describe, expect, test } from 'vitest'
import { BeaconError } from '../../src/errors.ts'
import { newId } from '../../src/ids.ts'
import { mintEnrollmentKey } from '../../src/protocol/tokens.ts'
import { RETENTION } from '../support/retention.ts'
import { expectProblem, type Json, useApi } from './api.ts'

const calls: Json[] = []
let outcome: () => Json = () => {
  throw new BeaconError('invalid_token')
}
const api = useApi({
  config: {
    publicUrl: 'https://beacon.example/sub',
    trustedProxies: [],
    heartbeatIntervalMs: 10_000,
    history: RETENTION,
  },
  claims: {
    async claim(call) {
      calls.push(call)
      return outcome()
    },
    check: async (call) => {
      calls.push(call)
      return outcome()
    },
  },
})
const robot = {
  robot_id: newId(),
  name: 'r',
  site_id: newId(),
  fleet_id: newId(),
  heartbeat_interval_ms: 10_000,
}
const enroll = (body: unknown, token: string | null = mintEnrollmentKey()) =>
  api().post('/agent/enroll', body, { token })

describe('POST /agent/enroll', () => {
  test('hands the claim on and adds where to connect', async () => {
    for (const status of [201, 200]) {
      outcome = () => ({ status, response: robot })
      const secret = mintEnrollmentKey()
      const body = { name: 'r', claim_id: 'c-1', token_hash: 'AB'.repeat(32), fingerprint: { hostname: 'h' } }
      const answer = await enroll(body, secret)
      expect([answer.status, answer.body]).toEqual([
        status,
        { ...robot, gateway_url: 'wss://beacon.example/sub/agent/ws' },
      ])
      expect(calls.at(-1)).toEqual({
        secret,
        request: { ...body, token_hash: 'ab'.repeat(32) },
        address: '127.0.0.1',
        requestId: answer.headers['x-request-id'],
      })
    }
  })

  test('needs a bearer', async () => {
    expectProblem(await enroll({}, null), 401, 'credentials_required')
    const answer = await api().post(
      '/agent/enroll',
      {},
      { token: null, headers: { authorization: 'Basic eDp5' } },
    )
    expectProblem(answer, 401, 'invalid_token')
  })

  test('tells a refusal as it is, with how long to wait', async () => {
    outcome = () => {
      throw new BeaconError('rate_limited', 'slowly', { retryAfterSeconds: 2.1 })
    }
    const answer = await enroll({})
    expect(expectProblem(answer, 429, 'rate_limited').detail).toBe('slowly')
    expect(answer.headers['retry-after']).toBe('3')
    for (const code of [
      'key_revoked',
      'key_expired',
      'key_exhausted',
      'robot_online',
      'claim_conflict',
    ] as const) {
      outcome = () => {
        throw new BeaconError(code)
      }
      const refused = await enroll({})
      expect(refused.body.code).toBe(code)
    }
  })

  test.each([
    [{ token_hash: 'xyz' }, '/token_hash'],
    [{ claim_id: 'a b' }, '/claim_id'],
    [{ fingerprint: { hostname: 'a\u0000' } }, '/fingerprint/hostname'],
    [{ fingerprint: { serial: '1' } }, '/fingerprint/serial'],
    [{ robot_id: newId() }, '/robot_id'],
    [{ name: 'a\u0007' }, '/name'],
  ])('refuses %j before anybody is asked', async (body, pointer) => {
    const before = calls.length
    expect(expectProblem(await enroll(body), 400, 'invalid_request').errors[0].pointer).toBe(pointer)
    expect(calls).toHaveLength(before)
  })
})

describe('GET /agent/check', () => {
  test('hands the bearer on, and answers with its state alone', async () => {
    const state = {
      kind: 'enrollment_key',
      status: 'expired',
      expires_at: '2026-01-01T00:00:00.000Z',
      uses_left: 3,
      address_allowed: true,
      server_time: '2026-01-02T00:00:00.000Z',
    }
    outcome = () => state
    const secret = mintEnrollmentKey()
    const answer = await api().get('/agent/check', { token: secret })
    expect([answer.status, answer.body]).toEqual([200, state])
    expect(calls.at(-1)).toEqual({
      secret,
      address: '127.0.0.1',
      requestId: answer.headers['x-request-id'],
    })
    expect(answer.headers['cache-control']).toBe('no-store')
  })

  test('needs a bearer', async () => {
    expectProblem(await api().get('/agent/check', { token: null }), 401, 'credentials_required')
    const headers = { authorization: 'Basic eDp5' }
    expectProblem(await api().get('/agent/check', { token: null, headers }), 401, 'invalid_token')
  })
})
