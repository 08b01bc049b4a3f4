import { describe, expect, test } from 'vitest'
import { FLEET_TOKEN_SCOPES, type Scope } from '../../src/access/scopes.ts'
import { writeLastUses } from '../../src/db/audit-uses.ts'
import { findInvitation, insertInvitation } from '../../src/db/invitations.ts'
import { insertSignIn } from '../../src/db/sign-ins.ts'
import type { Role } from '../../src/db/tables.ts'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { type Api, expectProblem, type Json, makeFleet, makeRobot, startApi, unique, useApi } from './api.ts'

const api = useApi()
const URL = '/api/tokens/revoke-all'

async function person(
  role: Role,
  place: { siteId?: string; fleetId?: string } = {},
  scopes?: Scope[],
  at = api(),
) {
  const { database } = at.db
  const userId = await insertPerson(database, [{ role, ...place }], { name: unique(role) })
  const { id, token } = await insertPersonalToken(database, userId, scopes ? { scopes } : {})
  return { userId, tokenId: id, token }
}

async function signIn(userId: string, at = api()): Promise<string> {
  const id = newId()
  await insertSignIn(at.db.database, {
    id,
    secretHash: hashToken(id),
    stage: 'signed_in',
    userId,
    method: 'password',
    secondFactor: false,
    flowSealed: null,
    address: '192.0.2.1',
    userAgent: null,
  })
  return id
}

/** A claim credential of a fleet, whatever makes them. */
async function insertCredential(
  at: Api,
  fleet: { site_id: string; fleet_id: string },
  more: Json = {},
): Promise<string> {
  const id = newId()
  const row = {
    id,
    kind: 'enrollment_key',
    secret_hash: hashToken(id),
    last_four: '1234',
    name: 'key',
    max_uses: 5,
    labels: '{}',
    ...fleet,
    ...more,
  }
  const columns = Object.keys(row)
  await at.db.pool.query(
    `INSERT INTO claim_credentials (${columns.join(', ')}) VALUES (${columns.map((_, index) => `$${index + 1}`).join(', ')})`,
    Object.values(row),
  )
  return id
}

/** A robot with a token that stands. */
async function robotWithToken(at: Api, fleetId: string): Promise<string> {
  const robot = await makeRobot(at, fleetId)
  await at.db.pool.query('UPDATE robots SET token_hash = $2, token_issued_at = now() WHERE id = $1', [
    robot.id,
    hashToken(robot.id),
  ])
  return robot.id
}

/** A fleet with one of everything that stands, and one of everything that does not. */
async function furnished(at = api()) {
  const fleet = await makeFleet(at)
  const { database } = at.db
  const token = await insertFleetToken(database, fleet.fleet_id, { scopes: FLEET_TOKEN_SCOPES })
  const robot = await robotWithToken(at, fleet.fleet_id)
  const bare = await makeRobot(at, fleet.fleet_id)
  const ids: Record<string, string> = {
    fleet_tokens: token.id,
    enrollment_keys: await insertCredential(at, fleet),
    provisioning_tokens: await insertCredential(at, fleet, { kind: 'provisioning_token', max_uses: null }),
    setup_tokens: await insertCredential(at, fleet, { kind: 'setup_token', robot_id: bare.id, max_uses: 1 }),
    robots: robot,
  }
  const past = new Date(Date.now() - 60_000)
  await insertCredential(at, fleet, { expires_at: past })
  await insertCredential(at, fleet, { revoked_at: past })
  await insertCredential(at, fleet, { max_uses: 1, uses: 1 })
  await insertFleetToken(database, fleet.fleet_id, { scopes: ['robots:read'], expiresAt: past })
  return { ...fleet, token: token.token, ids }
}

/** What an answer lists, group by group. */
function listed(body: Json): Record<string, string[]> {
  return Object.fromEntries(
    Object.entries<Json>(body.revoked).map(([group, { count, items }]) => {
      expect(items).toHaveLength(count)
      return [group, items.map((item: Json) => item.id)]
    }),
  )
}

async function ask(body: Json, token?: string, at = api()): Promise<Json> {
  const answer = await at.post(URL, body, token ? { token } : {})
  expect(answer.status, answer.text).toBe(200)
  return answer.body
}

