import { randomBytes } from 'node:crypto'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createAccess } from '../../src/access/principal.ts'
import type { HttpParts } from '../../src/http/parts.ts'
import { ISSUING_ROUTES, NO_RATE_LIMITS, type RateLimits, ratePerSecond } from '../../src/http/rate-limits.ts'
import { newId } from '../../src/ids.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import { ManualClock } from '../support/clock.ts'
import { RETENTION } from '../support/retention.ts'
import { type Api, expectProblem, type Json, makeFleet, startApi, useApi } from './api.ts'

/** An edge with these limits, and a count of the look-ups that credentials cost. */
async function limited(limits: Partial<RateLimits>, trustedProxies: string[] = []) {
  const clock = new ManualClock()
  const counted = { lookUps: 0 }
  const parts: { -readonly [Part in keyof HttpParts]?: HttpParts[Part] } = {
    clock,
    rateLimits: { ...NO_RATE_LIMITS, ...limits },
    config: {
      publicUrl: undefined,
      trustedProxies,
      heartbeatIntervalMs: 10_000,
      history: RETENTION,
    } as HttpParts['config'],
  }
  const api = await startApi(parts, (db) => {
    const access = createAccess(db.database)
    parts.access = {
      authenticate(token, address) {
        counted.lookUps += 1
        return access.authenticate(token, address)
      },
    }
    return db
  })
  onTestFinished(() => api.close())
  return { api, clock, counted }
}

const guess = () => mintCheckedToken('personal')

/** Asks from an address, perhaps through proxies that each say whom they heard. */
function from(api: Api, address: string, token: string, forwarded?: string) {
  return api.app.inject({
    url: '/api/sites',
    remoteAddress: address,
    headers: {
      authorization: `Bearer ${token}`,
      ...(forwarded === undefined ? {} : { 'x-forwarded-for': forwarded }),
    },
  })
}

const limitedBy = async ({ parts }: Api) =>
  Object.fromEntries(
    (await parts.metrics.rateLimited.get()).values.map(({ labels, value }) => [labels.limit, value]),
  )

describe('bad credentials of one address', () => {
  const few = { refusedCredentials: { burst: 5, perMinute: 6 } }

  test('are looked up a few times, and then no more for a while', async () => {
    const { api, clock, counted } = await limited(few)
    for (let tries = 0; tries < 5; tries++)
      expectProblem(await api.get('/api/sites', { token: guess() }), 401, 'invalid_token')
    const answer = await api.get('/api/sites', { token: guess() })
    expectProblem(answer, 429, 'rate_limited')
    expect(answer.headers['retry-after']).toBe('10')
    expect(counted.lookUps).toBe(5)
    clock.advance(10_000)
    expectProblem(await api.get('/api/sites', { token: guess() }), 401, 'invalid_token')
    expectProblem(await api.get('/api/sites', { token: guess() }), 429, 'rate_limited')
    expect(await limitedBy(api)).toEqual({ refused_credentials: 2 })
  })

  test('do not shut out who came with a good one from there before', async () => {
    const { api } = await limited(few)
    expect((await api.get('/api/sites')).status).toBe(200)
    for (let tries = 0; tries < 8; tries++) await api.get('/api/sites', { token: guess() })
    expectProblem(await api.get('/api/sites', { token: guess() }), 429, 'rate_limited')
    expect((await api.get('/api/sites')).status).toBe(200)
  })

  test('are those of tokens that were revoked, too, from when they are', async () => {
    const { api, counted } = await limited(few)
    const owner = await insertPerson(api.db.database, [{ role: 'owner' }])
    const { id, token } = await insertPersonalToken(api.db.database, owner)
    expect((await api.get('/api/sites', { token })).status).toBe(200)
    await api.db.pool.query('UPDATE access_tokens SET revoked_at = now() WHERE id = $1', [id])
    for (let tries = 0; tries < 5; tries++)
      expectProblem(await api.get('/api/sites', { token }), 401, 'token_revoked')
    expectProblem(await api.get('/api/sites', { token }), 429, 'rate_limited')
    expect(counted.lookUps).toBe(6)
  })

  test('count for each address by itself, and for one /64 of IPv6 together', async () => {
    const { api } = await limited(few)
    const statusesFrom = async (addresses: string[]) => {
      const statuses = []
      for (const address of addresses) statuses.push((await from(api, address, guess())).statusCode)
      return statuses
    }
    const host = Array.from({ length: 6 }, (_, index) => `2001:db8:1:2:${index}::${index}`)
    expect(await statusesFrom(host)).toEqual([401, 401, 401, 401, 401, 429])
    expect(await statusesFrom(['2001:db8:1:3::1', '192.0.2.1', '192.0.2.2'])).toEqual([401, 401, 401])
    const mapped = Array.from({ length: 5 }, () => '::ffff:192.0.2.1')
    expect(await statusesFrom(mapped)).toEqual([401, 401, 401, 401, 429])
    expect(await statusesFrom(['192.0.2.1', '192.0.2.2'])).toEqual([429, 401])
  })

  test('cost little memory, however many addresses there are', async () => {
    const { api } = await limited(few)
    for (let host = 0; host < 300; host++) await from(api, `10.0.${host >> 8}.${host & 255}`, guess())
    // The first is among those that are remembered.
    for (let tries = 0; tries < 4; tries++) await from(api, '10.0.0.0', guess())
    expect((await from(api, '10.0.0.0', guess())).statusCode).toBe(429)
  })

  test('without any credentials nothing is counted, for nothing is looked up', async () => {
    const { api } = await limited(few)
    for (let tries = 0; tries < 9; tries++)
      expectProblem(await api.get('/api/sites', { token: null }), 401, 'credentials_required')
    expect((await api.get('/api/info', { token: guess() })).status).toBe(200)
  })
})

