import { describe, expect, test } from 'vitest'
import { FLEET_TOKEN_SCOPES, SCOPES, type Scope } from '../../src/access/scopes.ts'
import type { Role } from '../../src/db/tables.ts'
import { newId } from '../../src/ids.ts'
import { isCheckedToken } from '../../src/protocol/tokens.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { RETENTION } from '../support/retention.ts'
import { expectProblem, type Json, makeFleet, unique, useApi } from './api.ts'

const api = useApi()
const DAY_MS = 86_400_000

/** A person with one role, and a token of theirs that holds all of it. */
async function person(role: Role, place: { siteId?: string; fleetId?: string } = {}, scopes?: Scope[]) {
  const { database } = api().db
  const userId = await insertPerson(database, [{ role, ...place }], { name: unique(role) })
  const { id, token } = await insertPersonalToken(database, userId, scopes ? { scopes } : {})
  return { userId, tokenId: id, token }
}

async function mint(body: Json = {}, token?: string): Promise<Json> {
  const answer = await api().post('/api/tokens', { name: unique('token'), ...body }, token ? { token } : {})
  expect(answer.status, answer.text).toBe(201)
  return answer.body
}

const works = async (token: string, url = '/api/tokens/self') => (await api().get(url, { token })).status

/** How far ahead a time is, in days. */
const daysAhead = (time: string) => (Date.parse(time) - Date.now()) / DAY_MS

