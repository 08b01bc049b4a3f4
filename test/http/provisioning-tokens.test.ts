import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { claimCredentialKind, hashToken } from '../../src/protocol/tokens.ts'
import { insertFleetToken } from '../support/access.ts'
import { expectProblem, type Json, makeFleet, useApi } from './api.ts'

const api = useApi()
const url = '/api/provisioning-tokens'

async function makeToken(body: Json = {}): Promise<Json> {
  const fleet_id = body.fleet_id ?? (await makeFleet(api())).fleet_id
  const answer = await api().post(url, { name: 'image', fleet_id, ...body })
  expect(answer.status).toBe(201)
  return answer.body
}

async function auditOf(id: string): Promise<Json[]> {
  const { rows } = await api().db.pool.query(
    'SELECT action, actor_id, target_kind, fleet_id, data FROM audit_log WHERE target_id = $1 ORDER BY seq',
    [id],
  )
  return rows
}

describe('a provisioning token', () => {
  test('is made with defaults, and answers with all that a robot needs', async () => {
    const place = await makeFleet(api())
    const headers = { host: 'beacon.example:8080' }
    const { status, body } = await api().post(url, { name: 'image', fleet_id: place.fleet_id }, { headers })
    expect(status).toBe(201)
    expect(claimCredentialKind(body.token)).toBe('provisioning_token')
    expect(body).toEqual({
      id: expect.any(String),
      name: 'image',
      ...place,
      prefix: 'apt_',
      last_four: body.token.slice(-4),
      token: body.token,
      setup_command: `curl -fsSL http://beacon.example:8080/install.sh | sh -s -- --enrollment-key ${body.token}`,
      single_use: false,
      status: 'active',
      uses: 0,
      labels: {},
      allowed_cidrs: [],
      require_approval: false,
      on_existing: 'rebind',
      created_at: expect.any(String),
      created_by: api().tokenId,
      expires_at: expect.any(String),
      revoked_at: null,
      last_used_at: null,
    })
    expect(Date.parse(body.expires_at) - Date.parse(body.created_at)).toBe(30 * 86_400_000)
    const { token: _, setup_command: __, ...shown } = body
    expect((await api().get(`${url}/${body.id}`)).body).toEqual(shown)
    expect((await api().get(`${url}?fleet=${place.fleet_id}`)).body.items).toEqual([shown])
  })

  test('is not an enrollment key to the routes of those, nor the other way round', async () => {
    const token = await makeToken()
    expectProblem(await api().get(`/api/enrollment-keys/${token.id}`), 404, 'not_found')
    expectProblem(await api().post(`/api/enrollment-keys/${token.id}/revoke`), 404, 'not_found')
    const place = await makeFleet(api())
    const key = (await api().post('/api/enrollment-keys', { ...place, name: 'key' })).body
    expectProblem(await api().get(`${url}/${key.id}`), 404, 'not_found')
    expectProblem(await api().post(`${url}/${key.id}/revoke`), 404, 'not_found')
    expect((await api().get(`${url}?fleet=${place.fleet_id}`)).body.items).toEqual([])
  })

  test('is kept as a hash and shown once, whoever asks again', async () => {
    const { fleet_id } = await makeFleet(api())
    const headers = { 'idempotency-key': newId() }
    const send = () => api().post(url, { name: 'once', fleet_id }, { headers })
    const first = await send()
    const again = await send()
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(again.body).toEqual({ ...first.body, token: null, setup_command: null })
    const { rows } = await api().db.pool.query('SELECT * FROM claim_credentials WHERE id = $1', [
      first.body.id,
    ])
    expect(rows[0].secret_hash).toEqual(hashToken(first.body.token))
    expect(rows[0].secret_sealed).toBeNull()
    const everything = [
      await api().get(`${url}?fleet=${fleet_id}`),
      JSON.stringify(api().logged),
      JSON.stringify(await auditOf(first.body.id)),
    ]
    expect(JSON.stringify(everything)).not.toContain(first.body.token.slice(4))
  })

  test('takes every field', async () => {
    const policies = {
      labels: { line: 'A' },
      allowed_cidrs: ['10.0.0.0/8'],
      require_approval: true,
      on_existing: 'approve',
      single_use: true,
    }
    const token = await makeToken({ expires_in_days: null, ...policies })
    expect(token).toMatchObject({ ...policies, expires_at: null })
    const short = await makeToken({ expires_in_days: 0.5 })
    expect(Date.parse(short.expires_at) - Date.parse(short.created_at)).toBe(43_200_000)
  })

  test.each([
    [{ name: '' }, '/name'],
    [{ name: 'a\u0000' }, '/name'],
    [{ expires_in_days: 0 }, '/expires_in_days'],
    [{ expires_in_days: -1 }, '/expires_in_days'],
    [{ expires_in_days: 1e9 }, '/expires_in_days'],
    [{ expires_in_days: '30' }, '/expires_in_days'],
    [{ single_use: 'yes' }, '/single_use'],
    [{ max_uses: 5 }, '/max_uses'],
    [{ token: 'apt_mine' }, '/token'],
    [{ site_id: newId() }, '/site_id'],
    [{ allowed_cidrs: ['10.0.0.0/33'] }, '/allowed_cidrs/0'],
    [{ fleet_id: 'x' }, '/fleet_id'],
  ])('is not made with %j', async (wrong, pointer) => {
    const answer = await api().post(url, {
      name: 'n',
      ...(await makeFleet(api()).then(({ fleet_id }) => ({ fleet_id }))),
      ...wrong,
    })
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe(pointer)
  })

  test('needs a fleet that there is', async () => {
    const answer = await api().post(url, { name: 'n', fleet_id: newId() })
    expect(expectProblem(answer, 422, 'unknown_reference').errors[0].pointer).toBe('/fleet_id')
  })

  test('says how it stands', async () => {
    const stands = async (change: string, body: Json = {}) => {
      const token = await makeToken(body)
      await api().db.pool.query(`UPDATE claim_credentials SET ${change} WHERE id = $1`, [token.id])
      const { status } = (await api().get(`${url}/${token.id}`)).body
      const among = async (asked: string) =>
        (await api().get(`${url}?fleet=${token.fleet_id}&status=${asked}`)).body.items.length
      for (const other of ['active', 'revoked', 'expired', 'consumed'])
        expect(await among(other)).toBe(other === status ? 1 : 0)
      return status
    }
    expect(await stands('uses = 100000, last_used_at = now()')).toBe('active')
    expect(await stands('expires_at = now()')).toBe('expired')
    expect(await stands('revoked_at = now()')).toBe('revoked')
    expect(await stands('revoked_at = now()', { single_use: true })).toBe('revoked')
    expect(await stands('revoked_at = now(), last_used_at = now()', { single_use: true })).toBe('consumed')
  })

  test('is listed in any order, page by page', async () => {
    const { fleet_id } = await makeFleet(api())
    const ids: string[] = []
    for (const name of ['b', 'a', 'c']) ids.push((await makeToken({ fleet_id, name })).id)
    const [b, a, c] = ids as [string, string, string]
    const use = (id: string, at: string) =>
      api().db.pool.query('UPDATE claim_credentials SET last_used_at = $2 WHERE id = $1', [id, at])
    await use(b, '2026-01-02T00:00:00Z')
    await use(c, '2026-01-01T00:00:00.000001Z')
    const order = async (sort: string) => {
      const found: string[] = []
      let next = ''
      do {
        const { items, next_cursor } = (
          await api().get(`${url}?fleet=${fleet_id}&limit=1&sort=${sort}${next && `&cursor=${next}`}`)
        ).body
        found.push(...items.map((item: Json) => item.id))
        next = next_cursor ?? ''
      } while (next !== '')
      return found
    }
    expect(await order('-created_at')).toEqual([c, a, b])
    expect(await order('name')).toEqual([a, b, c])
    expect(await order('last_used_at')).toEqual([c, b, a])
    expect(await order('-last_used_at')).toEqual([b, c, a])
    const { next_cursor } = (await api().get(`${url}?fleet=${fleet_id}&limit=1&sort=name`)).body
    expectProblem(
      await api().get(`${url}?fleet=${fleet_id}&limit=1&sort=-name&cursor=${next_cursor}`),
      400,
      'invalid_cursor',
    )
    expectProblem(
      await api().get(`/api/enrollment-keys?sort=name&cursor=${next_cursor}`),
      400,
      'invalid_cursor',
    )
  })

  test('is revoked once, whatever is asked, and both changes are in the audit log', async () => {
    const token = await makeToken()
    const first = await api().post(`${url}/${token.id}/revoke`)
    expect(first.body).toMatchObject({ status: 'revoked', robots_revoked: 0, robots_out_of_reach: 0 })
    expect((await api().post(`${url}/${token.id}/revoke`, {})).body).toEqual(first.body)
    expect(await auditOf(token.id)).toMatchObject([
      {
        action: 'provisioning_token.created',
        actor_id: api().tokenId,
        target_kind: 'provisioning_token',
        fleet_id: token.fleet_id,
        data: { single_use: false, on_existing: 'rebind' },
      },
      { action: 'provisioning_token.revoked', data: { cascade: 'none', robots_revoked: 0 } },
    ])
  })

  test('goes with its fleet', async () => {
    const token = await makeToken()
    expect((await api().delete(`/api/fleets/${token.fleet_id}`)).status).toBe(204)
    expectProblem(await api().get(`${url}/${token.id}`), 404, 'not_found')
  })
})

