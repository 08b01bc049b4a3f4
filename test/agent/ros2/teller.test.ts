import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Item, RENEW_MS, Teller } from '../../../agent/ros2/teller.ts'
import { ManualClock } from '../../support/clock.ts'

function item(id: string, value: number, urgency = '', calmMs = 1_000): Item {
  return { id, line: { set: id, value }, undo: { unset: id }, urgency, calmMs }
}

/** An agent that does what the lines say. */
function scene() {
  const clock = new ManualClock()
  const held = new Map<string, number>()
  let wanted: Item[] = []
  const teller = new Teller(clock, () => wanted)
  /** Tells one line; answers with it. */
  const step = (isTaken = true) => {
    const line = teller.next() as { set?: string; unset?: string; value?: number } | undefined
    if (!line) return undefined
    if (isTaken && line.set !== undefined) held.set(line.set, line.value!)
    if (isTaken && line.unset !== undefined) held.delete(line.unset)
    teller.answered(isTaken)
    return line
  }
  const want = (...items: Item[]) => {
    wanted = items
  }
  return { clock, held, teller, step, want }
}

describe('what is told', () => {
  test('everything once, then only what changes, and what is not wanted is taken back', () => {
    const { clock, held, step, want } = scene()
    want(item('a', 1), item('b', 1))
    expect([step(), step(), step()]).toMatchObject([{ set: 'a' }, { set: 'b' }, undefined])
    clock.advance(1_000)
    want(item('a', 2))
    expect([step(), step(), step()]).toEqual(
      expect.arrayContaining([{ set: 'a', value: 2 }, { unset: 'b' }, undefined]),
    )
    expect([...held]).toEqual([['a', 2]])
  })

  test('a change that can wait is told at most so often, the latest wins; an urgent one at once', () => {
    const { clock, held, step, want } = scene()
    want(item('a', 1))
    step()
    for (let value = 2; value < 100; value++) {
      clock.advance(10)
      want(item('a', value))
      expect(step()).toBeUndefined()
    }
    clock.advance(20)
    expect(step()).toMatchObject({ value: 99 })
    want(item('a', 100, 'worse'))
    expect(step()).toMatchObject({ value: 100 })
    expect(held.get('a')).toBe(100)
  })

  test('everything again before it ends by itself', () => {
    const { clock, step, want } = scene()
    want(item('a', 1))
    step()
    clock.advance(RENEW_MS - 1)
    expect(step()).toBeUndefined()
    clock.advance(1)
    expect(step()).toMatchObject({ set: 'a' })
  })

  test('what was told the longest ago comes first: nothing waits for ever', () => {
    const { clock, step, want } = scene()
    const told = new Set<string>()
    for (let round = 0; round < 40; round++) {
      want(...Array.from({ length: 20 }, (_, number) => item(`i${number}`, round, String(round), 0)))
      told.add(step()!.set!)
      clock.advance(100)
    }
    expect(told.size).toBe(20)
  })

  test('a refused line is tried again later, and keeps no other from being told', () => {
    const { clock, step, want } = scene()
    want(item('a', 1), item('b', 1))
    expect(step(false)).toMatchObject({ set: 'a' })
    expect([step(), step()]).toMatchObject([{ set: 'b' }, undefined])
    clock.advance(10_000)
    expect(step()).toMatchObject({ set: 'a' })
  })

  test('a change that was refused is tried again as soon as another', () => {
    const { clock, step, want } = scene()
    want(item('a', 1, '', 20_000))
    step()
    clock.advance(20_000)
    want(item('a', 2, '', 20_000))
    expect(step(false)).toMatchObject({ value: 2 })
    clock.advance(10_000)
    expect(step()).toMatchObject({ value: 2 })
  })

  test('all again after the agent was lost, and what ended meanwhile is taken back', () => {
    const { teller, step, want, held } = scene()
    want(item('a', 1), item('b', 1))
    step()
    step()
    want(item('a', 1))
    teller.startAnew()
    const lines = [step(), step(), step()]
    expect(lines).toEqual(expect.arrayContaining([{ set: 'a', value: 1 }, { unset: 'b' }, undefined]))
    expect([...held.keys()]).toEqual(['a'])
  })

  test('at the end all is taken back that the agent may hold', () => {
    const { teller, step, want } = scene()
    want(item('a', 1), item('b', 1), item('c', 1))
    step()
    step(false)
    expect(teller.undoAll()).toEqual([{ unset: 'a' }, { unset: 'b' }])
  })
})

test('however things change and the agent comes and goes, in the end it holds what is wanted', () => {
  const names = ['a', 'b', 'c', 'd']
  const command = fc.oneof(
    fc.record({ want: fc.dictionary(fc.constantFrom(...names), fc.integer({ min: 0, max: 9 })) }),
    fc.record({ step: fc.boolean() }),
    fc.record({ pass: fc.integer({ min: 0, max: 60_000 }) }),
    fc.constantFrom('restart', 'lost answer'),
  )
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const { clock, held, teller, step, want } = scene()
      let wanted: Record<string, number> = {}
      for (const one of commands) {
        if (one === 'restart') {
          held.clear()
          teller.startAnew()
        } else if (one === 'lost answer') {
          const line = teller.next() as { set?: string; value?: number } | undefined
          if (line?.set !== undefined) held.set(line.set, line.value!)
          teller.startAnew()
        } else if ('want' in one) {
          wanted = one.want
          want(...Object.entries(wanted).map(([id, value]) => item(id, value)))
        } else if ('step' in one) step(one.step)
        else clock.advance(one.pass)
      }
      clock.advance(RENEW_MS)
      for (let left = 20; left > 0; left--) step()
      expect(Object.fromEntries(held)).toEqual(wanted)
    }),
  )
})
