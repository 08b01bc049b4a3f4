import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { expectProblem, type Json, makeFleet, makeRobot, setStatus, unique, useApi } from './api.ts'

const api = useApi()
const query = (text: string, values: unknown[] = []) => api().db.pool.query(text, values)
const timeline = async (id: string): Promise<Json[]> =>
  (await api().get(`/api/robots/${id}/events`)).body.items

/** Everything the server told the others while the work ran. */
async function told(work: () => Promise<unknown>): Promise<Json[]> {
  const before = api().published.length
  await work()
  return api().published.slice(before)
}

describe('a robot made by hand', () => {
  test('has never been heard of', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const labels = { role: 'mover', constructor: 'x' }
    const robot = await makeRobot(api(), fleet_id, { name: 'R2-D2', labels })
    expect(robot).toEqual({
      id: expect.any(String),
      name: 'R2-D2',
      site_id,
      fleet_id,
      labels,
      lifecycle: 'active',
      connection: 'unseen',
      connection_reason: 'never_connected',
      connection_since: expect.any(String),
      last_seen_at: null,
      session_no: 0,
      health: 'unknown',
      heartbeat: null,
      agent: null,
      fingerprint: {},
      credential_id: null,
      token_credential_id: null,
      pending_since: null,
      created_at: expect.any(String),
      updated_at: expect.any(String),
      enrolled_at: null,
      retired_at: null,
      token_issued_at: null,
      token_revoked_at: null,
      rotation: null,
    })
    expect((await api().get(`/api/robots/${robot.id}`)).body).toEqual(robot)
    expect((await timeline(robot.id)).map((event) => event.code)).toEqual(['created'])
  })

  test('needs a fleet and a name of its own', async () => {
    const { fleet_id } = await makeFleet(api())
    await makeRobot(api(), fleet_id, { name: 'twin' })
    expectProblem(await api().post('/api/robots', { fleet_id, name: 'twin' }), 409, 'name_taken')
    expectProblem(await api().post('/api/robots', { fleet_id: newId(), name: 'a' }), 422, 'unknown_reference')
    expectProblem(
      await api().post('/api/robots', { fleet_id, name: 'a', lifecycle: 'active' }),
      400,
      'invalid_request',
    )
  })
})

describe('a robot that was heard', () => {
  test('is shown with its latest heartbeat and its age, and without anything secret', async () => {
    const robot = await makeRobot(api())
    const body = {
      health: 'warn',
      battery: { charge: 0.5 },
      metrics: { speed: 1.25 },
      network: { ssid: 'x' },
    }
    await setStatus(api(), robot.id, {
      session_no: 3,
      connection: 'online',
      connection_reason: 'hello',
      connection_since: '2026-01-01T00:00:00Z',
      last_seen_at: '2026-01-01T00:01:00Z',
      health: 'warn',
      hello: JSON.stringify({
        protocol: 1,
        machine_id: 'M-SECRET',
        boot_id: 'b',
        agent: { version: '1.0', arch: 'arm64' },
      }),
      heartbeat_seq: 17,
      heartbeat_at: '2026-01-01T00:00:59Z',
      heartbeat_received_at: new Date(Date.now() - 60_000),
      heartbeat: JSON.stringify(body),
    })
    const token = mintCheckedToken('robot')
    await query('UPDATE robots SET fingerprint = $2, token_hash = $3, machine_hash = $3 WHERE id = $1', [
      robot.id,
      JSON.stringify({ hostname: 'r', mac: '02:00:00:00:00:01', machine_id: 'M-SECRET' }),
      hashToken(token),
    ])
    const shown = await api().get(`/api/robots/${robot.id}`)
    expect(shown.body).toMatchObject({
      session_no: 3,
      connection: 'online',
      connection_reason: 'hello',
      connection_since: '2026-01-01T00:00:00.000Z',
      last_seen_at: '2026-01-01T00:01:00.000Z',
      health: 'warn',
      agent: { version: '1.0', arch: 'arm64' },
      fingerprint: { hostname: 'r', mac: '02:00:00:00:00:01' },
      heartbeat: { ...body, seq: 17, at: '2026-01-01T00:00:59.000Z' },
    })
    expect(shown.body.heartbeat.age_ms).toBeGreaterThanOrEqual(60_000)
    expect(shown.body.heartbeat.age_ms).toBeLessThan(90_000)
    expect(shown.text).not.toContain('M-SECRET')
    expect(shown.text).not.toContain(hashToken(token).toString('hex'))
  })

  test('a robot without a status row is one that was never heard', async () => {
    const robot = await makeRobot(api())
    await query('DELETE FROM robot_status WHERE robot_id = $1', [robot.id])
    const shown = (await api().get(`/api/robots/${robot.id}`)).body
    expect(shown).toMatchObject({ connection: 'unseen', health: 'unknown', session_no: 0, heartbeat: null })
    const list = (await api().get(`/api/robots?fleet=${robot.fleet_id}&connection=unseen&health=unknown`))
      .body
    expect(list.items).toHaveLength(1)
  })
})

