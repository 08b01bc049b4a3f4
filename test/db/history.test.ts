import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { listHeartbeats, summarizeHeartbeats } from '../../src/db/heartbeat-history.ts'
import { packSome, startPacker } from '../../src/db/heartbeat-packer.ts'
import { closePartition, ensureHeartbeatPartitions } from '../../src/db/heartbeat-partitions.ts'
import { dropOldPartitions, HOURS, MINUTES, PACKS } from '../../src/db/history-partitions.ts'
import { eventually } from '../support/eventually.ts'
import { RETENTION } from '../support/retention.ts'
import { createHistoryWorld, DAY, type HistoryWorld, HOUR, MINUTE, type SentBeat } from './history-world.ts'

let world: HistoryWorld
beforeAll(async () => {
  world = await createHistoryWorld()
})
afterAll(() => world.end())

async function count(table: string): Promise<number> {
  const { rows } = await world.db.pool.query<{ count: number }>(
    `SELECT count(*)::integer AS count FROM ${table}`,
  )
  return rows[0]!.count
}

const EVER = { from: new Date(0), to: new Date('9999-12-31T23:59:59Z') }

async function seqsOf(robotId: string): Promise<number[]> {
  const rows = await listHeartbeats(world.db.database, robotId, EVER, { limit: 1_000, after: undefined })
  return rows.map((row) => row.seq)
}

async function sums(robotId: string, stepMs: number, from: number, to: number, fields?: string[]) {
  const { numbers } = await summarizeHeartbeats(
    world.db.database,
    robotId,
    { from: new Date(from), to: new Date(to) },
    { stepMs, fields, retention: RETENTION, now: world.clock.now() },
  )
  return numbers
}

const beat = (robotId: string, atMs: number, seq: number, charge = 0.5): SentBeat => ({
  robotId,
  atMs,
  seq,
  body: { health: 'ok', battery: { charge }, metrics: { speed: 1.25 } },
})

/** Over, closed, packed and dropped. */
async function throughTheNight(): Promise<void> {
  await world.advance(3 * HOUR)
  await world.packAll()
  await world.advance(10 * MINUTE)
  expect((await world.dropPacked()).length).toBeGreaterThan(0)
}

describe('a heartbeat that is sent again', () => {
  test('after it was packed and its rows were dropped is acknowledged, and in the history once', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    const sent = [0, 1, 2].map((index) => beat(robot!, at + index * 1000, 7 + index))
    expect(await world.send(sent)).toEqual([9])
    await throughTheNight()
    const again = [...sent, beat(robot!, at + 3000, 10)]
    expect(await world.send(again, true)).toEqual([10])
    expect(await seqsOf(robot!)).toEqual([7, 8, 9, 10])
    await throughTheNight()
    expect(await world.send(again, true)).toEqual([10])
    expect(await seqsOf(robot!)).toEqual([7, 8, 9, 10])
  })

  test('with the same number and another time, or the other way round, is another one', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    await world.send([beat(robot!, at, 5), beat(robot!, at + 50, 6), beat(robot!, at + 99, 7)])
    await throughTheNight()
    await world.send([beat(robot!, at + 50, 5), beat(robot!, at, 6), beat(robot!, at + 51, 6)], true)
    expect(await seqsOf(robot!)).toEqual([5, 6, 5, 6, 6, 7])
  })
})

describe('a heartbeat that comes when its hour is closed', () => {
  test('is stored as one that came later, and acknowledged', async () => {
    const [robot, other] = await world.addRobots(2)
    const at = world.clock.now()
    await world.send([beat(other!, at, 1)])
    await world.advance(3 * HOUR)
    await world.packAll()
    // One whose partition is packed and not yet dropped, beside one whose is open.
    const late = { ...beat(robot!, at, 1), receivedAt: at }
    expect(await world.send([late, beat(other!, at + 1, 2)])).toEqual([1, 2])
    await world.advance(10 * MINUTE)
    await world.dropPacked()
    // Their partitions are gone.
    expect(await world.send([{ ...late, seq: 2 }])).toEqual([2])
    expect([await seqsOf(robot!), await seqsOf(other!)]).toEqual([
      [1, 2],
      [1, 2],
    ])
    await throughTheNight()
    expect([await seqsOf(robot!), await seqsOf(other!)]).toEqual([
      [1, 2],
      [1, 2],
    ])
    const [charge] = await sums(robot!, HOUR, at, at + 1, ['battery.charge'])
    expect(charge).toMatchObject({ count: 2, avg: 0.5 })
  })
})

