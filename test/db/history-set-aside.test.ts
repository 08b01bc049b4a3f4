import type { KyselyPlugin } from 'kysely'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { agreedTime } from '../../src/db/agreed-time.ts'
import { listHeartbeats, summarizeHeartbeats } from '../../src/db/heartbeat-history.ts'
import { packSome } from '../../src/db/heartbeat-packer.ts'
import { pruneSetAside } from '../../src/db/pruning.ts'
import { RETENTION } from '../support/retention.ts'
import { createHistoryWorld, type HistoryWorld, HOUR, MINUTE, type SentBeat } from './history-world.ts'

/** One that cannot be packed holds up no others. */

let world: HistoryWorld
beforeAll(async () => {
  world = await createHistoryWorld()
})
afterAll(() => world.end())

let seq = 0
beforeEach(async () => {
  await world.advance(3 * HOUR)
  await world.packAll()
})

const beat = (robotId: string, atMs = world.clock.now()): SentBeat => {
  seq += 1
  return { robotId, atMs, seq, body: { health: 'ok', battery: { charge: 0.5 } } }
}

const EVER = { from: new Date(0), to: new Date('9999-12-31T23:59:59Z') }

async function seqsOf(robotId: string): Promise<number[]> {
  const rows = await listHeartbeats(world.db.database, robotId, EVER, { limit: 1_000, after: undefined })
  return rows.map((row) => row.seq)
}

async function countsOf(robotId: string, stepMs: number, from: number): Promise<number[]> {
  const range = { from: new Date(from), to: new Date(from + 1) }
  const options = { stepMs, fields: ['battery.charge'], retention: RETENTION, now: world.clock.now() }
  const { numbers } = await summarizeHeartbeats(world.db.database, robotId, range, options)
  return numbers.map(({ count }) => count)
}

async function rows(text: string, ...values: unknown[]): Promise<Record<string, unknown>[]> {
  return (await world.db.pool.query(text, values)).rows
}

async function setAsideCount(): Promise<number> {
  return (await world.metrics.heartbeatsSetAside.get()).values[0]?.value ?? 0
}

/** As if PostgreSQL said of some statements that what they read is damaged. */
function damaging(...fragments: string[]): KyselyPlugin {
  return {
    transformQuery({ node }) {
      const text = JSON.stringify(node)
      if (fragments.some((fragment) => text.includes(fragment)))
        throw Object.assign(new Error('missing chunk number 0'), { code: 'XX001' })
      return node
    },
    transformResult: async ({ result }) => result,
  }
}

async function packAllWith(plugin: KyselyPlugin): Promise<void> {
  await world.closeAll()
  const options = { ...world.packing, upkeep: world.db.database.withPlugin(plugin) }
  for (let round = 0; (await packSome(options)) !== 'idle'; round++) expect(round).toBeLessThan(200)
}

test('heartbeats that cannot be added to a damaged sum stay as they are, and all others are packed', async () => {
  const robots = await world.addRobots(9)
  const first = robots.map((robot) => beat(robot))
  await world.send(first)
  const at = first[0]!.atMs
  await world.advance(2 * HOUR)
  await world.packAll()
  const damaged = robots.toSorted()[4]!
  await rows("UPDATE heartbeat_minutes SET data = '\\x0102' WHERE robot_id = $1", damaged)
  const packed = robots.filter((robot) => robot !== damaged)

  // Late ones, of the hour that is summed up.
  const second = robots.map((robot) => beat(robot, at + 1))
  await world.send(second)
  await world.advance(2 * HOUR)
  const before = await setAsideCount()
  await world.packAll()
  await world.advance(10 * MINUTE)
  expect(await world.dropPacked()).not.toEqual([])
  expect((await setAsideCount()) - before).toBe(1)
  const seqOf = (beats: SentBeat[], robot: string) => beats.find(({ robotId }) => robotId === robot)!.seq
  for (const robot of robots) expect(await seqsOf(robot)).toEqual([seqOf(first, robot), seqOf(second, robot)])
  for (const robot of packed) expect(await countsOf(robot, MINUTE, at)).toEqual([2])
  // Steps that are made of single heartbeats count it, and so do those of a level that is not damaged.
  expect(await countsOf(damaged, 7_000, at)).toEqual([2])
  expect(await countsOf(damaged, HOUR, at)).toEqual([2])
  expect(await rows('SELECT robot_id FROM heartbeats_set_aside')).toEqual([{ robot_id: damaged }])

  // It is known when it is sent again.
  expect(await world.send([second.find(({ robotId }) => robotId === damaged)!], true)).toEqual([
    seqOf(second, damaged),
  ])
  expect(await seqsOf(damaged)).toHaveLength(2)

  // Nothing of it outlives what was packed.
  const prune = (now: number) => pruneSetAside(world.db.database, new Date(now - RETENTION.rawMs), 100)
  expect(await prune(at + RETENTION.rawMs)).toBe(0)
  expect(await prune(at + RETENTION.rawMs + 3 * HOUR)).toBe(1)
})