describe('listing robots', () => {
  test('filters by everything, all of which has to hold', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const other = await makeFleet(api(), site_id)
    const a = await makeRobot(api(), fleet_id, { name: 'Alpha 50%', labels: { role: 'mover', 'a/b': 'c=d' } })
    const b = await makeRobot(api(), fleet_id, { name: 'beta_1', labels: { role: 'lifter' } })
    const c = await makeRobot(api(), other.fleet_id, { name: 'gamma\\x' })
    await setStatus(api(), a.id, { connection: 'online', health: 'ok' })
    await setStatus(api(), b.id, { connection: 'stale', health: 'error' })
    await query("UPDATE robots SET lifecycle = 'pending' WHERE id = $1", [c.id])
    const ids = { [a.id]: 'a', [b.id]: 'b', [c.id]: 'c' }
    const found = async (filter: string) => {
      const answer = await api().get(`/api/robots?site=${site_id}${filter}`)
      return answer.body.items.map((robot: Json) => ids[robot.id]).join('')
    }
    expect(await found('')).toBe('abc')
    expect(await found(`&fleet=${fleet_id}`)).toBe('ab')
    expect(await found(`&fleet=${fleet_id}&fleet=${other.fleet_id}`)).toBe('abc')
    expect(await found(`&fleet=${fleet_id.toUpperCase()}`)).toBe('ab')
    expect(await found(`&fleet=${newId()}`)).toBe('')
    expect(await found('&connection=online')).toBe('a')
    expect(await found('&connection=online&connection=stale')).toBe('ab')
    expect(await found('&connection=unseen')).toBe('c')
    expect(await found('&health=error')).toBe('b')
    expect(await found('&health=unknown&health=ok')).toBe('ac')
    expect(await found('&lifecycle=pending')).toBe('c')
    expect(await found('&lifecycle=active&health=ok')).toBe('a')
    expect(await found('&label=role')).toBe('ab')
    expect(await found('&label=role=mover')).toBe('a')
    expect(await found('&label=role=')).toBe('')
    expect(await found('&label=role&label=a/b=c%3Dd')).toBe('a')
    expect(await found('&label=toString')).toBe('')
    expect(await found('&q=ALPHA')).toBe('a')
    expect(await found('&q=%25')).toBe('a')
    expect(await found('&q=_')).toBe('b')
    expect(await found('&q=%5C')).toBe('c')
    expect(await found('&q=%27')).toBe('')
    expect(await found(`&q=${b.id}`)).toBe('b')
    expect(await found(`&q=${b.id.toUpperCase()}`)).toBe('b')
    expect(await found(`&site=${newId()}`)).toBe('abc')
    expect(await found(`&id=${b.id}`)).toBe('b')
    expect(await found(`&id=${c.id.toUpperCase()}&id=${a.id}&id=${newId()}`)).toBe('ac')
    expect(await found(`&id=${a.id}&fleet=${other.fleet_id}`)).toBe('')
    const fault = { code: 'motor_hot', level: 'warn', message: '90 C', since: '2026-01-01T00:00:00Z' }
    await setStatus(api(), b.id, { heartbeat: JSON.stringify({ faults: [fault] }) })
    await setStatus(api(), a.id, { heartbeat: JSON.stringify({ faults: [] }) })
    expect(await found('&faults=true')).toBe('b')
    expect(await found('&faults=false')).toBe('ac')
    expectProblem(await api().get('/api/robots?faults=yes'), 400, 'invalid_request')
    expectProblem(await api().get('/api/robots?id=1'), 400, 'invalid_request')
  })

  const SORTS = ['name', 'created_at', 'last_seen_at', 'connection_since']
  test.each(SORTS.flatMap((sort) => [sort, `-${sort}`]))(
    'pages by %s, each robot once, the silent last',
    async (sort) => {
      const { fleet_id } = await makeFleet(api())
      const made: Json[] = []
      for (let index = 0; index < 7; index++)
        made.push(await makeRobot(api(), fleet_id, { name: `r${index}` }))
      // Equal times, times a microsecond apart, and none at all.
      const times = [
        '00:00:00.000001',
        '00:00:00.000002',
        '00:00:00.000002',
        '00:00:00.000003',
        '00:00:01',
        null,
        null,
      ]
      for (const [index, time] of times.entries()) {
        const at = time && `2026-01-01T${time}Z`
        await setStatus(api(), made[index].id, {
          last_seen_at: at,
          connection_since: at ?? '2027-01-01T00:00:00Z',
        })
      }
      const whole = (await api().get(`/api/robots?fleet=${fleet_id}&sort=${sort}`)).body
      expect(whole.next_cursor).toBeNull()
      expect(whole.items).toHaveLength(7)
      const seen: string[] = []
      let cursor = ''
      do {
        const page = (await api().get(`/api/robots?fleet=${fleet_id}&sort=${sort}&limit=2${cursor}`)).body
        seen.push(...page.items.map((robot: Json) => robot.id))
        cursor = page.next_cursor && `&cursor=${page.next_cursor}`
      } while (cursor)
      expect(seen).toEqual(whole.items.map((robot: Json) => robot.id))
      const names = whole.items.map((robot: Json) => robot.name)
      if (sort === 'name' || sort === 'created_at') expect(names).toEqual([...names].sort())
      if (sort === '-name' || sort === '-created_at') expect(names).toEqual([...names].sort().reverse())
      if (sort.endsWith('last_seen_at')) {
        expect(names.slice(5).sort()).toEqual(['r5', 'r6'])
        expect(sort.startsWith('-') ? names.slice(0, 5).reverse() : names.slice(0, 5)).toEqual([
          'r0',
          'r1',
          'r2',
          'r3',
          'r4',
        ])
      }
    },
  )

  test('goes on where it was when robots before the place went away', async () => {
    const { fleet_id } = await makeFleet(api())
    for (const name of ['a', 'b', 'c', 'd']) await makeRobot(api(), fleet_id, { name })
    const first = (await api().get(`/api/robots?fleet=${fleet_id}&limit=2`)).body
    await query('DELETE FROM robots WHERE id = $1', [first.items[1].id])
    const second = (await api().get(`/api/robots?fleet=${fleet_id}&limit=2&cursor=${first.next_cursor}`)).body
    expect(second.items.map((robot: Json) => robot.name)).toEqual(['c', 'd'])
  })
})

