import fc from 'fast-check'
import { expect, it } from 'vitest'
import { NOT_SCHEDULED, type Scheduled, TimingWheel } from '../../src/fleet/timing-wheel.ts'

const SLOT = 250

interface Item extends Scheduled {
  readonly name: string
}

const itemOf = (name: string): Item => ({ name, slot: NOT_SCHEDULED, place: 0 })

it('agrees with a list of deadlines, however items are put in, moved, taken out and handed out', () => {
  const which = fc.nat(12)
  const command = fc.oneof(
    {
      weight: 3,
      arbitrary: fc.record({ kind: fc.constant('schedule' as const), which, delay: fc.nat(5_000) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), which }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('advance' as const), ms: fc.nat(2_000) }) },
  )
  fc.assert(
    fc.property(fc.array(command, { maxLength: 120 }), (commands) => {
      let now = 0
      const wheel = new TimingWheel<Item>(SLOT, now)
      const items = Array.from({ length: 13 }, (_, index) => itemOf(`${index}`))
      const deadlines = new Map<Item, number>()
      for (const command of commands) {
        switch (command.kind) {
          case 'schedule':
            wheel.schedule(items[command.which]!, now + command.delay)
            deadlines.set(items[command.which]!, now + command.delay)
            break
          case 'remove':
            wheel.remove(items[command.which]!)
            deadlines.delete(items[command.which]!)
            break
          case 'advance':
            now += command.ms
            for (const item of wheel.advance(now)) {
              // Once, and never before its deadline …
              expect(deadlines.get(item)).toBeLessThanOrEqual(now)
              deadlines.delete(item)
            }
            // … and no more than a slot and a step after it.
            for (const deadline of deadlines.values()) expect(deadline + 2 * SLOT).toBeGreaterThan(now)
        }
        expect(wheel.size).toBe(deadlines.size)
        for (const item of items) expect(item.slot === NOT_SCHEDULED).toBe(!deadlines.has(item))
      }
    }),
  )
})

it('forgets what is removed, and no neighbour of it', () => {
  const wheel = new TimingWheel<Item>(SLOT, 0)
  const [a, b, c] = [itemOf('a'), itemOf('b'), itemOf('c')]
  for (const item of [a, b, c]) wheel.schedule(item, 1_000)
  wheel.remove(a)
  wheel.remove(a)
  expect(wheel.advance(5_000).map((item) => item.name)).toEqual(['c', 'b'])
  wheel.remove(b)
  expect([wheel.size, wheel.advance(10_000)]).toEqual([0, []])
})

it('takes an item that it hands out in again', () => {
  const wheel = new TimingWheel<Item>(SLOT, 0)
  const item = itemOf('a')
  for (let now = 1_000; now < 5_000; now += 1_000) {
    wheel.schedule(item, now)
    expect(wheel.advance(now + SLOT)).toEqual([item])
  }
})