describe('the address of a request', () => {
  const one = { refusedCredentials: { burst: 1, perMinute: 1 } }

  test('is the peer, whatever it claims, as long as nobody is trusted', async () => {
    const { api } = await limited(one)
    expect((await from(api, '192.0.2.1', guess(), '198.51.100.1')).statusCode).toBe(401)
    expect((await from(api, '192.0.2.1', guess(), '198.51.100.2')).statusCode).toBe(429)
  })

  test('is what the nearest proxy that is not trusted is called by those that are', async () => {
    const { api } = await limited(one, ['10.0.0.0/8', 'fd00::/8'])
    const status = async (peer: string, forwarded: string) =>
      (await from(api, peer, guess(), forwarded)).statusCode
    expect(await status('10.0.0.1', '198.51.100.1')).toBe(401)
    // Through two of ours.
    expect(await status('10.0.0.1', '198.51.100.1, 10.0.0.2')).toBe(429)
    expect(await status('10.0.0.1', '198.51.100.2, fd00::1, 10.0.0.2')).toBe(401)
    // What a client writes there itself stands to the left of what a proxy adds.
    expect(await status('10.0.0.1', '203.0.113.9, 198.51.100.2')).toBe(429)
    expect(await status('10.0.0.1', '10.0.0.7, 198.51.100.2')).toBe(429)
    // A peer that is no proxy of ours is the client.
    expect(await status('192.0.2.1', '198.51.100.3')).toBe(401)
    expect(await status('192.0.2.1', '198.51.100.4')).toBe(429)
    expect(await status('10.0.0.1', '198.51.100.3')).toBe(401)
  })

  test('is nobody when a proxy writes what is no address', async () => {
    const { api } = await limited(one, ['10.0.0.0/8'])
    expect((await from(api, '10.0.0.1', guess(), 'unknown')).statusCode).toBe(401)
    expect((await from(api, '10.0.0.1', guess(), '<script>')).statusCode).toBe(429)
    expect((await from(api, 'fe80::1%eth0', api.token)).statusCode).toBe(200)
  })
})

describe('requests with one token', () => {
  test('are held off beyond the limit, and others go on', async () => {
    const { api, clock, counted } = await limited({ requests: ratePerSecond(2) })
    const owner = await insertPerson(api.db.database, [{ role: 'owner' }])
    const { token } = await insertPersonalToken(api.db.database, owner)
    for (let asked = 0; asked < 20; asked++) expect((await api.get('/api/sites', { token })).status).toBe(200)
    const answer = await api.get('/api/sites', { token })
    expectProblem(answer, 429, 'rate_limited')
    expect(answer.headers['retry-after']).toBe('1')
    expect(counted.lookUps).toBe(20)
    expect((await api.get('/api/sites')).status).toBe(200)
    // The same token, written otherwise.
    expectProblem(
      await api.get('/api/sites', { token: null, headers: { authorization: `bearer   ${token}` } }),
      429,
      'rate_limited',
    )
    clock.advance(500)
    expect((await api.get('/api/sites', { token })).status).toBe(200)
    expectProblem(await api.get('/api/sites', { token }), 429, 'rate_limited')
    expect(await limitedBy(api)).toEqual({ requests: 3 })
  })

  test('count where they are refused, too', async () => {
    const { api } = await limited({ requests: ratePerSecond(1) })
    const viewer = await insertPerson(api.db.database, [{ role: 'viewer' }])
    const { token } = await insertPersonalToken(api.db.database, viewer)
    for (let asked = 0; asked < 10; asked++)
      expectProblem(await api.post('/api/sites', { name: 'x' }, { token }), 403, 'insufficient_scope')
    expectProblem(await api.post('/api/sites', { name: 'x' }, { token }), 429, 'rate_limited')
  })

  test('are never too many when there is no limit', async () => {
    expect(ratePerSecond(0).burst).toBe(Number.POSITIVE_INFINITY)
    const { api } = await limited({ requests: ratePerSecond(0) })
    for (let asked = 0; asked < 50; asked++) expect((await api.get('/api/sites')).status).toBe(200)
  })
})

