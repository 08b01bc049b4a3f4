import { Readable } from 'node:stream'
import fastify, { type FastifyInstance } from 'fastify'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { DEPLOYMENT } from '../../src/access/authority.ts'
import { insertSite } from '../../src/db/sites.ts'
import { changing } from '../../src/http/changing.ts'
import { guardRoutes, principalOf } from '../../src/http/guard.ts'
import { idempotently } from '../../src/http/idempotency.ts'
import { sendProblem } from '../../src/http/problems.ts'
import { reachOf } from '../../src/http/reach.ts'
import { newId } from '../../src/ids.ts'
import { insertFleetToken, insertPerson, insertPersonalToken, type RoleAtPlace } from '../support/access.ts'
import { eventually } from '../support/eventually.ts'
import { expectProblem, makeFleet, makeRobot, unique, useApi } from './api.ts'

const api = useApi()

/** Somebody with these roles: their id, and a token that may do all they may. */
async function somebody(...roles: RoleAtPlace[]): Promise<{ userId: string; token: string }> {
  const { database } = api().db
  const userId = await insertPerson(database, roles)
  return { userId, token: (await insertPersonalToken(database, userId)).token }
}

const query = async (text: string, values: unknown[] = []) => (await api().db.pool.query(text, values)).rows

describe('a handler that forgets to ask where its scope is held', () => {
  let app: FastifyInstance
  let limited: { authorization: string }
  let owner: { authorization: string }

  beforeAll(async () => {
    const { fleet_id } = await makeFleet(api())
    limited = { authorization: `Bearer ${(await somebody({ role: 'admin', fleetId: fleet_id })).token}` }
    owner = { authorization: `Bearer ${api().token}` }
    const { parts } = api()
    app = fastify()
    app.setErrorHandler((error, request, reply) => sendProblem(parts.log, error, request, reply))
    guardRoutes(app, parts)
    const listed = { config: { scope: 'robots:read', on: 'listed' } } as const
    const body = { config: { scope: 'robots:write', on: 'body' } } as const
    app.get('/forgets', listed, async () => ({ items: ['a secret'] }))
    app.get('/asks', listed, async (request) => ({ reach: reachOf(request) }))
    app.get('/asks-of-another', listed, async (request) => {
      principalOf(request).authority.reach('metrics:read')
      return { items: ['a secret'] }
    })
    app.get('/holds', listed, async (request) => ({
      holds: principalOf(request).authority.holds('robots:read'),
    }))
    app.get('/streams', listed, async (_, reply) => reply.send(Readable.from(['a secret'])))
    app.get('/sends-nothing', listed, async (_, reply) => reply.code(204).send())
    app.get('/refuses', listed, async (_, reply) => reply.code(409).send({ code: 'conflict' }))
    const insert = (name: string) => (transaction: Parameters<typeof insertSite>[0]) =>
      insertSite(transaction, { id: newId(), name }).then(() => ({ status: 201 as const, body: { name } }))
    app.post('/changes', body, (request) => changing(parts, request, insert('changed unasked')))
    app.post('/makes', body, (request, reply) => idempotently(parts, request, reply, insert('made unasked')))
    app.post('/makes-asking', body, (request, reply) => {
      principalOf(request).authority.covers('robots:write', DEPLOYMENT)
      return idempotently(parts, request, reply, insert(unique('made after asking')))
    })
    await app.ready()
  })
  afterAll(() => app.close())

  test.each(['/forgets', '/asks-of-another', '/holds', '/streams', '/sends-nothing'])(
    'answers nothing to somebody who holds it in some places: GET %s',
    async (url) => {
      for (const method of ['GET', 'HEAD'] as const) {
        const answer = await app.inject({ method, url, headers: limited })
        expect(answer.statusCode).toBe(500)
        expect(answer.payload).not.toContain('secret')
      }
      expect((await app.inject({ method: 'GET', url, headers: owner })).statusCode).toBeLessThan(300)
    },
  )

  test('may refuse', async () => {
    expect((await app.inject({ method: 'GET', url: '/refuses', headers: limited })).statusCode).toBe(409)
  })

  test('is let through once it asks', async () => {
    const answer = await app.inject({ method: 'GET', url: '/asks', headers: limited })
    expect(answer.json()).toEqual({ reach: { siteIds: [], fleetIds: [expect.any(String)] } })
  })

  test.each([
    ['/changes', {}],
    ['/makes', {}],
    ['/makes', { 'idempotency-key': 'k' }],
  ])('changes nothing: POST %s %j', async (url, headers) => {
    const answer = await app.inject({ method: 'POST', url, headers: { ...limited, ...headers } })
    expect(answer.statusCode).toBe(500)
    expect(await query("SELECT name FROM sites WHERE name LIKE '%unasked'")).toEqual([])
    const asking = await app.inject({ method: 'POST', url: '/makes-asking', headers: limited })
    expect(asking.statusCode).toBe(201)
  })
})

