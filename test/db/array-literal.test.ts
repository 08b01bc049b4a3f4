import { afterAll, beforeAll, expect, it } from 'vitest'
import { arrayLiteral, timeItem } from '../../src/db/array-literal.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

async function read(literal: string, type: string): Promise<unknown> {
  const { rows } = await db.pool.query(`SELECT $1::${type}[] AS items`, [literal])
  return rows[0].items
}

it('is read by PostgreSQL as what was given', async () => {
  expect(await read(arrayLiteral([]), 'text')).toEqual([])
  expect(await read(arrayLiteral(['online', null, 'stale', undefined]), 'text')).toEqual([
    'online',
    null,
    'stale',
    null,
  ])
  expect(await read(arrayLiteral([1, -2, 0.5]), 'float8')).toEqual([1, -2, 0.5])
  expect(await read(arrayLiteral([true, false]), 'boolean')).toEqual([true, false])
  const id = '0198c0de-0000-7000-8000-000000000001'
  expect(await read(arrayLiteral([id, null]), 'uuid')).toEqual([id, null])
})

it('carries times of every kind, to the millisecond', async () => {
  const at = '2026-03-01T11:22:33.456Z'
  const items = [at, '2026-03-01T12:22:33.456+01:00', Date.parse(at), new Date(at)]
  expect(await read(arrayLiteral(items.map(timeItem)), 'timestamptz')).toEqual(items.map(() => new Date(at)))
})
