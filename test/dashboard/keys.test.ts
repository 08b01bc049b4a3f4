import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { madeOf, usesOf } from '../../dashboard/src/keys/kinds.ts'
import { cidrsOf, labelsOf, newKeyOf } from '../../dashboard/src/keys/terms.ts'
import { addressWith, partsOf } from '../../dashboard/src/ui/query.ts'
import { chunksOf, foreseenOf } from '../../dashboard/src/views/approvals/deciding.ts'
import {
  addressOf as addressOfQueue,
  bodyOf,
  queryOf,
  queueFilterOf,
  settled,
  withPart,
} from '../../dashboard/src/views/approvals/filters.ts'
import { addressOf, keysAddressOf } from '../../dashboard/src/views/keys/address.ts'
import { hasToken, toldOf } from '../../dashboard/src/views/keys/revoking.ts'
import { sumOf, Tallies } from '../../dashboard/src/views/places/tallies.ts'

const FLEET = { id: 'f', site_id: 's' }

describe('a new key', () => {
  test('takes labels and addresses as people type them', () => {
    expect(labelsOf(' role=mover \r\n\n dock = 4 \nspare\nnote=a=b\nrole=lifter')).toEqual({
      role: 'lifter',
      dock: '4',
      spare: '',
      note: 'a=b',
    })
    // A name of JavaScript's own is a label like any other.
    expect(JSON.stringify(labelsOf('__proto__=x'))).toBe('{"__proto__":"x"}')
    expect(cidrsOf(' 10.0.0.0/8, ::1\n192.0.2.7;10.0.0.0/8 ')).toEqual(['10.0.0.0/8', '::1', '192.0.2.7'])
    expect(labelsOf(' \n')).toEqual({})
    expect(cidrsOf(' ,; ')).toEqual([])
  })

  test('is sent as the REST interface takes it, each kind in its own terms', () => {
    const texts = { key_name: 'Dock', max_uses: '7', hours: '24', labels: 'a=b', allowed_cidrs: '::1' }
    const policies = {
      name: 'Dock',
      fleet_id: 'f',
      labels: { a: 'b' },
      allowed_cidrs: ['::1'],
      on_existing: 'approve',
    }
    const filled = { ...texts, on_existing: 'approve', approval: 'on', retrievable: 'on', single_use: 'on' }
    expect(newKeyOf('enrollment', FLEET, filled)).toEqual({
      ...policies,
      site_id: 's',
      max_uses: 7,
      expires_in_hours: 24,
      require_approval: true,
      retrievable: true,
    })
    expect(newKeyOf('provisioning', FLEET, { ...filled, hours: '720' })).toEqual({
      ...policies,
      expires_in_days: 30,
      require_approval: true,
      single_use: true,
    })
    // Boxes that are not ticked are not in what a form holds.
    expect(newKeyOf('enrollment', FLEET, { key_name: 'x', max_uses: '1', hours: '' })).toMatchObject({
      expires_in_hours: null,
      require_approval: false,
      retrievable: false,
      on_existing: 'rebind',
    })
    expect(newKeyOf('provisioning', FLEET, { key_name: 'x', hours: '' })).toMatchObject({
      expires_in_days: null,
      single_use: false,
    })
  })

  test('is told with its secret, once it has one', () => {
    const key = { key_value: 'k', setup_command: 'c', retrievable: true } as Parameters<typeof madeOf>[0]
    expect(madeOf(key)).toMatchObject({ kind: 'enrollment', secret: 'k', command: 'c', canBeShown: true })
    const token = { token: 't', setup_command: 'c' } as Parameters<typeof madeOf>[0]
    expect(madeOf(token)).toMatchObject({ kind: 'provisioning', secret: 't', canBeShown: false })
    expect(() => madeOf({ ...key, key_value: null } as never)).toThrow()
  })
})

describe('keys', () => {
  test('say how many came of how many', () => {
    const uses = (key: object) => usesOf(key as Parameters<typeof usesOf>[0])
    expect(uses({ uses: 12, max_uses: 1000 })).toBe('12 of 1,000')
    expect(uses({ uses: 0, single_use: true })).toBe('0 of 1')
    expect(uses({ uses: 3, single_use: false })).toBe('3')
  })

  test('stand in the address', () => {
    for (const address of ['/keys', '/keys?kind=provisioning&status=consumed&sort=name', '/keys?new=true'])
      expect(addressOf(keysAddressOf(address))).toBe(address)
    expect(keysAddressOf('/keys?kind=no&id=%20&new=1&cursor=x#y')).toEqual({ kind: 'enrollment' })
  })

  test('tell what revoking them did', () => {
    const told = (robots_revoked: number, robots_out_of_reach = 0, wasRevoked = false) =>
      toldOf('Dock', wasRevoked, { robots_revoked, robots_out_of_reach })
    expect(told(0)).toBe('“Dock” is revoked.')
    expect(told(1)).toBe('“Dock” is revoked. 1 robot revoked.')
    expect(told(2000, 1)).toBe(
      '“Dock” is revoked. 2,000 robots revoked. 1 robot elsewhere, where you may not change robots, stay.',
    )
    expect(told(0, 0, true)).toBe('0 robots revoked.')
  })

  test('end tokens that are there and stand', () => {
    const robot = { lifecycle: 'active', token_issued_at: 'x', token_revoked_at: null }
    expect(hasToken(robot)).toBe(true)
    expect(hasToken({ ...robot, token_revoked_at: 'y' })).toBe(false)
    expect(hasToken({ ...robot, token_issued_at: null })).toBe(false)
  })
})

