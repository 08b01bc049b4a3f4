import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { dayAfter, expiryOf, OVERLAPS, rangesOf } from '../../dashboard/src/views/tokens/expiry.ts'
import { tokenAddressOf, tokenFilterOf, tokenQueryOf } from '../../dashboard/src/views/tokens/filters.ts'
import { groupSays, totalSays } from '../../dashboard/src/views/tokens/revoked.ts'
import { SCOPE_SAYS, scopesInFew } from '../../dashboard/src/views/tokens/scopes.ts'
import { pathOf } from '../../dashboard/src/views/tokens/token-path.ts'
import { SCOPES } from '../../src/access/scopes.ts'
import { mintBody, rotateBody } from '../../src/http/token-schema.ts'

describe('when a token ends', () => {
  test('is said as the server takes it', () => {
    expect(expiryOf('30', '')).toEqual({ expires_in_days: 30 })
    expect(expiryOf('never', '2030-01-01')).toEqual({ expires_in_days: null })
    expect(expiryOf('', '')).toEqual({})
    for (const choice of ['30', '90', '365', 'date', 'never'])
      expect(
        mintBody.personal.safeParse({ name: 'x', ...expiryOf(choice, '2030-01-31') }).success,
        choice,
      ).toBe(true)
  })

  test('is the end of the day that was chosen, where the person is', () => {
    const { expires_at } = expiryOf('date', '2027-01-31') as { expires_at: string }
    expect(new Date(expires_at)).toEqual(new Date(2027, 0, 31, 23, 59, 59))
    for (const day of ['', '2027-13-01', 'tomorrow'])
      expect(() => expiryOf('date', day)).toThrow('Choose the day')
  })

  test('counts days over the ends of months and years', () => {
    expect(dayAfter(new Date(2026, 11, 31, 23, 59), 1)).toBe('2027-01-01')
    expect(dayAfter(new Date(2028, 1, 28, 0, 0), 1)).toBe('2028-02-29')
    expect(dayAfter(new Date(2026, 0, 5, 12), 0)).toBe('2026-01-05')
  })
})

test('an overlap is one that the server takes', () => {
  for (const { value } of OVERLAPS)
    expect(rotateBody.safeParse({ overlap_seconds: Number(value) }).success, value).toBe(true)
})

test('addresses are read as people type them', () => {
  expect(rangesOf(' 10.0.0.0/8,\n192.168.1.1\n\n; ::1 ')).toEqual(['10.0.0.0/8', '192.168.1.1', '::1'])
  expect(rangesOf(' \n')).toEqual([])
})

test('every scope is explained', () => {
  expect(Object.keys(SCOPE_SAYS).sort()).toEqual([...SCOPES].sort())
})

test('scopes are said in few words, and none as all', () => {
  expect(scopesInFew(null)).toBe('all that its owner may do')
  expect(scopesInFew(['robots:read', 'audit:read'])).toBe('robots:read, audit:read')
  expect(scopesInFew([...SCOPES])).toBe(`robots:read, robots:write and ${SCOPES.length - 2} more`)
})

describe('the filter in the address', () => {
  test('is the same after it was written and read', () => {
    const text = fc.string({ minLength: 1 }).filter((value) => value.trim() === value && value !== '')
    const parts = { of: text, fleet: text, user: text, status: text, sort: text }
    fc.assert(
      fc.property(fc.record(parts, { requiredKeys: [] }), (filter) => {
        expect(tokenFilterOf(tokenAddressOf(filter))).toEqual(filter)
      }),
    )
  })

  test('asks for tokens that work, the newest first, unless it says otherwise', () => {
    expect(tokenQueryOf({})).toEqual({ status: 'active', sort: '-created_at' })
    expect(tokenQueryOf({ status: 'any', sort: 'name' })).toEqual({ sort: 'name' })
    expect(tokenQueryOf({ status: 'revoked' })).toEqual({ status: 'revoked', sort: '-created_at' })
  })
})

test('a fleet’s token is rotated and revoked under its fleet', () => {
  expect(pathOf({ id: 't', fleet_id: null }, 'rotate')).toBe('/api/tokens/t/rotate')
  expect(pathOf({ id: 't', fleet_id: 'f' }, 'revoke')).toBe('/api/fleets/f/tokens/t/revoke')
})

test('what was revoked is counted in words', () => {
  expect(groupSays('fleet_tokens', 1)).toBe('1 fleet token')
  expect(groupSays('robots', 10_000)).toBe('10,000 robots’ tokens')
  expect(groupSays('something_new', 2)).toBe('2 something_new')
  expect(totalSays({ total: 1 })).toBe('1 credential')
  expect(totalSays({ total: 0 })).toBe('0 credentials')
})
