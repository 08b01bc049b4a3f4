import { validate, version } from 'uuid'
import { expect, test } from 'vitest'
import { newId } from '../src/ids.ts'

// More than the random bytes that are asked for at once are good for.
const MANY = 5_000

test('ids are UUIDv7, differ, and sort in the order in which they were made', () => {
  const before = Date.now()
  const ids = Array.from({ length: MANY }, newId)
  const after = Date.now()
  expect(ids.every((id) => validate(id) && version(id) === 7)).toBe(true)
  expect(new Set(ids).size).toBe(MANY)
  expect([...ids].sort()).toEqual(ids)
  const madeAt = ids.map((id) => Number.parseInt(id.replaceAll('-', '').slice(0, 12), 16))
  expect(Math.min(...madeAt)).toBeGreaterThanOrEqual(before)
  expect(Math.max(...madeAt)).toBeLessThanOrEqual(after)
})

test('what is random about an id is its own', () => {
  const tails = Array.from({ length: MANY }, () => newId().slice(-12))
  expect(new Set(tails).size).toBe(MANY)
})
