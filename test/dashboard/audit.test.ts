import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ACTION_KINDS, actionChoices, inWords, nameOf } from '../../dashboard/src/views/audit/actions.ts'
import {
  auditAddressOf,
  auditFilterOf,
  exportAddressOf,
  instantOf,
  isNarrowed,
  localOf,
  withParts,
} from '../../dashboard/src/views/audit/filters.ts'

describe('the filter in the address', () => {
  test('is the same after it was written and read', () => {
    const text = fc.string({ minLength: 1 }).filter((value) => value.trim() === value && value !== '')
    const instant = fc
      .date({ min: new Date(0), max: new Date('9999-01-01'), noInvalidDate: true })
      .map((at) => at.toISOString())
    const parts = {
      action: fc.constantFrom('robot.', 'user.invited'),
      outcome: fc.constantFrom('ok', 'refused'),
      actor: text,
      user: text,
      target: text,
      site: text,
      fleet: text,
      address: text,
      request_id: text,
      q: text,
      from: instant,
      to: instant,
    }
    fc.assert(
      fc.property(fc.record(parts, { requiredKeys: [] }), (filter) => {
        expect(auditFilterOf(auditAddressOf(filter))).toEqual(filter)
      }),
    )
  })

  test('leaves out what the server would refuse, and what it does not know', () => {
    expect(
      auditFilterOf(
        '/audit?action=%27%3B--&outcome=maybe&from=yesterday&to=2026-02-30T99:00:00Z&limit=9&q=ada#x',
      ),
    ).toEqual({ q: 'ada' })
    expect(isNarrowed(auditFilterOf('/audit?cursor=1'))).toBe(false)
    expect(isNarrowed({ q: 'x' })).toBe(true)
  })

  test('changes by parts, and loses the fleet with its site', () => {
    expect(withParts({ site: 'a', fleet: 'f', q: 'x' }, { site: 'b' })).toEqual({ site: 'b', q: 'x' })
    expect(withParts({ site: 'a', fleet: 'f' }, { q: 'x' })).toEqual({ site: 'a', fleet: 'f', q: 'x' })
    expect(withParts({ q: 'x' }, { q: undefined })).toEqual({})
  })

  test('is what is exported, too', () => {
    expect(exportAddressOf({ action: 'robot.', q: 'a&b' }, 'csv')).toBe(
      '/api/audit/export?action=robot.&q=a%26b&format=csv',
    )
  })
})

test('times in boxes are those of where the person is, to the minute', () => {
  const local = '2026-07-01T09:30'
  expect(instantOf(local)).toBe(new Date(2026, 6, 1, 9, 30).toISOString())
  expect(localOf(instantOf(local))).toBe(local)
  expect(localOf(undefined)).toBe('')
  expect(localOf('nonsense')).toBe('')
  expect(instantOf('')).toBeUndefined()
  expect(instantOf('2026-13-01T00:00')).toBeUndefined()
})

test('every action that the server writes down is of a kind that can be chosen', () => {
  const root = join(import.meta.dirname, '../../src')
  const written = new Set<string>()
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts')) continue
    const text = readFileSync(join(root, name), 'utf8')
    for (const [, list] of text.matchAll(/audit: \[([^\]]*)\]/g))
      for (const [, action] of (list ?? '').matchAll(/'([a-z_]+\.[a-z_]+)'/g)) written.add(action!)
    for (const [, action] of text.matchAll(/action: '([a-z_]+\.[a-z_]+)'/g)) written.add(action!)
  }
  expect(written.size).toBeGreaterThan(40)
  const missing = [...written].filter((action) => !ACTION_KINDS.some(({ value }) => action.startsWith(value)))
  expect(missing).toEqual([])
})

test('an action of its own stands among the kinds when it is chosen', () => {
  expect(actionChoices('robot.')).toBe(ACTION_KINDS)
  expect(actionChoices(undefined)).toBe(ACTION_KINDS)
  expect(actionChoices('robot.retired')[0]).toEqual({ value: 'robot.retired', text: 'robot.retired' })
})

test('actors and targets without a name are told by their kind, routes by their pattern', () => {
  expect(inWords('fleet_token')).toBe('fleet token')
  expect(nameOf({ kind: 'user', id: '1', name: 'Ada' })).toBe('Ada')
  expect(nameOf({ kind: 'anonymous', id: null, name: null })).toBe('anonymous')
  expect(nameOf({ kind: 'route', id: 'GET /api/users', name: null })).toBe('GET /api/users')
})
