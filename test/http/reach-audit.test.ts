import { describe, expect, test } from 'vitest'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import {
  type Answer,
  expectProblem,
  type Json,
  makeFleet,
  makeRobot,
  startApi,
  unique,
  useApi,
} from './api.ts'

const api = useApi()

interface Line {
  readonly action: string
  readonly target_kind: string
  readonly target_id: string
  readonly target_name: string
  readonly site_id: string | null
  readonly fleet_id: string | null
  readonly data: Json
}

/** What the answered request wrote into the audit log. */
async function lines(answer: Answer): Promise<Line[]> {
  const { rows } = await api().db.pool.query(
    `SELECT action, target_kind, target_id, target_name, site_id, fleet_id, data
     FROM audit_log WHERE request_id = $1 AND outcome = 'ok' ORDER BY seq`,
    [answer.headers['x-request-id']],
  )
  return rows
}

describe('the audit log', () => {
  test('tells of a site from its beginning to its end', async () => {
    const name = unique('site')
    const made = await api().post('/api/sites', { name })
    const url = `/api/sites/${made.body.id}`
    const about = { target_kind: 'site', target_id: made.body.id, site_id: made.body.id, fleet_id: null }
    expect(await lines(made)).toMatchObject([{ action: 'site.created', target_name: name, ...about }])
    const renamed = await api().patch(url, { name: `${name} b` })
    expect(await lines(renamed)).toMatchObject([
      { action: 'site.changed', ...about, data: { changed: { name: { from: name, to: `${name} b` } } } },
    ])
    expect(await lines(await api().patch(url, { name: `${name} b` }))).toEqual([])
    expect(await lines(await api().delete(url))).toMatchObject([
      { action: 'site.deleted', target_name: `${name} b`, ...about },
    ])
  })

  test('tells of a fleet, and of what went with it', async () => {
    const { database } = api().db
    const { site_id, fleet_id } = await makeFleet(api())
    const name = unique('fleet')
    const made = await api().post('/api/fleets', { site_id, name })
    const id = made.body.id
    const about = { target_kind: 'fleet', target_id: id, site_id, fleet_id: id }
    expect(await lines(made)).toMatchObject([{ action: 'fleet.created', ...about }])
    const changed = await api().patch(`/api/fleets/${id}`, { name: `${name} b`, heartbeat_interval_ms: 5000 })
    expect((await lines(changed)).map(({ action, data }) => [action, data.changed])).toEqual([
      [
        'fleet.changed',
        { name: { from: name, to: `${name} b` }, heartbeat_interval_ms: { from: null, to: 5000 } },
      ],
    ])
    const same = await api().patch(`/api/fleets/${id}`, { heartbeat_interval_ms: 5000 })
    expect(await lines(same)).toEqual([])
    const key = await api().post('/api/enrollment-keys', { site_id, fleet_id: id, name: 'k' })
    const token = await insertFleetToken(database, id, { scopes: ['robots:read'] })
    const member = await insertPerson(database, [{ role: 'viewer', fleetId: id }])
    // Those of another fleet stay.
    await api().post('/api/enrollment-keys', { site_id, fleet_id, name: 'k' })
    await insertPerson(database, [{ role: 'viewer', fleetId: fleet_id }])
    const [line] = await lines(await api().delete(`/api/fleets/${id}`))
    expect(line).toMatchObject({
      action: 'fleet.deleted',
      target_name: `${name} b`,
      ...about,
      data: { access_tokens: [token.id], claim_credentials: [key.body.id], members: [member] },
    })
  })

  test('tells of a robot what was changed, and of a move at both ends', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const away = await makeFleet(api())
    const made = await api().post('/api/robots', { fleet_id, name: 'r', labels: { a: '1' } })
    const { id } = made.body
    const about = { target_kind: 'robot', target_id: id, site_id, fleet_id }
    expect(await lines(made)).toMatchObject([{ action: 'robot.created', target_name: 'r', ...about }])
    const url = `/api/robots/${id}`
    const change = { name: 's', labels: { b: '2' }, lifecycle: 'maintenance', fleet_id: away.fleet_id }
    const moved = { from: { site_id, fleet_id }, to: away }
    expect(await lines(await api().patch(url, change))).toMatchObject([
      {
        action: 'robot.changed',
        ...about,
        data: {
          changed: {
            name: { from: 'r', to: 's' },
            labels: { from: { a: '1' }, to: { b: '2' } },
            lifecycle: { from: 'active', to: 'maintenance' },
          },
        },
      },
      { action: 'robot.moved', ...about, data: moved },
      { action: 'robot.moved', ...about, ...away, data: moved },
    ])
    expect(await lines(await api().patch(url, change))).toEqual([])
    const back = await api().patch(url, { fleet_id })
    expect((await lines(back)).map(({ action }) => action)).toEqual(['robot.moved', 'robot.moved'])
    const retired = await api().post(`${url}/retire`)
    expect(await lines(retired)).toMatchObject([
      { action: 'robot.retired', ...about, data: { from: 'maintenance' } },
    ])
    expect(await lines(await api().post(`${url}/retire`))).toEqual([])
  })

  test('says who it was, also of a fleet’s token that belongs to nobody', async () => {
    const { database } = api().db
    const { fleet_id } = await makeFleet(api())
    const userId = await insertPerson(database, [{ role: 'operator', fleetId: fleet_id }], { name: 'Ada' })
    const personal = await insertPersonalToken(database, userId, { name: 'laptop' })
    const ofFleet = await insertFleetToken(database, fleet_id, {
      name: 'robot room',
      scopes: ['robots:write'],
    })
    const who = async (token: string) => {
      const made = await api().post('/api/robots', { fleet_id, name: unique('robot') }, { token })
      const { rows } = await api().db.pool.query(
        'SELECT actor_kind, actor_id, actor_name, data FROM audit_log WHERE request_id = $1',
        [made.headers['x-request-id']],
      )
      return rows
    }
    expect(await who(personal.token)).toMatchObject([
      {
        actor_kind: 'personal_token',
        actor_id: personal.id,
        actor_name: 'laptop',
        data: { user_id: userId, user_name: 'Ada' },
      },
    ])
    const [line] = await who(ofFleet.token)
    expect(line).toMatchObject({ actor_kind: 'fleet_token', actor_id: ofFleet.id, actor_name: 'robot room' })
    expect(Object.keys(line.data)).toEqual(['labels'])
  })

  test('holds nothing of what was refused or repeated', async () => {
    const { site_id } = await makeFleet(api())
    expect(await lines(await api().delete(`/api/sites/${site_id}`))).toEqual([])
    const headers = { 'idempotency-key': unique('key') }
    const name = unique('site')
    expect(await lines(await api().post('/api/sites', { name }, { headers }))).toHaveLength(1)
    expect(await lines(await api().post('/api/sites', { name }, { headers }))).toEqual([])
  })

  test('and the change are written together, or neither is', async () => {
    const own = await startApi()
    try {
      const { fleet_id } = await makeFleet(own)
      const robot = await makeRobot(own, fleet_id)
      await own.db.pool.query(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no'; END $$`)
      await own.db.pool.query(`CREATE TRIGGER refuse BEFORE INSERT ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
      const before = own.published.length
      const changes = [
        () => own.post('/api/sites', { name: 'unwritten' }),
        () => own.post('/api/sites', { name: 'unwritten' }, { headers: { 'idempotency-key': 'k' } }),
        () => own.patch(`/api/fleets/${fleet_id}`, { heartbeat_interval_ms: 5000 }),
        () => own.patch(`/api/robots/${robot.id}`, { name: 'unwritten' }),
        () => own.post(`/api/robots/${robot.id}/retire`),
      ]
      for (const change of changes) expectProblem(await change(), 500, 'internal_error')
      expect(own.published.slice(before)).toEqual([])
      await own.db.pool.query('DROP TRIGGER refuse ON audit_log')
      expect((await own.get(`/api/robots/${robot.id}`)).body).toEqual(robot)
      expect((await own.get(`/api/fleets/${fleet_id}`)).body.heartbeat_interval_ms).toBeNull()
      expect((await own.post('/api/sites', { name: 'unwritten' })).status).toBe(201)
    } finally {
      await own.close()
    }
  })
})