describe('a personal token', () => {
  test('is made for its maker, shown once, and works', async () => {
    const { userId, tokenId, token } = await person('admin')
    const made = await mint({ name: 'ci' }, token)
    expect(isCheckedToken('personal', made.token)).toBe(true)
    expect(made).toMatchObject({
      kind: 'personal',
      name: 'ci',
      prefix: 'rf_pat_',
      last_four: made.token.slice(-4),
      scopes: [...SCOPES],
      allowed_cidrs: [],
      user_id: userId,
      fleet_id: null,
      status: 'active',
      created_by: tokenId,
      revoked_at: null,
      last_used_at: null,
      last_used_ip: null,
      replaces: null,
      replaced_by: null,
    })
    expect(daysAhead(made.expires_at)).toBeCloseTo(90, 1)
    expect(await works(made.token)).toBe(200)
    const { body } = await api().get(`/api/tokens/${made.id}`, { token })
    const { token: _, ...shown } = made
    expect(body).toEqual(shown)
    expect((await api().get('/api/tokens', { token })).text).not.toContain(made.token)
  })

  test.each([
    [{ expires_in_days: 30 }, 30],
    [{ expires_in_days: 365 }, 365],
    [{ expires_in_days: 0.5 }, 0.5],
    [{ expires_in_days: null }, null],
    [{ expires_at: new Date(Date.now() + 7 * DAY_MS).toISOString() }, 7],
    [{ expires_at: new Date(Date.now() + DAY_MS).toISOString().replace('Z', '+00:00') }, 1],
  ])('that is to end as %j does', async (body, days) => {
    const made = await mint(body)
    if (days === null) expect(made.expires_at).toBeNull()
    else expect(daysAhead(made.expires_at)).toBeCloseTo(days, 2)
  })

  test.each([
    ['two ends', { expires_in_days: 1, expires_at: '2099-01-01T00:00:00Z' }, '/expires_at'],
    ['an end in the past', { expires_at: '2001-01-01T00:00:00Z' }, '/expires_at'],
    ['an end in a hundred years', { expires_at: '2126-01-01T00:00:00Z' }, '/expires_at'],
    ['an end without an offset', { expires_at: '2027-01-01T00:00:00' }, '/expires_at'],
    ['no days', { expires_in_days: 0 }, '/expires_in_days'],
    ['fewer than no days', { expires_in_days: -1 }, '/expires_in_days'],
    ['days as text', { expires_in_days: '30' }, '/expires_in_days'],
    ['too many days', { expires_in_days: 3651 }, '/expires_in_days'],
    ['no scopes', { scopes: [] }, '/scopes'],
    ['a scope that nobody knows', { scopes: ['everything'] }, '/scopes/0'],
    ['scopes without end', { scopes: Array.from({ length: 100 }, () => 'robots:read') }, '/scopes'],
    ['a name with a line break', { name: 'a\nb' }, '/name'],
    ['no name', { name: '' }, '/name'],
    ['a range that is none', { allowed_cidrs: ['10.0.0.0/33'] }, '/allowed_cidrs/0'],
    ['a name instead of a range', { allowed_cidrs: ['localhost'] }, '/allowed_cidrs/0'],
    ['another person', { user_id: newId() }, '/user_id'],
    ['a value of one’s own', { token: 'rf_pat_x' }, '/token'],
  ])('is not made with %s', async (_, body, pointer) => {
    const answer = await api().post('/api/tokens', { name: 'x', ...body })
    const problem = expectProblem(answer, 400, 'invalid_request')
    expect(problem.errors.map((error: Json) => error.pointer)).toContain(pointer)
  })

  test('has its scopes once, in one order', async () => {
    const made = await mint({ scopes: ['metrics:read', 'robots:read', 'metrics:read'] })
    expect(made.scopes).toEqual(['robots:read', 'metrics:read'])
  })

  test('is given no more than its maker holds', async () => {
    const { token } = await person('admin', {}, ['tokens:manage', 'robots:read'])
    const answer = await api().post(
      '/api/tokens',
      { name: 'x', scopes: ['robots:read', 'robots:write'] },
      { token },
    )
    const problem = expectProblem(answer, 403, 'exceeds_own_rights')
    expect(problem.detail).toContain('robots:write')
    expect(problem.detail).not.toContain('robots:read,')
    expect((await mint({}, token)).scopes).toEqual(['robots:read', 'tokens:manage'])
  })

  test('is not made by a token that was not given that, nor by a fleet', async () => {
    const { token } = await person('owner', {}, ['robots:read'])
    expectProblem(await api().post('/api/tokens', { name: 'x' }, { token }), 403, 'insufficient_scope')
    const { token: operator } = await person('operator')
    expectProblem(
      await api().post('/api/tokens', { name: 'x' }, { token: operator }),
      403,
      'insufficient_scope',
    )
    const { fleet_id } = await makeFleet(api())
    const fleet = await insertFleetToken(api().db.database, fleet_id, { scopes: FLEET_TOKEN_SCOPES })
    for (const url of ['/api/tokens', `/api/fleets/${fleet_id}/tokens`])
      expectProblem(await api().post(url, { name: 'x' }, { token: fleet.token }), 403, 'insufficient_scope')
  })

  test('does what its owner may at that moment, and nothing when the owner is gone', async () => {
    const { pool } = api().db
    const { userId, token } = await person('admin')
    const made = await mint({ scopes: ['robots:read', 'robots:write'] }, token)
    const create = () => api().post('/api/sites', { name: unique('site') }, { token: made.token })
    expect((await create()).status).toBe(201)
    await pool.query("UPDATE memberships SET role = 'viewer' WHERE user_id = $1", [userId])
    expectProblem(await create(), 403, 'insufficient_scope')
    expect(await works(made.token, '/api/sites')).toBe(200)
    await pool.query('DELETE FROM memberships WHERE user_id = $1', [userId])
    expectProblem(await api().get('/api/sites', { token: made.token }), 403, 'insufficient_scope')
    await pool.query('UPDATE users SET removed_at = now() WHERE id = $1', [userId])
    expectProblem(await api().get('/api/sites', { token: made.token }), 401, 'token_revoked')
  })

  test('of somebody without the second factor that is demanded does nothing until they have one', async () => {
    const { pool } = api().db
    const { userId, token } = await person('admin')
    await pool.query('UPDATE security_settings SET require_second_factor = true')
    try {
      for (const [method, url] of [
        ['GET', '/api/sites'],
        ['GET', '/api/tokens/self'],
        ['POST', '/api/tokens'],
        ['POST', '/api/tokens/self/rotate'],
      ] as const)
        expectProblem(
          await api().call(method, url, method === 'POST' ? { name: 'x' } : undefined, { token }),
          403,
          'second_factor_required',
        )
      await pool.query('UPDATE users SET two_factor_enabled = true WHERE id = $1', [userId])
      expect(await works(token, '/api/sites')).toBe(200)
    } finally {
      await pool.query('UPDATE security_settings SET require_second_factor = false')
    }
  })

  test('sent for again with the same key is not shown again', async () => {
    const headers = { 'idempotency-key': unique('key') }
    const first = await api().post('/api/tokens', { name: 'once' }, { headers })
    const again = await api().post('/api/tokens', { name: 'once' }, { headers })
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(again.body).toEqual({ ...first.body, token: null })
    const rotated = await api().post(
      `/api/tokens/${first.body.id}/rotate`,
      {},
      { headers: { 'idempotency-key': 'r' } },
    )
    const rotatedAgain = await api().post(
      `/api/tokens/${first.body.id}/rotate`,
      {},
      { headers: { 'idempotency-key': 'r' } },
    )
    expect(rotated.body.token).toMatch(/^rf_pat_/)
    expect(rotatedAgain.body).toEqual({ ...rotated.body, token: null })
  })
})

