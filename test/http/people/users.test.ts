import fc from 'fast-check'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Scope } from '../../../src/access/scopes.ts'
import { insertPerson, insertPersonalToken, type RoleAtPlace } from '../../support/access.ts'
import { eventually } from '../../support/eventually.ts'
import {
  codeAt,
  insertSigner,
  newBrowser,
  PASSWORD,
  setUpSecondFactor,
  signedIn,
} from '../../support/people.ts'
import { type Answer, expectProblem, type Json, makeFleet, unique } from '../api.ts'
import { startPeopleApi, usePeopleApi } from './people-api.ts'

const api = usePeopleApi()

const DEPLOYMENT = { site_id: null, fleet_id: null }
const newEmail = () => `${unique('invited')}@example.test`

/** Somebody with a token, for asking in their name. */
async function holder(roles: readonly RoleAtPlace[], scopes: readonly Scope[] | null = null) {
  const { id, email } = await insertSigner(api(), roles)
  const { token } = await insertPersonalToken(api().db.database, id, { scopes })
  return { id, email, token }
}

async function invite(roles: readonly Json[] = [{ role: 'viewer' }], token?: string): Promise<Json> {
  const body = { name: unique('person'), email: newEmail(), roles }
  const answer = await api().post('/api/users', body, token === undefined ? {} : { token })
  expect(answer.status, answer.text).toBe(201)
  return answer.body
}

const accept = (token: string, password = PASSWORD, more = {}) =>
  newBrowser(api()).post('/api/invitations/accept', { token, password, ...more })

describe('the first owner', () => {
  test('gives themselves an email and a password, and signs in', async () => {
    const fresh = await startPeopleApi()
    onTestFinished(() => fresh.close())
    const who = (await fresh.get('/api/session')).body
    expect(who.user).toMatchObject({ name: 'owner', email: null })
    const url = `/api/users/${who.user.id}/invite`
    expect(expectProblem(await fresh.post(url), 400, 'invalid_request').errors[0].pointer).toBe('/email')
    const invited = await fresh.post(url, { email: 'Boss@Example.test' })
    expect(invited.body).toMatchObject({ email: 'boss@example.test', status: 'invited' })
    const browser = newBrowser(fresh)
    const accepted = await browser.post('/api/invitations/accept', {
      token: invited.body.invitation_token,
      password: PASSWORD,
      name: 'The Boss',
    })
    expect(accepted.body).toEqual({ user: { id: who.user.id, name: 'The Boss', email: 'boss@example.test' } })
    await browser.post('/api/sign-in', { email: 'boss@example.test', password: PASSWORD })
    expect((await browser.get('/api/session')).body.roles).toEqual([{ role: 'owner', ...DEPLOYMENT }])
    // The token of the first start goes on to work.
    expect((await fresh.get('/api/users')).body.items[0]).toMatchObject({
      name: 'The Boss',
      status: 'active',
    })
  })
})

