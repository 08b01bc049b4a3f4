import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { insertFleetToken } from '../support/access.ts'
import { expectProblem, type Json, makeFleet, makeRobot, unique } from './api.ts'
import { auditOf, type ClaimingApi, machine, sha256, startClaimingApi } from './claiming.ts'

let api: ClaimingApi
beforeAll(async () => {
  api = await startClaimingApi()
})
afterAll(() => api.close())

type Place = { site_id: string; fleet_id: string }

async function makeKey(place: Place, body: Json = {}): Promise<Json> {
  const answer = await api.post('/api/enrollment-keys', {
    ...place,
    name: 'key',
    require_approval: true,
    ...body,
  })
  expect(answer.status).toBe(201)
  return answer.body
}

/** Robots that wait, oldest first. */
async function waiting(key: Json, count: number): Promise<string[]> {
  const ids: string[] = []
  while (ids.length < count) ids.push((await api.claim(key.key_value, machine(unique('new')))).body.robot_id)
  return ids
}

/** A robot that took part before a key with `on_existing: approve` bound its machine anew. */
async function reclaimed(place: Place, lifecycle = 'active'): Promise<{ id: string; key: Json }> {
  const name = unique('known')
  const first = await makeKey(place, { require_approval: false })
  const { robot_id: id } = (await api.claim(first.key_value, machine(name))).body
  if (lifecycle !== 'active') await api.patch(`/api/robots/${id}`, { lifecycle })
  const key = await makeKey(place, { require_approval: false, on_existing: 'approve' })
  const again = machine(name, { claim_id: 'again', token_hash: sha256(`again ${name}`) })
  expect((await api.claim(key.key_value, again)).body.robot_id).toBe(id)
  return { id, key }
}

const robot = async (id: string) => (await api.get(`/api/robots/${id}`)).body
const usesOf = async (key: Json) => (await api.get(`/api/enrollment-keys/${key.id}`)).body.uses
const idsOf = (answer: Json): string[] => answer.body.robots.map(({ id }: Json) => id)
const queue = async (query: string) =>
  (await api.get(`/api/approvals?${query}`)).body.items.map(({ id }: Json) => id)

describe('robots that wait for approval', () => {
  test('are listed with all that an operator decides by, those first that have waited longest', async () => {
    const place = await makeFleet(api)
    const key = await makeKey(place, { name: 'dock', labels: { line: 'A' } })
    const request = machine(unique('new'), {
      fingerprint: { hostname: 'r2', machine_id: unique('m'), agent_version: '1.2.3' },
    })
    const { robot_id } = (await api.claim(key.key_value, request)).body
    const known = await reclaimed(place, 'maintenance')
    const { body } = await api.get(`/api/approvals?fleet=${place.fleet_id}`)
    expect(body.next_cursor).toBeNull()
    expect(body.items).toEqual([
      {
        id: robot_id,
        name: request.name,
        ...place,
        labels: { line: 'A' },
        is_new: true,
        lifecycle_before: null,
        fingerprint: { hostname: 'r2', agent_version: '1.2.3' },
        address: '127.0.0.1',
        connection: 'unseen',
        credential: { id: key.id, kind: 'enrollment_key', name: 'dock' },
        pending_since: expect.any(String),
        expires_at: expect.any(String),
      },
      expect.objectContaining({
        id: known.id,
        is_new: false,
        lifecycle_before: 'maintenance',
        credential: { id: known.key.id, kind: 'enrollment_key', name: 'key' },
      }),
    ])
    const [{ pending_since, expires_at }] = body.items
    expect(Date.parse(expires_at) - Date.parse(pending_since)).toBe(72 * 3_600_000)
    expect((await robot(robot_id)).pending_since).toBe(pending_since)
  })

  test('are found by place, credential, label, name and age, page by page', async () => {
    const place = await makeFleet(api)
    const [one, two] = [await makeKey(place, { labels: { line: 'A' } }), await makeKey(place)]
    const [a, b] = (await waiting(one, 2)) as [string, string]
    const [c] = (await waiting(two, 1)) as [string]
    const fleet = `fleet=${place.fleet_id}`
    expect(await queue(fleet)).toEqual([a, b, c])
    expect(await queue(`site=${place.site_id}`)).toEqual([a, b, c])
    expect(await queue(`${fleet}&credential=${two.id}`)).toEqual([c])
    expect(await queue(`${fleet}&label=line%3DA`)).toEqual([a, b])
    expect(await queue(`${fleet}&label=line&label=other`)).toEqual([])
    expect(await queue(`${fleet}&q=${(await robot(b)).name}`)).toEqual([b])
    await api.db.pool.query("UPDATE robots SET pending_since = now() - interval '1 day' WHERE id = $1", [c])
    const anHourAgo = new Date(Date.now() - 3_600_000).toISOString()
    expect(await queue(`${fleet}&older_than=${anHourAgo}`)).toEqual([c])
    const first = (await api.get(`/api/approvals?${fleet}&limit=2`)).body
    expect(first.items.map(({ id }: Json) => id)).toEqual([c, a])
    expect(await queue(`${fleet}&limit=2&cursor=${first.next_cursor}`)).toEqual([b])
    expectProblem(await api.get(`/api/robots?cursor=${first.next_cursor}`), 400, 'invalid_cursor')
  })
})

