import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Sequence } from '../../agent/sequence.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'

test('numbers are never used twice, through crashes and clocks that jump back', () => {
  const folder = temporaryFolder()
  const path = join(folder, 'agent.toml.seq')
  const lives = fc.array(
    fc.record({ now: fc.integer({ min: 0, max: 4_000_000_000_000 }), count: fc.nat({ max: 1_500 }) }),
    { maxLength: 8 },
  )
  fc.assert(
    fc.property(lives, (list) => {
      rmSync(path, { force: true })
      let newest = -1
      for (const { now, count } of list) {
        // No goodbye: each life ends as if the power went.
        const sequence = new Sequence(path, new ManualClock(now), () => {})
        for (let turn = 0; turn < count; turn++) {
          const upcoming = sequence.upcoming
          const seq = sequence.next()
          expect(seq).toBe(upcoming)
          expect(seq).toBeGreaterThan(newest)
          newest = seq
        }
      }
    }),
    { numRuns: 20 },
  )
})

test('a lost or unreadable mark is made up for by the clock', () => {
  const path = join(temporaryFolder(), 'agent.toml.seq')
  const clock = new ManualClock()
  const before = new Sequence(path, clock, () => {})
  const used = Array.from({ length: 900 }, () => before.next())
  clock.advance(1_000)
  for (const damage of [() => rmSync(path), () => writeFileSync(path, 'x'), () => writeFileSync(path, '')]) {
    damage()
    expect(new Sequence(path, clock, () => {}).next()).toBeGreaterThan(used.at(-1)!)
  }
})

test('a mark that cannot be written is reported and stops no heartbeat', () => {
  const folder = temporaryFolder()
  writeFileSync(join(folder, 'file'), '')
  const told: string[] = []
  const path = join(folder, 'file', 'seq')
  const sequence = new Sequence(path, new ManualClock(), (sentence) => told.push(sentence))
  const reads = told.splice(0).length
  expect(reads).toBe(2)
  const numbers = Array.from({ length: 100 }, () => sequence.next())
  expect(new Set(numbers).size).toBe(100)
  expect(told).toEqual([expect.stringMatching(/^cannot write .*seq: /)])
  rmSync(join(folder, 'file'))
  for (let turn = 0; turn < 100; turn++) sequence.next()
  expect(told.slice(1)).toEqual([expect.stringMatching(/can be written again/)])
})
