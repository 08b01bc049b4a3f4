import pg from 'pg'
import type { Log } from '../observe/log.ts'
import { type Migration, migrationsFolder, readMigrations } from './migration-files.ts'

/** The database cannot be brought to this program's schema; the message says why, for the person who starts it. */
export class MigrationError extends Error {
  constructor(message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'MigrationError'
  }
}

export interface MigrateOptions {
  readonly url: string
  readonly log: Log
  readonly folder?: string
}

/** "migrat" in ASCII: whoever holds this advisory lock may change the schema, and whose it is. */
export const MIGRATION_LOCK = 0x6d6967726174
const OLDEST_POSTGRES = 150_000

const CREATE_HISTORY = `
  CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
  )`

interface Applied {
  readonly version: number
  readonly name: string
  readonly sha256: string
}

/**
 * Brings the database forward to this program's schema. Several servers may do so at once: they wait for each other.
 * Answers how many migrations were applied.
 */
export async function migrate({ url, log, folder = migrationsFolder }: MigrateOptions): Promise<number> {
  const migrations = await readMigrations(folder)
  // A connection of its own: waiting for the lock and large migrations have no time limit.
  const connection = new pg.Client({ connectionString: url, application_name: 'beacon migrate' })
  connection.on('error', () => {})
  await connection.connect()
  try {
    await requireVersion(connection)
    await connection.query('SELECT pg_advisory_lock($1)', [MIGRATION_LOCK])
    return await applyMissing(connection, migrations, log)
  } finally {
    // The lock goes with the connection.
    await connection.end()
  }
}

async function requireVersion(connection: pg.Client): Promise<void> {
  const { rows } = await connection.query<{ number: number; text: string }>(
    "SELECT current_setting('server_version_num')::integer AS number, current_setting('server_version') AS text",
  )
  const found = rows[0]!
  if (found.number < OLDEST_POSTGRES)
    throw new MigrationError(`the database is PostgreSQL ${found.text}; Beacon needs 15 or newer`)
}

async function applyMissing(
  connection: pg.Client,
  migrations: readonly Migration[],
  log: Log,
): Promise<number> {
  await connection.query(CREATE_HISTORY)
  const { rows: applied } = await connection.query<Applied>(
    'SELECT version, name, sha256 FROM schema_migrations ORDER BY version',
  )
  requireSameHistory(applied, migrations)
  const missing = migrations.slice(applied.length)
  for (const migration of missing) {
    await apply(connection, migration)
    log.info({ version: migration.version, name: migration.name }, 'the database was migrated')
  }
  return missing.length
}

function fileOf({ version, name }: { version: number; name: string }): string {
  return `${String(version).padStart(4, '0')}_${name}.sql`
}

function requireSameHistory(applied: readonly Applied[], migrations: readonly Migration[]): void {
  for (const [index, entry] of applied.entries()) {
    const migration = migrations[index]
    if (!migration)
      throw new MigrationError(
        `the database is newer than this program: ${fileOf(applied.at(-1)!)} was applied to it, and this program ` +
          `knows ${migrations.length} migrations only. Start the newer program, or restore a backup made before it`,
      )
    if (migration.sha256 !== entry.sha256 || migration.version !== entry.version)
      throw new MigrationError(
        `${fileOf(migration)} is not what was applied to the database as ${fileOf(entry)}: migrations are ` +
          'never changed afterwards. Restore the file, and put the change into a new migration',
      )
  }
}

async function apply(connection: pg.Client, migration: Migration): Promise<void> {
  try {
    await connection.query('BEGIN')
    await connection.query(migration.sql)
    await connection.query('INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)', [
      migration.version,
      migration.name,
      migration.sha256,
    ])
    await connection.query('COMMIT')
  } catch (cause) {
    await connection.query('ROLLBACK').catch(() => {})
    throw new MigrationError(`${fileOf(migration)} failed and was undone: ${(cause as Error).message}`, cause)
  }
}
