import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createStanding } from '../../src/access/standing.ts'
import { createPostgresBus } from '../../src/bus/postgres.ts'
import { openPool } from '../../src/db/database.ts'
import { renderRobot } from '../../src/http/live-schema.ts'
import { createHttp } from '../../src/http/server.ts'
import { newId } from '../../src/ids.ts'
import { createLiveFeeds, type LiveLimits } from '../../src/live/feed.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { eventually } from '../support/eventually.ts'
import { LiveReader, type LiveReaderOptions } from '../support/live-reader.ts'
import { insertSigner, signedIn } from '../support/people.ts'
import { expectProblem, type Json, makeFleet, makeRobot, setStatus, unique, useApi } from './api.ts'

const WITHIN_MS = 2_000
const api = useApi()

/** A server of its own on the same database, on the bus between servers. */
async function startServer(limits: Partial<LiveLimits> = {}) {
  const { parts, db } = api()
  const log = createLog('silent')
  const pool = openPool({
    url: db.url,
    name: 'live test',
    maxConnections: 3,
    statementTimeoutMs: 5_000,
    onIdleError: () => {},
  })
  const bus = await createPostgresBus({ url: db.url, pool, serverId: newId(), clock: systemClock, log })
  const standing = createStanding({ database: db.database, bus, clock: systemClock, log })
  const { metrics } = parts
  const live = createLiveFeeds({
    database: db.database,
    clock: systemClock,
    random: systemRandom,
    log,
    metrics,
    render: renderRobot,
    limits,
  })
  const app = createHttp({ ...parts, bus, standing, live })
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  const stop = async () => {
    standing.stop()
    live.stop()
    await app.close()
    await bus.stop()
    await pool.end()
  }
  return { url, live, standing, stop }
}

type Server = Awaited<ReturnType<typeof startServer>>
let here: Server
let there: Server
beforeAll(async () => {
  here = await startServer()
  there = await startServer()
})
afterAll(() => Promise.all([here?.stop(), there?.stop()]))

async function open(options: LiveReaderOptions = {}, { url } = here): Promise<LiveReader> {
  const reader = await LiveReader.open(url, { token: api().token, ...options })
  onTestFinished(() => reader.close())
  expect(reader.status).toBe(200)
  return reader
}

async function opened(options: LiveReaderOptions = {}, server = here): Promise<LiveReader> {
  const reader = await open(options, server)
  await eventually(() => reader.isWhole, 'the whole snapshot')
  return reader
}

async function comeBack(
  reader: LiveReader,
  options: LiveReaderOptions = {},
  server = here,
): Promise<LiveReader> {
  const again = await open({ ...options, headers: { 'last-event-id': reader.lastEventId } }, server)
  await eventually(() => again.events.length > 0)
  return again
}

const withoutAge = ({ heartbeat, ...robot }: Json) => {
  if (!heartbeat) return { ...robot, heartbeat }
  const { age_ms: _, ...rest } = heartbeat
  return { ...robot, heartbeat: rest }
}

/** All robots of the list, by id. */
async function listed(query = '', token = api().token): Promise<Map<string, Json>> {
  const robots = new Map<string, Json>()
  for (let cursor = ''; ; ) {
    const page = new URLSearchParams(query)
    page.set('limit', '200')
    if (cursor) page.set('cursor', cursor)
    const { body } = await api().get(`/api/robots?${page}`, { token })
    for (const robot of body.items) robots.set(robot.id, withoutAge(robot))
    cursor = body.next_cursor
    if (!cursor) return robots
  }
}

const known = (reader: LiveReader) =>
  new Map([...reader.robots].map(([id, robot]) => [id, withoutAge(robot)]))

/** Fails unless the reader comes to know what the list says. */
async function agree(reader: LiveReader, query = '', token = api().token): Promise<void> {
  const due = await listed(query, token)
  await eventually(() => isDeepStrictEqual(known(reader), due)).catch(() =>
    expect(known(reader)).toEqual(due),
  )
}

const beat = (seq: number, body: Json = {}) => ({
  heartbeat_seq: seq,
  heartbeat_at: new Date(),
  heartbeat_received_at: new Date(),
  last_seen_at: new Date(),
  heartbeat: body,
})

