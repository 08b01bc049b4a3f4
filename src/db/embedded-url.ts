import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { EmbeddedPostgresError } from './embedded-error.ts'
import { socketUrl } from './embedded-owner.ts'

/** The address of the PostgreSQL that a server runs in this data folder; nothing is made or changed. */
export async function runningEmbeddedUrl(dataDir: string): Promise<string> {
  try {
    const password = (await readFile(join(dataDir, 'postgres-password'), 'utf8')).trim()
    const home = join(dataDir, 'postgres')
    const sockets = await readFile(join(home, 'socket-folder'), 'utf8').catch(() => join(home, 'run'))
    await stat(join(sockets, '.s.PGSQL.5432'))
    return socketUrl({ sockets, password }, 'beacon')
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `no server runs a PostgreSQL of its own in ${dataDir}, or it is not yours to read ` +
        `(${(cause as NodeJS.ErrnoException).code}): set BEACON_DATABASE_URL or BEACON_DATA_DIR`,
      cause,
    )
  }
}
