import { describe, expect, test } from 'vitest'
import { SCOPES } from '../../src/access/scopes.ts'
import { createSeal } from '../../src/access/seal.ts'
import type { TokenUse } from '../../src/audit/audit.ts'
import { newId } from '../../src/ids.ts'
import { hashToken, isEnrollmentKey, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { systemRandom } from '../../src/runtime.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import { type Api, expectProblem, type Json, makeFleet, startApi, unique, useApi } from './api.ts'

const api = useApi()

async function makeKey(body: Json = {}, on: Api = api()): Promise<Json> {
  const answer = await on.post('/api/enrollment-keys', { ...(await makeFleet(on)), name: 'key', ...body })
  expect(answer.status).toBe(201)
  return answer.body
}

/** A robot that the key admitted, as the claim leaves it. */
async function admit(key: Json, how: { revoked?: boolean } = {}): Promise<string> {
  const id = newId()
  await api().db.pool.query(
    `INSERT INTO robots (id, site_id, fleet_id, name, credential_id, token_hash, token_issued_at, token_revoked_at)
     VALUES ($1, $2, $3, $4, $5, $6, now(), CASE WHEN $7 THEN timestamptz '2020-01-01' END)`,
    [
      id,
      key.site_id,
      key.fleet_id,
      unique('robot'),
      key.id,
      hashToken(mintCheckedToken('robot')),
      how.revoked ?? false,
    ],
  )
  await api().db.pool.query(
    'UPDATE claim_credentials SET uses = uses + 1, last_used_at = now() WHERE id = $1',
    [key.id],
  )
  return id
}

describe('an enrollment key', () => {
  test('is made with defaults, and answers with all that a robot needs', async () => {
    const place = await makeFleet(api())
    const headers = { host: 'beacon.example:8080' }
    const { status, body } = await api().post(
      '/api/enrollment-keys',
      { ...place, name: 'dock 4' },
      { headers },
    )
    expect(status).toBe(201)
    expect(isEnrollmentKey(body.key_value)).toBe(true)
    expect(body).toMatchObject({
      ...place,
      name: 'dock 4',
      prefix: 'rf_enroll_',
      last_four: body.key_value.slice(-4),
      retrievable: true,
      status: 'active',
      max_uses: 100,
      uses: 0,
      labels: {},
      allowed_cidrs: [],
      require_approval: false,
      on_existing: 'rebind',
      created_by: api().tokenId,
      revoked_at: null,
      last_used_at: null,
    })
    expect(Date.parse(body.expires_at) - Date.parse(body.created_at)).toBe(24 * 3_600_000)
    expect(body.setup_command).toBe(
      `curl -fsSL http://beacon.example:8080/install.sh | sh -s -- --enrollment-key ${body.key_value}`,
    )
    const url = `/api/enrollment-keys/${body.id}`
    expect((await api().get(url, { headers })).body).toEqual(body)
  })

  test('takes every field', async () => {
    const labels = { 'fleet.example/role': 'mover', constructor: 'KUKA', empty: '' }
    const key = await makeKey({
      max_uses: 1_000_000,
      expires_in_hours: null,
      labels,
      allowed_cidrs: ['10.1.2.3/8', '192.0.2.7', '2001:db8::/32', '::1'],
      require_approval: true,
      on_existing: 'approve',
    })
    expect(key).toMatchObject({
      max_uses: 1_000_000,
      expires_at: null,
      labels,
      allowed_cidrs: ['10.0.0.0/8', '192.0.2.7/32', '2001:db8::/32', '::1/128'],
      require_approval: true,
      on_existing: 'approve',
    })
  })

  test('is in the database as a hash and sealed, and nowhere as itself', async () => {
    const key = await makeKey()
    const { rows } = await api().db.pool.query('SELECT * FROM claim_credentials WHERE id = $1', [key.id])
    expect(rows[0].secret_hash).toEqual(hashToken(key.key_value))
    expect(rows[0].secret_sealed.toString('latin1')).not.toContain(key.key_value.slice(10))
    const { rows: whole } = await api().db.pool.query(
      'SELECT c::text FROM claim_credentials c WHERE id = $1',
      [key.id],
    )
    expect(whole[0].c).not.toContain(key.key_value.slice(10))
    expect(JSON.stringify(api().logged)).not.toContain(key.key_value.slice(10))
  })

  test('of which nobody may keep the value is shown once', async () => {
    const key = await makeKey({ retrievable: false })
    expect(isEnrollmentKey(key.key_value)).toBe(true)
    const { rows } = await api().db.pool.query('SELECT secret_sealed FROM claim_credentials WHERE id = $1', [
      key.id,
    ])
    expect(rows[0].secret_sealed).toBeNull()
    const again = (await api().get(`/api/enrollment-keys/${key.id}`)).body
    expect(again).toEqual({ ...key, key_value: null, setup_command: null })
    expect(again.retrievable).toBe(false)
  })

  test('that another key sealed is listed without its value', async () => {
    const key = await makeKey()
    const seal = createSeal(Buffer.alloc(32, 9), systemRandom)
    await api().db.pool.query('UPDATE claim_credentials SET secret_sealed = $1 WHERE id = $2', [
      seal.seal('rf_enroll_', `enrollment key ${key.id}`),
      key.id,
    ])
    const listed = (await api().get(`/api/enrollment-keys/${key.id}`)).body
    expect(listed).toMatchObject({ key_value: null, retrievable: true })
  })

  test('copied over another key gives nothing away', async () => {
    const [one, two] = [await makeKey(), await makeKey()]
    await api().db.pool.query(
      `UPDATE claim_credentials SET secret_sealed = (SELECT secret_sealed FROM claim_credentials WHERE id = $1) WHERE id = $2`,
      [one.id, two.id],
    )
    expect((await api().get(`/api/enrollment-keys/${two.id}`)).body.key_value).toBeNull()
  })

  test('is not read without a trace', async () => {
    const uses: TokenUse[] = []
    const told = await startApi({ audit: { refused: () => {}, used: (use) => void uses.push(use) } })
    const revealed = () => uses.splice(0).flatMap(({ deed }) => deed ?? [])
    try {
      const key = await makeKey({}, told)
      const hidden = await makeKey({ retrievable: false }, told)
      expect(revealed()).toEqual([])
      const deed = {
        action: 'enrollment_key.revealed',
        target: { kind: 'enrollment_key', id: key.id, name: key.name },
      }
      await told.get(`/api/enrollment-keys/${key.id}`)
      expect(revealed()).toEqual([deed])
      await told.get('/api/enrollment-keys')
      expect(revealed()).toEqual([deed])
      await told.get(`/api/enrollment-keys/${hidden.id}`)
      expect(revealed()).toEqual([])
    } finally {
      await told.close()
    }
  })

  test('that nobody wants to read is shown without its value, and without a trace', async () => {
    const uses: TokenUse[] = []
    const told = await startApi({ audit: { refused: () => {}, used: (use) => void uses.push(use) } })
    try {
      const key = await makeKey({}, told)
      const hidden = { ...key, key_value: null, setup_command: null }
      const url = `/api/enrollment-keys/${key.id}`
      expect((await told.get(`${url}?reveal=false`)).body).toEqual(hidden)
      expect((await told.get(`/api/enrollment-keys?fleet=${key.fleet_id}&reveal=false`)).body.items).toEqual([
        hidden,
      ])
      expect(uses.flatMap(({ deed }) => deed ?? [])).toEqual([])
      expect((await told.get(`${url}?reveal=true`)).body).toEqual(key)
      expect(uses.flatMap(({ deed }) => deed ?? [])).toHaveLength(1)
      // Who revokes it has not read it.
      expect((await told.post(`${url}/revoke`)).body).toMatchObject({ status: 'revoked', key_value: null })
      expect(uses.flatMap(({ deed }) => deed ?? [])).toHaveLength(1)
      expectProblem(await told.get(`${url}?reveal=no`), 400, 'invalid_request')
      expectProblem(await told.get('/api/enrollment-keys?reveal='), 400, 'invalid_request')
    } finally {
      await told.close()
    }
  })

  test('is read by those alone who may reveal it', async () => {
    const scopes = SCOPES.filter((scope) => scope !== 'enrollment-keys:reveal')
    const { database } = api().db
    const { token } = await insertPersonalToken(database, await insertPerson(database, [{ role: 'admin' }]), {
      scopes,
    })
    const made = await api().post(
      '/api/enrollment-keys',
      { ...(await makeFleet(api())), name: 'key' },
      { token },
    )
    const key = made.body
    // Whoever makes a key is told it, once.
    expect(isEnrollmentKey(key.key_value)).toBe(true)
    const hidden = { key_value: null, setup_command: null, retrievable: true }
    expect((await api().get(`/api/enrollment-keys/${key.id}`, { token })).body).toMatchObject(hidden)
    expect((await api().get('/api/enrollment-keys', { token })).body.items[0]).toMatchObject(hidden)
    const revoked = await api().post(`/api/enrollment-keys/${key.id}/revoke`, undefined, { token })
    expect(revoked.body).toMatchObject(hidden)
  })

  test('needs a fleet of its site', async () => {
    const [one, two] = [await makeFleet(api()), await makeFleet(api())]
    const post = (place: Json) => api().post('/api/enrollment-keys', { ...place, name: 'k' })
    expectProblem(await post({ ...one, fleet_id: two.fleet_id }), 422, 'fleet_not_in_site')
    const pointers = async (place: Json) =>
      expectProblem(await post(place), 422, 'unknown_reference').errors.map((error: Json) => error.pointer)
    expect(await pointers({ ...one, fleet_id: newId() })).toEqual(['/fleet_id'])
    expect(await pointers({ ...one, site_id: newId() })).toEqual(['/site_id'])
    const shouted = { site_id: one.site_id.toUpperCase(), fleet_id: one.fleet_id.toUpperCase() }
    expect((await post(shouted)).status).toBe(201)
  })

  test.each([
    [{ max_uses: 0 }, '/max_uses'],
    [{ max_uses: 1_000_001 }, '/max_uses'],
    [{ max_uses: 1.5 }, '/max_uses'],
    [{ max_uses: null }, '/max_uses'],
    [{ expires_in_hours: 0 }, '/expires_in_hours'],
    [{ expires_in_hours: -1 }, '/expires_in_hours'],
    [{ expires_in_hours: 1e9 }, '/expires_in_hours'],
    [{ expires_in_hours: '24' }, '/expires_in_hours'],
    [{ allowed_cidrs: ['10.0.0.0/33'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: ['::/129'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: ['10.0.0.1/08'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: ['fe80::1%eth0'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: ['10.0.0.0/8/8'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: ['999.0.0.1'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: ['1.2.3.4\u0000'] }, '/allowed_cidrs/0'],
    [{ allowed_cidrs: '10.0.0.0/8' }, '/allowed_cidrs'],
    [{ allowed_cidrs: Array(65).fill('::1') }, '/allowed_cidrs'],
    [{ on_existing: 'replace' }, '/on_existing'],
    [{ require_approval: 'yes' }, '/require_approval'],
    [{ retrievable: 0 }, '/retrievable'],
    [{ labels: { 'a b': 'c' } }, '/labels/a b'],
    [{ labels: { a: 'NUL \u0000' } }, '/labels/a'],
    [{ labels: { a: 'x'.repeat(257) } }, '/labels/a'],
    [{ labels: { a: null } }, '/labels/a'],
    [{ labels: [] }, '/labels'],
    [{ labels: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`l${i}`, ''])) }, '/labels'],
    [{ key_value: 'rf_enroll_mine' }, '/key_value'],
  ])('is not made with %j', async (wrong, pointer) => {
    const answer = await api().post('/api/enrollment-keys', {
      ...(await makeFleet(api())),
      name: 'k',
      ...wrong,
    })
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe(pointer)
  })

  test('says whether it still admits robots', async () => {
    const status = async (change: string) => {
      const key = await makeKey({ max_uses: 2 })
      await api().db.pool.query(`UPDATE claim_credentials SET ${change} WHERE id = $1`, [key.id])
      const url = `/api/enrollment-keys?fleet=${key.fleet_id}`
      const [{ status }] = (await api().get(url)).body.items
      expect((await api().get(`${url}&status=${status}`)).body.items).toHaveLength(1)
      const others = ['active', 'revoked', 'expired', 'exhausted'].filter((other) => other !== status)
      for (const other of others) expect((await api().get(`${url}&status=${other}`)).body.items).toEqual([])
      return status
    }
    expect(await status('uses = 1')).toBe('active')
    expect(await status('uses = 2')).toBe('exhausted')
    expect(await status("uses = 2, expires_at = now() - interval '1 s'")).toBe('expired')
    expect(await status("uses = 2, expires_at = now() - interval '1 s', revoked_at = now()")).toBe('revoked')
  })

  test('is listed newest first, page by page', async () => {
    const place = await makeFleet(api())
    const made: string[] = []
    for (const name of ['a', 'b', 'c'])
      made.unshift((await api().post('/api/enrollment-keys', { ...place, name })).body.id)
    const url = `/api/enrollment-keys?site=${place.site_id}&limit=2`
    const first = (await api().get(url)).body
    const second = (await api().get(`${url}&cursor=${first.next_cursor}`)).body
    expect([...first.items, ...second.items].map((key: Json) => key.id)).toEqual(made)
    expect(second.next_cursor).toBeNull()
  })
})

describe('revoking a key', () => {
  test('says when, and the same when it is done again', async () => {
    const key = await makeKey()
    const url = `/api/enrollment-keys/${key.id}/revoke`
    const first = await api().post(url)
    expect(first.status).toBe(200)
    expect(first.body).toMatchObject({ id: key.id, status: 'revoked', robots_revoked: 0 })
    const again = await api().post(url, {})
    expect(again.body).toEqual(first.body)
    expectProblem(await api().post(`/api/enrollment-keys/${newId()}/revoke`), 404, 'not_found')
    expectProblem(await api().post(url, { cascade: 'all' }), 400, 'invalid_request')
  })

  test('leaves its robots alone unless told otherwise', async () => {
    const key = await makeKey()
    const other = await makeKey()
    const robots = [await admit(key), await admit(key)]
    const before = await admit(key, { revoked: true })
    const stranger = await admit(other)
    const revokedAt = async (id: string) => (await api().get(`/api/robots/${id}`)).body.token_revoked_at
    const url = `/api/enrollment-keys/${key.id}/revoke`
    await api().post(url, { cascade: 'none' })
    for (const id of robots) expect(await revokedAt(id)).toBeNull()

    const told = api().published.length
    const answer = await api().post(url, { cascade: 'revoke_robots' })
    expect(answer.body.robots_revoked).toBe(2)
    for (const id of robots) {
      expect(await revokedAt(id)).not.toBeNull()
      const [event] = (await api().get(`/api/robots/${id}/events`)).body.items
      expect(event).toMatchObject({
        code: 'token_revoked',
        source: 'server',
        level: 'warn',
        data: { credential_id: key.id, by_token: api().tokenId, request_id: answer.headers['x-request-id'] },
      })
    }
    expect(await revokedAt(before)).toBe('2020-01-01T00:00:00.000Z')
    expect(await revokedAt(stranger)).toBeNull()
    const messages = api().published.slice(told)
    expect(messages).toHaveLength(1)
    expect(messages[0]).toMatchObject({ type: 'robots_revoked' })
    expect([...messages[0].robot_ids].sort()).toEqual([...robots].sort())
    expect((await api().post(url, { cascade: 'revoke_robots' })).body.robots_revoked).toBe(0)
  })

  test('with very many robots tells of them in messages that fit every bus', async () => {
    const key = await makeKey({ max_uses: 1_000 })
    await api().db.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name, credential_id, token_hash)
       SELECT gen_random_uuid(), $1, $2, 'r' || n, $3, sha256(($4 || n)::bytea) FROM generate_series(1, 250) n`,
      [key.site_id, key.fleet_id, key.id, key.id],
    )
    const told = api().published.length
    const { body } = await api().post(`/api/enrollment-keys/${key.id}/revoke`, { cascade: 'revoke_robots' })
    expect(body.robots_revoked).toBe(250)
    const messages = api().published.slice(told)
    expect(messages.map((message) => message.robot_ids.length)).toEqual([100, 100, 50])
    expect(new Set(messages.flatMap((message) => message.robot_ids)).size).toBe(250)
  })
})
