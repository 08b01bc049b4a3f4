import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { MigrationError, migrate } from '../../src/db/migrate.ts'
import { createLog } from '../../src/observe/log.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/postgres.ts'

const log = createLog('silent')

let empty: TestDatabase
let folder: string

beforeEach(async () => {
  empty = await createEmptyDatabase()
  folder = await mkdtemp(join(tmpdir(), 'beacon-migrations-'))
  await writeFile(join(folder, '0001_first.sql'), 'CREATE TABLE first (id integer PRIMARY KEY);')
  await writeFile(
    join(folder, '0002_second.sql'),
    'CREATE TABLE second (id integer PRIMARY KEY); INSERT INTO first VALUES (1);',
  )
})

afterEach(async () => {
  await empty.drop()
  await rm(folder, { recursive: true })
})

async function history(): Promise<string[]> {
  const { rows } = await empty.pool.query<{ name: string }>(
    'SELECT name FROM schema_migrations ORDER BY version',
  )
  return rows.map((row) => row.name)
}

async function refusal(promise: Promise<unknown>): Promise<MigrationError> {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  expect(error).toBeInstanceOf(MigrationError)
  return error as MigrationError
}

describe('migrate', () => {
  test('applies what is missing, in order, and nothing twice', async () => {
    expect(await migrate({ url: empty.url, log, folder })).toBe(2)
    expect(await migrate({ url: empty.url, log, folder })).toBe(0)
    await writeFile(join(folder, '0003_third.sql'), 'INSERT INTO first VALUES (2);')
    expect(await migrate({ url: empty.url, log, folder })).toBe(1)
    expect(await history()).toEqual(['first', 'second', 'third'])
    const { rows } = await empty.pool.query('SELECT id FROM first ORDER BY id')
    expect(rows).toEqual([{ id: 1 }, { id: 2 }])
  })

  test('lets several servers start at once', async () => {
    const counts = await Promise.all([1, 2, 3].map(() => migrate({ url: empty.url, log, folder })))
    expect(counts.sort()).toEqual([0, 0, 2])
    expect(await history()).toEqual(['first', 'second'])
  })

  test('applies a migration whole or not at all', async () => {
    await writeFile(join(folder, '0003_third.sql'), 'CREATE TABLE third (id integer); SELECT 1 / 0;')
    const error = await refusal(migrate({ url: empty.url, log, folder }))
    expect(error.message).toContain('0003_third.sql failed and was undone')
    expect(await history()).toEqual(['first', 'second'])
    const { rows } = await empty.pool.query("SELECT to_regclass('third') AS third")
    expect(rows).toEqual([{ third: null }])
  })

  test('refuses a migration that was changed after it was applied', async () => {
    await migrate({ url: empty.url, log, folder })
    await writeFile(join(folder, '0001_first.sql'), 'CREATE TABLE first (id bigint PRIMARY KEY);')
    const error = await refusal(migrate({ url: empty.url, log, folder }))
    expect(error.message).toContain('0001_first.sql is not what was applied')
  })

  test('takes line ends of another system for the same migration', async () => {
    await writeFile(join(folder, '0003_third.sql'), 'SELECT 1;\nSELECT 2;\n')
    await migrate({ url: empty.url, log, folder })
    await writeFile(join(folder, '0003_third.sql'), 'SELECT 1;\r\nSELECT 2;\r\n')
    expect(await migrate({ url: empty.url, log, folder })).toBe(0)
  })

  test('refuses a database that is newer than the program', async () => {
    const older = `${folder}-older`
    await cp(folder, older, { recursive: true })
    await writeFile(join(folder, '0003_third.sql'), 'SELECT 1;')
    await migrate({ url: empty.url, log, folder })
    const error = await refusal(migrate({ url: empty.url, log, folder: older }))
    expect(error.message).toContain('newer than this program')
    expect(error.message).toContain('0003_third.sql')
    await rm(older, { recursive: true })
  })

  test('refuses a gap in the numbers', async () => {
    await writeFile(join(folder, '0004_fourth.sql'), 'SELECT 1;')
    await expect(migrate({ url: empty.url, log, folder })).rejects.toThrow('where 3 was due')
  })
})