describe('an invitation', () => {
  test('lets somebody in once, with the roles they were given', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const user = await invite([
      { role: 'operator', fleet_id },
      { role: 'viewer', site_id },
    ])
    expect(user).toMatchObject({
      status: 'invited',
      second_factor: false,
      roles: [
        { role: 'operator', site_id: null, fleet_id },
        { role: 'viewer', site_id, fleet_id: null },
      ],
    })
    const { pathname, search, hash } = new URL(user.accept_url)
    expect([pathname, search, hash]).toEqual(['/accept-invitation', '', `#${user.invitation_token}`])
    const days = (Date.parse(user.invitation_expires_at) - Date.parse(user.created_at)) / 86_400_000
    expect(Math.round(days)).toBe(7)
    expect((await accept(user.invitation_token)).status).toBe(200)
    expectProblem(await accept(user.invitation_token), 403, 'invitation_invalid')
    const browser = await signedIn(api(), user.email)
    expect((await browser.get('/api/fleets')).status).toBe(200)
    expectProblem(await browser.get('/api/users'), 403, 'insufficient_scope')
    expect((await api().auditOf(user.id)).map(({ action }) => action)).toEqual([
      'user.invited',
      'user.invitation_accepted',
      'sign_in.succeeded',
    ])
  })

  test('is kept as a digest, and is in no log, audit line or repetition', async () => {
    const body = { name: 'x', email: newEmail(), roles: [{ role: 'viewer' }] }
    const headers = { 'idempotency-key': unique('key') }
    const first = await api().post('/api/users', body, { headers })
    const again = await api().post('/api/users', body, { headers })
    expect(again.body).toEqual({ ...first.body, invitation_token: null, accept_url: null })
    const token = first.body.invitation_token.slice('rf_invite_'.length)
    for (const table of ['users', 'invitations', 'audit_log', 'idempotent_requests']) {
      const { rows } = await api().db.pool.query(`SELECT row_to_json(t)::text AS row FROM ${table} t`)
      expect(rows.map(({ row }) => row).join()).not.toContain(token)
    }
    expect(JSON.stringify(api().logged)).not.toContain(token)
  })

  test.each([
    ['that was never made', () => `rf_invite_${'0'.repeat(64)}`],
    ['of another form', () => 'nonsense'],
    ['of spaces', () => ' '],
  ])('%s is refused', async (_, token) => {
    expectProblem(await accept(token()), 403, 'invitation_invalid')
  })

  test('is refused once it has expired, was replaced, or its person is gone or reads another email', async () => {
    const expired = await invite()
    await api().db.pool.query('UPDATE invitations SET expires_at = now() WHERE user_id = $1', [expired.id])
    const replaced = await invite()
    const next = (await api().post(`/api/users/${replaced.id}/invite`)).body
    const gone = await invite()
    expect((await api().delete(`/api/users/${gone.id}`)).status).toBe(204)
    const moved = await invite()
    await api().patch(`/api/users/${moved.id}`, { email: newEmail() })
    for (const { invitation_token } of [expired, replaced, gone, moved])
      expectProblem(await accept(invitation_token), 403, 'invitation_invalid')
    expect((await accept(next.invitation_token)).status).toBe(200)
  })

  test('is void once its person holds more than whoever made it could give', async () => {
    const { fleet_id } = await makeFleet(api())
    const admin = await holder([{ role: 'admin', fleetId: fleet_id }])
    const kept = await invite([{ role: 'viewer', fleet_id }], admin.token)
    const known = await insertSigner(api(), [{ role: 'viewer', fleetId: fleet_id }])
    const again = await api().post(`/api/users/${known.id}/invite`, undefined, { token: admin.token })
    for (const id of [kept.id, known.id])
      expect((await api().patch(`/api/users/${id}`, { roles: [{ role: 'owner' }] })).status).toBe(200)
    for (const { invitation_token } of [kept, again.body])
      expectProblem(
        await accept(invitation_token, 'another quiet harbour at dusk'),
        403,
        'invitation_invalid',
      )
    await signedIn(api(), known.email)
    // Demoted again, it would work: refusing used nothing up.
    await api().patch(`/api/users/${kept.id}`, { roles: [{ role: 'viewer', fleet_id }] })
    expect((await accept(kept.invitation_token)).status).toBe(200)
  })

  test('is void once whoever made it is removed or holds less, however they asked for it', async () => {
    for (const take of ['remove', 'demote'] as const)
      for (const how of ['token', 'session'] as const) {
        const admin = await holder([{ role: 'admin' }])
        const browser = await signedIn(api(), admin.email)
        const body = { name: 'x', email: newEmail(), roles: [{ role: 'admin' }] }
        const invited =
          how === 'token'
            ? await api().post('/api/users', body, { token: admin.token })
            : await browser.post('/api/users', body)
        expect(invited.status, invited.text).toBe(201)
        const gone =
          take === 'remove'
            ? await api().delete(`/api/users/${admin.id}`)
            : await api().patch(`/api/users/${admin.id}`, { roles: [{ role: 'operator' }] })
        expect(gone.status, gone.text).toBeLessThan(300)
        expectProblem(await accept(invited.body.invitation_token), 403, 'invitation_invalid')
      }
  })

  test('outlives the token that it was made with, for that is often replaced', async () => {
    const admin = await holder([{ role: 'admin' }])
    const invited = await invite([{ role: 'admin' }], admin.token)
    await api().post('/api/tokens/self/revoke', undefined, { token: admin.token })
    expect((await accept(invited.invitation_token)).status).toBe(200)
  })

  test('is not used up by a password that is refused', async () => {
    const user = await invite()
    expectProblem(await accept(user.invitation_token, 'short'), 400, 'invalid_request')
    const without = await newBrowser(api()).post('/api/invitations/accept', { token: user.invitation_token })
    expectProblem(without, 400, 'invalid_request')
    expect((await accept(user.invitation_token)).status).toBe(200)
  })

  test('accepted many times at once lets in once', async () => {
    const user = await invite()
    const answers = await Promise.all(Array.from({ length: 6 }, () => accept(user.invitation_token)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
  })

  test('again is the way back in: nothing changes until it is accepted, then sessions end and the second factor stays', async () => {
    const { id, email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    const { secret } = await setUpSecondFactor(browser, api().clock.now())
    const invited = (await api().post(`/api/users/${id}/invite`)).body
    expect((await browser.get('/api/session')).status).toBe(200)
    expect((await accept(invited.invitation_token, 'a louder harbour at noon')).status).toBe(200)
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    api().clock.advance(60_000)
    const back = newBrowser(api())
    expectProblem(await back.post('/api/sign-in', { email, password: PASSWORD }), 401, 'sign_in_failed')
    const half = await back.post('/api/sign-in', { email, password: 'a louder harbour at noon' })
    expect(half.body.second_factor).toBe('required')
    const code = codeAt(secret, api().clock.now())
    expect((await back.post('/api/sign-in/second-factor', { code })).status).toBe(200)
  })

  test('takes an email that nobody else has', async () => {
    const user = await invite()
    const body = { name: 'y', email: user.email.toUpperCase(), roles: [{ role: 'viewer' }] }
    expectProblem(await api().post('/api/users', body), 409, 'email_taken')
    const other = await invite()
    expectProblem(await api().patch(`/api/users/${other.id}`, { email: user.email }), 409, 'email_taken')
  })

  test.each([
    { email: 'no-at-sign' },
    { email: 'a@b@c' },
    { email: 'a b@example.test' },
    { email: '"x"@example.test' },
    { roles: [] },
    { roles: [{ role: 'king' }] },
    { roles: [{ role: 'owner', site_id: '0190a0a0-0000-7000-8000-000000000001' }] },
    { name: 'a\u202eb' },
    { surprise: 1 },
  ])('with %j is not valid', async (wrong) => {
    const body = { name: 'x', email: newEmail(), roles: [{ role: 'viewer' }], ...wrong }
    expectProblem(await api().post('/api/users', body), 400, 'invalid_request')
  })

  test('names places that there are, each once', async () => {
    const { site_id } = await makeFleet(api())
    const post = (roles: Json[]) => api().post('/api/users', { name: 'x', email: newEmail(), roles })
    const unknown = '0190a0a0-0000-7000-8000-000000000001'
    expectProblem(await post([{ role: 'viewer', site_id: unknown }]), 422, 'unknown_reference')
    expectProblem(await post([{ role: 'viewer', fleet_id: unknown }]), 422, 'unknown_reference')
    expectProblem(
      await post([
        { role: 'viewer', site_id },
        { role: 'admin', site_id },
      ]),
      400,
      'invalid_request',
    )
  })
})

describe('nobody gives what they do not hold', () => {
  test('an admin makes admins and less, no owner; an operator nobody', async () => {
    const admin = await holder([{ role: 'admin' }])
    const operator = await holder([{ role: 'operator' }])
    const post = (token: string, role: string) =>
      api().post('/api/users', { name: 'x', email: newEmail(), roles: [{ role }] }, { token })
    for (const role of ['admin', 'operator', 'viewer'])
      expect((await post(admin.token, role)).status).toBe(201)
    expectProblem(await post(admin.token, 'owner'), 403, 'exceeds_own_rights')
    expectProblem(await post(operator.token, 'viewer'), 403, 'insufficient_scope')
  })

  test('a token of an owner with users:manage alone makes nobody who holds more than that', async () => {
    const owner = await holder([{ role: 'owner' }], ['users:manage'])
    for (const role of ['owner', 'admin', 'viewer'])
      expectProblem(
        await api().post(
          '/api/users',
          { name: 'x', email: newEmail(), roles: [{ role }] },
          { token: owner.token },
        ),
        403,
        'exceeds_own_rights',
      )
    // Nor does it take over the account that it belongs to.
    expectProblem(
      await api().post(`/api/users/${owner.id}/invite`, {}, { token: owner.token }),
      403,
      'exceeds_own_rights',
    )
  })

  test("an admin does not touch an owner's account", async () => {
    const owner = await holder([{ role: 'owner' }])
    const { token } = await holder([{ role: 'admin' }])
    const url = `/api/users/${owner.id}`
    for (const answer of [
      await api().patch(url, { name: 'x' }, { token }),
      await api().patch(url, { email: newEmail() }, { token }),
      await api().patch(url, { roles: [] }, { token }),
      await api().patch(url, { roles: [{ role: 'admin' }] }, { token }),
      await api().post(`${url}/invite`, {}, { token }),
      await api().post(`${url}/reset-second-factor`, undefined, { token }),
      await api().delete(url, { token }),
    ])
      expectProblem(answer, 403, 'exceeds_own_rights')
  })

  test('whoever manages a site sees and changes what people hold there, and nothing else of theirs', async () => {
    const here = await makeFleet(api())
    const elsewhere = await makeFleet(api())
    const { token } = await holder([{ role: 'admin', siteId: here.site_id }])
    const both = await holder([
      { role: 'viewer', fleetId: here.fleet_id },
      { role: 'operator', siteId: elsewhere.site_id },
    ])
    const stranger = await holder([{ role: 'viewer', siteId: elsewhere.site_id }])
    const everywhere = await holder([{ role: 'viewer' }])
    const listed = (await api().get('/api/users?limit=200', { token })).body.items
    const ids = listed.map((user: Json) => user.id)
    expect(ids).toContain(both.id)
    expect(ids).not.toContain(stranger.id)
    expect(ids).not.toContain(everywhere.id)
    const url = `/api/users/${both.id}`
    const viewer = { role: 'viewer', site_id: null, fleet_id: here.fleet_id }
    expect((await api().get(url, { token })).body.roles).toEqual([viewer])
    for (const other of [stranger, everywhere])
      expectProblem(await api().get(`/api/users/${other.id}`, { token }), 404, 'not_found')
    // A place out of sight is not there.
    for (const roles of [
      [{ role: 'viewer', site_id: elsewhere.site_id }],
      [{ role: 'viewer', fleet_id: elsewhere.fleet_id }],
    ])
      expectProblem(await api().patch(url, { roles }, { token }), 422, 'unknown_reference')
    expectProblem(
      await api().patch(url, { roles: [viewer, { role: 'viewer' }] }, { token }),
      403,
      'exceeds_own_rights',
    )
    expectProblem(await api().patch(url, { email: newEmail() }, { token }), 403, 'exceeds_own_rights')
    expectProblem(await api().delete(url, { token }), 403, 'exceeds_own_rights')
    const changed = await api().patch(url, { roles: [{ role: 'admin', site_id: here.site_id }] }, { token })
    expect(changed.body.roles).toEqual([{ role: 'admin', site_id: here.site_id, fleet_id: null }])
    expect((await api().get(url)).body.roles).toHaveLength(2)
    expect((await api().patch(url, { roles: [] }, { token })).body.roles).toEqual([])
    expect((await api().get(url)).body.roles).toEqual([
      { role: 'operator', site_id: elsewhere.site_id, fleet_id: null },
    ])
    expectProblem(await api().get(url, { token }), 404, 'not_found')
  })

  test('nobody changes their own roles or resets their own second factor', async () => {
    const me = await holder([{ role: 'owner' }])
    const url = `/api/users/${me.id}`
    const { token } = me
    expectProblem(
      await api().patch(url, { roles: [{ role: 'admin' }] }, { token }),
      403,
      'exceeds_own_rights',
    )
    expectProblem(
      await api().post(`${url}/reset-second-factor`, undefined, { token }),
      403,
      'exceeds_own_rights',
    )
    const same = await api().patch(url, { roles: [{ role: 'owner' }], name: 'me' }, { token })
    expect(same.body).toMatchObject({ name: 'me', roles: [{ role: 'owner', ...DEPLOYMENT }] })
  })
})

describe('what somebody loses', () => {
  test('with a role: their tokens and sessions lose it with the next request, and may gain it back', async () => {
    const { id, email, token } = await holder([{ role: 'operator' }])
    const browser = await signedIn(api(), email)
    const create = async () => {
      const body = { site_id: (await makeFleet(api())).site_id, name: unique('f') }
      return [
        (await api().post('/api/fleets', body, { token })).status,
        (await browser.post('/api/fleets', { ...body, name: unique('f') })).status,
      ]
    }
    expect(await create()).toEqual([201, 201])
    const before = api().published.length
    await api().patch(`/api/users/${id}`, { roles: [{ role: 'viewer' }] })
    expect(api().published.slice(before)).toEqual([{ type: 'access_changed' }])
    expect(await create()).toEqual([403, 403])
    expect((await browser.get('/api/sites')).status).toBe(200)
    await api().patch(`/api/users/${id}`, { roles: [{ role: 'operator' }] })
    expect(await create()).toEqual([201, 201])
    const [line] = (await api().auditOf(id)).filter(({ action }) => action === 'user.changed')
    expect(line.data.changed).toEqual({
      roles_added: [{ role: 'viewer', ...DEPLOYMENT }],
      roles_removed: [{ role: 'operator', ...DEPLOYMENT }],
    })
  })

  test('when removed: tokens, sessions, invitations and email; the row stays without a name', async () => {
    const { id, email, token } = await holder([{ role: 'operator' }])
    const browser = await signedIn(api(), email)
    await setUpSecondFactor(browser, api().clock.now())
    expect((await api().delete(`/api/users/${id}`)).status).toBe(204)
    expectProblem(await api().get('/api/sites', { token }), 401, 'token_revoked')
    expectProblem(await browser.get('/api/sites'), 401, 'credentials_required')
    expectProblem(
      await newBrowser(api()).post('/api/sign-in', { email, password: PASSWORD }),
      401,
      'sign_in_failed',
    )
    expectProblem(await api().get(`/api/users/${id}`), 404, 'not_found')
    expectProblem(await api().delete(`/api/users/${id}`), 404, 'not_found')
    const { rows } = await api().db.pool.query(
      'SELECT name, email, removed_at IS NOT NULL AS removed FROM users WHERE id = $1',
      [id],
    )
    expect(rows).toEqual([{ name: 'removed user', email: null, removed: true }])
    for (const table of ['passwords', 'second_factors', 'backup_codes', 'memberships', 'invitations'])
      expect(
        (await api().db.pool.query(`SELECT FROM ${table} WHERE user_id = $1`, [id])).rowCount,
        table,
      ).toBe(0)
    // The email is free again.
    const body = { name: 'another', email, roles: [{ role: 'viewer' }] }
    expect((await api().post('/api/users', body)).status).toBe(201)
  })

  test('with a second factor that somebody resets: it and the sessions', async () => {
    const { id, email } = await holder([{ role: 'viewer' }])
    const browser = await signedIn(api(), email)
    await setUpSecondFactor(browser, api().clock.now())
    const reset = await api().post(`/api/users/${id}/reset-second-factor`)
    expect(reset.body.second_factor).toBe(false)
    expectProblem(await browser.get('/api/session'), 401, 'credentials_required')
    await signedIn(api(), email)
    expect((await api().auditOf(id)).map(({ action }) => action)).toContain('second_factor.reset')
  })

  test('while their requests are under way: each is answered by what they held, and none after', async () => {
    const { id, token } = await holder([{ role: 'admin' }])
    const flight = Array.from({ length: 20 }, () =>
      api().post('/api/users', { name: 'x', email: newEmail(), roles: [{ role: 'admin' }] }, { token }),
    )
    const [removed, ...answers] = await Promise.all([api().delete(`/api/users/${id}`), ...flight])
    expect(removed.status).toBe(204)
    for (const { status } of answers) expect([201, 401]).toContain(status)
    const { rows } = await api().db.pool.query(
      `SELECT coalesce(bool_and(made.seq < removed.seq), true) AS before
       FROM audit_log made, audit_log removed
       WHERE made.action = 'user.invited' AND made.data->>'user_id' = $1
         AND removed.action = 'user.removed' AND removed.target_id = $1`,
      [id],
    )
    expect(rows).toEqual([{ before: true }])
    expectProblem(await api().get('/api/users', { token }), 401, 'token_revoked')
  })
})

describe('rights that are lost while somebody else is being changed', () => {
  /** Lets a request come to where it waits for its turn, takes something away meanwhile, and lets it go on. */
  async function overtaken(send: () => Promise<Answer>, change: string, userId: string): Promise<Answer> {
    const client = await api().db.pool.connect()
    try {
      await client.query('BEGIN')
      await client.query("SELECT pg_advisory_xact_lock(hashtextextended('beacon.people', 0))")
      const answer = send()
      await eventually(async () => {
        const { rowCount } = await api().db.pool.query(
          `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        )
        return rowCount === 1
      }, 'the request that waits')
      await client.query(change, [userId])
      await client.query('COMMIT')
      return await answer
    } finally {
      client.release()
    }
  }

  const invites = (token: string) => () =>
    api().post('/api/users', { name: 'x', email: newEmail(), roles: [{ role: 'admin' }] }, { token })

  test.each([
    ['a role', "UPDATE memberships SET role = 'viewer' WHERE user_id = $1", '403 exceeds_own_rights'],
    ['a token', 'UPDATE access_tokens SET revoked_at = now() WHERE user_id = $1', '401 token_revoked'],
    ['a person', 'UPDATE users SET removed_at = now() WHERE id = $1', '401 token_revoked'],
  ])('are lost with %s', async (_, change, expected) => {
    const { id, token } = await holder([{ role: 'admin' }])
    const answer = await overtaken(invites(token), change, id)
    expect(`${answer.status} ${answer.body.code}`).toBe(expected)
    const made = await api().db.pool.query(
      'SELECT FROM invitations WHERE created_by IN (SELECT id FROM access_tokens WHERE user_id = $1)',
      [id],
    )
    expect(made.rowCount).toBe(0)
  })
})

describe('the last owner', () => {
  async function deployment() {
    const fresh = await startPeopleApi()
    const owner = (await fresh.get('/api/session')).body.user.id as string
    return { fresh, owner }
  }

  test('is neither removed nor demoted', async () => {
    const { fresh, owner } = await deployment()
    onTestFinished(() => fresh.close())
    expectProblem(await fresh.delete(`/api/users/${owner}`), 409, 'last_owner')
    expectProblem(await fresh.patch(`/api/users/${owner}`, { roles: [] }), 403, 'exceeds_own_rights')
    expect((await fresh.get('/api/session')).body.roles).toHaveLength(1)
    const other = await insertPerson(fresh.db.database, [{ role: 'owner' }])
    const { token } = await insertPersonalToken(fresh.db.database, other)
    expect((await fresh.patch(`/api/users/${owner}`, { roles: [{ role: 'admin' }] }, { token })).status).toBe(
      200,
    )
    expectProblem(await fresh.delete(`/api/users/${other}`, { token }), 409, 'last_owner')
  })

  test('stays, however many owners remove and demote each other at the same time', async () => {
    const { fresh, owner } = await deployment()
    onTestFinished(() => fresh.close())
    const tokens = new Map([[owner, fresh.token]])
    const addOwner = async () => {
      const id = await insertPerson(fresh.db.database, [{ role: 'owner' }])
      tokens.set(id, (await insertPersonalToken(fresh.db.database, id)).token)
    }
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ by: fc.nat(3), of: fc.nat(3), remove: fc.boolean() }), {
          minLength: 3,
          maxLength: 10,
        }),
        async (deeds) => {
          while (tokens.size < 4) await addOwner()
          const ids = [...tokens.keys()]
          const answers = await Promise.all(
            deeds.map(({ by, of, remove }) => {
              const token = tokens.get(ids[by]!)!
              const url = `/api/users/${ids[of]}`
              return remove
                ? fresh.delete(url, { token })
                : fresh.patch(url, { roles: [{ role: 'admin' }] }, { token })
            }),
          )
          for (const { status } of answers) expect([200, 204, 401, 403, 404, 409]).toContain(status)
          const { rows } = await fresh.db.pool.query(
            `SELECT u.id FROM users u JOIN memberships m ON m.user_id = u.id WHERE m.role = 'owner' AND u.removed_at IS NULL`,
          )
          expect(rows.length).toBeGreaterThan(0)
          const owners = new Set(rows.map(({ id }) => id))
          for (const id of ids) if (!owners.has(id)) tokens.delete(id)
        },
      ),
      { numRuns: 15 },
    )
  })
})

describe('security settings', () => {
  test('are read by admins and changed by owners', async () => {
    const admin = await holder([{ role: 'admin' }])
    const siteAdmin = await holder([{ role: 'admin', siteId: (await makeFleet(api())).site_id }])
    const url = '/api/security'
    expect((await api().get(url, { token: admin.token })).body).toMatchObject({
      require_second_factor: false,
      robot_token_max_age_days: null,
      rotate_on_suspicion: true,
    })
    expectProblem(
      await api().patch(url, { rotate_on_suspicion: false }, { token: admin.token }),
      403,
      'insufficient_scope',
    )
    expectProblem(await api().get(url, { token: siteAdmin.token }), 403, 'insufficient_scope')
    const changed = await api().patch(url, { robot_token_max_age_days: 90 })
    expect(changed.body.robot_token_max_age_days).toBe(90)
    await api().patch(url, { robot_token_max_age_days: null })
    for (const wrong of [0, 1.5, 5000, 'x'])
      expectProblem(await api().patch(url, { robot_token_max_age_days: wrong }), 400, 'invalid_request')
    const { rows } = await api().db.pool.query(
      "SELECT data FROM audit_log WHERE action = 'security.changed' ORDER BY seq",
    )
    expect(rows.map(({ data }) => data.changed)).toEqual([
      { robot_token_max_age_days: { from: null, to: 90 } },
      { robot_token_max_age_days: { from: 90, to: null } },
    ])
  })

  test('demand a second factor of everybody only by an owner who has one', async () => {
    const fresh = await startPeopleApi()
    onTestFinished(() => fresh.close())
    const require = { require_second_factor: true }
    expectProblem(await fresh.patch('/api/security', require), 403, 'second_factor_required')
    const { email } = await insertSigner(fresh, [{ role: 'owner' }])
    const browser = await signedIn(fresh, email)
    expectProblem(await browser.patch('/api/security', require), 403, 'second_factor_required')
    await setUpSecondFactor(browser, fresh.clock.now())
    expect((await browser.patch('/api/security', require)).body.require_second_factor).toBe(true)
    expect(fresh.published.at(-1)).toEqual({ type: 'access_changed' })
    // The first owner has none, and their token nothing until they do.
    expectProblem(await fresh.get('/api/sites'), 403, 'second_factor_required')
  })
})

test('people are listed page by page, each once', async () => {
  for (let made = 0; made < 5; made++) await invite()
  const all = (await api().get('/api/users?limit=200')).body.items.map((user: Json) => user.id)
  const seen: string[] = []
  let cursor = ''
  do {
    const page = (await api().get(`/api/users?limit=2${cursor}`)).body
    seen.push(...page.items.map((user: Json) => user.id))
    cursor = page.next_cursor === null ? '' : `&cursor=${page.next_cursor}`
  } while (cursor !== '')
  expect(seen).toEqual(all)
})
