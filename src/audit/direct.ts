import { ConfigError, readDatabaseSettings } from '../config.ts'
import { isDatabaseUnavailable, openDatabase, openPool } from '../db/database.ts'
import { EmbeddedPostgresError } from '../db/embedded-error.ts'
import { runningEmbeddedUrl } from '../db/embedded-url.ts'
import { type Link, type Verification, verifyAudit } from './verify.ts'

export type { Link, Verification } from './verify.ts'

/** The database cannot be looked at; the message says why, for the person who asked. */
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

/** Verifies the log in the database that a server with this environment would use, without asking any server. */
export async function verifyDirectly(
  env: Readonly<Record<string, string | undefined>>,
  noted: Link | undefined,
): Promise<Verification> {
  const url = await findDatabase(env)
  const pool = openPool({
    url,
    name: 'beacon audit verify',
    maxConnections: 1,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    onIdleError: () => {},
  })
  try {
    return await verifyAudit(openDatabase(pool), { noted })
  } catch (cause) {
    const { message } = cause as Error
    throw new DirectError(`the database cannot be read: ${message}`, isDatabaseUnavailable(cause), cause)
  } finally {
    await pool.end()
  }
}

async function findDatabase(env: Readonly<Record<string, string | undefined>>): Promise<string> {
  try {
    const { databaseUrl, dataDir } = readDatabaseSettings({ ...env })
    return databaseUrl ?? (await runningEmbeddedUrl(dataDir))
  } catch (cause) {
    if (cause instanceof ConfigError || cause instanceof EmbeddedPostgresError)
      throw new DirectError(cause.message, cause instanceof EmbeddedPostgresError, cause)
    throw cause
  }
}