test('a heartbeat is stored behind what is closed, also when a wrong clock has closed the hours to come', async () => {
  const { clock, db } = world
  const [robot] = await world.addRobots(1)
  const right = clock.now()
  const wrong = right + 40 * HOUR
  while ((await closePartition(db.database, wrong)) !== undefined);
  await ensureHeartbeatPartitions(db.database, right)
  expect(await world.send([beat(robot!, right, 1)])).toEqual([1])
  expect(await seqsOf(robot!)).toEqual([1])
  await world.advance(41 * HOUR)
  await world.packAll()
  expect(await seqsOf(robot!)).toEqual([1])
})

describe('packing', () => {
  test('that is cut short has done nothing, and is done again', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    await world.send([beat(robot!, at, 1)])
    await world.advance(2 * HOUR)
    await world.closeAll()
    const upkeep = world.db.database.withPlugin({
      transformQuery({ node }) {
        // Everything is written by then, and nothing committed.
        if (node.kind === 'UpdateQueryNode') throw new Error('the server is gone')
        return node
      },
      transformResult: async ({ result }) => result,
    })
    const options = { ...world.packing, upkeep }
    const before = [await count('heartbeat_packs'), await count('heartbeat_minutes')]
    await expect(
      (async () => {
        for (;;) if ((await packSome(options)) === 'idle') return
      })(),
    ).rejects.toThrow('the server is gone')
    expect([await count('heartbeat_packs'), await count('heartbeat_minutes')]).toEqual(before)
    expect(await seqsOf(robot!)).toEqual([1])
    await world.packAll()
    expect(await seqsOf(robot!)).toEqual([1])
    expect((await sums(robot!, MINUTE, at, at + 1, ['battery.charge']))[0]).toMatchObject({ count: 1 })
  })

  test('is done by one server at a time', async () => {
    const robots = await world.addRobots(12)
    const at = world.clock.now()
    await world.send(robots.map((robot, index) => beat(robot, at, index)))
    await world.advance(2 * HOUR)
    await world.closeAll()
    for (;;) {
      const outcomes = await Promise.all([world.packSome(3), world.packSome(3), world.packSome(3)])
      if (outcomes.includes('idle')) break
    }
    for (const [index, robot] of robots.entries()) {
      expect(await seqsOf(robot)).toEqual([index])
      expect(await sums(robot, HOUR, at, at + 1, ['battery.charge'])).toMatchObject([{ count: 1 }])
    }
  })

  test('keeps times to the microsecond, and bodies as PostgreSQL has them', async () => {
    const [robot] = await world.addRobots(1)
    const now = new Date(world.clock.now()).toISOString().slice(0, -1)
    const bodies = [
      { network: { '': 1, 'a"b': [1, { x: null }], é: '\u001e\\u0000' }, mode: 'x\u001fy' },
      { metrics: { big: 1.7976931348623157e308, small: 5e-324, tenth: 0.1 } },
    ]
    for (const [index, body] of bodies.entries())
      await world.db.pool.query(
        `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body) VALUES ($1, $2, $3, 5, $4, $5)`,
        [
          robot,
          `${now}456Z`,
          index === 0 ? '9999-12-31T23:59:59.999999Z' : `${now}789Z`,
          index,
          JSON.stringify(body),
        ],
      )
    const read = () =>
      listHeartbeats(
        world.db.database,
        robot!,
        { ...EVER, to: new Date(8.64e15) },
        { limit: 5, after: undefined },
      )
    const rows = await read()
    expect(rows.map((row) => row.body)).toEqual(bodies.toReversed())
    await throughTheNight()
    expect(await read()).toEqual(rows)
  })

  test('makes packs of a bounded size, however much a robot says in an hour', async () => {
    const [talker, shouter] = await world.addRobots(2)
    const at = world.clock.now()
    const insert = (robot: string, beats: number, body: string) =>
      world.db.pool.query(
        `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
         SELECT $1, $2, $2, 5, number, ${body} FROM generate_series(1, $3) AS number`,
        [robot, new Date(at), beats],
      )
    // More than PostgreSQL sorts at once.
    await insert(talker!, 17_000, `'{"health": "ok"}'`)
    // 13 kB of each, which nothing makes smaller.
    const noise =
      'SELECT string_agg(md5(random()::text || number || part), $$$$) FROM generate_series(1, 400) AS part'
    await insert(shouter!, 200, `jsonb_build_object('network', jsonb_build_object('noise', (${noise})))`)
    await world.advance(2 * HOUR)
    await world.packAll()
    const { rows } = await world.db.pool.query<{
      robot_id: string
      packs: number
      most: number
      bytes: number
    }>(
      `SELECT robot_id, count(*)::integer AS packs, max(heartbeats) AS most, max(octet_length(data)) AS bytes
       FROM heartbeat_packs WHERE robot_id = ANY ($1) GROUP BY robot_id`,
      [[talker, shouter]],
    )
    const of = (robot: string) => rows.find((row) => row.robot_id === robot)!
    expect(of(talker!)).toMatchObject({ packs: 32 + 2, most: 512 })
    expect(of(shouter!).packs).toBeGreaterThan(3)
    expect(of(shouter!).bytes).toBeLessThan(1024 * 1024)
    expect(await count(`heartbeat_packs WHERE robot_id = '${shouter}' AND heartbeats > 50`)).toBe(0)
    const range = { from: new Date(at), to: new Date(at + 1) }
    for (const [robot, beats] of [
      [talker!, 17_000],
      [shouter!, 200],
    ] as const) {
      const found = await listHeartbeats(world.db.database, robot, range, { limit: 20_000, after: undefined })
      expect(found.map(({ seq }) => seq)).toEqual(Array.from({ length: beats }, (_, index) => index + 1))
    }
  })

  test('sums up what is old, and leaves out of the raw history what would be dropped at once', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    await world.send([beat(robot!, at, 1)])
    await world.advance(5 * DAY)
    await world.packAll()
    await world.advance(10 * MINUTE)
    await world.dropPacked()
    expect(await seqsOf(robot!)).toEqual([])
    expect(await sums(robot!, MINUTE, at, at + 1)).toMatchObject([
      { field: 'battery.charge', count: 1, min: 0.5, avg: 0.5, max: 0.5 },
      { field: 'metrics.speed', count: 1 },
    ])
  })

  test('counts late heartbeats into their own hour, and none whose time cannot be', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    await world.send([beat(robot!, at, 10, 0.9)])
    await throughTheNight()
    await world.send([
      beat(robot!, at + 1, 11, 0.1),
      beat(robot!, at - 3 * DAY, 2),
      beat(robot!, at - 30 * DAY, 1),
      beat(robot!, at + 300 * DAY, 12),
    ])
    await throughTheNight()
    const stepped = async (stepMs: number, from: number, to: number) =>
      (await sums(robot!, stepMs, from, to, ['battery.charge'])).map(({ bucket, count, avg }) => [
        bucket.getTime(),
        count,
        avg,
      ])
    const minuteOf = (ms: number) => ms - (ms % MINUTE)
    expect(await stepped(MINUTE, at, at + 1)).toEqual([[minuteOf(at), 2, 0.5]])
    expect(await stepped(MINUTE, at - 3 * DAY, at - 3 * DAY + 1)).toEqual([[minuteOf(at - 3 * DAY), 1, 0.5]])
    const days = await stepped(DAY, at - 31 * DAY, at + 301 * DAY)
    expect(days.map(([, counted]) => counted)).toEqual([1, 1, 2])
    // As single heartbeats they are all there.
    expect(await seqsOf(robot!)).toEqual([1, 2, 10, 11, 12])
  })
})