describe('addresses that a token may be used from', () => {
  const from = (address: string) => ({ headers: { 'x-forwarded-for': address } })
  const behindProxy = useApi({
    config: {
      publicUrl: undefined,
      trustedProxies: ['127.0.0.1'],
      heartbeatIntervalMs: 10_000,
      history: RETENTION,
    },
  })

  async function bound(ranges: string[]) {
    const answer = await behindProxy().post('/api/tokens', { name: 'bound', allowed_cidrs: ranges })
    expect(answer.status, answer.text).toBe(201)
    return answer.body
  }
  const use = (token: string, address: string) => behindProxy().get('/api/sites', { token, ...from(address) })

  test.each([
    ['10.1.2.3/8', '10.0.0.0/8', ['10.255.0.1', '::ffff:10.9.9.9'], ['11.0.0.1', '::ffff:11.0.0.1', '::1']],
    ['2001:db8::5/32', '2001:db8::/32', ['2001:db8:1::1', '2001:DB8::'], ['2001:db9::1', '10.0.0.1']],
    ['::ffff:192.0.2.0/120', '::ffff:192.0.2.0/120', ['192.0.2.7', '::ffff:192.0.2.8'], ['192.0.3.1']],
    [
      '198.51.100.7',
      '198.51.100.7/32',
      ['198.51.100.7', '198.51.100.7:40000', '198.51.100.7:40000, 127.0.0.1:50000'],
      ['198.51.100.8', '198.51.100.8:40000', '198.51.100.7, 198.51.100.8:40000', '198.51.100.7, x'],
    ],
  ])('%s are kept as %s', async (given, kept, inside, outside) => {
    const made = await bound([given])
    expect(made.allowed_cidrs).toEqual([kept])
    for (const address of inside) expect((await use(made.token, address)).status, address).toBe(200)
    for (const address of outside) expectProblem(await use(made.token, address), 403, 'address_not_allowed')
  })

  test('are told by trusted proxies alone', async () => {
    const made = await mint({ allowed_cidrs: ['10.0.0.0/8'] })
    const answer = await api().get('/api/sites', { token: made.token, ...from('10.0.0.1') })
    expectProblem(answer, 403, 'address_not_allowed')
  })

  test('are handed on: a token that is bound to some makes none that is of use elsewhere', async () => {
    const made = await bound(['10.0.0.0/8', '2001:db8::/32'])
    const within = { token: made.token, ...from('10.0.0.1') }
    const child = await behindProxy().post('/api/tokens', { name: 'child' }, within)
    expect(child.body.allowed_cidrs).toEqual(['10.0.0.0/8', '2001:db8::/32'])
    const make = (ranges: string[]) =>
      behindProxy().post('/api/tokens', { name: 'x', allowed_cidrs: ranges }, within)
    expect((await make(['10.4.0.0/16', '2001:db8:7::/48'])).status).toBe(201)
    for (const ranges of [
      [],
      ['0.0.0.0/0'],
      ['10.0.0.0/7'],
      ['10.1.0.0/16', '11.0.0.0/16'],
      ['2001:db8::/31'],
      ['::/0'],
    ])
      expectProblem(await make(ranges), 403, 'exceeds_own_rights')
    // Nor one of a fleet, nor the value of a sister that is bound to nothing.
    const { fleet_id } = await makeFleet(behindProxy())
    const ofFleet = (ranges: string[]) =>
      behindProxy().post(`/api/fleets/${fleet_id}/tokens`, { name: 'x', allowed_cidrs: ranges }, within)
    expect((await ofFleet(['10.9.0.0/16'])).status).toBe(201)
    expectProblem(await ofFleet(['172.16.0.0/12']), 403, 'exceeds_own_rights')
    const free = await behindProxy().post('/api/tokens', { name: 'free' })
    expectProblem(
      await behindProxy().post(`/api/tokens/${free.body.id}/rotate`, {}, within),
      403,
      'exceeds_own_rights',
    )
  })
})

