import { encode } from 'uqr'
import { describe, expect, test } from 'vitest'
import { placeName } from '../../dashboard/src/ui/places.ts'
import { qrPath } from '../../dashboard/src/ui/qr-path.ts'
import { sortAfter } from '../../dashboard/src/ui/sort-after.ts'
import { browserName } from '../../dashboard/src/views/account/user-agent.ts'
import {
  doublePlace,
  placeKey,
  placeOfKey,
  ROLE_SAYS,
  type Role,
  roleAt,
  sameRoles,
} from '../../dashboard/src/views/people/role-words.ts'
import { ROLES } from '../../src/access/scopes.ts'

const site = { id: 's', name: 'Plant' }
const fleet = { id: 'f', name: 'Carts', site_id: 's' }
const places = { sites: [site], fleets: [fleet] } as unknown as Parameters<typeof placeName>[0]
const role = (name: Role['role'], site_id: string | null, fleet_id: string | null): Role => ({
  role: name,
  site_id,
  fleet_id,
})

describe('roles', () => {
  test('are all explained', () => {
    expect(Object.keys(ROLE_SAYS).sort()).toEqual([...ROLES].sort())
  })

  test('keep their place through a choice', () => {
    for (const each of [role('viewer', null, null), role('admin', 's', null), role('operator', null, 'f')])
      expect({ role: each.role, ...placeOfKey(placeKey(each)) }).toEqual(each)
  })

  test('at a fleet are judged with its site', () => {
    expect(roleAt(role('operator', null, 'f'), places)).toEqual({
      role: 'operator',
      place: { siteId: 's', fleetId: 'f' },
    })
    expect(roleAt(role('admin', 's', null), places).place).toEqual({ siteId: 's', fleetId: null })
    // A fleet that is out of sight belongs to no site that could give rights.
    expect(roleAt(role('admin', null, 'other'), places).place).toEqual({ siteId: null, fleetId: 'other' })
  })

  test('are the same in another order, and not at another place', () => {
    const two = [role('viewer', 's', null), role('operator', null, 'f')]
    expect(sameRoles(two, [...two].reverse())).toBe(true)
    expect(sameRoles(two, [two[0]!])).toBe(false)
    expect(sameRoles([role('viewer', 's', null)], [role('viewer', null, 's')])).toBe(false)
  })

  test('are one at each place', () => {
    expect(doublePlace([role('viewer', 's', null), role('operator', null, 'f')])).toBe(-1)
    expect(doublePlace([role('viewer', 's', null), role('operator', 's', null)])).toBe(1)
  })
})

test('a place is told by its name, one out of sight by its id', () => {
  expect(placeName(places, { site_id: null, fleet_id: null })).toBe('the whole deployment')
  expect(placeName(places, { site_id: 's', fleet_id: null })).toBe('Plant')
  expect(placeName(places, { site_id: 's', fleet_id: 'f' })).toBe('Carts, Plant')
  expect(placeName(places, { site_id: null, fleet_id: 'gone' })).toBe('fleet gone')
})

test('browsers are told by what they say of themselves', () => {
  const linux = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)'
  expect(browserName(`${linux} Chrome/141.0.0.0 Safari/537.36`)).toBe('Chrome on Linux')
  expect(browserName(`${linux} Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0`)).toBe('Edge on Linux')
  expect(browserName('Mozilla/5.0 (Windows NT 10.0; rv:140.0) Gecko/20100101 Firefox/140.0')).toBe(
    'Firefox on Windows',
  )
  expect(
    browserName(
      'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18 Safari/604',
    ),
  ).toBe('Safari on iOS')
  expect(browserName('curl/8.9')).toBe('curl/8.9')
  expect(browserName('x'.repeat(200))).toHaveLength(60)
  expect(browserName(null)).toContain('said nothing')
})

test('a column’s head sorts by it, and then the other way round', () => {
  expect(sortAfter('-created_at', 'name')).toBe('-name')
  expect(sortAfter('-name', 'name')).toBe('name')
  expect(sortAfter('name', 'name')).toBe('-name')
})

test('a QR code’s path covers exactly its dark squares', () => {
  const { data } = encode('otpauth://totp/Beacon:ada?secret=JBSWY3DPEHPK3PXP', { ecc: 'M', border: 4 })
  const painted = data.map((row) => row.map(() => false))
  for (const [, x, y, length, back] of qrPath(data).matchAll(/M(\d+) (\d+)h(\d+)v1h-(\d+)z/g)) {
    expect(back).toBe(length)
    for (let step = 0; step < Number(length); step++) {
      expect(painted[Number(y)]![Number(x) + step]).toBe(false)
      painted[Number(y)]![Number(x) + step] = true
    }
  }
  expect(painted).toEqual(data)
})