/** A robot as claims leave it. */
async function robotOf(admitted: Json, boundBy: Json = admitted, fleet: Json = admitted): Promise<string> {
  const id = newId()
  await api().db.pool.query(
    `INSERT INTO robots (id, site_id, fleet_id, name, credential_id, token_credential_id, token_hash)
     VALUES ($1::uuid, $2, $3, $1::uuid::text, $4, $5, sha256($1::uuid::text::bytea))`,
    [id, fleet.site_id, fleet.fleet_id, admitted.id, boundBy.id],
  )
  await api().db.pool.query('INSERT INTO robot_status (robot_id) VALUES ($1)', [id])
  return id
}

describe('the robots of a token', () => {
  test('are those that it admitted and those whose token came with it', async () => {
    const { fleet_id } = await makeFleet(api())
    const [one, two] = [await makeToken({ fleet_id }), await makeToken({ fleet_id })]
    const own = await robotOf(one)
    const taken = await robotOf(one, two)
    const robots = async (token: Json) =>
      (await api().get(`${url}/${token.id}/robots`)).body.items.map(({ id }: Json) => id).sort()
    expect(await robots(one)).toEqual([own, taken].sort())
    expect(await robots(two)).toEqual([taken])
    const [robot] = (await api().get(`/api/robots?credential=${two.id}`)).body.items
    expect(robot).toMatchObject({ id: taken, credential_id: one.id, token_credential_id: two.id })
    const page = (await api().get(`${url}/${one.id}/robots?limit=1`)).body
    const rest = (await api().get(`${url}/${one.id}/robots?limit=1&cursor=${page.next_cursor}`)).body
    expect([page.items[0].id, rest.items[0].id].sort()).toEqual([own, taken].sort())
  })

  test('are cut off together with it, and their unused setup tokens with them', async () => {
    const { fleet_id } = await makeFleet(api())
    const [one, two] = [await makeToken({ fleet_id }), await makeToken({ fleet_id })]
    const [own, taken, left] = [await robotOf(one), await robotOf(two, one), await robotOf(two)]
    const setup = (await api().post(`/api/robots/${taken}/setup-token`)).body
    const told = api().published.length
    const { body } = await api().post(`${url}/${one.id}/revoke`, { cascade: 'revoke_robots' })
    expect(body).toMatchObject({ status: 'revoked', robots_revoked: 2, robots_out_of_reach: 0 })
    const revoked = async (id: string) =>
      (await api().get(`/api/robots/${id}`)).body.token_revoked_at !== null
    expect([await revoked(own), await revoked(taken), await revoked(left)]).toEqual([true, true, false])
    expect(api().published.slice(told)).toEqual([
      { type: 'robots_revoked', robot_ids: expect.arrayContaining([own, taken]) },
    ])
    const { rows } = await api().db.pool.query('SELECT revoked_at FROM claim_credentials WHERE id = $1', [
      setup.id,
    ])
    expect(rows[0].revoked_at).not.toBeNull()
    expect((await auditOf(own)).map(({ action }) => action)).toContain('robot.token_revoked')
  })

  test('stay where the caller may not change robots', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const token = await makeToken({ fleet_id: here.fleet_id })
    const [near, far] = [await robotOf(token), await robotOf(token, token, there)]
    const scopes = ['enrollment-keys:read', 'enrollment-keys:write', 'robots:read', 'robots:write'] as const
    const own = await insertFleetToken(api().db.database, here.fleet_id, { scopes: [...scopes] })
    const listed = await api().get(`${url}/${token.id}/robots`, { token: own.token })
    expect(listed.body.items.map(({ id }: Json) => id)).toEqual([near])
    const narrow = await insertFleetToken(api().db.database, here.fleet_id, { scopes: scopes.slice(0, 3) })
    const cascade = { cascade: 'revoke_robots' }
    expectProblem(
      await api().post(`${url}/${token.id}/revoke`, cascade, { token: narrow.token }),
      403,
      'insufficient_scope',
    )
    expect((await api().get(`${url}/${token.id}`)).body.status).toBe('active')
    const setups = await Promise.all(
      [near, far].map(async (id) => (await api().post(`/api/robots/${id}/setup-token`)).body.id),
    )
    const { body } = await api().post(`${url}/${token.id}/revoke`, cascade, { token: own.token })
    const { rows } = await api().db.pool.query(
      'SELECT id FROM claim_credentials WHERE id = ANY ($1) AND revoked_at IS NULL',
      [setups],
    )
    expect(rows).toEqual([{ id: setups[1] }])
    expect(body).toMatchObject({ robots_revoked: 1, robots_out_of_reach: 1 })
    expect((await api().get(`/api/robots/${far}`)).body.token_revoked_at).toBeNull()
  })
})

describe('a token of another fleet', () => {
  test('makes, sees and revokes nothing here', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const token = await makeToken({ fleet_id: here.fleet_id })
    const foreign = await insertFleetToken(api().db.database, there.fleet_id, {
      scopes: ['enrollment-keys:read', 'enrollment-keys:write', 'robots:read', 'robots:write'],
    })
    const as = { token: foreign.token }
    expectProblem(await api().post(url, { name: 'n', fleet_id: here.fleet_id }, as), 422, 'unknown_reference')
    expectProblem(await api().get(`${url}/${token.id}`, as), 404, 'not_found')
    expectProblem(await api().get(`${url}/${token.id}/robots`, as), 404, 'not_found')
    expectProblem(await api().post(`${url}/${token.id}/revoke`, {}, as), 404, 'not_found')
    expect((await api().get(`${url}?fleet=${here.fleet_id}`, as)).body.items).toEqual([])
    expect((await api().post(url, { name: 'n', fleet_id: there.fleet_id }, as)).status).toBe(201)
    expect((await api().get(url, as)).body.items).toHaveLength(1)
  })
})
