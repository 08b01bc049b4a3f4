import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encode, type Part } from '../../src/live/coding.ts'
import { type Counts, count, noCounts, Tally } from '../../src/live/counts.ts'
import { countedKeyOf, judgeOf, type LiveFilter } from '../../src/live/filter.ts'
import { PageCache } from '../../src/live/page-cache.ts'
import type { Facts } from '../../src/live/robot.ts'
import { LiveStore } from '../../src/live/store.ts'
import { type Telling, View, type ViewOptions, viewKey } from '../../src/live/view.ts'
import { dataOf, entry } from './entries.ts'

const ALL: ViewOptions = { filter: {}, reach: 'everything', detail: 'full', coding: 'identity' }

/** A view that hears of every tick of its store. */
function viewOf(store: LiveStore, options: Partial<ViewOptions> = {}) {
  const whole = { ...ALL, ...options }
  const tally = new Tally(store, judgeOf(whole.filter, whole.reach).counted)
  const view = new View(store, tally, new PageCache(1_000_000), whole)
  const apply = (...given: Parameters<LiveStore['apply']>) => {
    const tick = store.apply(...given)
    if (!tick) return
    tally.take(tick)
    view.take(tick.number)
  }
  return { view, apply }
}

const told = (telling: Telling | null | undefined) => dataOf(telling?.page(0).event)
function pagesOf({ page }: Telling): Part[] {
  const events: Part[] = []
  for (let at: number | undefined = 0; at !== undefined; ) {
    const { event, next } = page(at)
    events.push(event)
    at = next
  }
  return events
}

const ids = (robots: { id: string }[]) => robots.map(({ id }) => id).sort()

describe('a delta', () => {
  test('tells each robot once, as it is now', () => {
    const store = new LiveStore('e')
    const { view, apply } = viewOf(store)
    apply([entry('a', {}, 1), entry('b', {}, 1)], [], 1_500)
    apply([entry('a', {}, 2)], [], 1_600)
    apply([entry('a', { health: 'error' }, 3)], [], 1_700)
    const { changed, removed, time } = told(view.delta(1))
    expect(changed).toMatchObject([{ id: 'a', health: 'error', heartbeat: { seq: 3, age_ms: 700 } }])
    expect([removed, time]).toEqual([[], '1970-01-01T00:00:01.700Z'])
    expect(ids(told(view.delta(0)).changed)).toEqual(['a', 'b'])
    expect(view.delta(3)).toBeNull()
    expect(view.delta(4)).toBeUndefined()
  })

  test('is the same bytes for all who ask', () => {
    const store = new LiveStore('e')
    const { view, apply } = viewOf(store)
    apply([entry('a')], [], 1)
    view.readers = 2
    expect(view.delta(0)?.page(0).event).toBe(view.delta(0)?.page(0).event)
  })

  test('names its place', () => {
    const store = new LiveStore('0123456789ab')
    const { view, apply } = viewOf(store)
    apply([entry('a')], [], 1)
    expect(String(view.delta(0)?.page(0).event.bytes)).toContain(`\nid: 0123456789ab-1-${view.name}\n`)
  })

  test('costs readers of the status nothing for a heartbeat', () => {
    const store = new LiveStore('e')
    const { view, apply } = viewOf(store, { detail: 'status' })
    apply([entry('a', {}, 1)], [], 1)
    apply([entry('a', {}, 2)], [], 2)
    expect(view.delta(1)).toBeNull()
    apply([entry('a', { hasFaults: true }, 3)], [], 3)
    expect(told(view.delta(1))).toMatchObject({ changed: [{ id: 'a' }], counts: { faults: 1 } })
    expect(told(view.delta(1)).changed[0]).not.toHaveProperty('heartbeat')
  })

  test('tells of counts alone where nothing in view changed', () => {
    const store = new LiveStore('e')
    const { view, apply } = viewOf(store, { filter: { connections: ['offline'] } })
    apply([entry('a')], [], 1)
    expect(told(view.delta(0))).toMatchObject({
      changed: [],
      removed: [],
      counts: { connection: { online: 1 } },
    })
  })

  test('tells nobody of robots out of reach, not even that they went', () => {
    const store = new LiveStore('e')
    const reach = { siteIds: [], fleetIds: ['mine'] }
    const { view, apply } = viewOf(store, { reach })
    apply([entry('a', { fleetId: 'mine' }), entry('b', { fleetId: 'other' })], [], 1)
    apply([entry('a', { fleetId: 'other' }), entry('b', { health: 'error', fleetId: 'other' })], [], 2)
    expect(told(view.delta(1))).toMatchObject({ changed: [], removed: ['a'], counts: { robots: 0 } })
    // Somebody who was told before it moved, and asks after it was deleted elsewhere.
    apply([], ['a', 'b'], 3)
    expect(view.delta(2)).toBeNull()
    expect(told(view.delta(1)).removed).toEqual(['a'])
    // Came and went in between: never told.
    apply([entry('c', { fleetId: 'mine' })], [], 4)
    apply([], ['c'], 5)
    expect(told(view.delta(3))).toMatchObject({ changed: [], removed: [] })
  })
})

