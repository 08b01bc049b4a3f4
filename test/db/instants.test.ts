import fc from 'fast-check'
import { sql } from 'kysely'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { instant } from '../../src/protocol/frames.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase

beforeAll(async () => {
  db = await createTestDatabase()
})
afterAll(() => db.drop())

const twoDigits = (max: number) => fc.integer({ min: 0, max }).map((value) => String(value).padStart(2, '0'))
const fraction = fc
  .integer({ min: 0, max: 300 })
  .map((digits) => (digits === 0 ? '' : `.${'9'.repeat(digits)}`))
const offset = fc.oneof(
  fc.constant('Z'),
  fc
    .tuple(fc.constantFrom('+', '-'), twoDigits(23), twoDigits(59))
    .map(([sign, hours, minutes]) => `${sign}${hours}:${minutes}`),
)
const date = fc.constantFrom('1970-01-01T23:59:59', '2024-02-29T00:00:00', '9999-12-30T00:00:59')

// One robot's time that the database refuses would cost whoever is written in the same statement.
test('every time that is taken from robots is one that PostgreSQL takes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.tuple(date, fraction, offset).map((parts) => parts.join('')),
        { minLength: 200, maxLength: 200 },
      ),
      async (texts) => {
        const taken = texts.filter((text) => instant.safeParse(text).success)
        expect(taken.length).toBeGreaterThan(0)
        await sql`SELECT ${taken}::timestamptz[]`.execute(db.database)
      },
    ),
    { numRuns: 20 },
  )
})

test.each([
  '2026-01-01T00:00:00+16:00',
  '2026-01-01T00:00:00-23:59',
  `2026-01-01T00:00:00.${'1'.repeat(200)}Z`,
])('a time that it refuses is refused at once: %s', async (text) => {
  expect(instant.safeParse(text).success).toBe(false)
  await expect(sql`SELECT ${text}::timestamptz`.execute(db.database)).rejects.toThrow()
})

test('a time that it would round to the year 10000 is refused, and those before it stay what they are', async () => {
  const rounded = '9999-12-31T23:59:59.9999995Z'
  expect(instant.safeParse(rounded).success).toBe(false)
  expect(instant.safeParse('9999-12-31T22:59:59.9999999-01:00').success).toBe(false)
  for (const text of [
    '9999-12-31T23:59:59.999Z',
    '9999-12-31T23:59:59.999999Z',
    '9999-12-31T23:59:59.9989999Z',
  ]) {
    expect(instant.safeParse(text).success).toBe(true)
    const { rows } = await sql<{ year: string }>`
      SELECT extract(year FROM ${text}::timestamptz AT TIME ZONE 'UTC')::text AS year
    `.execute(db.database)
    expect(rows).toEqual([{ year: '9999' }])
  }
})
