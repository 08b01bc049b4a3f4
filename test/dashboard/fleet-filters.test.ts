import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  addressOf,
  baseOf,
  filterOf,
  isNarrowed,
  isStillIn,
  listQueryOf,
  nextSort,
  totalOf,
  withPart,
} from '../../dashboard/src/views/fleet/filters.ts'

describe('the filter in the address', () => {
  test('is the same after it was written and read', () => {
    const text = fc.string({ minLength: 1 }).filter((value) => value.trim() === value && value !== '')
    const filter = fc.record(
      {
        q: text,
        site: text,
        fleet: text,
        label: text,
        connection: text,
        sort: text,
        faults: fc.constant('true' as const),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(filter, (given) => {
        expect(filterOf(addressOf(given))).toEqual(given)
      }),
    )
  })

  test('leaves out what it does not know, and what says nothing', () => {
    expect(filterOf('/?q=%20&connection=&cursor=1&faults=false&health=ok#x')).toEqual({ health: 'ok' })
    expect(filterOf('/')).toEqual({})
    expect(addressOf({})).toBe('/')
  })

  test('loses the fleet with its site', () => {
    expect(withPart({ site: 'a', fleet: 'b' }, { site: 'c' })).toEqual({ site: 'c' })
    expect(withPart({ site: 'a', fleet: 'b' }, { health: 'ok' })).toEqual({
      site: 'a',
      fleet: 'b',
      health: 'ok',
    })
    expect(withPart({ site: 'a', fleet: 'b' }, { fleet: undefined })).toEqual({ site: 'a' })
  })

  test('tells among which robots one chooses from what is chosen', () => {
    expect(
      baseOf({ q: 'x', site: 's', health: 'ok', faults: 'true', lifecycle: 'active', sort: 'name' }),
    ).toEqual({
      q: 'x',
      site: 's',
    })
    expect(isNarrowed({ sort: 'name' })).toBe(false)
    expect(isNarrowed({ faults: 'true' })).toBe(true)
  })

  test('asks for robots in use unless it says otherwise', () => {
    expect(listQueryOf({ q: 'a' })).toEqual({ q: 'a', lifecycle: ['pending', 'active', 'maintenance'] })
    expect(listQueryOf({ lifecycle: 'retired' })).toEqual({ lifecycle: 'retired' })
  })

  test('knows how many robots it lets through, where the counts say', () => {
    const counts = {
      robots: 10,
      connection: { unseen: 1, online: 6, stale: 0, offline: 3 },
      health: { ok: 7, warn: 1, error: 2, unknown: 0 },
      lifecycle: { pending: 2, active: 7, maintenance: 1, retired: 40 },
      faults: 4,
    }
    expect(totalOf({}, undefined)).toBeUndefined()
    expect(totalOf({ q: 'a', site: 'b', sort: '-name' }, counts)).toBe(10)
    expect(totalOf({ connection: 'offline' }, counts)).toBe(3)
    expect(totalOf({ health: 'error' }, counts)).toBe(2)
    expect(totalOf({ lifecycle: 'retired' }, counts)).toBe(40)
    expect(totalOf({ faults: 'true' }, counts)).toBe(4)
    expect(totalOf({ connection: 'elsewhere' }, counts)).toBeUndefined()
    expect(totalOf({ connection: 'offline', faults: 'true' }, counts)).toBeUndefined()
  })

  test('sorts by a column, then the other way round, then by name as ever', () => {
    expect(nextSort(undefined, 'name')).toBe('-name')
    expect(nextSort('-name', 'name')).toBeUndefined()
    expect(nextSort('-name', 'last_seen_at')).toBe('last_seen_at')
    expect(nextSort('last_seen_at', 'last_seen_at')).toBe('-last_seen_at')
    expect(nextSort('-last_seen_at', 'last_seen_at')).toBeUndefined()
    expect(nextSort('-last_seen_at', 'name')).toBeUndefined()
  })
})

describe('a robot in the list', () => {
  const robot = { connection: 'online', health: 'ok', lifecycle: 'active' }

  test('stays in while it is as the filter wants', () => {
    expect(isStillIn({}, robot)).toBe(true)
    expect(isStillIn({ connection: 'online', health: 'ok' }, robot)).toBe(true)
    expect(isStillIn({ connection: 'offline' }, robot)).toBe(false)
    expect(isStillIn({ lifecycle: 'maintenance' }, robot)).toBe(false)
    expect(isStillIn({}, { ...robot, lifecycle: 'retired' })).toBe(false)
    expect(isStillIn({ lifecycle: 'retired' }, { ...robot, lifecycle: 'retired' })).toBe(true)
  })

  test('is out for want of faults only where its heartbeat is known', () => {
    expect(isStillIn({ faults: 'true' }, robot)).toBe(true)
    expect(isStillIn({ faults: 'true' }, { ...robot, heartbeat: null })).toBe(false)
    expect(isStillIn({ faults: 'true' }, { ...robot, heartbeat: { faults: [] } })).toBe(false)
    expect(isStillIn({ faults: 'true' }, { ...robot, heartbeat: { faults: [{}] } })).toBe(true)
  })
})