describe('a list of tokens', () => {
  test('is sorted as asked, those without a value last, page by page, and filtered', async () => {
    const { pool, database } = api().db
    const userId = await insertPerson(database, [{ role: 'viewer' }])
    const ids: Record<string, string> = {}
    for (const [name, expires, used] of [
      ['a', null, '2026-01-03'],
      ['b', '2027-01-02', null],
      ['c', '2027-01-01', '2026-01-01'],
      ['d', null, null],
      ['e', '2027-01-02', '2026-01-02'],
    ] as const) {
      const { id } = await insertPersonalToken(database, userId, {
        name,
        ...(expires ? { expiresAt: new Date(expires) } : {}),
      })
      ids[id] = name
      await pool.query('UPDATE access_tokens SET last_used_at = $2 WHERE id = $1', [id, used])
    }
    const { token } = await insertPersonalToken(database, userId, { name: 'z' })
    const names = async (sort: string) => {
      const found: string[] = []
      let cursor = ''
      do {
        const { body } = await api().get(`/api/tokens?limit=2&sort=${sort}${cursor}`, { token })
        found.push(...body.items.map((item: Json) => item.name))
        cursor = body.next_cursor ? `&cursor=${body.next_cursor}` : ''
      } while (cursor)
      return found.join('')
    }
    expect(await names('name')).toBe('abcdez')
    expect(await names('-name')).toBe('zedcba')
    expect(await names('created_at')).toBe('abcdez')
    expect(await names('-created_at')).toBe('zedcba')
    expect(await names('last_used_at')).toBe('ceabdz')
    expect(await names('-last_used_at')).toBe('aeczdb')
    expect(await names('expires_at')).toBe('cbeadz')
    expect(await names('-expires_at')).toBe('ebczda')
    const { body } = await api().get('/api/tokens?limit=1&sort=name', { token })
    const other = `/api/tokens?limit=1&sort=-name&cursor=${body.next_cursor}`
    expectProblem(await api().get(other, { token }), 400, 'invalid_cursor')
    expectProblem(await api().get('/api/tokens?sort=token_hash', { token }), 400, 'invalid_request')
  })

  test('filters by status', async () => {
    const { database } = api().db
    const userId = await insertPerson(database, [{ role: 'viewer' }])
    const { token } = await insertPersonalToken(database, userId, { name: 'live' })
    await insertPersonalToken(database, userId, { name: 'old', expiresAt: new Date('2020-01-01') })
    await insertPersonalToken(database, userId, { name: 'gone', revokedAt: new Date('2020-01-01') })
    const names = async (status: string) =>
      (await api().get(`/api/tokens?status=${status}`, { token })).body.items.map((item: Json) => item.name)
    expect(await names('active')).toEqual(['live'])
    expect(await names('expired')).toEqual(['old'])
    expect(await names('revoked')).toEqual(['gone'])
  })

  test('holds the tokens of others only for those who manage them at every place', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const siteAdmin = await person('admin', { siteId: here.site_id })
    const inside = await person('operator', { fleetId: here.fleet_id })
    const outside = await person('viewer', { fleetId: there.fleet_id })
    const both = await insertPerson(api().db.database, [
      { role: 'viewer', fleetId: here.fleet_id },
      { role: 'viewer', siteId: there.site_id },
    ])
    const ofBoth = await insertPersonalToken(api().db.database, both)
    const ids = async (query: string, token: string) =>
      (await api().get(`/api/tokens?limit=200${query}`, { token })).body.items.map((item: Json) => item.id)
    expect((await ids('&all=true', siteAdmin.token)).sort()).toEqual(
      [siteAdmin.tokenId, inside.tokenId].sort(),
    )
    expect(await ids(`&user=${inside.userId}`, siteAdmin.token)).toEqual([inside.tokenId])
    for (const { userId } of [outside, { userId: both }, { userId: newId() }])
      expect(await ids(`&user=${userId}`, siteAdmin.token)).toEqual([])
    const all = await ids('&all=true', api().token)
    for (const id of [siteAdmin.tokenId, inside.tokenId, outside.tokenId, ofBoth.id, api().tokenId])
      expect(all).toContain(id)
    expectProblem(await api().get('/api/tokens?all=true', { token: inside.token }), 403, 'insufficient_scope')
    for (const id of [outside.tokenId, ofBoth.id, newId()])
      for (const [method, url] of [
        ['GET', `/api/tokens/${id}`],
        ['POST', `/api/tokens/${id}/revoke`],
        ['POST', `/api/tokens/${id}/rotate`],
      ] as const)
        expectProblem(await api().call(method, url, undefined, { token: siteAdmin.token }), 404, 'not_found')
    expect(await works(outside.token)).toBe(200)
  })
})