describe('reading page by page', () => {
  test('keeps the order over any number of packs, those of one moment included', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    const seqs: number[] = []
    // Packs of the same hour, of which none ends before another begins; what came last is to be read first.
    for (let seq = 20; seq > 0; seq--) {
      seqs.unshift(seq)
      await world.send([beat(robot!, at, seq), beat(robot!, at + 1, seq + 100)])
      await world.advance(HOUR + 3 * MINUTE)
      await world.packAll()
    }
    const expected = [...seqs, ...seqs.map((seq) => seq + 100)]
    for (const limit of [1, 3, 7, 40, 100]) {
      const found: Awaited<ReturnType<typeof listHeartbeats>> = []
      for (;;) {
        const last = found.at(-1)
        const after = last && { at: last.place_at, sessionNo: last.session_no, seq: last.seq }
        const page = await listHeartbeats(world.db.database, robot!, EVER, { limit, after })
        expect(page.length).toBeLessThanOrEqual(limit)
        found.push(...page)
        if (page.length < limit) break
      }
      expect(found.map(({ seq }) => seq)).toEqual(expected)
    }
    expect(await sums(robot!, 7_000, at, at + 1, ['metrics.speed'])).toMatchObject([{ count: 40, avg: 1.25 }])
  })
})

describe('a read', () => {
  test('sees every heartbeat once, though all are packed between its statements', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    await world.send([beat(robot!, at, 1), beat(robot!, at + 1, 2)])
    await world.advance(2 * HOUR)
    const range = { from: new Date(at), to: new Date(at + HOUR) }
    let packed = 0
    const meanwhile = world.db.database.withPlugin({
      transformQuery: ({ node }) => node,
      async transformResult({ result }) {
        packed += 1
        if (packed === 1) await world.packAll()
        return result
      },
    })
    const page = { limit: 10, after: undefined }
    const options = { fields: ['battery.charge'], retention: RETENTION, now: world.clock.now() }
    expect((await listHeartbeats(meanwhile, robot!, range, page)).map(({ seq }) => seq)).toEqual([1, 2])
    for (const stepMs of [HOUR, MINUTE, 30_000]) {
      await world.send([beat(robot!, at, packed + 10)])
      await world.advance(2 * HOUR)
      const before = await sums(robot!, stepMs, at, at + 1, ['battery.charge'])
      packed = 0
      const { steps, numbers } = await summarizeHeartbeats(
        meanwhile,
        robot!,
        { ...range, to: new Date(at + 1) },
        { ...options, stepMs },
      )
      expect(numbers).toEqual(before)
      expect(steps.map(({ heartbeats }) => heartbeats)).toEqual(before.map((row) => row.count))
    }
  })
})

