import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { isEnrollmentKey } from '../../src/protocol/tokens.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
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
const withKey = (key: string) => ({ headers: { 'idempotency-key': key } })
const query = async (text: string, values: unknown[] = []): Promise<Json[]> =>
  (await api().db.pool.query(text, values)).rows

describe('a POST with an Idempotency-Key', () => {
  test('has one effect, and the same answer each time', async () => {
    const key = unique('key')
    const name = unique('site')
    const first = await api().post('/api/sites', { name }, withKey(key))
    const again = await api().post('/api/sites', { name }, withKey(key))
    expect([first.status, again.status]).toEqual([201, 201])
    expect(again.body).toEqual(first.body)
    expect(first.headers['idempotency-replayed']).toBeUndefined()
    expect(again.headers['idempotency-replayed']).toBe('true')
    expect(await query('SELECT 1 FROM sites WHERE name = $1', [name])).toHaveLength(1)
  })

  test('is the same request whatever the order of its fields and the defaults it leaves out', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const key = withKey(unique('key'))
    const first = await api().post('/api/enrollment-keys', { site_id, fleet_id, name: 'k' }, key)
    const spelled = { max_uses: 100, name: 'k', fleet_id, site_id, retrievable: true }
    expect((await api().post('/api/enrollment-keys', spelled, key)).body).toEqual(first.body)
  })

  test('is refused when the key stood for another request', async () => {
    const key = unique('key')
    await api().post('/api/sites', { name: unique('site') }, withKey(key))
    expectProblem(
      await api().post('/api/sites', { name: unique('site') }, withKey(key)),
      422,
      'idempotency_key_reused',
    )
    const { site_id } = await makeFleet(api())
    const elsewhere = await api().post('/api/fleets', { site_id, name: 'a' }, withKey(key))
    expectProblem(elsewhere, 422, 'idempotency_key_reused')
  })

  test('belongs to the token that sent it', async () => {
    const { database } = api().db
    const { token } = await insertPersonalToken(database, await insertPerson(database, [{ role: 'owner' }]))
    const key = unique('key')
    const one = await api().post('/api/sites', { name: unique('site') }, withKey(key))
    const two = await api().post('/api/sites', { name: unique('site') }, { ...withKey(key), token })
    expect([one.status, two.status]).toEqual([201, 201])
    expect(two.body.id).not.toBe(one.body.id)
  })

  test('may be sent again after a refusal, which changed nothing', async () => {
    const key = unique('key')
    const body = { site_id: newId(), name: 'late' }
    expectProblem(await api().post('/api/fleets', body, withKey(key)), 422, 'unknown_reference')
    await query('INSERT INTO sites (id, name) VALUES ($1, $2)', [body.site_id, unique('site')])
    const answer = await api().post('/api/fleets', body, withKey(key))
    expect([answer.status, answer.headers['idempotency-replayed']]).toEqual([201, undefined])
  })

  test('sent many times at once has one effect; the others are told to wait or get its answer', async () => {
    for (let round = 0; round < 5; round++) {
      const key = unique('key')
      const name = unique('site')
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => api().post('/api/sites', { name }, withKey(key))),
      )
      const granted = answers.filter((answer) => answer.status === 201)
      expect(granted.length).toBeGreaterThan(0)
      expect(new Set(granted.map((answer) => answer.body.id)).size).toBe(1)
      expect(granted.filter((answer) => !answer.headers['idempotency-replayed'])).toHaveLength(1)
      for (const answer of answers.filter((answer) => answer.status !== 201)) {
        expectProblem(answer, 409, 'request_in_progress')
        expect(answer.headers['retry-after']).toBe('1')
      }
    }
  })

  test('sent again while the first is at work is told to wait', async () => {
    const key = unique('key')
    const client = await api().db.pool.connect()
    let pending: Promise<Answer>
    const body = { name: unique('site') }
    try {
      await client.query('BEGIN')
      await client.query('LOCK TABLE sites IN ACCESS EXCLUSIVE MODE')
      pending = api().post('/api/sites', body, withKey(key))
      const waits =
        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'insert into \"sites\"%'"
      while ((await query(waits)).length === 0);
      expectProblem(await api().post('/api/sites', body, withKey(key)), 409, 'request_in_progress')
    } finally {
      await client.query('ROLLBACK')
      client.release()
    }
    expect((await pending).status).toBe(201)
    expect((await api().post('/api/sites', body, withKey(key))).headers['idempotency-replayed']).toBe('true')
  })

  test('is new again after a day', async () => {
    const key = unique('key')
    const robot = await makeRobot(api())
    const url = `/api/robots/${robot.id}/revoke-token`
    await api().post(url, {}, withKey(key))
    await query("UPDATE idempotent_requests SET created_at = now() - interval '24 h' WHERE key = $1", [key])
    const body = { name: unique('site') }
    const answer = await api().post('/api/sites', body, withKey(key))
    expect([answer.status, answer.headers['idempotency-replayed']]).toEqual([201, undefined])
    expect((await api().post('/api/sites', body, withKey(key))).headers['idempotency-replayed']).toBe('true')
  })

  test('tells the other servers again when it is answered again', async () => {
    const robot = await makeRobot(api())
    const key = withKey(unique('key'))
    const before = api().published.length
    await api().post(`/api/robots/${robot.id}/retire`, undefined, key)
    await api().post(`/api/robots/${robot.id}/retire`, {}, withKey(unique('other')))
    const again = await api().post(`/api/robots/${robot.id}/retire`, undefined, key)
    expect(again.headers['idempotency-replayed']).toBe('true')
    const message = { type: 'robots_retired', robot_ids: [robot.id] }
    expect(api().published.slice(before)).toEqual([message, message, message])
  })

  test.each(['', 'two words', 'ü', 'a'.repeat(256)])('of an odd form is refused: %j', async (key) => {
    const answer = await api().post('/api/sites', { name: unique('site') }, withKey(key))
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe('header:idempotency-key')
  })
})