describe('revoking', () => {
  test('counts with the next request, and again is no error', async () => {
    const made = await mint()
    const revoked = await api().post(`/api/tokens/${made.id}/revoke`)
    expect(revoked.body).toMatchObject({ id: made.id, status: 'revoked' })
    expectProblem(await api().get('/api/sites', { token: made.token }), 401, 'token_revoked')
    expect((await api().post(`/api/tokens/${made.id}/revoke`)).body).toEqual(revoked.body)
    expect(api().published).toContainEqual({ type: 'access_changed' })
  })

  test('is for the owner and for those who manage them; of owners for owners', async () => {
    const admin = await person('admin')
    const viewer = await person('viewer')
    const narrow = await person('admin', {}, ['users:manage'])
    expect(
      (await api().post(`/api/tokens/${viewer.tokenId}/revoke`, undefined, { token: narrow.token })).status,
    ).toBe(200)
    expectProblem(
      await api().post(`/api/tokens/${api().tokenId}/revoke`, undefined, { token: admin.token }),
      403,
      'insufficient_scope',
    )
    expect(await works(api().token)).toBe(200)
    expect((await api().post(`/api/tokens/${admin.tokenId}/revoke`)).status).toBe(200)
  })

  test('of oneself is open to every token; of a sister to those that manage tokens', async () => {
    const one = await person('viewer')
    const sister = await insertPersonalToken(api().db.database, one.userId)
    expectProblem(
      await api().post(`/api/tokens/${sister.id}/revoke`, undefined, { token: one.token }),
      403,
      'insufficient_scope',
    )
    expect(
      (await api().post(`/api/tokens/${one.tokenId}/revoke`, undefined, { token: one.token })).status,
    ).toBe(200)
    expect(await works(one.token)).toBe(401)
    expect((await api().post('/api/tokens/self/revoke', undefined, { token: sister.token })).status).toBe(200)
    expect(await works(sister.token)).toBe(401)
  })

  test('leaves room for the last use that came before it', async () => {
    const made = await mint()
    await api().post(`/api/tokens/${made.id}/revoke`)
    await api().db.pool.query(
      "UPDATE access_tokens SET last_used_at = now(), last_used_ip = '::ffff:10.0.0.1' WHERE id = $1",
      [made.id],
    )
    const { body } = await api().get(`/api/tokens/${made.id}`)
    expect(body.status).toBe('revoked')
    expect(body.last_used_at).not.toBeNull()
  })
})