describe('parts of an address', () => {
  test('are the same after they were written and read', () => {
    const text = fc.string({ minLength: 1, unit: 'binary' }).filter((value) => value.trim() === value)
    fc.assert(
      fc.property(fc.record({ a: text, b: text }, { requiredKeys: [] }), (parts) => {
        expect(partsOf(addressWith('/x', parts), ['a', 'b'])).toEqual(parts)
      }),
    )
  })
})

describe('the queue', () => {
  test('keeps its filter in the address, and drops a fleet with its site', () => {
    const filter = { q: 'a b', site: 's', fleet: 'f', waited: '24' }
    expect(queueFilterOf(addressOfQueue(filter))).toEqual(filter)
    expect(withPart(filter, { site: 't' })).toEqual({ q: 'a b', site: 't', waited: '24' })
    expect(queueFilterOf('/approvals?waited=soon&x=1')).toEqual({})
  })

  test('asks for what has waited since before a time, and for labels one way here and another there', () => {
    const now = Date.parse('2026-01-02T00:00:00Z')
    const query = queryOf({ label: 'a=b', waited: '24' }, now)
    expect(query).toEqual({ label: 'a=b', older_than: '2026-01-01T00:00:00.000Z' })
    expect(bodyOf(query)).toEqual({ label: ['a=b'], older_than: '2026-01-01T00:00:00.000Z' })
    expect(bodyOf(queryOf({}, now))).toEqual({})
  })

  test('moves no row while it is held', () => {
    const row = (id: string, name = id) => ({ id, name })
    const shown = [row('a'), row('b'), row('c')]
    const fresh = [row('n'), row('a', 'new name'), row('c')]
    expect(settled(shown, fresh, false)).toEqual({ rows: fresh, gone: new Set() })
    const { rows, gone } = settled(shown, fresh, true)
    expect(rows).toEqual([row('a', 'new name'), row('b'), row('c'), row('n')])
    expect(gone).toEqual(new Set(['b']))
  })

  test('foresees by all answers together', () => {
    const robot = (id: string, outcome: 'approved' | 'removed' | 'restored') => ({
      id,
      name: `robot ${id}`,
      site_id: 's',
      fleet_id: 'f',
      credential_id: null,
      outcome,
    })
    const foreseen = foreseenOf([
      { robots: [robot('1', 'removed'), robot('2', 'restored')], skipped: [], more: false },
      { robots: [robot('3', 'removed')], skipped: [{ id: '4', why: 'not_pending' }], more: true },
    ])
    expect(foreseen).toEqual({
      ids: ['1', '2', '3'],
      approved: 0,
      removed: 2,
      restored: 1,
      skipped: 1,
      names: ['robot 1', 'robot 2', 'robot 3'],
      isMore: true,
    })
    expect(chunksOf([1, 2, 3, 4, 5], 2)).toEqual([[1, 2], [3, 4], [5]])
    expect(chunksOf([], 2)).toEqual([])
  })
})

describe('robots by fleet', () => {
  test('are counted as they come, move, retire and go', () => {
    const tallies = new Tallies()
    const robot = (id: string, fleet_id: string, connection = 'online', lifecycle = 'active') => ({
      id,
      fleet_id,
      connection,
      lifecycle,
    })
    tallies.take([robot('1', 'a'), robot('2', 'a', 'stale'), robot('3', 'b')])
    expect(tallies.byFleet().get('a')).toEqual({ robots: 2, online: 1, retired: 0 })
    tallies.take([robot('1', 'b'), robot('2', 'a', 'offline', 'retired')], ['3'])
    expect(tallies.byFleet().get('a')).toEqual({ robots: 0, online: 0, retired: 1 })
    expect(tallies.byFleet().get('b')).toEqual({ robots: 1, online: 1, retired: 0 })
    expect(sumOf([...tallies.byFleet().values()])).toEqual({ robots: 1, online: 1, retired: 1 })
    tallies.clear()
    expect(tallies.byFleet().size).toBe(0)
    expect(sumOf([])).toEqual({ robots: 0, online: 0, retired: 0 })
  })
})