describe('answers that are kept', () => {
  test('are sealed, and open nowhere else', async () => {
    const place = await makeFleet(api())
    const [one, two] = [unique('key'), unique('key')]
    const made = await api().post('/api/enrollment-keys', { ...place, name: 'a' }, withKey(one))
    await api().post('/api/enrollment-keys', { ...place, name: 'b' }, withKey(two))
    const [row] = await query('SELECT body_sealed FROM idempotent_requests WHERE key = $1', [one])
    expect(row.body_sealed.toString('latin1')).not.toContain('rf_enroll_')
    const again = await api().post('/api/enrollment-keys', { ...place, name: 'a' }, withKey(one))
    expect(again.body).toEqual(made.body)
    expect(isEnrollmentKey(again.body.key_value)).toBe(true)
    await query('UPDATE idempotent_requests SET body_sealed = $1 WHERE key = $2', [row.body_sealed, two])
    const moved = await api().post('/api/enrollment-keys', { ...place, name: 'b' }, withKey(two))
    expectProblem(moved, 500, 'internal_error')
  })

  test('hold no secret that nobody may read again', async () => {
    const place = await makeFleet(api())
    const key = withKey(unique('key'))
    const body = { ...place, name: 'once', retrievable: false }
    const first = await api().post('/api/enrollment-keys', body, key)
    expect(isEnrollmentKey(first.body.key_value)).toBe(true)
    const again = await api().post('/api/enrollment-keys', body, key)
    expect(again.status).toBe(201)
    expect(again.body).toEqual({ ...first.body, key_value: null, setup_command: null })
  })

  test('stay away with work that did not commit', async () => {
    const broken = await startApi({
      seal: {
        seal: () => {
          throw new Error('no key')
        },
        open: () => '',
      },
    })
    try {
      const name = unique('site')
      expectProblem(await broken.post('/api/sites', { name }, withKey('k')), 500, 'internal_error')
      expect((await broken.get('/api/sites')).body.items).toEqual([])
      expect((await broken.post('/api/sites', { name })).status).toBe(201)
    } finally {
      await broken.close()
    }
  })

  test('are not told twice when telling failed: asking again tells', async () => {
    const told: Json[] = []
    let deaf = true
    const own = await startApi({
      bus: {
        async publish(message) {
          if (deaf) throw Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' })
          told.push(message)
        },
      },
    })
    try {
      const robot = await makeRobot(own)
      const url = `/api/robots/${robot.id}/retire`
      expectProblem(await own.post(url, {}, withKey('k')), 503, 'database_unavailable')
      deaf = false
      const again = await own.post(url, {}, withKey('k'))
      expect([again.status, again.headers['idempotency-replayed']]).toEqual([200, 'true'])
      expect(told).toEqual([{ type: 'robots_retired', robot_ids: [robot.id] }])
    } finally {
      await own.close()
    }
  })
})