describe('a robot that is denied', () => {
  test('and was new goes, and its key gets the use back', async () => {
    const key = await makeKey(await makeFleet(api), { max_uses: 1 })
    const [id] = (await waiting(key, 1)) as [string]
    const name = (await robot(id)).name
    expectProblem(await api.claim(key.key_value, machine(unique('late'))), 403, 'key_exhausted')
    const told = api.published.length
    const { status, body } = await api.post(`/api/robots/${id}/deny`)
    expect(status).toBe(200)
    expect(body).toEqual({
      id,
      name,
      site_id: key.site_id,
      fleet_id: key.fleet_id,
      credential_id: key.id,
      outcome: 'removed',
    })
    expect(api.published.slice(told)).toEqual([{ type: 'robots_denied', robot_ids: [id] }])
    expectProblem(await api.get(`/api/robots/${id}`), 404, 'not_found')
    expect(await usesOf(key)).toBe(0)
    expect((await auditOf(api, id)).at(-1)).toMatchObject({
      action: 'robot.denied',
      target_name: name,
      actor_id: api.tokenId,
      fleet_id: key.fleet_id,
      data: { outcome: 'removed', credential_id: key.id },
    })
    expect((await api.claim(key.key_value, machine(unique('late')))).status).toBe(201)
  })

  test.each(['active', 'maintenance'])(
    'and was %s before is that again, without its new token',
    async (before) => {
      const { id, key } = await reclaimed(await makeFleet(api), before)
      expect(await robot(id)).toMatchObject({ lifecycle: 'pending', token_revoked_at: null })
      const { body } = await api.post(`/api/robots/${id}/deny`)
      expect(body.outcome).toBe('restored')
      expect(await robot(id)).toMatchObject({
        lifecycle: before,
        pending_since: null,
        token_revoked_at: expect.any(String),
      })
      expect((await api.get(`/api/robots/${id}/events`)).body.items[0]).toMatchObject({ code: 'denied' })
      expect(await usesOf(key)).toBe(0)
      // The key is older than the denial: it does not bring the machine back.
      const name = (await robot(id)).name
      const again = machine(name, { claim_id: 'c', token_hash: sha256(unique('t')) })
      expectProblem(await api.claim(key.key_value, again), 403, 'robot_revoked')
    },
  )

  test('has to be waiting', async () => {
    const active = await makeRobot(api)
    expectProblem(await api.post(`/api/robots/${active.id}/deny`), 409, 'robot_not_pending')
    await api.post(`/api/robots/${active.id}/retire`)
    expectProblem(await api.post(`/api/robots/${active.id}/deny`), 409, 'robot_is_retired')
    expectProblem(await api.post(`/api/robots/${newId()}/deny`), 404, 'not_found')
  })

  test('stays a record when its approval came first, and the other way round', async () => {
    const key = await makeKey(await makeFleet(api))
    for (let round = 0; round < 10; round++) {
      const [id] = (await waiting(key, 1)) as [string]
      const [approved, denied] = await Promise.all([
        api.post(`/api/robots/${id}/approve`),
        api.post(`/api/robots/${id}/deny`),
      ])
      expect([approved.status, denied.status].sort()).toEqual([200, expect.any(Number)])
      const there = (await api.get(`/api/robots/${id}`)).status === 200
      expect(there).toBe(approved.status === 200)
    }
    const { rows } = await api.db.pool.query('SELECT count(*)::int FROM robots WHERE credential_id = $1', [
      key.id,
    ])
    expect(await usesOf(key)).toBe(rows[0].count)
  })
})

