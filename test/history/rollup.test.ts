import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type JsonObject, toColumns } from '../../src/history/columns.ts'
import { packTally, unpackTally } from '../../src/history/rollup.ts'
import { addBeats, Tally } from '../../src/history/tally.ts'
import { anyBody } from './arbitraries.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const BASE = 1_767_225_600_000

interface Beat {
  readonly ms: number
  readonly body: JsonObject
}

function tallied(beats: readonly Beat[], stepMs = MINUTE): Tally {
  const tally = new Tally(stepMs)
  addBeats(
    tally,
    beats.map(({ ms }) => ms),
    toColumns(beats.map(({ body }) => body)),
  )
  return tally
}

async function throughBytes(tally: Tally, into = new Tally(tally.stepMs)): Promise<Tally> {
  await unpackTally(await packTally(tally, BASE), { baseMs: BASE, stepMs: tally.stepMs }, into)
  return into
}

const decimal = fc.integer({ min: -100_000, max: 100_000 }).map((value) => value / 1000)
const anyNumber = fc.oneof(
  decimal,
  fc.double({ noNaN: true, min: -1e9, max: 1e9 }).map((value) => value || 0),
)
const beatOf = (body: fc.Arbitrary<JsonObject>) =>
  fc.record({ ms: fc.nat(HOUR - 1).map((ms) => BASE + ms), body })
const sensible = beatOf(
  fc.record(
    {
      health: fc.constantFrom('ok', 'warn'),
      battery: fc.record({ charge: decimal }, { requiredKeys: [] }),
      metrics: fc.dictionary(fc.constantFrom('speed', 'grip', 'noise'), anyNumber),
    },
    { requiredKeys: [] },
  ) as unknown as fc.Arbitrary<JsonObject>,
)

/** What adding up by hand gives: field, bucket, and numbers. */
function byHand(beats: readonly Beat[], stepMs: number): Map<string, number[]> {
  const values = new Map<string, number[]>()
  const add = (field: string, ms: number, value: unknown) => {
    if (typeof value !== 'number') return
    const key = `${field} ${ms - (ms % stepMs)}`
    values.set(key, [...(values.get(key) ?? []), value])
  }
  for (const { ms, body } of beats) {
    add('battery.charge', ms, (body.battery as JsonObject | undefined)?.charge)
    for (const [name, value] of Object.entries(body.metrics ?? {})) add(`metrics.${name}`, ms, value)
  }
  return values
}

function expectNumbers(tally: Tally, beats: readonly Beat[]): void {
  const wanted = byHand(beats, tally.stepMs)
  const found = [...tally.fields].flatMap(([field, buckets]) =>
    [...buckets].map(([bucket, numbers]) => [`${field} ${bucket}`, numbers] as const),
  )
  expect(found.map(([key]) => key).sort()).toEqual([...wanted.keys()].sort())
  for (const [key, { count, sum, min, max }] of found) {
    const values = wanted.get(key)!
    expect([count, min, max]).toEqual([values.length, Math.min(...values), Math.max(...values)])
    const mean = values.reduce((one, other) => one + other, 0) / values.length
    const size = Math.max(...values.map(Math.abs), 1e-300)
    expect(Math.abs(sum / count - mean) / size).toBeLessThan(1e-6)
  }
}

describe('a roll-up', () => {
  test('is what adding up by hand gives, and stays so in bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(sensible, { maxLength: 60 }), async (beats) => {
        expectNumbers(tallied(beats), beats)
        expectNumbers(await throughBytes(tallied(beats)), beats)
        expectNumbers(await throughBytes(tallied(beats), new Tally(10 * MINUTE)), beats)
        const health = [...(await throughBytes(tallied(beats), new Tally(HOUR))).health.values()]
        expect(health.flatMap((counts) => [...counts.values()]).reduce((one, other) => one + other, 0)).toBe(
          beats.length,
        )
      }),
      { numRuns: 200 },
    )
  })

  test('of parts, put together in any order, is that of the whole', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.array(sensible, { maxLength: 20 }), { maxLength: 5 }), async (parts) => {
        const whole = new Tally(MINUTE)
        for (const part of parts) await throughBytes(tallied(part), whole)
        expectNumbers(await throughBytes(whole), parts.flat())
      }),
      { numRuns: 100 },
    )
  })

  test('keeps sums of decimals exactly', async () => {
    const beats = Array.from({ length: 360 }, (_, index) => ({
      ms: BASE + index * 10_000,
      body: { battery: { charge: ((index * 37) % 1000) / 1000 } },
    }))
    const tally = await throughBytes(await throughBytes(tallied(beats), new Tally(HOUR)))
    const total = beats.reduce((sum, { body }) => sum + Math.round(body.battery.charge * 1000), 0)
    expect(tally.fields.get('battery.charge')!.get(BASE)).toEqual({
      count: 360,
      sum: total / 1000,
      min: Math.min(...beats.map(({ body }) => body.battery.charge)),
      max: Math.max(...beats.map(({ body }) => body.battery.charge)),
    })
  })

  test('takes bodies of any kind', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(beatOf(anyBody), { maxLength: 30 }), async (beats) => {
        const tally = tallied(beats)
        const back = await throughBytes(tally)
        expect(back.health).toEqual(tally.health)
        expect([...back.fields.keys()].sort()).toEqual([...tally.fields.keys()].sort())
        for (const [field, buckets] of tally.fields)
          for (const [bucket, { count, min, max }] of buckets)
            expect(back.fields.get(field)!.get(bucket)).toMatchObject({ count, min, max })
      }),
      { numRuns: 200 },
    )
  })

  test('counts bodies that were too much for columns, too', () => {
    const beats = Array.from({ length: 30 }, (_, row) => ({
      ms: BASE,
      body: {
        health: 'warn',
        battery: { charge: 0.5 },
        network: Object.fromEntries(Array.from({ length: 40 }, (_, index) => [`n${row}_${index}`, 1])),
      },
    }))
    const tally = tallied(beats)
    expect(tally.fields.get('battery.charge')!.get(BASE)).toEqual({ count: 30, sum: 15, min: 0.5, max: 0.5 })
    expect(tally.health.get(BASE)).toEqual(new Map([['warn', 30]]))
  })

  test('has so many fields, and the well-known ones in any case', () => {
    const beats = Array.from({ length: 20 }, (_, row) => ({
      ms: BASE,
      body: {
        metrics: Object.fromEntries(Array.from({ length: 60 }, (_, index) => [`m${row}_${index}`, 1])),
      },
    }))
    const tally = tallied([...beats, { ms: BASE, body: { pose: { x: 1, y: 2, theta: 3 } } }] as Beat[])
    expect(tally.fields.size).toBeLessThan(200)
    expect(tally.fields.get('pose.theta')!.get(BASE)!.sum).toBe(3)
  })

  test('counts only what is within its range', async () => {
    const body = { battery: { charge: 1 } }
    const beats = [0, 1, 2, 3, 4].map((minute) => ({ ms: BASE + minute * MINUTE, body }))
    const inside = new Tally(MINUTE, { from: new Date(BASE + MINUTE), to: new Date(BASE + 3 * MINUTE) })
    await throughBytes(tallied(beats), inside)
    expect([...inside.fields.get('battery.charge')!.keys()]).toEqual([BASE + MINUTE, BASE + 2 * MINUTE])
    expect([...inside.health.keys()]).toEqual([BASE + MINUTE, BASE + 2 * MINUTE])
  })
})