describe('rotating', () => {
  test('gives a new value with the same bounds, and lets the old one end a day later', async () => {
    const before = await mint({
      name: 'ci',
      scopes: ['robots:read'],
      allowed_cidrs: ['127.0.0.0/8'],
      expires_in_days: 30,
    })
    const answer = await api().post(`/api/tokens/${before.id}/rotate`)
    expect(answer.status).toBe(201)
    const after = answer.body
    expect(after).toMatchObject({
      name: 'ci',
      scopes: ['robots:read'],
      allowed_cidrs: ['127.0.0.0/8'],
      user_id: before.user_id,
      replaces: before.id,
      status: 'active',
    })
    expect(after.id).not.toBe(before.id)
    expect(daysAhead(after.expires_at)).toBeCloseTo(30, 2)
    expect(daysAhead(after.old.expires_at)).toBeCloseTo(1, 2)
    for (const { token } of [before, after]) expect(await works(token)).toBe(200)
    const old = (await api().get(`/api/tokens/${before.id}`)).body
    expect(old).toMatchObject({ status: 'active', replaced_by: after.id, expires_at: after.old.expires_at })
  })

  test.each([
    ['at once', { overlap_seconds: 0 }, 0],
    ['after an hour', { overlap_seconds: 3600 }, 1 / 24],
    ['at a time', { old_expires_at: new Date(Date.now() + 2 * DAY_MS).toISOString() }, 2],
  ])('ends the old one %s when told', async (_, body, days) => {
    const before = await mint({ expires_in_days: null })
    const after = (await api().post(`/api/tokens/${before.id}/rotate`, body)).body
    expect(after.expires_at).toBeNull()
    expect(daysAhead(after.old.expires_at)).toBeCloseTo(days, 2)
    expect(await works(before.token)).toBe(days === 0 ? 401 : 200)
    expect(await works(after.token)).toBe(200)
  })

  test('never lets the old one live longer', async () => {
    const before = await mint({ expires_in_days: 0.1 })
    const after = (await api().post(`/api/tokens/${before.id}/rotate`, { overlap_seconds: 86_400 })).body
    expect(after.old.expires_at).toBe(before.expires_at)
  })

  test.each([
    ['both ways of saying when', { overlap_seconds: 1, old_expires_at: '2099-01-01T00:00:00Z' }],
    ['an overlap beyond 30 days', { overlap_seconds: 2_592_001 }],
    ['less than none', { overlap_seconds: -1 }],
    ['a time that is over', { old_expires_at: '2020-01-01T00:00:00Z' }],
    ['a time far ahead', { old_expires_at: '2099-01-01T00:00:00Z' }],
    ['two ends', { expires_in_days: 1, expires_at: '2027-01-01T00:00:00Z' }],
    ['other scopes', { scopes: [...SCOPES] }],
  ])('takes no %s', async (_, body) => {
    const before = await mint()
    expectProblem(await api().post(`/api/tokens/${before.id}/rotate`, body), 400, 'invalid_request')
    expect((await api().get(`/api/tokens/${before.id}`)).body).toMatchObject({
      replaced_by: null,
      expires_at: before.expires_at,
    })
  })

  test('is refused for a token that was revoked, has expired or was rotated', async () => {
    const revoked = await mint()
    await api().post(`/api/tokens/${revoked.id}/revoke`)
    const expired = await mint()
    await api().db.pool.query('UPDATE access_tokens SET expires_at = now() WHERE id = $1', [expired.id])
    const rotated = await mint()
    const newer = (await api().post(`/api/tokens/${rotated.id}/rotate`)).body
    for (const { id } of [revoked, expired, rotated])
      expectProblem(await api().post(`/api/tokens/${id}/rotate`), 409, 'token_not_active')
    // The value of the new one was lost: it goes, and the old one is rotated again.
    await api().post(`/api/tokens/${newer.id}/revoke`)
    expect((await api().post(`/api/tokens/${rotated.id}/rotate`)).status).toBe(201)
  })

  test('hands nobody a value that can do more than they can', async () => {
    const { userId } = await person('admin')
    const { database } = api().db
    const all = await insertPersonalToken(database, userId)
    const narrow = await insertPersonalToken(database, userId, { scopes: ['tokens:manage', 'robots:read'] })
    const reader = await insertPersonalToken(database, userId, { scopes: ['robots:read'] })
    const rotateAs = (id: string, token: string) => api().post(`/api/tokens/${id}/rotate`, {}, { token })
    expectProblem(await rotateAs(all.id, narrow.token), 403, 'exceeds_own_rights')
    // A list of all scopes that there are is less than whatever there will be.
    const listed = await insertPersonalToken(database, userId, { scopes: SCOPES })
    expectProblem(await rotateAs(all.id, listed.token), 403, 'exceeds_own_rights')
    expect((await rotateAs(reader.id, narrow.token)).status).toBe(201)
    expectProblem(await rotateAs(narrow.id, reader.token), 403, 'insufficient_scope')
    // Not even an owner takes the place of another person.
    expectProblem(await rotateAs(all.id, api().token), 403, 'insufficient_scope')
  })

  test('is something that a token can do to itself, for as long as it was made to live', async () => {
    const { userId } = await person('viewer')
    const expiresAt = new Date(Date.now() + 10 * DAY_MS)
    const before = await insertPersonalToken(api().db.database, userId, {
      expiresAt,
      scopes: ['robots:read'],
    })
    const longer = { expires_in_days: 11 }
    for (const body of [longer, { expires_in_days: null }])
      expectProblem(
        await api().post('/api/tokens/self/rotate', body, { token: before.token }),
        403,
        'exceeds_own_rights',
      )
    const after = await api().post('/api/tokens/self/rotate', { overlap_seconds: 0 }, { token: before.token })
    expect(after.status).toBe(201)
    expect(daysAhead(after.body.expires_at)).toBeCloseTo(10, 2)
    expect(await works(before.token)).toBe(401)
    const again = await api().post(`/api/tokens/${after.body.id}/rotate`, null, { token: after.body.token })
    expect(again.body.replaces).toBe(after.body.id)
  })

  test('of one token by many at once gives one new token', async () => {
    const before = await mint()
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) =>
        index % 2 === 0
          ? api().post(`/api/tokens/${before.id}/rotate`)
          : api().post('/api/tokens/self/rotate', null, { token: before.token }),
      ),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array<number>(7).fill(409)])
    const { rows } = await api().db.pool.query(
      'SELECT count(*)::int AS count FROM access_tokens WHERE replaces = $1',
      [before.id],
    )
    expect(rows).toEqual([{ count: 1 }])
  })
})