describe('revoking everything of a person', () => {
  test('takes their tokens and sessions, as the dry run said, and nothing of others', async () => {
    const one = await person('operator')
    const more = await insertPersonalToken(api().db.database, one.userId)
    await insertPersonalToken(api().db.database, one.userId, { revokedAt: new Date() })
    const session = await signIn(one.userId)
    const invitation = newId()
    await insertInvitation(api().db.database, {
      id: invitation,
      userId: one.userId,
      tokenHash: hashToken(invitation),
      createdBy: newId(),
      days: 7,
    })
    const other = await person('operator')
    const otherSession = await signIn(other.userId)
    const of = { user_id: one.userId }
    const dry = await ask({ of, dry_run: true })
    expect(dry).toMatchObject({ dry_run: true, total: 4, includes_current: false })
    expect(listed(dry)).toEqual({
      personal_tokens: [one.tokenId, more.id],
      sign_in_sessions: [session],
      invitations: [invitation],
    })
    expect((await api().get('/api/sites', { token: one.token })).status).toBe(200)
    const real = await ask({ of })
    expect(real).toEqual({ ...dry, dry_run: false })
    for (const token of [one.token, more.token])
      expectProblem(await api().get('/api/sites', { token }), 401, 'token_revoked')
    expect((await api().get('/api/sites', { token: other.token })).status).toBe(200)
    const { rows } = await api().db.pool.query(
      'SELECT id FROM sign_ins WHERE ended_at IS NULL AND id = ANY ($1)',
      [[session, otherSession]],
    )
    expect(rows).toEqual([{ id: otherSession }])
    expect(await findInvitation(api().db.database, hashToken(invitation))).toBeUndefined()
    expect(await ask({ of })).toMatchObject({ total: 0 })
  })

  test('leaves the caller’s own token when told, and says when it is among them', async () => {
    const one = await person('admin')
    const more = await insertPersonalToken(api().db.database, one.userId)
    const of = { user_id: one.userId }
    expect(await ask({ of, dry_run: true }, one.token)).toMatchObject({ total: 2, includes_current: true })
    expect(await ask({ of, except_current: true }, one.token)).toMatchObject({
      total: 1,
      includes_current: false,
    })
    expect((await api().get('/api/sites', { token: one.token })).status).toBe(200)
    expectProblem(await api().get('/api/sites', { token: more.token }), 401, 'token_revoked')
    await ask({ of }, one.token)
    expectProblem(await api().post(URL, { of }, { token: one.token }), 401, 'token_revoked')
  })

  test('is for themselves and for those who manage them', async () => {
    const [here, there] = [await makeFleet(api()), await makeFleet(api())]
    const admin = await person('admin', { siteId: here.site_id })
    const inside = await person('viewer', { fleetId: here.fleet_id })
    const outside = await person('viewer', { siteId: there.site_id })
    const reader = await person('admin', {}, ['robots:read'])
    const everywhere = await person('admin')
    const tryIt = (userId: string, token: string) =>
      api().post(URL, { of: { user_id: userId }, dry_run: true }, { token })
    expect((await tryIt(inside.userId, admin.token)).status).toBe(200)
    for (const unseen of [outside.userId, everywhere.userId, newId()])
      expectProblem(await tryIt(unseen, admin.token), 422, 'unknown_reference')
    const { rows } = await api().db.pool.query("SELECT user_id FROM memberships WHERE role = 'owner'")
    expectProblem(await tryIt(rows[0].user_id, everywhere.token), 403, 'insufficient_scope')
    expectProblem(await tryIt(reader.userId, reader.token), 403, 'insufficient_scope')
    expectProblem(await tryIt(inside.userId, inside.token), 403, 'insufficient_scope')
  })
})