describe('changing a robot', () => {
  test('writes what was changed on the timeline, and tells the other servers', async () => {
    const { site_id, fleet_id } = await makeFleet(api())
    const away = await makeFleet(api())
    const robot = await makeRobot(api(), fleet_id, { labels: { a: '1' } })
    const url = `/api/robots/${robot.id}`
    const messages = await told(async () => {
      const change = {
        name: 'new name',
        labels: { b: '2' },
        fleet_id: away.fleet_id,
        lifecycle: 'maintenance',
      }
      const changed = await api().patch(url, change)
      expect(changed.body).toMatchObject({ ...change, site_id: away.site_id })
      expect(changed.body).toEqual((await api().get(url)).body)
    })
    expect(messages).toEqual([{ type: 'robots_changed', robot_ids: [robot.id] }])
    const events = (await timeline(robot.id)).reverse()
    expect(events.map((event) => [event.code, event.data.from, event.data.to])).toEqual([
      ['created', undefined, undefined],
      ['renamed', robot.name, 'new name'],
      ['labels_changed', { a: '1' }, { b: '2' }],
      ['moved', { site_id, fleet_id }, away],
      ['lifecycle_changed', 'active', 'maintenance'],
    ])
    for (const event of events) expect(event.data.by_token).toBe(api().tokenId)
  })

  test('to what it is already leaves no event', async () => {
    const robot = await makeRobot(api(), undefined, { labels: { a: '1', b: '2' } })
    const { name, fleet_id } = robot
    const same = { name, fleet_id, labels: { b: '2', a: '1' }, lifecycle: 'active' }
    expect((await api().patch(`/api/robots/${robot.id}`, same)).body).toEqual(robot)
    expect((await api().patch(`/api/robots/${robot.id}`, {})).body).toEqual(robot)
    expect(await timeline(robot.id)).toHaveLength(1)
  })

  test('refuses names and machines that the fleet has, changing nothing', async () => {
    const { fleet_id } = await makeFleet(api())
    const there = await makeRobot(api(), fleet_id)
    const robot = await makeRobot(api())
    const move = { fleet_id, labels: { moved: 'yes' } }
    const url = `/api/robots/${robot.id}`
    expectProblem(await api().patch(url, { ...move, name: there.name }), 409, 'name_taken')
    await query('UPDATE robots SET machine_hash = $2 WHERE id = ANY ($1)', [
      [there.id, robot.id],
      hashToken(unique('m')),
    ])
    expectProblem(await api().patch(url, move), 409, 'machine_known')
    expectProblem(await api().patch(url, { fleet_id: newId() }), 422, 'unknown_reference')
    expect((await api().get(url)).body).toEqual(robot)
    expect(await timeline(robot.id)).toHaveLength(1)
    expectProblem(await api().patch(`/api/robots/${newId()}`, {}), 404, 'not_found')
  })

  test.each([
    [{ lifecycle: 'retired' }, '/lifecycle'],
    [{ lifecycle: 'pending' }, '/lifecycle'],
    [{ connection: 'online' }, '/connection'],
    [{ token_revoked_at: null }, '/token_revoked_at'],
    [{ name: '' }, '/name'],
    [{ labels: null }, '/labels'],
    [{ fleet_id: 'x' }, '/fleet_id'],
  ])('refuses %j', async (change, pointer) => {
    const robot = await makeRobot(api())
    const answer = await api().patch(`/api/robots/${robot.id}`, change)
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe(pointer)
  })
})

