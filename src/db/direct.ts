import { ConfigError, readDatabaseSettings } from '../config.ts'
import { type Database, isDatabaseUnavailable, openDatabase, openPool } from './database.ts'
import { EmbeddedPostgresError } from './embedded-error.ts'
import { runningEmbeddedUrl } from './embedded-url.ts'

/** The database cannot be worked on; the message says why, for the person who asked. */
export class DirectError extends Error {
  /** It may be there later. */
  readonly away: boolean
  constructor(message: string, away: boolean, cause?: unknown) {
    super(message, { cause })
    this.name = 'DirectError'
    this.away = away
  }
}

const STATEMENT_TIMEOUT_MS = 60_000

type Environment = Readonly<Record<string, string | undefined>>

/**
 * Does the work in the database that a server with this environment would use, without asking any server; `name` is who
 * that database sees. Throws DirectError.
 */
export async function withDirectDatabase<Result>(
  env: Environment,
  name: string,
  work: (database: Database) => Promise<Result>,
): Promise<Result> {
  const pool = openPool({
    url: await findDatabase(env),
    name,
    maxConnections: 1,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    onIdleError: () => {},
  })
  try {
    return await work(openDatabase(pool))
  } catch (cause) {
    const { message } = cause as Error
    throw new DirectError(`the database refused: ${message}`, isDatabaseUnavailable(cause), cause)
  } finally {
    await pool.end()
  }
}

async function findDatabase(env: Environment): Promise<string> {
  try {
    const { databaseUrl, dataDir } = readDatabaseSettings({ ...env })
    return databaseUrl ?? (await runningEmbeddedUrl(dataDir))
  } catch (cause) {
    if (cause instanceof ConfigError || cause instanceof EmbeddedPostgresError)
      throw new DirectError(cause.message, cause instanceof EmbeddedPostgresError, cause)
    throw cause
  }
}