describe('lists', () => {
  test('go from page to page within reach', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const { fleet_id: sibling } = await makeFleet(api(), site_id)
    const own = []
    for (let count = 0; count < 5; count++) {
      own.push((await makeRobot(api(), fleet_id)).id)
      await makeRobot(api(), sibling)
      await makeRobot(api())
    }
    const { token } = await somebody({ role: 'viewer', fleetId: fleet_id })
    for (const sort of ['name', '-created_at', 'last_seen_at', '-connection_since']) {
      const seen: string[] = []
      let cursor = ''
      do {
        const page = await api().get(`/api/robots?limit=2&sort=${sort}${cursor}`, { token })
        seen.push(...page.body.items.map((robot: { id: string }) => robot.id))
        cursor = page.body.next_cursor === null ? '' : `&cursor=${page.body.next_cursor}`
      } while (cursor !== '')
      expect(seen.sort()).toEqual([...own].sort())
    }
  })

  test('take no further than a cursor of somebody else', async () => {
    const { fleet_id } = await makeFleet(api())
    const own = await makeRobot(api(), fleet_id, { name: unique('zz') })
    await makeRobot(api(), undefined, { name: unique('zz') })
    const { token } = await somebody({ role: 'viewer', fleetId: fleet_id })
    const all = await api().get('/api/robots?limit=1')
    const page = await api().get(`/api/robots?limit=200&cursor=${all.body.next_cursor}`, { token })
    expect(page.body.items.map((robot: { id: string }) => robot.id)).toEqual([own.id])
  })

  test('hold what several roles add up to', async () => {
    const whole = await makeFleet(api())
    const part = await makeFleet(api())
    await makeFleet(api(), part.site_id)
    const { token } = await somebody(
      { role: 'viewer', siteId: whole.site_id },
      { role: 'operator', fleetId: part.fleet_id },
    )
    const ids = async (path: string) =>
      (await api().get(path, { token })).body.items.map((item: { id: string }) => item.id).sort()
    expect(await ids('/api/sites')).toEqual([whole.site_id, part.site_id].sort())
    expect(await ids('/api/fleets')).toEqual([whole.fleet_id, part.fleet_id].sort())
  })
})

describe('a thing out of reach', () => {
  test('is refused word for word like one that does not exist', async () => {
    const own = await makeFleet(api())
    const foreign = await makeFleet(api())
    const robot = await makeRobot(api(), foreign.fleet_id)
    const key = await api().post('/api/enrollment-keys', { ...foreign, name: 'k' })
    const { token } = await somebody({ role: 'admin', siteId: own.site_id })
    const words = ({ body: { request_id: _, ...problem } }: { body: Record<string, unknown> }) => problem
    const paths = [
      (id: string) => `/api/sites/${id}`,
      (id: string) => `/api/fleets/${id}`,
      (id: string) => `/api/robots/${id}`,
      (id: string) => `/api/enrollment-keys/${id}`,
    ]
    for (const path of paths)
      for (const id of [foreign.site_id, foreign.fleet_id, robot.id, key.body.id]) {
        const there = await api().get(path(id), { token })
        expect(words(there)).toEqual(words(await api().get(path(newId()), { token })))
        expectProblem(there, 404, 'not_found')
      }
    const bodies: [string, (id: string) => object][] = [
      ['/api/robots', (id) => ({ fleet_id: id, name: robot.name })],
      ['/api/fleets', (id) => ({ site_id: id, name: 'x' })],
    ]
    for (const [path, body] of bodies) {
      const id = path === '/api/robots' ? foreign.fleet_id : foreign.site_id
      const there = await api().post(path, body(id), { token })
      expect(words(there)).toEqual(words(await api().post(path, body(newId()), { token })))
      expectProblem(there, 422, 'unknown_reference')
    }
    const mine = await makeRobot(api(), own.fleet_id)
    const moved = await api().patch(`/api/robots/${mine.id}`, { fleet_id: foreign.fleet_id }, { token })
    expectProblem(moved, 422, 'unknown_reference')
  })

  test('is not named by a robot that was there', async () => {
    const own = await makeFleet(api())
    const foreign = await makeFleet(api())
    const names = [
      (await api().get(`/api/fleets/${foreign.fleet_id}`)).body.name,
      (await api().get(`/api/sites/${foreign.site_id}`)).body.name,
    ]
    const robot = await makeRobot(api(), foreign.fleet_id)
    const url = `/api/robots/${robot.id}`
    for (const { fleet_id } of [own, foreign, own])
      expect((await api().patch(url, { fleet_id })).status).toBe(200)
    const { token } = await somebody({ role: 'admin', fleetId: own.fleet_id })
    for (const path of [url, `${url}/events`, '/api/robots', '/api/audit', '/metrics/robots']) {
      const { status, text } = await api().get(path, { token })
      expect([path, status]).toEqual([path, 200])
      for (const name of names) expect(text).not.toContain(name)
    }
  })

  test('is a name that nobody can find out by its being taken', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const sibling = await makeFleet(api(), site_id)
    const name = (await api().get(`/api/fleets/${sibling.fleet_id}`)).body.name
    const { token } = await somebody({ role: 'admin', fleetId: fleet_id })
    for (const tried of [name, unique('free')])
      expectProblem(
        await api().patch(`/api/fleets/${fleet_id}`, { name: tried }, { token }),
        403,
        'insufficient_scope',
      )
    const admin = await somebody({ role: 'admin', siteId: site_id })
    expectProblem(await api().patch(`/api/fleets/${fleet_id}`, { name }, admin), 409, 'name_taken')
    for (const tried of [(await api().get('/api/sites')).body.items[0].name, unique('free')])
      expectProblem(
        await api().patch(`/api/sites/${site_id}`, { name: tried }, admin),
        403,
        'insufficient_scope',
      )
  })
})