describe('a large delta', () => {
  test('has parts, with a place to go on from at the end alone, and tells robots as they are when it comes to them', () => {
    const store = new LiveStore('0123456789ab')
    const { view, apply } = viewOf(store)
    apply([entry('gone')], [], 1)
    const many = Array.from({ length: 250 }, (_, index) => String(index))
    apply(
      many.map((id) => entry(id)),
      ['gone'],
      2,
    )
    const delta = view.delta(1)!
    const { event: first, next } = delta.page(0)
    apply([entry('249', { health: 'error' })], ['248'], 3)
    const { event: second, next: end } = delta.page(next!)
    expect(end).toBeUndefined()
    expect(String(first?.bytes)).not.toMatch(/^id:/m)
    expect(String(second?.bytes)).toContain(`\nid: 0123456789ab-2-${view.name}\n`)
    expect(dataOf(first)).toMatchObject({ removed: ['gone'] })
    expect(dataOf(second)).toMatchObject({ removed: [], counts: { robots: 249 } })
    expect(dataOf(first).changed).toHaveLength(200)
    expect(ids(dataOf(second).changed)).toEqual(many.slice(200).filter((id) => id !== '248'))
    expect(dataOf(second).changed.at(-1)).toMatchObject({ id: '249', health: 'error' })
    expect(told(view.delta(2))).toMatchObject({ changed: [{ id: '249' }], removed: ['248'] })
  })
})

describe('pages that are kept for others', () => {
  test('are no more bytes than may be, and the oldest goes first', () => {
    const cache = new PageCache(10)
    const dropped: string[] = []
    const keep = (name: string, bytes: number) => cache.keep(Buffer.alloc(bytes), () => dropped.push(name))
    keep('a', 4)
    keep('b', 6)
    expect([dropped, cache.bytes]).toEqual([[], 10])
    keep('c', 1)
    expect([dropped, cache.bytes]).toEqual([['a'], 7])
    keep('d', 20)
    expect([dropped, cache.bytes]).toEqual([['a', 'b', 'c', 'd'], 0])
  })

  test('count as what they keep in memory, of which they may be a piece', () => {
    const cache = new PageCache(1_000_000)
    cache.keep(Buffer.alloc(100).subarray(0, 3), () => {})
    expect(cache.bytes).toBe(100)
    const { bytes } = encode('gzip', 'a'.repeat(2_000))
    cache.keep(bytes, () => {})
    expect(cache.bytes).toBe(100 + bytes.buffer.byteLength)
  })
})