describe('revoking everything of a fleet', () => {
  test('takes its tokens and what robots enrol with; robots only when asked', async () => {
    const fleet = await furnished()
    const other = await furnished()
    const of = { fleet_id: fleet.fleet_id }
    const dry = await ask({ of, dry_run: true })
    const { robots, ...rest } = fleet.ids
    expect(listed(dry)).toEqual(Object.fromEntries(Object.entries(rest).map(([group, id]) => [group, [id]])))
    const withRobots = await ask({ of, include: ['robots'], dry_run: true })
    expect(listed(withRobots)).toEqual({ ...listed(dry), robots: [robots] })
    expect(await ask({ of })).toEqual({ ...dry, dry_run: false })
    expectProblem(await api().get('/api/sites', { token: fleet.token }), 401, 'token_revoked')
    expect((await api().get('/api/fleets', { token: other.token })).status).toBe(200)
    expect(listed(await ask({ of, include: ['robots'] }))).toMatchObject({
      robots: [robots],
      fleet_tokens: [],
    })
    expect(api().published).toContainEqual({ type: 'robots_revoked', robot_ids: [robots] })
    const { rows } = await api().db.pool.query(
      'SELECT fleet_id, token_revoked_at IS NOT NULL AS revoked FROM robots WHERE token_hash IS NOT NULL AND fleet_id = ANY ($1)',
      [[fleet.fleet_id, other.fleet_id]],
    )
    expect(rows).toHaveLength(2)
    for (const row of rows) expect(row.revoked).toBe(row.fleet_id === fleet.fleet_id)
    const events = (await api().get(`/api/robots/${robots}/events`)).body.items
    expect(events[0]).toMatchObject({ code: 'token_revoked', level: 'warn' })
  })

  test('takes nothing but what `only` names', async () => {
    const fleet = await furnished()
    const body = await ask({ of: { fleet_id: fleet.fleet_id }, only: ['enrollment_keys'] })
    expect(listed(body)).toEqual({ enrollment_keys: [fleet.ids.enrollment_keys] })
    expect((await api().get('/api/fleets', { token: fleet.token })).status).toBe(200)
  })

  test('needs the scope of each thing at that fleet', async () => {
    const fleet = await furnished()
    const there = await makeFleet(api())
    const of = { fleet_id: fleet.fleet_id }
    const admin = await person('admin', { fleetId: fleet.fleet_id })
    const foreign = await person('admin', { siteId: there.site_id })
    const narrow = await person('admin', {}, ['tokens:manage', 'robots:read'])
    expect((await api().post(URL, { of, dry_run: true }, { token: admin.token })).status).toBe(200)
    expectProblem(await api().post(URL, { of }, { token: foreign.token }), 422, 'unknown_reference')
    expectProblem(await api().post(URL, { of }, { token: narrow.token }), 403, 'insufficient_scope')
    expect(
      (await api().post(URL, { of, only: ['fleet_tokens'], dry_run: true }, { token: narrow.token })).status,
    ).toBe(200)
    expectProblem(
      await api().post(URL, { of, only: ['robots'] }, { token: narrow.token }),
      403,
      'insufficient_scope',
    )
    expectProblem(await api().post(URL, { of }, { token: fleet.token }), 403, 'insufficient_scope')
  })
})

describe('revoking everything of the deployment', () => {
  test('is for owners, and takes all but robots', async () => {
    const at = await startApi()
    try {
      const fleet = await furnished(at)
      const admin = await person('admin', {}, undefined, at)
      const session = await signIn(admin.userId, at)
      const of = { deployment: true }
      expectProblem(await at.post(URL, { of }, { token: admin.token }), 403, 'insufficient_scope')
      const { rows } = await at.db.pool.query('SELECT user_id FROM memberships WHERE role = $1', ['owner'])
      const narrow = await insertPersonalToken(at.db.database, rows[0].user_id, { scopes: ['tokens:manage'] })
      expectProblem(await at.post(URL, { of }, { token: narrow.token }), 403, 'insufficient_scope')
      const dry = await ask({ of, dry_run: true, except_current: true }, undefined, at)
      const { robots, ...rest } = fleet.ids
      expect(listed(dry)).toEqual({
        ...Object.fromEntries(Object.entries(rest).map(([group, id]) => [group, [id]])),
        personal_tokens: [admin.tokenId, narrow.id],
        sign_in_sessions: [session],
        invitations: [],
      })
      expect(await ask({ of, except_current: true }, undefined, at)).toEqual({ ...dry, dry_run: false })
      for (const token of [admin.token, fleet.token, narrow.token])
        expectProblem(await at.get('/api/sites', { token }), 401, 'token_revoked')
      expect((await at.get('/api/sites')).status).toBe(200)
      const robot = await at.db.pool.query('SELECT token_revoked_at FROM robots WHERE id = $1', [robots])
      expect(robot.rows).toEqual([{ token_revoked_at: null }])
      await ask({ of }, undefined, at)
      expectProblem(await at.get('/api/sites'), 401, 'token_revoked')
    } finally {
      await at.close()
    }
  })
})

