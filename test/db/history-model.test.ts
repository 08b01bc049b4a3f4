import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { listHeartbeats, summarizeHeartbeats } from '../../src/db/heartbeat-history.ts'
import { packSome } from '../../src/db/heartbeat-packer.ts'
import { RETENTION } from '../support/retention.ts'
import { createHistoryWorld, DAY, type HistoryWorld, HOUR, MINUTE, type SentBeat } from './history-world.ts'

/**
 * Whatever happens in whatever order, the history is what a list in memory says: every heartbeat once, and every step the
 * sum of its heartbeats.
 */

const ROBOTS = 3

let world: HistoryWorld
beforeAll(async () => {
  world = await createHistoryWorld()
})
afterAll(() => world.end())

/** What the list in memory holds of each robot. */
class Model {
  readonly robots: readonly string[]
  readonly beats: SentBeat[] = []
  #seq = 0

  constructor(robots: readonly string[]) {
    this.robots = robots
  }

  make(robot: number, behindMs: number, charge: number): SentBeat {
    this.#seq += 1
    return {
      robotId: this.robots[robot % this.robots.length]!,
      atMs: world.clock.now() - behindMs,
      seq: this.#seq,
      body: { health: 'ok', battery: { charge }, mode: `m${this.#seq % 3}` },
    }
  }

  of(robotId: string): SentBeat[] {
    return this.beats
      .filter((beat) => beat.robotId === robotId)
      .sort((one, other) => one.atMs - other.atMs || one.seq - other.seq)
  }
}

type Command = fc.AsyncCommand<Model, HistoryWorld>

function command(name: string, run: (model: Model) => Promise<void>): Command {
  return { check: () => true, run, toString: () => name }
}

/** Everything as of now is due at once, or it has hours to go. */
const behind = fc.oneof(
  fc.constant(0),
  fc.integer({ min: 0, max: 10 * MINUTE }),
  fc.integer({ min: 0, max: 30 * HOUR }),
  fc.integer({ min: -HOUR, max: 0 }),
)
const charge = fc.integer({ min: 0, max: 1000 }).map((value) => value / 1000)

const arrive = fc
  .array(fc.tuple(fc.nat(ROBOTS - 1), behind, charge), { minLength: 1, maxLength: 6 })
  .map((given) =>
    command(`arrive(${JSON.stringify(given)})`, async (model) => {
      const beats = given.map(([robot, behindMs, value]) => model.make(robot, behindMs, value))
      await world.send(beats)
      model.beats.push(...beats)
    }),
  )

const resend = fc.array(fc.nat(), { minLength: 1, maxLength: 6 }).map((places) =>
  command(`resend(${places})`, async ({ beats }) => {
    if (beats.length === 0) return
    const again = [...new Set(places.map((place) => beats[place % beats.length]!))]
    const told = await world.send(again, true)
    expect(told).toHaveLength(new Set(again.map(({ robotId }) => robotId)).size)
    expect(told.every((one) => typeof one === 'number')).toBe(true)
  }),
)

const timePasses = fc
  .oneof(fc.integer({ min: 1, max: 10 * MINUTE }), fc.integer({ min: 1, max: 3 * HOUR }))
  .map((ms) => command(`timePasses(${ms})`, () => world.advance(ms)))

const close = fc.constant(command('close', async () => void (await world.closeAll())))

const pack = fc
  .integer({ min: 1, max: 4 })
  .map((robots) => command(`pack(${robots})`, async () => void (await world.packSome(robots))))

const packTwice = fc.constant(
  command('two servers pack', async () => {
    await Promise.all([world.packSome(1), world.packSome(2)])
  }),
)

const packAll = fc.constant(command('packAll', () => world.packAll()))

/** The transaction ends before its commit, after what it has written so far. */
const crash = fc.integer({ min: 1, max: 14 }).map((statements) =>
  command(`crash(${statements})`, async () => {
    const upkeep = breakingAfter(statements)
    await packSome({ ...world.packing, upkeep }, 2).catch((error: unknown) => {
      if ((error as Error).message !== 'the server is gone') throw error
    })
  }),
)