describe('what is done to robots', () => {
  async function withToken(): Promise<{ id: string; url: string }> {
    const { id } = await makeRobot(api())
    await query('UPDATE robots SET token_hash = $2, token_issued_at = now() WHERE id = $1', [
      id,
      hashToken(id),
    ])
    return { id, url: `/api/robots/${id}` }
  }

  test('revoking a token keeps the hash, says when, and tells every server, each time it is asked for', async () => {
    const { id, url } = await withToken()
    const answers: Json[] = []
    const messages = await told(async () => {
      for (const body of [undefined, {}]) answers.push((await api().post(`${url}/revoke-token`, body)).body)
    })
    expect(answers[0].token_revoked_at).not.toBeNull()
    expect(answers[1]).toEqual(answers[0])
    expect(messages).toEqual(Array(2).fill({ type: 'robots_revoked', robot_ids: [id] }))
    const { rows } = await query('SELECT token_hash FROM robots WHERE id = $1', [id])
    expect(rows[0].token_hash).toEqual(hashToken(id))
    expect((await timeline(id)).map((event) => event.code)).toEqual(['token_revoked', 'created'])
  })

  test('revoking where there is no token changes nothing', async () => {
    const robot = await makeRobot(api())
    const answer = await api().post(`/api/robots/${robot.id}/revoke-token`)
    expect([answer.status, answer.body]).toEqual([200, robot])
    expect(await timeline(robot.id)).toHaveLength(1)
  })

  test('only a robot that waits is approved', async () => {
    const robot = await makeRobot(api())
    const url = `/api/robots/${robot.id}`
    expectProblem(await api().post(`${url}/approve`), 409, 'robot_not_pending')
    await query("UPDATE robots SET lifecycle = 'pending' WHERE id = $1", [robot.id])
    expectProblem(await api().patch(url, { lifecycle: 'active' }), 409, 'robot_pending')
    const messages = await told(async () => {
      expect((await api().post(`${url}/approve`)).body.lifecycle).toBe('active')
    })
    expect(messages).toEqual([{ type: 'robots_changed', robot_ids: [robot.id] }])
    expectProblem(await api().post(`${url}/approve`), 409, 'robot_not_pending')
    expect((await timeline(robot.id)).map((event) => event.code)).toEqual(['approved', 'created'])
  })

  test('a retired robot stays as it is', async () => {
    const { id, url } = await withToken()
    const messages = await told(async () => {
      const retired = (await api().post(`${url}/retire`)).body
      expect(retired).toMatchObject({ lifecycle: 'retired', retired_at: expect.any(String) })
      expect((await api().post(`${url}/retire`)).body).toEqual(retired)
    })
    expect(messages).toEqual(Array(2).fill({ type: 'robots_retired', robot_ids: [id] }))
    expectProblem(await api().patch(url, { name: 'x' }), 409, 'robot_is_retired')
    expectProblem(await api().post(`${url}/approve`), 409, 'robot_is_retired')
    expectProblem(await api().post(`${url}/revoke-token`), 409, 'robot_is_retired')
    expect((await timeline(id)).map((event) => event.code)).toEqual(['retired', 'created'])
  })

  test('robots that are not there are 404', async () => {
    for (const action of ['revoke-token', 'approve', 'retire'])
      expectProblem(await api().post(`/api/robots/${newId()}/${action}`), 404, 'not_found')
  })

  test('an action takes no fields', async () => {
    const robot = await makeRobot(api())
    expectProblem(await api().post(`/api/robots/${robot.id}/retire`, { force: true }), 400, 'invalid_request')
    expect((await api().get(`/api/robots/${robot.id}`)).body.lifecycle).toBe('active')
  })
})