describe('what is asked', () => {
  test.each([
    ['nothing', {}, '/of'],
    ['of nobody', { of: {} }, '/of'],
    ['of two at once', { of: { user_id: newId(), fleet_id: newId() } }, '/of'],
    ['of the deployment, but not quite', { of: { deployment: false } }, '/of'],
    ['of what is no id', { of: { user_id: 'x' } }, '/of/user_id'],
    ['what nobody knows', { of: { deployment: true }, include: ['everything'] }, '/include/0'],
    ['for nothing', { of: { deployment: true }, only: [] }, '/only'],
    ['dryly, perhaps', { of: { deployment: true }, dry_run: 'yes' }, '/dry_run'],
  ])('%s is refused', async (_, body, pointer) => {
    const problem = expectProblem(await api().post(URL, body), 400, 'invalid_request')
    expect(problem.errors[0].pointer).toBe(pointer)
  })

  test('of a person’s robots is refused, for there are none', async () => {
    const { userId } = await person('viewer')
    const answer = await api().post(URL, { of: { user_id: userId }, include: ['robots'] })
    expectProblem(answer, 400, 'invalid_request')
  })
})

test('the log holds the ids of all that went, in lines of bounded length, and none of a dry run', async () => {
  const { database, pool } = api().db
  const { userId, tokenId } = await person('viewer')
  const made = await Promise.all(Array.from({ length: 620 }, () => insertPersonalToken(database, userId)))
  const of = { user_id: userId }
  const dry = await api().post(URL, { of, dry_run: true })
  const lines = () =>
    pool.query(
      "SELECT data FROM audit_log WHERE action = 'credentials.revoked_all' AND target_id = $1 ORDER BY seq",
      [userId],
    )
  expect((await lines()).rows).toEqual([])
  expect(dry.body.revoked.personal_tokens.count).toBe(621)
  expect(dry.body.revoked.personal_tokens.items).toHaveLength(100)
  await ask({ of })
  const { rows } = await lines()
  expect(rows.map(({ data }) => data.counts ?? data.ids.length)).toEqual([
    { personal_tokens: 621, sign_in_sessions: 0, invitations: 0 },
    500,
    121,
  ])
  const ids = rows.flatMap(({ data }) => data.ids ?? [])
  expect(ids.sort()).toEqual([tokenId, ...made.map(({ id }) => id)].sort())
})