describe('a fleet token', () => {
  test('reaches its fleet alone, and stays when whoever made it goes', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const admin = await person('admin', { fleetId: here.fleet_id })
    const url = `/api/fleets/${here.fleet_id}/tokens`
    const answer = await api().post(url, { name: 'line' }, { token: admin.token })
    expect(answer.status, answer.text).toBe(201)
    const made = answer.body
    expect(isCheckedToken('fleet', made.token)).toBe(true)
    expect(made).toMatchObject({
      kind: 'fleet',
      prefix: 'rf_fleet_',
      fleet_id: here.fleet_id,
      user_id: null,
      user_name: null,
      created_by: admin.tokenId,
      scopes: [...FLEET_TOKEN_SCOPES],
    })
    const { rows } = await api().db.pool.query('SELECT name FROM users WHERE id = $1', [admin.userId])
    await api().db.pool.query('DELETE FROM memberships WHERE user_id = $1', [admin.userId])
    await api().db.pool.query('UPDATE users SET removed_at = now() WHERE id = $1', [admin.userId])
    expect(await works(made.token, `/api/fleets/${here.fleet_id}`)).toBe(200)
    expect(await works(made.token, `/api/fleets/${there.fleet_id}`)).toBe(404)
    expect((await api().get(url)).text).not.toContain(rows[0].name)
  })

  test('is given no more than its maker holds at that fleet', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const { database } = api().db
    const userId = await insertPerson(database, [
      { role: 'viewer', fleetId: here.fleet_id },
      { role: 'admin', fleetId: there.fleet_id },
    ])
    const { token } = await insertPersonalToken(database, userId)
    const ask = (fleet: string, scopes?: string[]) =>
      api().post(`/api/fleets/${fleet}/tokens`, { name: 'x', ...(scopes ? { scopes } : {}) }, { token })
    expectProblem(await ask(here.fleet_id), 403, 'insufficient_scope')
    expect((await ask(there.fleet_id)).status).toBe(201)
    const narrow = await insertPersonalToken(database, userId, { scopes: ['tokens:manage', 'robots:read'] })
    const asNarrow = (scopes: string[]) =>
      api().post(`/api/fleets/${there.fleet_id}/tokens`, { name: 'x', scopes }, { token: narrow.token })
    expect((await asNarrow(['robots:read'])).status).toBe(201)
    expectProblem(await asNarrow(['robots:read', 'metrics:read']), 403, 'exceeds_own_rights')
    for (const scope of ['tokens:manage', 'users:manage'])
      expectProblem(await ask(there.fleet_id, [scope]), 400, 'invalid_request')
    expectProblem(await ask(newId()), 404, 'not_found')
  })

  test('is seen, revoked and rotated through its own fleet alone', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const admin = await person('admin', { siteId: here.site_id })
    const make = async () => (await api().post(`/api/fleets/${here.fleet_id}/tokens`, { name: 'x' })).body
    const made = await make()
    const path = (fleet: string, action = '') => `/api/fleets/${fleet}/tokens/${made.id}${action}`
    expect((await api().get(path(here.fleet_id), { token: admin.token })).body.id).toBe(made.id)
    expectProblem(await api().get(path(there.fleet_id)), 404, 'not_found')
    expectProblem(await api().get(`/api/tokens/${made.id}`), 404, 'not_found')
    for (const action of ['/revoke', '/rotate']) {
      expectProblem(await api().post(path(there.fleet_id, action)), 404, 'not_found')
      expectProblem(await api().post(`/api/tokens/${made.id}${action}`), 404, 'not_found')
    }
    const rotated = await api().post(
      path(here.fleet_id, '/rotate'),
      { overlap_seconds: 60 },
      { token: admin.token },
    )
    expect(rotated.body).toMatchObject({ kind: 'fleet', fleet_id: here.fleet_id, replaces: made.id })
    expect((await api().post(path(here.fleet_id, '/revoke'), undefined, { token: admin.token })).status).toBe(
      200,
    )
    expect(await works(made.token)).toBe(401)
    expect(await works(rotated.body.token)).toBe(200)
    const foreign = await person('admin', { siteId: there.site_id })
    expectProblem(await api().get(path(here.fleet_id), { token: foreign.token }), 404, 'not_found')
  })

  test('is not rotated by somebody who holds less than it', async () => {
    const { fleet_id } = await makeFleet(api())
    const made = (await api().post(`/api/fleets/${fleet_id}/tokens`, { name: 'x' })).body
    const narrow = await person('admin', { fleetId: fleet_id }, ['tokens:manage', 'robots:read'])
    const url = `/api/fleets/${fleet_id}/tokens/${made.id}`
    expectProblem(await api().post(`${url}/rotate`, {}, { token: narrow.token }), 403, 'exceeds_own_rights')
    expect((await api().post(`${url}/revoke`, undefined, { token: narrow.token })).status).toBe(200)
  })

  test('rotates itself', async () => {
    const { fleet_id } = await makeFleet(api())
    const made = (await api().post(`/api/fleets/${fleet_id}/tokens`, { name: 'x', scopes: ['robots:read'] }))
      .body
    const answer = await api().post('/api/tokens/self/rotate', { overlap_seconds: 0 }, { token: made.token })
    expect(answer.body).toMatchObject({ kind: 'fleet', fleet_id, scopes: ['robots:read'], replaces: made.id })
    expect(await works(made.token)).toBe(401)
    expect((await api().get('/api/tokens/self', { token: answer.body.token })).body.id).toBe(answer.body.id)
  })
})