describe('rights that change in the middle', () => {
  /** Runs the call while the robot is being moved, so that it was let in by where the robot was before. */
  async function whileMoving<Result>(
    robotId: string,
    to: { site_id: string; fleet_id: string },
    call: () => Promise<Result>,
  ): Promise<Result> {
    const mover = await api().db.pool.connect()
    try {
      await mover.query('BEGIN')
      await mover.query('UPDATE robots SET site_id = $2, fleet_id = $3 WHERE id = $1', [
        robotId,
        to.site_id,
        to.fleet_id,
      ])
      const answer = call()
      await eventually(async () => {
        const waiting = await query(
          `SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
        )
        return waiting.length > 0
      }, 'the call behind the lock')
      await mover.query('COMMIT')
      return await answer
    } finally {
      mover.release()
    }
  }

  test('a robot that is moved away meanwhile is left alone', async () => {
    const own = await makeFleet(api())
    const foreign = await makeFleet(api())
    const { token } = await somebody({ role: 'operator', fleetId: own.fleet_id })
    const calls = [
      (id: string) => api().patch(`/api/robots/${id}`, { name: unique('mine') }, { token }),
      (id: string) => api().patch(`/api/robots/${id}`, { fleet_id: own.fleet_id }, { token }),
      (id: string) => api().post(`/api/robots/${id}/retire`, undefined, { token }),
      (id: string) => api().post(`/api/robots/${id}/approve`, undefined, { token }),
    ]
    for (const call of calls) {
      const robot = await makeRobot(api(), own.fleet_id)
      expectProblem(await whileMoving(robot.id, foreign, () => call(robot.id)), 404, 'not_found')
      const after = (await api().get(`/api/robots/${robot.id}`)).body
      expect(after).toMatchObject({ name: robot.name, lifecycle: 'active', fleet_id: foreign.fleet_id })
    }
  })

  test('a robot that is moved to where it is only seen is refused', async () => {
    const own = await makeFleet(api())
    const seen = await makeFleet(api())
    const { token } = await somebody(
      { role: 'operator', fleetId: own.fleet_id },
      { role: 'viewer', fleetId: seen.fleet_id },
    )
    const robot = await makeRobot(api(), own.fleet_id)
    const answer = await whileMoving(robot.id, seen, () =>
      api().post(`/api/robots/${robot.id}/retire`, undefined, { token }),
    )
    expectProblem(answer, 403, 'insufficient_scope')
  })

  test('a demotion counts with the next request', async () => {
    const { fleet_id } = await makeFleet(api())
    const robot = await makeRobot(api(), fleet_id)
    const { userId, token } = await somebody({ role: 'operator', fleetId: fleet_id })
    const rename = () => api().patch(`/api/robots/${robot.id}`, { name: unique('robot') }, { token })
    expect((await rename()).status).toBe(200)
    await query("UPDATE memberships SET role = 'viewer' WHERE user_id = $1", [userId])
    expectProblem(await rename(), 403, 'insufficient_scope')
    expect((await api().get(`/api/robots/${robot.id}`, { token })).status).toBe(200)
    await query('DELETE FROM memberships WHERE user_id = $1', [userId])
    expectProblem(await api().get(`/api/robots/${robot.id}`, { token }), 403, 'insufficient_scope')
    await query('UPDATE users SET removed_at = now() WHERE id = $1', [userId])
    expectProblem(await api().get(`/api/robots/${robot.id}`, { token }), 401, 'token_revoked')
  })

  test('a fleet that goes takes its tokens and roles with it, and every server hears of it', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const person = await somebody({ role: 'operator', fleetId: fleet_id })
    const fleetToken = await insertFleetToken(api().db.database, fleet_id, { scopes: ['robots:read'] })
    expect((await api().get('/api/fleets', fleetToken)).body.items).toHaveLength(1)
    const before = api().published.length
    expect((await api().delete(`/api/fleets/${fleet_id}`)).status).toBe(204)
    expect(api().published.slice(before)).toEqual([{ type: 'access_changed' }])
    expectProblem(await api().get('/api/fleets', fleetToken), 401, 'invalid_token')
    expectProblem(await api().get('/api/fleets', person), 403, 'insufficient_scope')
    const atSite = await somebody({ role: 'viewer', siteId: site_id })
    expect((await api().get('/api/sites', atSite)).body.items).toHaveLength(1)
    expect((await api().delete(`/api/sites/${site_id}`)).status).toBe(204)
    expectProblem(await api().get('/api/sites', atSite), 403, 'insufficient_scope')
  })

  test('a fleet token reaches its fleet although robots and roles come and go', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const other = await makeFleet(api(), site_id)
    const robot = await makeRobot(api(), fleet_id)
    const { token } = await insertFleetToken(api().db.database, fleet_id, {
      scopes: ['robots:read', 'robots:write'],
    })
    const moved = await api().patch(`/api/robots/${robot.id}`, { fleet_id: other.fleet_id }, { token })
    expectProblem(moved, 422, 'unknown_reference')
    await api().patch(`/api/robots/${robot.id}`, { fleet_id: other.fleet_id })
    expectProblem(await api().get(`/api/robots/${robot.id}`, { token }), 404, 'not_found')
    await api().patch(`/api/robots/${robot.id}`, { fleet_id })
    expect((await api().get(`/api/robots/${robot.id}`, { token })).status).toBe(200)
  })
})

describe('an answer that was kept', () => {
  const withKey = (token: string) => ({ token, headers: { 'idempotency-key': 'kept' } })

  test('is not for somebody who lost the right to it', async () => {
    const lost = await makeFleet(api())
    const still = await makeFleet(api())
    const { userId, token } = await somebody(
      { role: 'operator', fleetId: lost.fleet_id },
      { role: 'operator', fleetId: still.fleet_id },
    )
    const body = { fleet_id: lost.fleet_id, name: unique('robot') }
    const made = await api().post('/api/robots', body, withKey(token))
    expect(made.status).toBe(201)
    const again = await api().post('/api/robots', body, withKey(token))
    expect([again.status, again.headers['idempotency-replayed'], again.body]).toEqual([
      201,
      'true',
      made.body,
    ])
    await query('DELETE FROM memberships WHERE user_id = $1 AND fleet_id = $2', [userId, lost.fleet_id])
    const after = await api().post('/api/robots', body, withKey(token))
    expectProblem(after, 403, 'insufficient_scope')
    expect(after.text).not.toContain(made.body.id)
  })

  test('is still for somebody who gained rights', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const { userId, token } = await somebody({ role: 'operator', fleetId: fleet_id })
    const body = { fleet_id, name: unique('robot') }
    const made = await api().post('/api/robots', body, withKey(token))
    await query("UPDATE memberships SET fleet_id = NULL, site_id = $2, role = 'admin' WHERE user_id = $1", [
      userId,
      site_id,
    ])
    expect((await api().post('/api/robots', body, withKey(token))).body).toEqual(made.body)
  })

  test('of before rights were kept is for those who reach everywhere', async () => {
    const { fleet_id } = await makeFleet(api())
    const owner = await somebody({ role: 'owner' })
    const body = { fleet_id, name: unique('robot') }
    const made = await api().post('/api/robots', body, withKey(owner.token))
    const { seal } = api().parts
    const [{ principal_id }] = await query(
      'SELECT id AS principal_id FROM access_tokens WHERE user_id = $1',
      [owner.userId],
    )
    const sealed = seal.seal(JSON.stringify({ body: made.body }), `idempotent request ${principal_id} kept`)
    await query('UPDATE idempotent_requests SET body_sealed = $2 WHERE principal_id = $1', [
      principal_id,
      sealed,
    ])
    expect((await api().post('/api/robots', body, withKey(owner.token))).body).toEqual(made.body)
    await query("UPDATE memberships SET role = 'operator', fleet_id = $2 WHERE user_id = $1", [
      owner.userId,
      fleet_id,
    ])
    expectProblem(await api().post('/api/robots', body, withKey(owner.token)), 403, 'insufficient_scope')
  })
})
