import fc from 'fast-check'
import { expect, test } from 'vitest'
import { MemorySpool, type SpoolEntry } from '../../agent/spool.ts'

/** The same, as simply as can be. */
class ModelSpool {
  entries: SpoolEntry[] = []
  dropped = 0
  readonly bounds: { entries: number; bytes: number }
  constructor(bounds: { entries: number; bytes: number }) {
    this.bounds = bounds
  }
  get bytes(): number {
    return this.entries.reduce((sum, entry) => sum + Buffer.byteLength(entry.text), 0)
  }
  add(entry: SpoolEntry): void {
    this.entries.push(entry)
    while (
      this.entries.length > this.bounds.entries ||
      (this.bytes > this.bounds.bytes && this.entries.length > 1)
    ) {
      this.entries.shift()
      this.dropped++
    }
  }
}

const commands = fc.array(
  fc.oneof(
    {
      weight: 50,
      arbitrary: fc.record({
        kind: fc.constant('add' as const),
        gap: fc.integer({ min: 1, max: 5 }),
        text: fc.string(),
      }),
    },
    {
      weight: 10,
      arbitrary: fc.record({
        kind: fc.constant('acknowledge' as const),
        back: fc.integer({ min: -3, max: 40 }),
      }),
    },
    {
      weight: 20,
      arbitrary: fc.record({
        kind: fc.constant('read' as const),
        back: fc.integer({ min: -3, max: 40 }),
        limit: fc.nat({ max: 20 }),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('clear' as const) }) },
  ),
  { maxLength: 300 },
)

test('nothing unacknowledged is lost within the bounds, nothing acknowledged comes back, order stays', () => {
  fc.assert(
    fc.property(
      commands,
      fc.integer({ min: 1, max: 200 }),
      fc.integer({ min: 1, max: 2_000 }),
      (list, entries, bytes) => {
        const bounds = { entries, bytes }
        const spool = new MemorySpool(bounds)
        const model = new ModelSpool(bounds)
        let newest = 0
        for (const command of list) {
          if (command.kind === 'add') {
            newest += command.gap
            const entry = { seq: newest, text: command.text }
            spool.add(entry)
            model.add(entry)
          } else if (command.kind === 'acknowledge') {
            const seq = newest - command.back
            spool.acknowledge(seq)
            model.entries = model.entries.filter((entry) => entry.seq > seq)
          } else if (command.kind === 'clear') {
            spool.clear()
            model.entries = []
          } else {
            const seq = newest - command.back
            expect(spool.after(seq, command.limit)).toEqual(
              model.entries.filter((entry) => entry.seq > seq).slice(0, command.limit),
            )
          }
          expect(spool.after(-1, Infinity)).toEqual(model.entries)
          expect(spool.size).toBe(model.entries.length)
          expect(spool.bytes).toBe(model.bytes)
          expect(spool.dropped).toBe(model.dropped)
          expect(spool.oldestSeq).toBe(model.entries[0]?.seq)
          expect(spool.newestSeq).toBe(model.entries.at(-1)?.seq)
        }
      },
    ),
  )
})

test('a number that is not above all before it is refused', () => {
  const spool = new MemorySpool()
  spool.add({ seq: 5, text: 'a' })
  expect(() => spool.add({ seq: 5, text: 'b' })).toThrow(RangeError)
})

test('it holds a day of heartbeats every ten seconds', () => {
  const spool = new MemorySpool()
  for (let seq = 1; seq <= 8_640; seq++) spool.add({ seq, text: 'x'.repeat(400) })
  expect([spool.size, spool.dropped]).toEqual([8_640, 0])
})