describe('the answer', () => {
  test('is an event stream that nobody keeps', async () => {
    const { headers, retryMs } = await opened()
    expect(headers['content-type']).toBe('text/event-stream; charset=utf-8')
    expect(headers['cache-control']).toBe('no-store')
    expect(headers['x-accel-buffering']).toBe('no')
    expect(headers['x-content-type-options']).toBe('nosniff')
    expect(headers['x-request-id']).toMatch(/./)
    expect(retryMs).toBeGreaterThanOrEqual(2_000)
  })

  test.each([
    [undefined, undefined],
    ['', undefined],
    ['identity', undefined],
    ['br', undefined],
    ['gzip;q=0', undefined],
    ['gzip', 'gzip'],
    ['gzip, deflate, br, zstd', 'gzip'],
    ['gzip;q=0.5, *;q=0.1', 'gzip'],
    ['gzip;q=0, *', undefined],
    ['*', undefined],
  ])('to who accepts %j is in the coding %j', async (accepted, coding) => {
    const reader = await opened({ headers: accepted === undefined ? {} : { 'accept-encoding': accepted } })
    expect([reader.headers['content-encoding'], reader.headers.vary]).toEqual([coding, 'accept-encoding'])
  })

  test('of HEAD is its head', async () => {
    const answer = await fetch(`${here.url}/api/live`, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${api().token}` },
    })
    expect([answer.status, await answer.text()]).toEqual([200, ''])
    expect(answer.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
    expect(answer.headers.get('x-accel-buffering')).toBe('no')
    expect(answer.headers.get('content-length')).toBe(null)
  })

  test.each([
    '?connection=away',
    '?site=1',
    '?label=%20',
    '?q=%00',
    '?limit=1',
    '?detail=all',
    '?faults=yes',
    `?last_event_id=${'x'.repeat(300)}`,
  ])('to %s is a refusal', async (query) => {
    expectProblem(await api().get(`/api/live${query}`), 400, 'invalid_request')
  })

  test('is not counted among the times that requests take', async () => {
    const reader = await opened()
    reader.close()
    await eventually(async () => {
      const values = (await api().parts.metrics.liveEnded.get()).values
      return values.some(({ labels, value }) => labels.reason === 'gone' && value > 0)
    })
    const { values } = await api().parts.metrics.httpSeconds.get()
    expect(values.filter(({ labels }) => labels.route === '/api/live' && labels.status === '2xx')).toEqual([])
  })
})

describe('what is told', () => {
  test('is the list, then what changes in it', async () => {
    const place = await makeFleet(api())
    const query = `fleet=${place.fleet_id}`
    for (let index = 0; index < 3; index += 1) await makeRobot(api(), place.fleet_id)
    const reader = await opened({ query: `?${query}` })
    await agree(reader, query)
    expect(reader.all('snapshot')).toHaveLength(1)

    const robot = await makeRobot(api(), place.fleet_id, { labels: { zone: 'a' } })
    await agree(reader, query)
    await setStatus(api(), robot.id, {
      connection: 'online',
      health: 'warn',
      ...beat(1, { battery: { charge: 0.5 } }),
    })
    await agree(reader, query)
    expect(reader.robots.get(robot.id).heartbeat.age_ms).toBeLessThan(15_000)
    expect(reader.counts).toMatchObject({
      robots: 4,
      connection: { online: 1, unseen: 3 },
      health: { warn: 1 },
    })
    await api().patch(`/api/robots/${robot.id}`, { name: unique('renamed') })
    await agree(reader, query)
    expect(reader.all('reset')).toEqual([])
    const changed = reader.all('delta').flatMap((delta) => delta.changed.map(({ id }: Json) => id))
    expect(new Set(changed)).toEqual(new Set([robot.id]))
  })

  test('is that a robot left the view: moved, deleted, or otherwise than the filter', async () => {
    const place = await makeFleet(api())
    const elsewhere = await makeFleet(api(), place.site_id)
    const query = `fleet=${place.fleet_id}&connection=online`
    const [moved, deleted, lost] = await Promise.all([0, 1, 2].map(() => makeRobot(api(), place.fleet_id)))
    for (const { id } of [moved, deleted, lost]) await setStatus(api(), id, { connection: 'online' })
    const reader = await opened({ query: `?${query}` })
    expect(reader.robots.size).toBe(3)
    await api().patch(`/api/robots/${moved.id}`, { fleet_id: elsewhere.fleet_id })
    await api().post(`/api/robots/${deleted.id}/retire`, {})
    await api().delete(`/api/robots/${deleted.id}`)
    await setStatus(api(), lost.id, { connection: 'offline' })
    await agree(reader, query)
    expect(reader.robots.size).toBe(0)
    // The one that is offline is counted, for a status bar shows what else there is.
    expect(reader.counts).toMatchObject({ robots: 1, connection: { offline: 1, online: 0 } })
    expect(new Set(reader.all('delta').flatMap(({ removed }) => removed))).toEqual(
      new Set([moved.id, deleted.id, lost.id]),
    )
  })

  test('is the status alone where that is asked for, and no heartbeat that changes nothing of it', async () => {
    const { fleet_id } = await makeFleet(api())
    const { id } = await makeRobot(api(), fleet_id)
    const reader = await opened({ query: `?fleet=${fleet_id}&detail=status` })
    const full = await opened({ query: `?fleet=${fleet_id}` })
    const faults = [{ code: 'E1', level: 'error', message: '1', since: '2026-01-01T00:00:00Z' }]
    await setStatus(api(), id, beat(1, { faults, estop: false, mode: 'auto', battery: { charge: 1 } }))
    await eventually(() => reader.all('delta').length === 1)
    expect(reader.robots.get(id)).toMatchObject({
      mode: 'auto',
      estop: false,
      faults: [{ code: 'E1', level: 'error' }],
      agent_version: null,
    })
    for (const name of ['heartbeat', 'last_seen_at', 'fingerprint', 'agent', 'session_no'])
      expect(reader.robots.get(id)).not.toHaveProperty(name)
    expect(reader.counts.faults).toBe(1)
    const heard = full.all('delta').length
    await setStatus(
      api(),
      id,
      beat(2, {
        faults: [{ ...faults[0], message: '2' }],
        estop: false,
        mode: 'auto',
        battery: { charge: 0.9 },
      }),
    )
    await eventually(() => full.all('delta').length > heard)
    await setStatus(api(), id, beat(3, { estop: true, mode: 'auto' }))
    await eventually(() => reader.robots.get(id).estop === true)
    expect(reader.all('delta')).toHaveLength(2)
  })

  test('is no robot out of reach, and none that moves out of it any longer', async () => {
    const mine = await makeFleet(api())
    const other = await makeFleet(api(), mine.site_id)
    const [robot, hidden] = [await makeRobot(api(), mine.fleet_id), await makeRobot(api(), other.fleet_id)]
    const { token } = await insertFleetToken(api().db.database, mine.fleet_id, { scopes: ['robots:read'] })
    const reader = await opened({ token })
    await agree(reader, '', token)
    expect([...reader.robots.keys()]).toEqual([robot.id])
    await setStatus(api(), hidden.id, { connection: 'online' })
    await api().patch(`/api/robots/${robot.id}`, { fleet_id: other.fleet_id })
    await eventually(() => reader.robots.size === 0)
    await setStatus(api(), robot.id, { connection: 'online' })
    await api().patch(`/api/robots/${hidden.id}`, { fleet_id: mine.fleet_id })
    await eventually(() => reader.robots.has(hidden.id))
    await agree(reader, '', token)
    const text = JSON.stringify(reader.events)
    expect(text).not.toContain(other.fleet_id)
    expect(reader.counts.robots).toBe(1)
  })

  test('is what a transaction wrote that was open for long, and had a number before others', async () => {
    const { fleet_id } = await makeFleet(api())
    const [early, late, nested] = await Promise.all([0, 1, 2].map(() => makeRobot(api(), fleet_id)))
    const query = `fleet=${fleet_id}`
    const reader = await opened({ query: `?${query}` })
    const connection = await api().db.pool.connect()
    try {
      await connection.query('BEGIN')
      await connection.query("UPDATE robot_status SET connection = 'stale' WHERE robot_id = $1", [early.id])
      await setStatus(api(), late.id, { connection: 'online' })
      await eventually(() => reader.robots.get(late.id).connection === 'online')
      // The number of a subtransaction is a late one, and no snapshot names it.
      await connection.query('SAVEPOINT inner_work')
      await connection.query("UPDATE robot_status SET connection = 'offline' WHERE robot_id = $1", [
        nested.id,
      ])
      await connection.query('RELEASE inner_work')
      const before = reader.all('delta').length
      await setStatus(api(), late.id, { connection: 'stale' })
      await eventually(() => reader.all('delta').length > before)
      await setStatus(api(), late.id, { connection: 'online' })
      await eventually(() => reader.robots.get(late.id).connection === 'online')
      // What was seen already is not told again, though its writer's number is above the oldest that runs.
      const told = reader.all('delta').flatMap(({ changed }) => changed.map(({ id }: Json) => id))
      expect(new Set(told)).toEqual(new Set([late.id]))
      await connection.query('COMMIT')
    } finally {
      connection.release()
    }
    await agree(reader, query)
    expect(reader.robots.get(early.id).connection).toBe('stale')
    expect(reader.robots.get(nested.id).connection).toBe('offline')
  })

  test('is a large fleet in parts, and all of it at once when it goes', async () => {
    const { fleet_id } = await makeFleet(api())
    await api().db.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name, labels)
       SELECT gen_random_uuid(), f.site_id, f.id, 'many-' || n, jsonb_build_object('filler', repeat('x', 200))
       FROM fleets f, generate_series(1, 900) n WHERE f.id = $1`,
      [fleet_id],
    )
    const query = `?fleet=${fleet_id}`
    const reader = await open({ query })
    await eventually(() => reader.events.length > 0 && reader.all('snapshot').length > 0)
    const [first] = reader.all('snapshot')
    expect(first).toMatchObject({ first: true, done: false })
    expect(first.items).toHaveLength(200)
    await eventually(() => reader.isWhole)
    expect(reader.all('snapshot').map(({ done }) => done)).toEqual([false, false, false, false, true])
    expect(reader.robots.size).toBe(900)
    // A deleted crowd leaves as one.
    await api().db.pool.query('DELETE FROM robots WHERE fleet_id = $1', [fleet_id])
    await eventually(() => reader.robots.size === 0)
  })

  test('is told one reader after the other where all come at once: the first are whole before the last begin', async () => {
    const server = await startServer({ bytesPerSecond: 700_000, snapshotsAtOnce: 2 })
    onTestFinished(() => server.stop())
    const { fleet_id } = await makeFleet(api())
    await api().db.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name)
       SELECT gen_random_uuid(), f.site_id, f.id, 'storm-' || n FROM fleets f, generate_series(1, 900) n WHERE f.id = $1`,
      [fleet_id],
    )
    const query = `?fleet=${fleet_id}`
    const readers = await Promise.all(Array.from({ length: 6 }, () => open({ query }, server)))
    await eventually(() => readers.some(({ isWhole }) => isWhole))
    expect(readers.filter((reader) => reader.all('snapshot').length === 0).length).toBeGreaterThan(1)
    await eventually(() => readers.every(({ robots, isWhole }) => isWhole && robots.size === 900))
    await api().db.pool.query('DELETE FROM robots WHERE fleet_id = $1', [fleet_id])
  })

  test('is the same for many readers with different filters, whatever happens', {
    timeout: 60_000,
  }, async () => {
    const site = await makeFleet(api())
    const fleets = [site, await makeFleet(api(), site.site_id)].map(({ fleet_id }) => fleet_id)
    const scope = `site=${site.site_id}`
    const queries = [
      scope,
      `${scope}&connection=online&connection=stale`,
      `${scope}&fleet=${fleets[0]}&health=ok`,
      `${scope}&label=zone=a`,
      `${scope}&label=zone`,
      `${scope}&q=BOT-1`,
      `${scope}&lifecycle=active&lifecycle=maintenance`,
      `${scope}&faults=true`,
    ]
    const coded = (index: number) => (index % 2 ? { 'accept-encoding': 'gzip' } : {})
    const readers = await Promise.all(
      queries.map((query, index) => opened({ query: `?${query}`, headers: coded(index) })),
    )
    const pick = <Item>(list: readonly Item[]): Item => list[randomBytes(4).readUInt32LE() % list.length]!
    const robots: string[] = []
    const deeds: (() => Promise<unknown>)[] = [
      async () => {
        const { body } = await api().post('/api/robots', {
          fleet_id: pick(fleets),
          name: unique(pick(['bot-1', 'Bot-1', 'bot-2'])),
          labels: pick([{}, { zone: 'a' }, { zone: 'b' }]),
        })
        robots.push(body.id)
      },
      () => setStatus(api(), pick(robots), { connection: pick(['online', 'stale', 'offline']) }),
      () =>
        setStatus(api(), pick(robots), {
          health: pick(['ok', 'warn']),
          ...beat(
            1,
            pick([
              {},
              { faults: [{ code: 'E', level: 'warn', message: '', since: '2026-01-01T00:00:00Z' }] },
            ]),
          ),
        }),
      () => api().patch(`/api/robots/${pick(robots)}`, { fleet_id: pick(fleets) }),
      () => api().patch(`/api/robots/${pick(robots)}`, { labels: pick([{}, { zone: 'a' }]) }),
      () => api().patch(`/api/robots/${pick(robots)}`, { name: unique(pick(['bot-1', 'bot-2'])) }),
      () => api().patch(`/api/robots/${pick(robots)}`, { lifecycle: pick(['active', 'maintenance']) }),
      async () => {
        const id = pick(robots)
        await api().post(`/api/robots/${id}/retire`, {})
        if (randomBytes(1)[0]! % 2) await api().delete(`/api/robots/${id}`)
      },
    ]
    for (let index = 0; index < 10; index += 1) await deeds[0]!()
    for (let round = 0; round < 3; round += 1) {
      for (let index = 0; index < 40; index += 1) await pick(deeds)()
      // One loses its connection in the middle, and comes back to what it missed.
      const lost = round % readers.length
      readers[lost]!.close()
      const { robots: before, lastEventId } = readers[lost]!
      for (let index = 0; index < 20; index += 1) await pick(deeds)()
      // Its id does for another coding, too.
      const back = await open({
        query: `?${queries[lost]}`,
        headers: { 'last-event-id': lastEventId, ...coded(lost + 1) },
      })
      for (const [id, robot] of before) back.robots.set(id, robot)
      readers[lost] = back
      for (const [index, query] of queries.entries()) await agree(readers[index]!, query)
    }
    for (const reader of readers) expect(reader.all('reset')).toEqual([])
  })
})

describe('coming back', () => {
  test('tells what happened in the meantime, and nothing else', async () => {
    const { fleet_id } = await makeFleet(api())
    const query = `?fleet=${fleet_id}`
    const [still, changed, deleted] = await Promise.all([0, 1, 2].map(() => makeRobot(api(), fleet_id)))
    const reader = await opened({ query })
    reader.close()
    await setStatus(api(), changed.id, { connection: 'online' })
    await setStatus(api(), changed.id, { connection: 'stale' })
    await api().db.pool.query('DELETE FROM robots WHERE id = $1', [deleted.id])
    const again = await comeBack(reader, { query })
    expect(again.events.map(({ event }) => event)).toEqual(['delta'])
    const [delta] = again.all('delta')
    expect(delta.changed.map(({ id, connection }: Json) => [id, connection])).toEqual([[changed.id, 'stale']])
    expect(delta.removed).toEqual([deleted.id])
    expect(JSON.stringify(again.events)).not.toContain(still.id)
    // By a parameter, too, for whoever cannot set the header.
    const third = await open({ query: `${query}&last_event_id=${reader.lastEventId}` })
    await eventually(() => third.events.length > 0)
    expect(third.all('delta')[0].removed).toEqual([deleted.id])
  })

  test('is heard even where nothing happened', async () => {
    const reader = await opened()
    reader.close()
    const again = await comeBack(reader)
    expect(again.all('delta')).toMatchObject([{ changed: [], removed: [] }])
  })

  test.each(['nonsense', '0-0-0', '\u00ff', '000000000000-1-000000000000', 'x'.repeat(5_000), '-1'])(
    'with an id that is none of ours tells everything: %j',
    async (id) => {
      const reader = await open({ headers: { 'last-event-id': id } })
      await eventually(() => reader.isWhole)
      expect(reader.events[0]).toEqual({ event: 'reset', data: { reason: 'unknown_id' } })
    },
  )

  test('to another server, or with another question, tells everything', async () => {
    const reader = await opened()
    const reasons = async (options: LiveReaderOptions, server = here) => {
      const again = await comeBack(reader, options, server)
      await eventually(() => again.isWhole)
      return again.all('reset')
    }
    expect(await reasons({}, there)).toEqual([{ reason: 'unknown_id' }])
    expect(await reasons({ query: '?detail=status' })).toEqual([{ reason: 'view_changed' }])
    expect(await reasons({ query: '?connection=online' })).toEqual([{ reason: 'view_changed' }])
    const { fleet_id } = await makeFleet(api())
    const { token } = await insertFleetToken(api().db.database, fleet_id, { scopes: ['robots:read'] })
    expect(await reasons({ token })).toEqual([{ reason: 'view_changed' }])
    const [, tick] = reader.lastEventId.split('-')
    const later = reader.lastEventId.replace(`-${tick}-`, '-999999-')
    const ahead = await open({ headers: { 'last-event-id': later } })
    await eventually(() => ahead.isWhole)
    expect(ahead.all('reset')).toEqual([{ reason: 'too_old' }])
  })

  test('too late tells everything', async () => {
    const server = await startServer({ log: { ticks: 2, changes: 1_000 } })
    onTestFinished(() => server.stop())
    const { fleet_id } = await makeFleet(api())
    const { id } = await makeRobot(api(), fleet_id)
    const query = `?fleet=${fleet_id}`
    const reader = await opened({ query }, server)
    const follower = await opened({ query }, server)
    reader.close()
    for (let seq = 1; seq <= 4; seq += 1) {
      await setStatus(api(), id, beat(seq))
      await eventually(() => follower.robots.get(id).heartbeat?.seq === seq)
    }
    const again = await comeBack(reader, { query }, server)
    await eventually(() => again.isWhole)
    expect(again.all('reset')).toEqual([{ reason: 'too_old' }])
  })
})

describe('the end', () => {
  test.each(['the same server', 'another server'])(
    'comes within two seconds when the token is revoked at %s',
    async (where) => {
      const { database } = api().db
      const { id, token } = await insertPersonalToken(
        database,
        await insertPerson(database, [{ role: 'viewer' }]),
      )
      const reader = await opened({ token })
      const server = where === 'the same server' ? here : there
      const answer = await fetch(`${server.url}/api/tokens/${id}/revoke`, {
        method: 'POST',
        headers: { authorization: `Bearer ${api().token}` },
      })
      expect(answer.status).toBe(200)
      const revokedAt = performance.now()
      expect((await reader.closed) - revokedAt).toBeLessThan(WITHIN_MS)
      expect(reader.all('end')).toMatchObject([{ code: 'token_revoked' }])
      expect(reader.endedWhole).toBe(true)
      const again = await LiveReader.open(here.url, {
        token,
        headers: { 'last-event-id': reader.lastEventId },
      })
      expect(again.status).toBe(401)
      again.close()
    },
  )

  test('comes when the person may read nothing any more, and what they may read is told anew when it is another', async () => {
    const { database } = api().db
    const [one, two] = [await makeFleet(api()), await makeFleet(api())]
    const [first, second] = [await makeRobot(api(), one.fleet_id), await makeRobot(api(), two.fleet_id)]
    const userId = await insertPerson(database, [{ role: 'viewer', fleetId: one.fleet_id }])
    const { token } = await insertPersonalToken(database, userId)
    const reader = await opened({ token })
    expect([...reader.robots.keys()]).toEqual([first.id])
    const grant = (roles: Json[]) =>
      fetch(`${there.url}/api/users/${userId}`, {
        method: 'PATCH',
        headers: { authorization: `Bearer ${api().token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ roles }),
      })
    expect((await grant([{ role: 'viewer', fleet_id: two.fleet_id }])).status).toBe(200)
    await eventually(() => reader.robots.has(second.id))
    expect([...reader.robots.keys()]).toEqual([second.id])
    expect(reader.all('reset')).toEqual([{ reason: 'access_changed' }])
    await setStatus(api(), first.id, { connection: 'online' })
    await setStatus(api(), second.id, { connection: 'online' })
    await eventually(() => reader.robots.get(second.id).connection === 'online')
    expect(reader.robots.has(first.id)).toBe(false)
    expect((await grant([])).status).toBe(200)
    const changedAt = performance.now()
    expect((await reader.closed) - changedAt).toBeLessThan(WITHIN_MS)
    expect(reader.all('end')).toMatchObject([{ code: 'insufficient_scope' }])
  })

  test('comes when somebody who is signed in signs out', async () => {
    const { email } = await insertSigner(api())
    const { cookies } = await signedIn(api(), email)
    const cookie = [...cookies].map((pair) => pair.join('=')).join('; ')
    // As EventSource asks, from a page of ours.
    const headers = { cookie, accept: 'text/event-stream', 'sec-fetch-site': 'same-origin' }
    const reader = await LiveReader.open(here.url, { headers })
    onTestFinished(() => reader.close())
    expect(reader.status).toBe(200)
    await eventually(() => reader.isWhole)
    const answer = await fetch(`${there.url}/api/sign-out`, {
      method: 'POST',
      headers: { cookie, origin: there.url },
    })
    expect(answer.status).toBe(204)
    const leftAt = performance.now()
    expect((await reader.closed) - leftAt).toBeLessThan(WITHIN_MS)
    expect(reader.all('end')).toMatchObject([{ code: 'credentials_required' }])
  })

  test('of a reader that takes nothing is no end of others, and no memory', async () => {
    // Fewer than take nothing.
    const server = await startServer({ snapshotsAtOnce: 4 })
    onTestFinished(() => server.stop())
    const { fleet_id } = await makeFleet(api())
    await api().db.pool.query(
      `INSERT INTO robots (id, site_id, fleet_id, name, labels)
       SELECT gen_random_uuid(), f.site_id, f.id, 'heavy-' || n, jsonb_build_object('filler', repeat('x', 8000))
       FROM fleets f, generate_series(1, 3000) n WHERE f.id = $1`,
      [fleet_id],
    )
    const query = `?fleet=${fleet_id}`
    const sent = async () => (await api().parts.metrics.liveBytes.get()).values[0]!.value
    const before = await sent()
    const stuck = await Promise.all(Array.from({ length: 8 }, () => open({ query }, server)))
    for (const reader of stuck) reader.pause()
    // 24 MB for each; no more goes out than the system's own buffers take.
    let last = -1
    await eventually(async () => {
      const now = await sent()
      const isStill = now === last
      last = now
      await pause(300)
      return isStill
    })
    expect(last - before).toBeLessThan(8 * 12_000_000)
    const well = await opened({ query: `${query}&connection=online` }, server)
    const { rows } = await api().db.pool.query('SELECT id FROM robots WHERE fleet_id = $1 LIMIT 1', [
      fleet_id,
    ])
    await api().db.pool.query("INSERT INTO robot_status (robot_id, connection) VALUES ($1, 'online')", [
      rows[0].id,
    ])
    await eventually(() => well.robots.has(rows[0].id))
    // Who reads on is told the rest, and everything since.
    stuck[0]!.resume()
    await eventually(
      () => stuck[0]!.robots.size === 3_000 && stuck[0]!.robots.get(rows[0].id).connection === 'online',
    )
    for (const reader of stuck) reader.close()
    await api().db.pool.query('DELETE FROM robots WHERE fleet_id = $1', [fleet_id])
  })

  test('comes at once when the server stops, which it does', async () => {
    const server = await startServer()
    const reader = await opened({}, server)
    const begun = performance.now()
    await server.stop()
    expect(performance.now() - begun).toBeLessThan(WITHIN_MS)
    await reader.closed
    expect(reader.all('end')).toMatchObject([{ code: 'server_stopping' }])
  })

  test('too many of one are refused with when to come again', async () => {
    const server = await startServer({ readersOfOne: 1 })
    onTestFinished(() => server.stop())
    const reader = await opened({}, server)
    const ask = () => fetch(`${server.url}/api/live`, { headers: { authorization: `Bearer ${api().token}` } })
    const refused = await ask()
    expect([refused.status, ((await refused.json()) as Json).code]).toEqual([429, 'too_many_feeds'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    reader.close()
    await eventually(async () => {
      const answer = await ask()
      await answer.body?.cancel()
      return answer.status === 200
    })
  })
})
