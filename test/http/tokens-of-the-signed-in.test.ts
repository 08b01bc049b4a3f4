import { describe, expect, test } from 'vitest'
import { insertPersonalToken } from '../support/access.ts'
import { insertSigner, signedIn } from '../support/people.ts'
import { expectProblem, type Json } from './api.ts'
import { usePeopleApi } from './people/people-api.ts'

const api = usePeopleApi()

describe('somebody who is signed in', () => {
  test.each([
    ['viewer', ['robots:read', 'enrollment-keys:read', 'metrics:read']],
    [
      'operator',
      [
        'robots:read',
        'robots:write',
        'commands:execute',
        'enrollment-keys:read',
        'enrollment-keys:reveal',
        'enrollment-keys:write',
        'metrics:read',
      ],
    ],
  ] as const)('as a %s makes tokens that do what they may, and no more', async (role, held) => {
    const { email, id } = await insertSigner(api(), [{ role }])
    const browser = await signedIn(api(), email)
    const made = await browser.post('/api/tokens', { name: 'mine' })
    expect(made.status, made.text).toBe(201)
    expect(made.body).toMatchObject({ user_id: id, created_by: id, scopes: held })
    expect((await api().get('/api/robots', { token: made.body.token })).status).toBe(200)
    expectProblem(
      await browser.post('/api/tokens', { name: 'more', scopes: ['tokens:manage'] }),
      403,
      'exceeds_own_rights',
    )
    // The token itself makes no others, for its owner's role does not hold that.
    expectProblem(
      await api().post('/api/tokens', { name: 'x' }, { token: made.body.token }),
      403,
      'insufficient_scope',
    )
    const later = { scopes: [held[0]], expires_in_days: null }
    expect((await browser.post('/api/tokens', { name: 'later', ...later })).body.expires_at).toBeNull()
    expect((await browser.post(`/api/tokens/${made.body.id}/rotate`)).body.replaces).toBe(made.body.id)
    expect((await browser.post(`/api/tokens/${made.body.id}/revoke`)).body.status).toBe('revoked')
  })

  test('takes over no token that can do more than they do by now', async () => {
    const { email, id } = await insertSigner(api(), [{ role: 'operator' }])
    const browser = await signedIn(api(), email)
    const made = (await browser.post('/api/tokens', { name: 'operator' })).body
    await api().db.pool.query("UPDATE memberships SET role = 'viewer' WHERE user_id = $1", [id])
    expectProblem(await browser.post(`/api/tokens/${made.id}/rotate`), 403, 'exceeds_own_rights')
    const answer = await api().post('/api/tokens/self/rotate', null, { token: made.token })
    expect(answer.body.scopes).toEqual(made.scopes)
    expectProblem(
      await api().post('/api/sites', { name: 'x' }, { token: answer.body.token }),
      403,
      'insufficient_scope',
    )
  })

  test('has no token to ask about', async () => {
    const { email } = await insertSigner(api())
    const browser = await signedIn(api(), email)
    expectProblem(await browser.get('/api/tokens/self'), 403, 'insufficient_scope')
    for (const action of ['rotate', 'revoke'])
      expectProblem(await browser.post(`/api/tokens/self/${action}`), 403, 'insufficient_scope')
  })

  test('revokes everything of theirs, and stays signed in when told', async () => {
    const { email, id } = await insertSigner(api())
    const [here, elsewhere] = [await signedIn(api(), email), await signedIn(api(), email)]
    const { token } = await insertPersonalToken(api().db.database, id)
    const of = { user_id: id }
    const dry = await here.post('/api/tokens/revoke-all', { of, dry_run: true })
    expect(dry.body).toMatchObject({ total: 3, includes_current: true })
    const done = await here.post('/api/tokens/revoke-all', { of, except_current: true })
    expect(done.body).toMatchObject({ total: 2, includes_current: false })
    expect(done.body.revoked.sign_in_sessions.count).toBe(1)
    expect((await here.get('/api/tokens')).body.items.map((item: Json) => item.status)).toEqual(['revoked'])
    expect((await elsewhere.get('/api/tokens')).status).toBe(401)
    expectProblem(await api().get('/api/sites', { token }), 401, 'token_revoked')
    expect((await here.post('/api/tokens/revoke-all', { of })).body.total).toBe(1)
    expect((await here.get('/api/tokens')).status).toBe(401)
  })
})