test('the log of changes tells who made, rotated and revoked what, and the last use of the old one', async () => {
  const made = await mint({ name: 'told' })
  await api().db.pool.query(
    "UPDATE access_tokens SET last_used_at = '2026-01-02T03:04:05Z', last_used_ip = '192.0.2.1' WHERE id = $1",
    [made.id],
  )
  const rotated = (await api().post(`/api/tokens/${made.id}/rotate`)).body
  await api().post(`/api/tokens/${rotated.id}/revoke`)
  await api().post(`/api/tokens/${rotated.id}/revoke`)
  const { rows } = await api().db.pool.query(
    'SELECT action, actor_id, target_id, data FROM audit_log WHERE target_id = ANY ($1) ORDER BY seq',
    [[made.id, rotated.id]],
  )
  expect(rows).toMatchObject([
    { action: 'access_token.created', actor_id: api().tokenId, target_id: made.id },
    {
      action: 'access_token.rotated',
      target_id: rotated.id,
      data: {
        replaces: made.id,
        old_last_used_at: '2026-01-02T03:04:05.000Z',
        old_last_used_ip: '192.0.2.1',
      },
    },
    { action: 'access_token.revoked', target_id: rotated.id },
  ])
  const everything = JSON.stringify([
    (await api().db.pool.query('SELECT * FROM audit_log')).rows,
    (await api().get('/api/tokens')).body,
    api().logged,
    api().published,
  ])
  for (const value of [made.token, rotated.token]) expect(everything).not.toContain(value)
  expect(everything).not.toContain(made.token.slice(7, 71))
})
