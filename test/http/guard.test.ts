import type { RouteOptions } from 'fastify'
import fastify from 'fastify'
import { describe, expect, test } from 'vitest'
import { Authority } from '../../src/access/authority.ts'
import { NO_LIMITS } from '../../src/access/principal.ts'
import { SCOPES } from '../../src/access/scopes.ts'
import { BeaconError } from '../../src/errors.ts'
import { demandScopes } from '../../src/http/guard.ts'
import { newId } from '../../src/ids.ts'
import { mintCheckedToken, mintEnrollmentKey } from '../../src/protocol/tokens.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import { expectProblem, type Json, useApi } from './api.ts'

const NOBODY = mintCheckedToken('personal')
const api = useApi()
const powerless = useApi({
  access: {
    async authenticate(token) {
      if (token !== NOBODY) throw new BeaconError('invalid_token')
      return {
        kind: 'personal_token',
        id: newId(),
        name: 'nobody',
        userId: newId(),
        userName: 'nobody',
        authority: Authority.NONE,
        barred: undefined,
        expiresAt: null,
        limits: NO_LIMITS,
      }
    },
  },
})

interface Operation {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly scope: string
}

function operations(): Operation[] {
  const { paths } = api().app.swagger() as Json
  return Object.entries<Json>(paths).flatMap(([path, methods]) =>
    Object.entries<Json>(methods).map(([method, operation]) => ({
      method: method.toUpperCase() as Operation['method'],
      path: path.replace(/\{[^}]+\}/g, newId()),
      scope: operation['x-scope'],
    })),
  )
}

describe('every route', () => {
  test('says which scope it needs', () => {
    expect(operations().length).toBeGreaterThan(20)
    for (const { method, path, scope } of operations())
      expect([...SCOPES, 'public', 'claim', 'person', 'self'], `${method} ${path}`).toContain(scope)
  })

  test('of /api is closed to the public but for what one learns about the server and signs in with', () => {
    const open = operations().filter(({ path, scope }) => path.startsWith('/api') && scope === 'public')
    const paths = open.map(({ method, path }) => `${method} ${path}`)
    expect(paths.sort()).toEqual([
      'GET /api/info',
      'GET /api/sign-in',
      'GET /api/sign-in/oidc',
      'GET /api/sign-in/oidc/callback',
      'POST /api/invitations/accept',
      'POST /api/sign-in',
      'POST /api/sign-in/second-factor',
    ])
  })

  test('that is not public answers 401 without credentials', async () => {
    for (const { method, path, scope } of operations()) {
      if (scope === 'public') continue
      const body = method === 'POST' || method === 'PATCH' ? {} : undefined
      const answer = await api().call(method, path, body, { token: null })
      const challenge = String(answer.headers['www-authenticate'])
      expectProblem(answer, 401, 'credentials_required')
      expect(challenge).toBe('Bearer realm="beacon"')
    }
  })

  test('that needs a scope answers 403 to a token without it, before it looks at anything else', async () => {
    for (const { method, path, scope } of operations()) {
      if (!(SCOPES as readonly string[]).includes(scope)) continue
      const broken = method === 'POST' || method === 'PATCH' ? '{' : undefined
      const extra = { token: NOBODY, headers: { 'content-type': 'application/json' } }
      const problem = expectProblem(
        await powerless().call(method, `${path}?unknown=1`, broken, extra),
        403,
        'insufficient_scope',
      )
      expect(problem.detail).toContain(scope)
    }
  })

  test('takes HEAD with the scope of its GET', async () => {
    expect((await api().call('HEAD', '/api/robots', undefined, { token: null })).status).toBe(401)
    expect((await api().call('HEAD', '/api/robots')).status).toBe(200)
  })

  test('has to state a scope, or the server does not start', () => {
    const app = fastify()
    demandScopes(app)
    const route = { method: 'GET', url: '/open', handler: async () => 'in' } satisfies RouteOptions
    expect(() => app.route(route)).toThrow('GET /open does not say which scope it needs')
  })
})

describe('a bearer', () => {
  const ask = (authorization: string) => api().get('/api/sites', { token: null, headers: { authorization } })

  test.each([
    ['nothing', ''],
    ['another scheme', 'Basic dXNlcjpwYXNz'],
    ['no token', 'Bearer'],
    ['two tokens', `Bearer ${NOBODY} ${NOBODY}`],
    ['a short one', 'Bearer rf_pat_123'],
    ['odd bytes', 'Bearer rf_pat_\u00ff\u00fe'],
    ['a very long one', `Bearer ${'a'.repeat(5_000)}`],
    ['a robot token', `Bearer ${mintCheckedToken('robot')}`],
    ['an enrollment key', `Bearer ${mintEnrollmentKey()}`],
    ['a wrong checksum', `Bearer ${NOBODY.slice(0, -1)}${NOBODY.endsWith('0') ? '1' : '0'}`],
    ['one never issued', `Bearer ${NOBODY}`],
    ['one in capitals', `Bearer ${NOBODY.toUpperCase()}`],
  ])('of %s is refused', async (_, header) => {
    const answer = await ask(header)
    expectProblem(answer, 401, 'invalid_token')
    expect(answer.headers['www-authenticate']).toBe('Bearer realm="beacon", error="invalid_token"')
  })

  test('counts whatever the case of its scheme', async () => {
    expect((await ask(`bearer ${api().token}`)).status).toBe(200)
  })

  test('in the address counts for nothing', async () => {
    const answer = await api().get(`/api/sites?access_token=${api().token}`, { token: null })
    expectProblem(answer, 401, 'credentials_required')
  })

  test('stops with its next request when it is revoked, and when it expires', async () => {
    const { pool, database } = api().db
    const { id, token } = await insertPersonalToken(
      database,
      await insertPerson(database, [{ role: 'viewer' }]),
    )
    expect((await api().get('/api/sites', { token })).status).toBe(200)
    await pool.query("UPDATE access_tokens SET expires_at = now() - interval '1 ms' WHERE id = $1", [id])
    expectProblem(await api().get('/api/sites', { token }), 401, 'token_expired')
    await pool.query('UPDATE access_tokens SET revoked_at = now() WHERE id = $1', [id])
    expectProblem(await api().get('/api/sites', { token }), 401, 'token_revoked')
  })

  test('never stands in a log or an answer', async () => {
    const given = [api().token, NOBODY, 'rf_pat_nonsense']
    for (const token of given) {
      const answer = await api().get(`/api/sites?token=${token}`, { token })
      expect(answer.text).not.toContain(token)
    }
    const log = JSON.stringify(api().logged)
    expect(log).toContain('"route":"/api/sites"')
    for (const token of given) expect(log).not.toContain(token)
  })
})
