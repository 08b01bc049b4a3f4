import { beforeAll, describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { expectProblem, type Json, makeRobot, useApi } from './api.ts'

const api = useApi()
const NOON = Math.floor(Date.now() / 3_600_000) * 3_600_000 - 3_600_000
const at = (seconds: number) => new Date(NOON + seconds * 1000).toISOString()

async function store(
  robotId: string,
  beats: readonly { s: number; seq: number; body: Json }[],
): Promise<void> {
  for (const { s, seq, body } of beats)
    await api().db.pool.query(
      `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
       VALUES ($1, now(), $2, 1, $3, $4)`,
      [robotId, at(s), seq, JSON.stringify(body)],
    )
}

describe('heartbeats', () => {
  let url = ''
  beforeAll(async () => {
    const robot = await makeRobot(api())
    const stranger = await makeRobot(api())
    url = `/api/robots/${robot.id}/heartbeats`
    await store(robot.id, [
      { s: 30, seq: 3, body: { battery: { charge: 0.5 }, system: { cpu: 0.3 }, metrics: { speed: -2 } } },
      { s: 0, seq: 1, body: { battery: { charge: 0.9 }, system: { cpu: 0.1 }, mode: 'auto' } },
      { s: 30, seq: 2, body: { battery: { charge: 0.7, charging: true }, estop: false } },
      { s: 60, seq: 4, body: { health: 'warn' } },
      { s: 90, seq: 5, body: { battery: { charge: 0.1 }, metrics: { speed: 4, grip: 1 } } },
    ])
    await store(stranger.id, [{ s: 10, seq: 1, body: { battery: { charge: 0 } } }])
  })
  const range = (from: number, to: number) =>
    `from=${encodeURIComponent(at(from))}&to=${encodeURIComponent(at(to))}`

  test("come in the order of the robot's clock, whatever order they arrived in", async () => {
    const { items, next_cursor } = (await api().get(`${url}?${range(0, 600)}`)).body
    expect(items.map((beat: Json) => beat.seq)).toEqual([1, 2, 3, 4, 5])
    expect(items[0]).toEqual({
      seq: 1,
      at: at(0),
      received_at: expect.any(String),
      session_no: 1,
      battery: { charge: 0.9 },
      system: { cpu: 0.1 },
      mode: 'auto',
    })
    expect(next_cursor).toBeNull()
  })

  test('are taken from the beginning of a range up to, not including, its end', async () => {
    const { items } = (await api().get(`${url}?${range(30, 90)}`)).body
    expect(items.map((beat: Json) => beat.seq)).toEqual([2, 3, 4])
  })

  test('of the last hour come without a range', async () => {
    const robot = await makeRobot(api())
    const insert = `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
      VALUES ($1, now(), now() - $2::interval, 1, $3, '{}')`
    await api().db.pool.query(insert, [robot.id, '59 min', 2])
    await api().db.pool.query(insert, [robot.id, '61 min', 1])
    const { items } = (await api().get(`/api/robots/${robot.id}/heartbeats`)).body
    expect(items.map((beat: Json) => beat.seq)).toEqual([2])
  })

  test('come page by page, each once, also where times are equal', async () => {
    const seen: number[] = []
    let cursor = ''
    do {
      const page = (await api().get(`${url}?${range(0, 600)}&limit=2${cursor}`)).body
      seen.push(...page.items.map((beat: Json) => beat.seq))
      cursor = page.next_cursor && `&cursor=${page.next_cursor}`
    } while (cursor)
    expect(seen).toEqual([1, 2, 3, 4, 5])
  })

  test('can be cut down to some fields', async () => {
    const fields = 'fields=battery.charge,metrics.speed&fields=estop&fields=battery.toString'
    const { items } = (await api().get(`${url}?${range(0, 60)}&${fields}`)).body
    expect(items.map((beat: Json) => beat.values)).toEqual([
      { 'battery.charge': 0.9, 'metrics.speed': null, estop: null, 'battery.toString': null },
      { 'battery.charge': 0.7, 'metrics.speed': null, estop: false, 'battery.toString': null },
      { 'battery.charge': 0.5, 'metrics.speed': -2, estop: null, 'battery.toString': null },
    ])
    expect(items[0].battery).toBeUndefined()
  })

  test('are summed up per step', async () => {
    const { items, next_cursor } = (await api().get(`${url}?${range(0, 600)}&step=1m`)).body
    const charge = (min: number, avg: number, max: number, count: number) => ({ min, avg, max, count })
    expect(next_cursor).toBeNull()
    expect(items).toEqual([
      {
        at: at(0),
        heartbeats: 3,
        health: { unknown: 3 },
        values: {
          'battery.charge': charge(0.5, expect.closeTo(0.7), 0.9, 3),
          'system.cpu': charge(0.1, expect.closeTo(0.2), 0.3, 2),
          'metrics.speed': charge(-2, -2, -2, 1),
        },
      },
      {
        at: at(60),
        heartbeats: 2,
        health: { unknown: 1, warn: 1 },
        values: {
          'battery.charge': charge(0.1, 0.1, 0.1, 1),
          'metrics.speed': charge(4, 4, 4, 1),
          'metrics.grip': charge(1, 1, 1, 1),
        },
      },
    ])
  })

  test('are summed up in whole steps, also where the range begins and ends within one', async () => {
    const sums = async (from: number, to: number) => {
      const { items } = (await api().get(`${url}?${range(from, to)}&step=1m&fields=battery.charge`)).body
      return items.map((item: Json) => [item.at, item.values['battery.charge'].count])
    }
    expect(await sums(20, 21)).toEqual([[at(0), 3]])
    expect(await sums(59, 61)).toEqual([
      [at(0), 3],
      [at(60), 1],
    ])
    expect(await sums(60, 120)).toEqual([[at(60), 1]])
    // 1,500 steps, and one more.
    const limit = (seconds: number) => api().get(`${url}?${range(-90_000 + seconds, 0)}&step=1m`)
    expect((await limit(0)).status).toBe(200)
    expectProblem(await limit(-1), 400, 'invalid_request')
  })

  test('are summed up for the fields asked for, numbers alone', async () => {
    const fields = 'fields=metrics.speed,mode,estop,battery.charging,network'
    const { items } = (await api().get(`${url}?${range(0, 600)}&step=3600&${fields}`)).body
    expect(items).toMatchObject([
      { at: at(0), heartbeats: 5, values: { 'metrics.speed': { count: 2, min: -2, avg: 1, max: 4 } } },
    ])
  })

  test.each([
    ['step=0', '?step'],
    ['step=1x', '?step'],
    ['step=-1m', '?step'],
    ['step=1.5s', '?step'],
    ['step=9999d', '?step'],
    ['step=1', '?step'],
    ['from=yesterday', '?from'],
    ['from=2026-01-01', '?from'],
    ['to=1969-12-31T23:59:59Z', '?to'],
    ['from=2999-01-01T00:00:00Z', '?from'],
    ['fields=', '?fields'],
    ['fields=a..b', '?fields'],
    ["fields=a'b", '?fields'],
    [`fields=${'a,'.repeat(40)}a`, '?fields'],
    ['limit=1001', '?limit'],
  ])('refuse %s', async (wrong, pointer) => {
    const answer = await api().get(`${url}?${wrong}`)
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe(pointer)
  })

  test('of a robot that is not there are 404', async () => {
    expectProblem(await api().get(`/api/robots/${newId()}/heartbeats`), 404, 'not_found')
    expectProblem(await api().get(`${url}?cursor=abc`), 400, 'invalid_cursor')
  })
})

describe('the timeline', () => {
  test('is read newest first, page by page, by level and code', async () => {
    const robot = await makeRobot(api())
    const url = `/api/robots/${robot.id}/events`
    const levels = ['debug', 'info', 'warn', 'error', 'fatal']
    for (const [index, level] of levels.entries())
      await api().db.pool.query(
        `INSERT INTO robot_events (id, robot_id, source, event_id, at, level, code, message, data)
         VALUES ($1, $2, 'robot', $3, $4, $5, $6, 'happened', '{"depth": {"n": 1}}')`,
        [newId(), robot.id, `e${index}`, at(index), level, `code_${index % 2}`],
      )
    const read = async (filter: string): Promise<Json[]> => (await api().get(`${url}?${filter}`)).body.items
    const ids = async (filter: string) => (await read(filter)).map((event) => event.event_id)
    expect(await ids('')).toEqual(['e4', 'e3', 'e2', 'e1', 'e0', null])
    expect(await ids('level=warn&level=fatal')).toEqual(['e4', 'e2'])
    expect(await ids('code=code_1')).toEqual(['e3', 'e1'])
    expect(await ids('code=code_0&level=debug')).toEqual(['e0'])
    expect(await ids('code=%27')).toEqual([])
    expect((await read('level=fatal'))[0]).toEqual({
      id: expect.any(String),
      source: 'robot',
      event_id: 'e4',
      at: at(4),
      received_at: expect.any(String),
      level: 'fatal',
      code: 'code_0',
      message: 'happened',
      data: { depth: { n: 1 } },
    })
    const first = (await api().get(`${url}?limit=4`)).body
    const second = (await api().get(`${url}?limit=4&cursor=${first.next_cursor}`)).body
    expect(second.items.map((event: Json) => event.event_id)).toEqual(['e0', null])
    expect(second.next_cursor).toBeNull()
    expectProblem(await api().get(`${url}?level=loud`), 400, 'invalid_request')
    expectProblem(await api().get(`${url}?code=%00`), 400, 'invalid_request')
    expectProblem(await api().get(`/api/robots/${newId()}/events`), 404, 'not_found')
  })
})