describe('a snapshot', () => {
  test('of nobody is one page', () => {
    const { view } = viewOf(new LiveStore('e'))
    const { event, next } = view.snapshot().page(0)
    expect(next).toBeUndefined()
    expect(dataOf(event)).toEqual({
      time: '1970-01-01T00:00:00.000Z',
      first: true,
      done: true,
      items: [],
      counts: noCounts(),
    })
  })

  test('has pages, and a place to go on from at the end alone', () => {
    const store = new LiveStore('0123456789ab')
    const { view, apply } = viewOf(store)
    apply(
      Array.from({ length: 401 }, (_, index) => entry(String(index))),
      [],
      1,
    )
    const pages = pagesOf(view.snapshot())
    expect(pages.map((page) => dataOf(page).items.length)).toEqual([200, 200, 1])
    expect(pages.map((page) => dataOf(page).first)).toEqual([true, false, false])
    expect(pages.map((page) => dataOf(page).done)).toEqual([false, false, true])
    const places = pages.map(({ bytes }) => /^id:(.*)$/m.exec(String(bytes))![1])
    expect(places).toEqual(['', '', ` 0123456789ab-1-${view.name}`])
  })

  test('has no large pages, however much robots say', () => {
    const store = new LiveStore('e')
    const { view, apply } = viewOf(store)
    apply(
      Array.from({ length: 100 }, (_, index) =>
        entry(String(index), { labels: { much: 'x'.repeat(16_000) } }),
      ),
      [],
      1,
    )
    const pages = pagesOf(view.snapshot())
    expect(Math.max(...pages.map(({ textBytes }) => textBytes))).toBeLessThan(300_000)
    expect(pages.flatMap((page) => dataOf(page).items)).toHaveLength(100)
  })

  test('is shared by those who come together, and made anew for those who come later', () => {
    const store = new LiveStore('e')
    const { view, apply } = viewOf(store)
    view.readers = 2
    apply([entry('a')], [], 1)
    const first = view.snapshot()
    expect(view.snapshot()).toBe(first)
    expect(first.page(0).event).toBe(first.page(0).event)
    for (let beat = 2; beat < 20; beat += 1) apply([entry('a', {}, beat)], [], beat)
    expect(view.snapshot()).not.toBe(first)
  })

  test('that the log reaches no longer is made anew', () => {
    const store = new LiveStore('e', { ticks: 2, changes: 100 })
    const { view, apply } = viewOf(store)
    apply([entry('a')], [], 1)
    view.snapshot()
    for (let beat = 2; beat < 6; beat += 1) apply([entry('a', {}, beat)], [], beat)
    expect(view.snapshot().tick).toBe(5)
  })
})

const anyFacts = fc.record({
  fleetId: fc.constantFrom('f1', 'f2'),
  connection: fc.constantFrom('unseen', 'online', 'stale', 'offline'),
  health: fc.constantFrom('ok', 'warn', 'error', 'unknown'),
  lifecycle: fc.constantFrom('pending', 'active', 'maintenance', 'retired'),
  hasFaults: fc.boolean(),
} as const) as fc.Arbitrary<Partial<Facts>>
const step = fc.record({
  set: fc.dictionary(fc.constantFrom('a', 'b', 'c', 'd', 'e'), fc.tuple(anyFacts, fc.nat(3)), { maxKeys: 3 }),
  gone: fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd', 'e'), { maxLength: 2 }),
})
const anyFilter: fc.Arbitrary<LiveFilter> = fc.record({
  fleets: fc.constantFrom(undefined, ['f1']),
  connections: fc.constantFrom(undefined, ['online'], ['stale', 'offline']),
  healths: fc.constantFrom(undefined, ['ok', 'warn']),
  hasFaults: fc.constantFrom(undefined, true, false),
  ids: fc.constantFrom(undefined, ['a', 'b', 'c']),
} as const)