describe('sessions of browsers', () => {
  /** Asks with a cookie, and perhaps others beside it. */
  const ask = (api: Api, secret: string, others = '') =>
    api.app.inject({ url: '/api/sites', headers: { cookie: `${others}beacon_session=${secret}` } })

  async function session(api: Api): Promise<string> {
    const owner = await insertPerson(api.db.database, [{ role: 'owner' }])
    const secret = randomBytes(32).toString('base64url')
    await api.db.pool.query(
      `INSERT INTO sign_ins (id, secret_hash, stage, user_id, method, expires_at)
       VALUES ($1, sha256($2::text::bytea), 'signed_in', $3, 'password', now() + interval '1 hour')`,
      [newId(), secret, owner],
    )
    return secret
  }

  test('are limited like tokens, whatever other cookies come along', async () => {
    const { api } = await limited({ requests: ratePerSecond(1) })
    const secret = await session(api)
    for (let asked = 0; asked < 10; asked++)
      expect((await ask(api, secret, `junk=${asked}; `)).statusCode).toBe(200)
    expect((await ask(api, secret, 'junk=x; ')).statusCode).toBe(429)
    expect((await ask(api, await session(api))).statusCode).toBe(200)
  })

  test('are one however their cookie is written', async () => {
    const { api } = await limited({ requests: ratePerSecond(1) })
    const secret = await session(api)
    const hex = (character: string) => `%${character.charCodeAt(0).toString(16)}`
    const written = (place: number) =>
      `${secret.slice(0, place)}${hex(secret[place]!)}${secret.slice(place + 1)}`
    const statuses: number[] = []
    for (let asked = 0; asked < 20; asked++) {
      const decoy = `__Host-beacon_session=${randomBytes(32).toString('base64url')}; `
      statuses.push((await ask(api, written(asked), asked % 2 ? decoy : '')).statusCode)
    }
    expect(statuses.filter((status) => status === 200)).toHaveLength(10)
    expect(statuses.slice(10)).toEqual(Array(10).fill(429))
  })

  test('that nobody began are held off like bad tokens', async () => {
    const { api } = await limited({ refusedCredentials: { burst: 3, perMinute: 1 } })
    const secret = await session(api)
    expect((await ask(api, secret)).statusCode).toBe(200)
    const guess = () => ask(api, randomBytes(32).toString('base64url'))
    for (let tries = 0; tries < 3; tries++) expect((await guess()).statusCode).toBe(401)
    expect((await guess()).statusCode).toBe(429)
    expect((await ask(api, secret)).statusCode).toBe(200)
  })
})

describe('secrets that somebody makes', () => {
  test('are limited for a person, with whichever token, and nothing else is', async () => {
    const { api } = await limited({ issued: { burst: 3, perMinute: 1 } })
    const owner = await insertPerson(api.db.database, [{ role: 'owner' }])
    const [one, two] = await Promise.all([
      insertPersonalToken(api.db.database, owner),
      insertPersonalToken(api.db.database, owner),
    ])
    const place = await makeFleet(api)
    const make = (token: string, name: string) =>
      api.post('/api/enrollment-keys', { ...place, name }, { token })
    expect((await make(one.token, '1')).status).toBe(201)
    expect((await make(two.token, '2')).status).toBe(201)
    expect((await make(one.token, '3')).status).toBe(201)
    for (const { token } of [one, two]) expectProblem(await make(token, '4'), 429, 'rate_limited')
    expect((await api.get('/api/enrollment-keys', { token: one.token })).body.items).toHaveLength(3)
    expect((await make(api.token, '5')).status).toBe(201)
    expect(await limitedBy(api)).toEqual({ issued: 2 })
  })
})

describe('the routes that make secrets', () => {
  const api = useApi()
  /** Fields that hold a secret when they come out of the server. */
  const SECRET =
    /^(token|key_value|secret|setup_token|invitation_token|recovery_codes|backup_codes|otpauth_uri)$/

  test('are all known as such, and no others', () => {
    const document = api().app.swagger() as Json
    const properties = (schema: Json): string[] => {
      const found = schema?.$ref ? document.components.schemas[schema.$ref.split('/').at(-1)] : schema
      const parts = [...(found?.allOf ?? []), ...(found?.anyOf ?? []), ...(found?.oneOf ?? [])]
      return [...Object.keys(found?.properties ?? {}), ...parts.flatMap(properties)]
    }
    const issuing = Object.entries<Json>(document.paths).flatMap(([path, methods]) => {
      const post = methods.post
      if (!post || post['x-scope'] === 'claim' || post['x-scope'] === 'public') return []
      const answers = ['200', '201'].map(
        (status) => post.responses[status]?.content?.['application/json']?.schema,
      )
      const makes = answers
        .flatMap((schema) => (schema ? properties(schema) : []))
        .some((name) => SECRET.test(name))
      return makes ? [`POST ${path.replace(/\{(\w+)\}/g, ':$1')}`] : []
    })
    // They show a key again that was made before.
    const showing = ['POST /api/enrollment-keys/:id/revoke']
    // It shows none, and works hard.
    const hard = ['POST /api/secrets/rotate']
    expect([...issuing.filter((route) => !showing.includes(route)), ...hard].sort()).toEqual(
      [...ISSUING_ROUTES].sort(),
    )
  })
})