describe('the packer', () => {
  test('closes and packs what is over, every minute, until it is stopped', async () => {
    const [robot] = await world.addRobots(1)
    await world.packAll()
    const { clock } = world
    const before = await count('heartbeat_packs')
    const packer = startPacker(world.packing)
    await eventually(() => clock.pending === 1)
    await world.send([beat(robot!, clock.now(), 1)])
    clock.advance(MINUTE)
    await eventually(() => clock.pending === 1)
    expect(await count('heartbeat_packs')).toBe(before)
    await world.advance(HOUR + 2 * MINUTE)
    await expect.poll(() => count('heartbeat_packs')).toBe(before + 1)
    await packer.stop()
    expect(clock.pending).toBe(0)
  })
})

describe('retention', () => {
  test('drops each level by its own age', async () => {
    const [robot] = await world.addRobots(1)
    const at = world.clock.now()
    await world.send([beat(robot!, at, 1)])
    await throughTheNight()
    const { database } = world.db
    const drop = async () => {
      const now = world.clock.now()
      await dropOldPartitions(database, PACKS, now, RETENTION.rawMs)
      await dropOldPartitions(database, MINUTES, now, RETENTION.minutesMs)
      await dropOldPartitions(database, HOURS, now, RETENTION.hoursMs)
    }
    const left = async () => ({
      raw: (await seqsOf(robot!)).length,
      minutes: (await sums(robot!, MINUTE, at, at + 1)).length > 0,
      hours: (await sums(robot!, HOUR, at, at + 1)).length > 0,
    })
    await drop()
    expect(await left()).toEqual({ raw: 1, minutes: true, hours: true })
    world.clock.advance(3 * DAY)
    await drop()
    expect(await left()).toEqual({ raw: 0, minutes: true, hours: true })
    world.clock.advance(13 * DAY)
    await drop()
    expect(await left()).toEqual({ raw: 0, minutes: false, hours: true })
    world.clock.advance(430 * DAY)
    await drop()
    expect(await left()).toEqual({ raw: 0, minutes: false, hours: false })
    expect(
      await count(
        "pg_inherits WHERE inhparent = ANY (ARRAY['heartbeat_packs', 'heartbeat_minutes', 'heartbeat_hours']::regclass[])",
      ),
    ).toBe(0)
  })
})
