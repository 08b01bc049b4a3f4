import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { drivingRobot } from '../../bench/support/heartbeat-bodies.ts'
import { DamagedError } from '../../src/history/bytes.ts'
import type { JsonObject } from '../../src/history/columns.ts'
import { type Beats, openPack, packBeats, takeApart } from '../../src/history/pack.ts'
import { seededRandom } from '../support/random.ts'
import { anyBody } from './arbitraries.ts'

const LAST_MS = 253_402_300_799_999

const anyBeat = fc.record({
  atMs: fc.integer({ min: 0, max: LAST_MS }),
  atUs: fc.nat(999),
  receivedMs: fc.integer({ min: 0, max: LAST_MS }),
  receivedUs: fc.nat(999),
  sessionNo: fc.maxSafeNat(),
  seq: fc.maxSafeNat(),
  body: anyBody,
})

function beatsOf(all: readonly (typeof anyBeat extends fc.Arbitrary<infer Beat> ? Beat : never)[]): Beats {
  return {
    at: { ms: all.map((beat) => beat.atMs), us: all.map((beat) => beat.atUs) },
    receivedAt: { ms: all.map((beat) => beat.receivedMs), us: all.map((beat) => beat.receivedUs) },
    sessionNo: all.map((beat) => beat.sessionNo),
    seq: all.map((beat) => beat.seq),
  }
}

async function unpacked(packed: Uint8Array) {
  const pack = await openPack(packed)
  const bodies = pack.readBodies()
  return { count: pack.count, at: pack.at, seq: pack.seq, ...pack.readArrivals(), bodies }
}

/** With members in one order: jsonb has one of its own. */
function sorted(value: unknown): string {
  return JSON.stringify(value, (_, one: unknown) =>
    typeof one === 'object' && one !== null && !Array.isArray(one)
      ? Object.fromEntries(
          Object.entries(one)
            .map(([name, member]) => [`.${name}`, member] as const)
            .sort(([first], [second]) => (first < second ? -1 : 1)),
        )
      : one,
  )
}

/** Heartbeats every ten seconds for an hour. */
function hourOf(bodies: readonly JsonObject[]): Beats {
  const times = bodies.map((_, index) => 1_767_225_600_000 + index * 10_000 + ((index * 7) % 5))
  const zeros = bodies.map(() => 0)
  return {
    at: { ms: times, us: zeros },
    receivedAt: { ms: times.map((time, index) => time + 9 + ((index * 13) % 17)), us: zeros },
    sessionNo: bodies.map(() => 7),
    seq: bodies.map((_, index) => 5_000 + index),
  }
}

describe('a pack', () => {
  test('gives every heartbeat back as it was, whatever it says', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyBeat, { maxLength: 30 }), async (all) => {
        const beats = beatsOf(all)
        const bodies = all.map((beat) => beat.body)
        const back = await unpacked(await packBeats(takeApart(beats, bodies)))
        expect({ ...back, bodies: [] }).toEqual({ count: all.length, ...beats, bodies: [] })
        expect(back.bodies.map(sorted)).toEqual(bodies.map(sorted))
      }),
      { numRuns: 300 },
    )
  })

  test('keeps bodies with more members than it has columns', async () => {
    const bodies = Array.from({ length: 40 }, (_, row) => ({
      health: 'ok',
      network: Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`n${row}_${index}`, index / 7])),
    }))
    const back = await unpacked(await packBeats(takeApart(hourOf(bodies), bodies)))
    expect(back.bodies).toEqual(bodies)
  })

  test('reads only the columns that are wanted', async () => {
    const bodies = [
      { battery: { charge: 0.5 }, mode: 'auto' },
      { mode: 'manual' },
      { battery: { charge: 1 } },
    ]
    const pack = await openPack(await packBeats(takeApart(hourOf(bodies), bodies)))
    expect([...pack.readColumns((path) => path[0] === 'battery')]).toEqual([
      { path: ['battery', 'charge'], kind: 'number', rows: [0, 2], values: [0.5, 1] },
    ])
  })

  test('takes 25 bytes or less for a heartbeat of a robot that drives about', async () => {
    const next = drivingRobot(seededRandom(1))
    const bodies = Array.from({ length: 360 }, () => next() as JsonObject)
    const packed = await packBeats(takeApart(hourOf(bodies), bodies))
    expect(packed.length / bodies.length).toBeLessThan(25)
    expect((await unpacked(packed)).bodies.map(sorted)).toEqual(bodies.map(sorted))
  })

  test('that is damaged is told to be', async () => {
    const bodies = [{ health: 'ok', metrics: { speed: 1.5 } }, { health: 'warn' }]
    const packed = await packBeats(takeApart(hourOf(bodies), bodies))
    await expect(openPack(Buffer.of())).rejects.toThrow(DamagedError)
    await expect(openPack(Buffer.concat([Buffer.of(2), packed.subarray(1)]))).rejects.toThrow('its form is 2')
    await expect(openPack(Buffer.concat([Buffer.of(1), randomBytes(50)]))).rejects.toThrow(DamagedError)
    await expect(openPack(packed.subarray(0, packed.length >> 1))).rejects.toThrow(DamagedError)
  })
})
