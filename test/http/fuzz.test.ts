import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { type Json, makeFleet, makeRobot, useApi } from './api.ts'

const api = useApi()
let place: Json
let robotId = ''
let keyId = ''
let tokenId = ''
beforeAll(async () => {
  place = await makeFleet(api())
  robotId = (await makeRobot(api(), place.fleet_id)).id
  keyId = (await api().post('/api/enrollment-keys', { ...place, name: 'k' })).body.id
  const { fleet_id } = place
  tokenId = (await api().post('/api/provisioning-tokens', { fleet_id, name: 't' })).body.id
})

const FIELDS = [
  'name',
  'site_id',
  'fleet_id',
  'labels',
  'lifecycle',
  'max_uses',
  'expires_in_hours',
  'allowed_cidrs',
  'require_approval',
  'on_existing',
  'retrievable',
  'cascade',
  'expires_in_days',
  'single_use',
  'ids',
  'filter',
  'dry_run',
  'heartbeat_interval_ms',
  'token_hash',
  'claim_id',
  'fingerprint',
  'toString',
  'constructor',
  '',
]
const PARAMETERS = [
  'limit',
  'cursor',
  'site',
  'fleet',
  'status',
  'connection',
  'health',
  'lifecycle',
  'label',
  'q',
  'sort',
  'from',
  'to',
  'step',
  'fields',
  'level',
  'code',
  'credential',
  'older_than',
  '__proto__',
  'constructor',
]

const oddText = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.string({ maxLength: 30 }),
  fc.constantFrom(
    '\u0000',
    '\ud800',
    '%00',
    "'; --",
    '10.0.0.0/8',
    '2026-01-01T00:00:00Z',
    'name',
    '-name',
    '1m',
  ),
)
const oddValue = fc.oneof(
  oddText,
  fc.jsonValue({ maxDepth: 3 }),
  fc.constantFrom(1, 0, -1, 1e308, null, true, [], {}),
  fc.dictionary(fc.oneof(oddText, fc.constantFrom('a', 'role')), oddText, { maxKeys: 4 }),
)
const oddBody = fc.dictionary(fc.constantFrom(...FIELDS), oddValue, { maxKeys: 6 })
const oddQuery = fc.array(fc.tuple(fc.constantFrom(...PARAMETERS), oddText), { maxLength: 3 })

describe('whatever is sent', () => {
  test('in a body is taken or refused, never our fault', async () => {
    const targets = (): readonly (readonly ['POST' | 'PATCH', string, Json])[] => [
      ['POST', '/api/sites', { name: 'a' }],
      ['POST', '/api/fleets', { site_id: place.site_id, name: 'a' }],
      ['POST', '/api/enrollment-keys', { ...place, name: 'a' }],
      ['POST', `/api/enrollment-keys/${keyId}/revoke`, {}],
      ['POST', '/api/robots', { fleet_id: place.fleet_id, name: 'a' }],
      ['PATCH', `/api/robots/${robotId}`, {}],
      ['PATCH', `/api/fleets/${place.fleet_id}`, {}],
      ['PATCH', `/api/sites/${place.site_id}`, {}],
      ['POST', '/api/provisioning-tokens', { fleet_id: place.fleet_id, name: 'a' }],
      ['POST', `/api/provisioning-tokens/${tokenId}/revoke`, {}],
      ['POST', `/api/robots/${robotId}/setup-token`, {}],
      ['POST', '/api/approvals/approve', { filter: {} }],
      ['POST', '/api/approvals/deny', { ids: [robotId] }],
      ['POST', '/api/approvals/deny', { dry_run: true }],
    ]
    await fc.assert(
      fc.asyncProperty(fc.nat(), oddBody, async (index, odd) => {
        const [method, url, base] = targets()[index % targets().length]!
        const body = JSON.stringify({ ...base, ...odd })
        const answer = await api().call(method, url, body, {
          headers: { 'content-type': 'application/json' },
        })
        expect(answer.status).toBeLessThan(500)
      }),
      { numRuns: 400 },
    )
  })

  test('in a query is taken or refused, never our fault', async () => {
    const paths = () => [
      '/api/sites',
      '/api/fleets',
      '/api/enrollment-keys',
      '/api/robots',
      '/api/provisioning-tokens',
      `/api/enrollment-keys/${keyId}/robots`,
      '/api/approvals',
      `/api/robots/${robotId}/heartbeats`,
      `/api/robots/${robotId}/events`,
    ]
    await fc.assert(
      fc.asyncProperty(fc.nat(), oddQuery, async (index, odd) => {
        const query = odd
          .map(([name, value]) => `${name}=${encodeURIComponent(value.toWellFormed())}`)
          .join('&')
        expect((await api().get(`${paths()[index % paths().length]}?${query}`)).status).toBeLessThan(500)
      }),
      { numRuns: 400 },
    )
  })

  test('as an id is not found, never our fault', async () => {
    await fc.assert(
      fc.asyncProperty(oddText, async (odd) => {
        const id = encodeURIComponent(odd.toWellFormed())
        if (id === '' || id === '.' || id === '..') return
        expect((await api().get(`/api/robots/${id}`)).status).toBe(404)
      }),
      { numRuns: 100 },
    )
  })
})
