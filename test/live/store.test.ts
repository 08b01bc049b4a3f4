import { describe, expect, test } from 'vitest'
import { LiveStore } from '../../src/live/store.ts'
import { entry } from './entries.ts'

const ticks = (store: LiveStore, from: number) => store.since(from)?.map(({ number }) => number)

describe('the store', () => {
  test('makes a tick of what is otherwise, and none of what is the same', () => {
    const store = new LiveStore('e')
    expect(store.apply([entry('a'), entry('b')], [], 1)).toEqual({
      number: 1,
      changed: ['a', 'b'],
      turned: [
        { id: 'a', before: undefined },
        { id: 'b', before: undefined },
      ],
    })
    const before = store.get('a')!.version
    expect(store.apply([entry('a')], [], 2)).toBeUndefined()
    // Seen all the same, so that it is not read again.
    expect(store.get('a')!.version).not.toBe(before)
    expect([store.tick, store.time]).toEqual([1, 2])
  })

  test('tells a heartbeat from a change of status', () => {
    const store = new LiveStore('e')
    store.apply([entry('a')], [], 1)
    expect(store.apply([entry('a', {}, 2)], [], 2)).toMatchObject({ changed: ['a'], turned: [] })
    const { facts } = store.get('a')!
    expect(store.apply([entry('a', { connection: 'offline' }, 2)], [], 3)).toMatchObject({
      changed: ['a'],
      turned: [{ id: 'a', before: facts }],
    })
  })

  test('forgets what is gone, once', () => {
    const store = new LiveStore('e')
    store.apply([entry('a'), entry('b')], [], 1)
    const { facts } = store.get('a')!
    expect(store.apply([], ['a', 'c'], 2)).toMatchObject({
      changed: [],
      turned: [{ id: 'a', before: facts }],
    })
    expect(store.apply([], ['a'], 3)).toBeUndefined()
    expect([...store.ids()]).toEqual(['b'])
  })

  test('keeps the last ticks', () => {
    const store = new LiveStore('e', { ticks: 3, changes: 1_000 })
    for (let beat = 1; beat <= 5; beat += 1) store.apply([entry('a', {}, beat)], [], beat)
    expect(ticks(store, 2)).toEqual([3, 4, 5])
    expect(ticks(store, 5)).toEqual([])
    for (const from of [1, 0, -1, 6, 2.5, Number.NaN]) expect(store.since(from), String(from)).toBeUndefined()
  })

  test('keeps no more changes than it may, but always the last tick', () => {
    const store = new LiveStore('e', { ticks: 100, changes: 4 })
    const beat = (seq: number, ...ids: string[]) =>
      store.apply(
        ids.map((id) => entry(id, {}, seq)),
        [],
        seq,
      )
    beat(1, 'a', 'b')
    beat(2, 'a', 'b')
    expect(ticks(store, 1)).toEqual([2])
    expect(store.since(0)).toBeUndefined()
    beat(3, 'a')
    beat(4, 'b')
    expect(ticks(store, 1)).toEqual([2, 3, 4])
    beat(5, 'a')
    expect(ticks(store, 2)).toEqual([3, 4, 5])
    expect(store.since(1)).toBeUndefined()
    beat(6, 'a', 'b', 'c', 'd', 'e')
    expect(ticks(store, 5)).toEqual([6])
    expect(store.since(4)).toBeUndefined()
  })
})