function breakingAfter(statements: number): HistoryWorld['db']['database'] {
  let left = statements
  return world.db.database.withPlugin({
    transformQuery({ node }) {
      left -= 1
      if (left < 0) throw new Error('the server is gone')
      return node
    },
    transformResult: ({ result }) => Promise.resolve(result),
  })
}

const drop = fc.constant(command('drop', async () => void (await world.dropPacked())))

const read = fc
  .tuple(fc.nat(ROBOTS - 1), fc.integer({ min: 1, max: 7 }), fc.boolean())
  .map(([robot, limit, busy]) =>
    command(`read(${robot}, ${limit}, ${busy})`, async (model) => {
      // Packing goes on between the pages, and during them.
      const packing = busy ? Promise.all([world.closeAll().then(() => world.packSome(1))]) : undefined
      await expectPages(model, model.robots[robot]!, limit)
      await packing
      await expectPages(model, model.robots[robot]!, 1_000)
      await expectSteps(model, model.robots[robot]!)
    }),
  )

async function expectPages(model: Model, robotId: string, limit: number): Promise<void> {
  const wanted = model.of(robotId)
  const range = { from: new Date(world.clock.now() - 100 * DAY), to: new Date(world.clock.now() + 100 * DAY) }
  const found: Awaited<ReturnType<typeof listHeartbeats>> = []
  for (;;) {
    const last = found.at(-1)
    const after = last && { at: last.place_at, sessionNo: last.session_no, seq: last.seq }
    const page = await listHeartbeats(world.db.database, robotId, range, { limit, after })
    found.push(...page)
    if (page.length < limit) break
  }
  expect(found.map(({ at, seq, body }) => ({ atMs: at.getTime(), seq, body }))).toEqual(
    wanted.map(({ atMs, seq, body }) => ({ atMs, seq, body })),
  )
}

async function expectSteps(model: Model, robotId: string): Promise<void> {
  const now = world.clock.now()
  const range = { from: new Date(now - 3 * DAY), to: new Date(now + 2 * HOUR) }
  for (const stepMs of [HOUR, MINUTE, 7 * MINUTE, 30_000, 1_234_567]) {
    const { steps: counted, numbers: rows } = await summarizeHeartbeats(world.db.database, robotId, range, {
      stepMs,
      fields: ['battery.charge'],
      retention: RETENTION,
      now,
    })
    const steps = new Map<number, number[]>()
    for (const { atMs, body } of model.of(robotId)) {
      const bucket = atMs - (atMs % stepMs)
      const { charge: value } = body.battery as { charge: number }
      if (bucket + stepMs > range.from.getTime() && bucket < range.to.getTime())
        steps.set(bucket, [...(steps.get(bucket) ?? []), value])
    }
    const sorted = [...steps].sort(([one], [other]) => one - other)
    expect(counted).toEqual(
      sorted.map(([bucket, values]) => ({
        bucket: new Date(bucket),
        heartbeats: values.length,
        health: { ok: values.length },
      })),
    )
    expect(rows).toEqual(
      sorted.map(([bucket, values]) => ({
        bucket: new Date(bucket),
        field: 'battery.charge',
        count: values.length,
        min: Math.min(...values),
        avg: expect.closeTo(values.reduce((one, other) => one + other) / values.length, 9),
        max: Math.max(...values),
      })),
    )
  }
}

test('is the same as a list in memory, whatever happens in whatever order', async () => {
  const commands = fc.commands(
    [arrive, arrive, resend, timePasses, close, pack, packTwice, packAll, crash, drop, read],
    {
      maxCommands: 40,
      size: 'max',
    },
  )
  await fc.assert(
    fc.asyncProperty(commands, async (given) => {
      const robots = await world.addRobots(ROBOTS)
      const model = new Model(robots)
      await fc.asyncModelRun(() => ({ model, real: world }), given)
      for (const robot of robots) {
        await expectPages(model, robot, 5)
        await expectSteps(model, robot)
      }
      await world.advance(2 * HOUR)
      await world.packAll()
      await world.advance(10 * MINUTE)
      await world.dropPacked()
      for (const robot of robots) {
        await expectPages(model, robot, 3)
        await expectSteps(model, robot)
      }
    }),
    { numRuns: 25, interruptAfterTimeLimit: 60_000 },
  )
}, 120_000)
