import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { migrate } from '../../src/db/migrate.ts'
import { migrationsFolder } from '../../src/db/migration-files.ts'
import { createLog } from '../../src/observe/log.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/postgres.ts'

const OURS = `relnamespace = 'public'::regnamespace AND relname <> 'schema_migrations'`

/** Every kind of thing that a migration can make, each as one line of text per thing. */
const CATALOG = {
  relations: `
    SELECT concat_ws(' ', relname, relkind, relpersistence, pg_get_partkeydef(oid), reloptions::text, relrowsecurity) AS line
    FROM pg_class WHERE ${OURS} AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f')`,
  columns: `
    SELECT concat_ws(' ', relname, attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' END,
                     'default ' || pg_get_expr(adbin, adrelid), attidentity, attgenerated, attstorage, attcollation) AS line
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    WHERE ${OURS} AND relkind IN ('r', 'p', 'v', 'm') AND attnum > 0 AND NOT attisdropped`,
  constraints: `
    SELECT concat_ws(' ', relname, conname, pg_get_constraintdef(pg_constraint.oid), convalidated) AS line
    FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
    -- NOT NULL stands with the columns; PostgreSQL 18 lists it here, too, under names that outlast a renaming.
    WHERE ${OURS} AND contype <> 'n'`,
  indexes: `
    SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid, indisreplident) AS line
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE ${OURS}`,
  triggers: `
    SELECT concat_ws(' ', pg_get_triggerdef(pg_trigger.oid), tgenabled) AS line
    FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE ${OURS} AND NOT tgisinternal`,
  functions: `
    SELECT pg_get_functiondef(oid) AS line
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')`,
  views: `
    SELECT concat_ws(' ', relname, pg_get_viewdef(oid)) AS line FROM pg_class WHERE ${OURS} AND relkind IN ('v', 'm')`,
  types: `
    SELECT concat_ws(' ', typname, typtype, format_type(typbasetype, typtypmod),
                     (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid)) AS line
    FROM pg_type WHERE typnamespace = 'public'::regnamespace AND typtype IN ('e', 'd', 'r')`,
  extensions: `SELECT extname AS line FROM pg_extension`,
}

async function catalogOf(pool: pg.Pool): Promise<Record<string, string[]>> {
  const entries = Object.entries(CATALOG).map(async ([kind, text]) => {
    const { rows } = await pool.query<{ line: string }>(text)
    return [kind, rows.map((row) => row.line).sort()] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

let databases: TestDatabase[] = []

async function empty(): Promise<TestDatabase> {
  const made = await createEmptyDatabase()
  databases.push(made)
  return made
}

afterEach(async () => {
  for (const database of databases) await database.drop()
  databases = []
})

describe('migrations/schema.sql', () => {
  test('is what the migrations add up to', async () => {
    const migrated = await empty()
    await migrate({ url: migrated.url, log: createLog('silent') })
    const described = await empty()
    await described.pool.query(await readFile(join(migrationsFolder, 'schema.sql'), 'utf8'))
    expect(await catalogOf(described.pool)).toEqual(await catalogOf(migrated.pool))
  })

  test('would show any difference', async () => {
    const schema = await readFile(join(migrationsFolder, 'schema.sql'), 'utf8')
    const first = await empty()
    await first.pool.query(schema)
    const expected = await catalogOf(first.pool)
    for (const [kind, change] of [
      ['columns', "ALTER TABLE sites ALTER name SET DEFAULT 'x'"],
      ['constraints', 'ALTER TABLE sites ADD CHECK (length(name) < 100)'],
      ['indexes', 'CREATE INDEX ON robots (name)'],
      ['relations', 'ALTER TABLE robot_status SET (fillfactor = 71)'],
    ] as const) {
      await first.pool.query(change)
      expect((await catalogOf(first.pool))[kind]).not.toEqual(expected[kind])
    }
  })
})