test('whoever is told deltas, from whatever tick to whatever tick, knows what is there', () => {
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 1, maxLength: 12 }),
      anyFilter,
      fc.constantFrom('full', 'status'),
      fc.array(fc.nat(12), { maxLength: 4 }),
      fc.constantFrom('everything' as const, { siteIds: [], fleetIds: ['f2'] }),
      (steps, filter, detail, visits, reach) => {
        const store = new LiveStore('e')
        const { view, apply } = viewOf(store, { filter, detail: detail as 'full', reach })
        const { admits, counted } = judgeOf(filter, reach)
        const due = () => {
          const counts: Counts = noCounts()
          const robots = new Map<string, unknown>()
          for (const { facts, status, full } of store.all()) {
            if (admits(facts)) robots.set(facts.id, JSON.parse(detail === 'status' ? status : `${full}0}}`))
            if (counted(facts)) count(counts, facts, 1)
          }
          return { robots, counts }
        }
        // Begins with a snapshot after some steps, and listens at some ticks.
        const robots = new Map<string, { id: string }>()
        let told: number | undefined
        let counts: unknown
        steps.forEach(({ set, gone }, index) => {
          apply(
            Object.entries(set).map(([id, [facts, beat]]) => ({ ...entry(id, facts, beat), heardAt: index })),
            gone.filter((id) => !(id in set)),
            index,
          )
          if (told === undefined) {
            const { tick, page } = view.snapshot()
            const data = dataOf(page(0).event)
            for (const robot of data.items) robots.set(robot.id, robot)
            ;[told, counts] = [tick, data.counts]
          } else if (visits.includes(index) || index === steps.length - 1) {
            const data = dataOf(view.delta(told)?.page(0).event)
            told = store.tick
            for (const robot of data?.changed ?? []) robots.set(robot.id, robot)
            for (const id of data?.removed ?? []) expect(robots.delete(id)).toBe(true)
            counts = data?.counts ?? counts
          } else return
          const known = new Map([...robots].map(([id, robot]) => [id, withoutAge(robot)]))
          const there = new Map([...due().robots].map(([id, robot]) => [id, withoutAge(robot)]))
          expect(known).toEqual(there)
          expect(counts).toEqual(due().counts)
        })
      },
    ),
    { numRuns: 500 },
  )
})

// biome-ignore lint/suspicious/noExplicitAny: one of the texts above
function withoutAge(robot: any): unknown {
  if (!robot.heartbeat) return robot
  const { age_ms: _, ...heartbeat } = robot.heartbeat
  return { ...robot, heartbeat }
}

test('views are the same when they admit the same for the same reasons', () => {
  const key = (filter: LiveFilter, rest: Partial<ViewOptions> = {}) => viewKey({ ...ALL, filter, ...rest })
  expect(key({ sites: ['b', 'a', 'a'] })).toBe(key({ sites: ['a', 'b'] }))
  expect(key({ labels: [] })).toBe(key({}))
  const others = [
    key({}),
    key({}, { detail: 'status' }),
    key({}, { reach: { siteIds: [], fleetIds: [] } }),
    key({}, { reach: { siteIds: ['a'], fleetIds: [] } }),
    key({}, { reach: { siteIds: [], fleetIds: ['a'] } }),
    key({ sites: ['a'] }),
    key({ fleets: ['a'] }),
    key({ ids: ['a'] }),
    key({ credentialId: 'a' }),
    key({ text: 'a' }),
    key({ labels: [{ name: 'a', value: null }] }),
    key({ labels: [{ name: 'a', value: '' }] }),
    key({ labels: [{ name: 'a', value: 'null' }] }),
    key({ hasFaults: true }),
    key({ hasFaults: false }),
  ]
  expect(new Set(others).size).toBe(others.length)
  // What is chosen in a status bar makes another view, and the same counts.
  const chosen: LiveFilter = {
    ids: ['a'],
    connections: ['online'],
    healths: ['ok'],
    lifecycles: ['active'],
    hasFaults: true,
  }
  for (const [name, value] of Object.entries(chosen)) {
    expect(key({ [name]: value })).not.toBe(key({}))
    expect(countedKeyOf({ [name]: value }, 'everything')).toBe(countedKeyOf({}, 'everything'))
  }
})