describe('a robot that is approved', () => {
  test('is what it was before it had to wait', async () => {
    const { id } = await reclaimed(await makeFleet(api), 'maintenance')
    const told = api.published.length
    expect((await api.post(`/api/robots/${id}/approve`)).body).toMatchObject({
      lifecycle: 'maintenance',
      pending_since: null,
      token_revoked_at: null,
    })
    expect(api.published.slice(told)).toEqual([{ type: 'robots_changed', robot_ids: [id] }])
  })

  test('or retired waits no longer', async () => {
    const [id] = (await waiting(await makeKey(await makeFleet(api)), 1)) as [string]
    await api.post(`/api/robots/${id}/retire`)
    expect(await robot(id)).toMatchObject({ lifecycle: 'retired', pending_since: null })
  })
})

describe('many robots', () => {
  test('are approved by their ids, each once, and a dry run says so before', async () => {
    const key = await makeKey(await makeFleet(api))
    const ids = await waiting(key, 3)
    const active = await makeRobot(api)
    const nobody = newId()
    const body = { ids: [...ids, active.id, nobody, ids[0]] }
    const dry = await api.post('/api/approvals/approve', { ...body, dry_run: true })
    expect(dry.status).toBe(200)
    const told = api.published.length
    expect((await robot(ids[0]!)).lifecycle).toBe('pending')
    expect(api.published).toHaveLength(told)
    const done = await api.post('/api/approvals/approve', body)
    expect(idsOf(done).sort()).toEqual([...ids].sort())
    expect(done.body).toMatchObject({
      dry_run: false,
      more: false,
      skipped: expect.arrayContaining([
        { id: active.id, why: 'not_pending' },
        { id: nobody, why: 'not_found' },
      ]),
    })
    expect(idsOf(dry).sort()).toEqual(idsOf(done).sort())
    expect(dry.body.skipped).toEqual(done.body.skipped)
    for (const id of ids) {
      expect((await robot(id)).lifecycle).toBe('active')
      expect((await auditOf(api, id)).filter(({ action }) => action === 'robot.approved')).toHaveLength(1)
    }
    const again = await api.post('/api/approvals/approve', body)
    expect(again.body.robots).toEqual([])
    expect(again.body.skipped).toHaveLength(5)
  })

  test('are denied by a filter, and no other is', async () => {
    const place = await makeFleet(api)
    const [one, two] = [await makeKey(place), await makeKey(place)]
    const mine = await waiting(one, 4)
    const others = await waiting(two, 2)
    const known = await reclaimed(place)
    const body = { filter: { fleet: place.fleet_id, credential: one.id } }
    const dry = await api.post('/api/approvals/deny', { ...body, dry_run: true })
    expect(idsOf(dry).sort()).toEqual([...mine].sort())
    expect(await usesOf(one)).toBe(4)
    const told = api.published.length
    const done = await api.post('/api/approvals/deny', body)
    expect(idsOf(done).sort()).toEqual([...mine].sort())
    expect(api.published.slice(told)).toEqual([
      { type: 'robots_denied', robot_ids: expect.arrayContaining(mine) },
    ])
    expect([await usesOf(one), await usesOf(two)]).toEqual([0, 2])
    expect(await queue(`fleet=${place.fleet_id}`)).toEqual([...others, known.id])
    const rest = await api.post('/api/approvals/deny', { filter: { site: place.site_id } })
    expect(rest.body.robots.map(({ outcome }: Json) => outcome).sort()).toEqual([
      'removed',
      'removed',
      'restored',
    ])
    expect(await queue(`fleet=${place.fleet_id}`)).toEqual([])
  })

  test('are decided about a thousand at a time', async () => {
    const place = await makeFleet(api)
    const key = await makeKey(place, { max_uses: 2_000 })
    await api.db.pool.query(
      `WITH new AS (
        INSERT INTO robots (id, site_id, fleet_id, name, credential_id, lifecycle, pending_since)
        SELECT gen_random_uuid(), $1, $2, 'r' || n, $3, 'pending', now() FROM generate_series(1, 1100) n)
      UPDATE claim_credentials SET uses = 1100 WHERE id = $3`,
      [place.site_id, place.fleet_id, key.id],
    )
    const body = { filter: { credential: key.id } }
    const first = await api.post('/api/approvals/deny', body)
    expect([first.body.robots.length, first.body.more]).toEqual([1_000, true])
    expect(await usesOf(key)).toBe(100)
    const second = await api.post('/api/approvals/deny', body)
    expect([second.body.robots.length, second.body.more]).toEqual([100, false])
    expect(await usesOf(key)).toBe(0)
  })

  test('are counted once, whoever decides about them at the same time', async () => {
    const place = await makeFleet(api)
    const key = await makeKey(place)
    await waiting(key, 20)
    const body = { filter: { credential: key.id } }
    const answers = await Promise.all(
      Array.from({ length: 6 }, (_, index) =>
        api.post(`/api/approvals/${index % 2 === 0 ? 'approve' : 'deny'}`, body),
      ),
    )
    const decided = answers.flatMap(idsOf)
    expect(decided).toHaveLength(20)
    expect(new Set(decided).size).toBe(20)
    const left = (await api.get(`/api/robots?fleet=${place.fleet_id}`)).body.items
    expect(await usesOf(key)).toBe(left.length)
  })

  test('out of reach are nobody’s', async () => {
    const [here, there] = [await makeFleet(api), await makeFleet(api)]
    const [mine] = (await waiting(await makeKey(here), 1)) as [string]
    const [other] = (await waiting(await makeKey(there), 1)) as [string]
    const { token } = await insertFleetToken(api.db.database, here.fleet_id, {
      scopes: ['robots:read', 'robots:write'],
    })
    const listed = (await api.get('/api/approvals', { token })).body.items
    expect(listed.map(({ id }: Json) => id)).toEqual([mine])
    const done = await api.post('/api/approvals/approve', { ids: [mine, other] }, { token })
    expect(idsOf(done)).toEqual([mine])
    expect(done.body.skipped).toEqual([{ id: other, why: 'not_found' }])
    expect((await api.post('/api/approvals/deny', { filter: {} }, { token })).body.robots).toEqual([])
    expectProblem(await api.post(`/api/robots/${other}/deny`, {}, { token }), 404, 'not_found')
    expect((await robot(other)).lifecycle).toBe('pending')
    const reader = await insertFleetToken(api.db.database, here.fleet_id, { scopes: ['robots:read'] })
    expectProblem(
      await api.post('/api/approvals/deny', { filter: {} }, { token: reader.token }),
      403,
      'insufficient_scope',
    )
  })

  test.each([
    [{}, ''],
    [{ ids: [], filter: {} }, '/ids'],
    [{ ids: [newId()], filter: {} }, ''],
    [{ ids: ['x'] }, '/ids/0'],
    [{ ids: Array.from({ length: 501 }, newId) }, '/ids'],
    [{ filter: { name: 'x' } }, '/filter/name'],
    [{ filter: { older_than: 'yesterday' } }, '/filter/older_than'],
    [{ filter: { label: ['=x'] } }, '/filter/label/0'],
    [{ filter: { q: 'a\u0000' } }, '/filter/q'],
    [{ filter: {}, dry_run: 'yes' }, '/dry_run'],
  ])('are not meant by %j', async (body, pointer) => {
    for (const decision of ['approve', 'deny']) {
      const problem = expectProblem(
        await api.post(`/api/approvals/${decision}`, body),
        400,
        'invalid_request',
      )
      expect(problem.errors[0].pointer).toBe(pointer)
    }
  })

  test('get the same answer when the request is sent again', async () => {
    const key = await makeKey(await makeFleet(api))
    await waiting(key, 2)
    const headers = { 'idempotency-key': newId() }
    const send = () => api.post('/api/approvals/deny', { filter: { credential: key.id } }, { headers })
    const first = await send()
    await waiting(key, 1)
    expect((await send()).body).toEqual(first.body)
    expect(await usesOf(key)).toBe(1)
  })
})