describe('at the same moment', () => {
  test('what a token makes while everything of its person is revoked is revoked, or was never made', async () => {
    for (let round = 0; round < 12; round++) {
      const { userId, token } = await person('admin')
      const mints = Array.from({ length: 6 }, () => api().post('/api/tokens', { name: 'quick' }, { token }))
      const revoked = await api().post(URL, { of: { user_id: userId } })
      expect(revoked.status).toBe(200)
      const answers = await Promise.all(mints)
      for (const answer of answers) {
        if (answer.status === 201)
          expectProblem(await api().get('/api/sites', { token: answer.body.token }), 401, 'token_revoked')
        else expectProblem(answer, 401, 'token_revoked')
      }
      const { rows } = await api().db.pool.query(
        'SELECT count(*)::int AS count FROM access_tokens WHERE user_id = $1 AND revoked_at IS NULL',
        [userId],
      )
      expect(rows).toEqual([{ count: 0 }])
      const listed = new Set<string>(revoked.body.revoked.personal_tokens.items.map((item: Json) => item.id))
      for (const answer of answers) if (answer.status === 201) expect(listed).toContain(answer.body.id)
    }
  })

  test('a fleet’s token made by a token that is revoked meanwhile is one made before', async () => {
    const { fleet_id } = await makeFleet(api())
    for (let round = 0; round < 8; round++) {
      const admin = await person('admin')
      const mint = api().post(`/api/fleets/${fleet_id}/tokens`, { name: 'quick' }, { token: admin.token })
      const everything = api().post(URL, {
        of: { deployment: true },
        only: ['personal_tokens', 'fleet_tokens'],
        except_current: true,
      })
      const [made] = await Promise.all([mint, everything])
      expect([201, 401]).toContain(made.status)
      if (made.status === 201)
        expectProblem(await api().get('/api/sites', { token: made.body.token }), 401, 'token_revoked')
    }
  })

  test('what robots enrol with, made by a token that is revoked meanwhile, is revoked or was never made', async () => {
    for (let round = 0; round < 6; round++) {
      const fleet = await makeFleet(api())
      const robot = await makeRobot(api(), fleet.fleet_id)
      const { token } = await person('admin')
      const makers = [
        api().post('/api/enrollment-keys', { ...fleet, name: 'quick' }, { token }),
        api().post('/api/provisioning-tokens', { fleet_id: fleet.fleet_id, name: 'quick' }, { token }),
        api().post(`/api/robots/${robot.id}/setup-token`, undefined, { token }),
      ]
      await ask({ of: { deployment: true }, except_current: true })
      for (const answer of await Promise.all(makers)) expect([201, 401], answer.text).toContain(answer.status)
      const { rows } = await api().db.pool.query(
        'SELECT kind FROM claim_credentials WHERE fleet_id = $1 AND revoked_at IS NULL',
        [fleet.fleet_id],
      )
      expect(rows).toEqual([])
    }
  })

  test('last uses are written, also of what is revoked meanwhile, and nobody waits in a circle', async () => {
    const { database, pool } = api().db
    const people = await Promise.all(
      Array.from({ length: 4 }, () => insertPerson(database, [{ role: 'viewer' }])),
    )
    const tokens: string[] = []
    for (const userId of people)
      for (let count = 0; count < 40; count++) tokens.push((await insertPersonalToken(database, userId)).id)
    const at = new Date()
    const uses = tokens.map((id) => ({ id, at, address: '192.0.2.9' }))
    const deadlocks = async () =>
      (
        await pool.query(
          'SELECT deadlocks::int AS count FROM pg_stat_database WHERE datname = current_database()',
        )
      ).rows[0].count
    const before = await deadlocks()
    await Promise.all([
      ...[0, 1, 2].map((round) =>
        writeLastUses(
          database,
          uses.map((use) => ({ ...use, at: new Date(at.getTime() + round) })).reverse(),
        ),
      ),
      ...people.map((userId) => ask({ of: { user_id: userId } })),
      ...tokens.slice(0, 20).map((id) => api().post(`/api/tokens/${id}/revoke`)),
    ])
    const { rows } = await pool.query(
      `SELECT count(*)::int AS count FROM access_tokens
       WHERE id = ANY ($1) AND revoked_at IS NOT NULL AND last_used_at = $2`,
      [tokens, new Date(at.getTime() + 2)],
    )
    expect(rows).toEqual([{ count: tokens.length }])
    await pool.query('SELECT pg_stat_force_next_flush()')
    expect(await deadlocks()).toBe(before)
  })

  test('two who revoke everything: the second finds itself revoked', async () => {
    const of = { deployment: true }
    const at = await startApi()
    try {
      const { rows } = await at.db.pool.query('SELECT user_id FROM memberships')
      const second = await insertPersonalToken(at.db.database, rows[0].user_id)
      const answers = await Promise.all([
        at.post(URL, { of, except_current: true }),
        at.post(URL, { of, except_current: true }, { token: second.token }),
      ])
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 401])
    } finally {
      await at.close()
    }
  })

  test('a token in constant use is refused from the revocation on', async () => {
    const { tokenId, token } = await person('viewer')
    let revokedAt = Number.POSITIVE_INFINITY
    let late = 0
    let refused = 0
    const use = async () => {
      while (refused < 20) {
        const begun = performance.now()
        const { status } = await api().get('/api/sites', { token })
        if (status === 401) refused += 1
        else if (begun > revokedAt) late += 1
      }
    }
    const users = Promise.all([use(), use(), use()])
    const answer = await api().post(`/api/tokens/${tokenId}/revoke`)
    revokedAt = performance.now()
    expect(answer.status).toBe(200)
    await users
    expect(late).toBe(0)
  })
})

test('a token of the right form that nobody has is answered like one that nobody could have', async () => {
  const unknown = mintCheckedToken('personal')
  const mistyped = `${unknown.slice(0, -1)}${unknown.endsWith('0') ? '1' : '0'}`
  const answers = await Promise.all(
    [unknown, mistyped, mintCheckedToken('fleet'), 'rf_pat_', 'x'].map((token) =>
      api().get('/api/tokens', { token }),
    ),
  )
  const seen = answers.map(({ status, body, headers }) => {
    const { request_id: _, ...rest } = body
    return JSON.stringify([status, rest, headers['www-authenticate']])
  })
  expect(new Set(seen).size).toBe(1)
})