test('a partition of which a part cannot be read stays as long as heartbeats are kept, and what follows is packed', async () => {
  const [damaged, sound] = (await world.addRobots(2)).toSorted() as [string, string]
  const at = world.clock.now()
  await world.send([beat(damaged), beat(sound)])
  await world.advance(2 * HOUR)
  const damage = damaging('DECLARE unpacked', 'INSERT INTO heartbeats_set_aside')
  let isKept = false
  await packAllWith({
    ...damage,
    transformQuery(args) {
      isKept ||= JSON.stringify(args.node).includes('heartbeats_unreadable')
      return isKept ? args.node : damage.transformQuery(args)
    },
  })
  expect(await countsOf(damaged, HOUR, at)).toEqual([])
  expect(await countsOf(sound, HOUR, at)).toEqual([1])
  const [{ begins } = {}] = await rows('SELECT begins FROM heartbeats_unreadable')
  expect(begins).toEqual(new Date(at - (at % HOUR)))
  await world.advance(10 * MINUTE)
  const name = `heartbeats_p${new Date(at).toISOString().slice(0, 13).replaceAll('-', '').replace('T', '_')}`
  expect(await world.dropPacked()).not.toContain(name)
  await world.advance(RETENTION.rawMs)
  expect(await world.dropPacked()).toContain(name)
  expect(await rows('SELECT FROM heartbeats_unreadable')).toEqual([])
})
test('where not even the next robot can be told, the rest of the partition is kept, and the next one packed', async () => {
  const [robot] = await world.addRobots(1)
  const at = world.clock.now()
  await world.send([beat(robot!)])
  await world.advance(2 * HOUR)
  await packAllWith(damaging('WITH RECURSIVE next'))
  expect(await countsOf(robot!, HOUR, at)).toEqual([])
  expect(
    await rows('SELECT FROM heartbeats_unreadable WHERE begins = $1', new Date(at - (at % HOUR))),
  ).toHaveLength(1)
  const later = beat(robot!)
  await world.send([later])
  await world.advance(2 * HOUR)
  await world.packAll()
  expect(await countsOf(robot!, HOUR, later.atMs)).toEqual([1])
})

test('what is not the fault of the heartbeats is tried again as it was', async () => {
  const [robot] = await world.addRobots(1)
  await world.send([beat(robot!)])
  await world.advance(2 * HOUR)
  await world.closeAll()
  const before = await setAsideCount()
  for (const code of ['53100', '57014', '55P03', '42501', '08006', undefined]) {
    const broken: KyselyPlugin = {
      transformQuery({ node }) {
        if (JSON.stringify(node).includes('DECLARE unpacked'))
          throw Object.assign(new Error('not now'), code ? { code } : {})
        return node
      },
      transformResult: async ({ result }) => result,
    }
    const upkeep = world.db.database.withPlugin(broken)
    await expect(packSome({ ...world.packing, upkeep })).rejects.toThrow('not now')
  }
  expect(await setAsideCount()).toBe(before)
  await world.packAll()
  expect(await rows('SELECT FROM heartbeat_packs WHERE robot_id = $1', robot)).toHaveLength(1)
})

test('an hour is over when both clocks say so, the database’s and the server’s', async () => {
  const { database } = world.db
  const now = Date.now()
  expect(await agreedTime(database, { now: () => now - 2 * HOUR })).toBe(now - 2 * HOUR)
  const ahead = await agreedTime(database, { now: () => now + 2 * HOUR })
  expect(Math.abs(ahead - now)).toBeLessThan(MINUTE)
})

test('a server whose clock is hours behind is refused by a closed hour once, and not with each heartbeat', async () => {
  const [robot] = await world.addRobots(1)
  const refused = async () => {
    const { values } = await world.metrics.databaseErrors.get()
    return values.find(({ labels }) => labels.operation === 'write_heartbeats')?.value ?? 0
  }
  const slow = () => ({ ...beat(robot!), receivedAt: world.clock.now() - 2 * HOUR })
  const before = await refused()
  const told = [await world.send([slow()])]
  expect(await refused()).toBe(before + 1)
  told.push(await world.send([slow()]), await world.send([slow()], true))
  expect(await refused()).toBe(before + 1)
  expect(told).toEqual([[seq - 2], [seq - 1], [seq]])
  expect(await seqsOf(robot!)).toHaveLength(3)
})