test('a credential whose robots need approval fills no more than its place in the queue', async () => {
  const place = await makeFleet(api)
  const token = (
    await api.post('/api/provisioning-tokens', {
      name: 'leaked',
      fleet_id: place.fleet_id,
      require_approval: true,
    })
  ).body
  await api.db.pool.query(
    `WITH new AS (
      INSERT INTO robots (id, site_id, fleet_id, name, credential_id, lifecycle, pending_since)
      SELECT gen_random_uuid(), $1, $2, 'r' || n, $3, 'pending', now() FROM generate_series(1, 999) n)
    UPDATE claim_credentials SET uses = 999 WHERE id = $3`,
    [place.site_id, place.fleet_id, token.id],
  )
  const outcomes = await Promise.all(
    Array.from({ length: 5 }, () => api.claim(token.token, machine(unique('new')))),
  )
  expect(outcomes.map(({ status }) => status).sort()).toEqual([201, 429, 429, 429, 429])
  const full = outcomes.find(({ status }) => status === 429)!
  expectProblem(full, 429, 'approval_queue_full')
  expect(Number(full.headers['retry-after'])).toBeGreaterThanOrEqual(30)
  const [{ id }] = (await api.get(`/api/approvals?credential=${token.id}&limit=1`)).body.items
  await api.post(`/api/robots/${id}/approve`)
  expect((await api.claim(token.token, machine(unique('new')))).status).toBe(201)
})
