import pg from 'pg'
import type { EmbeddedFolder } from './embedded-folder.ts'
import { SUPERUSER } from './embedded-postmaster.ts'

/** "beacon" in ASCII: the advisory lock that says whose data folder this is. */
const OWNER_LOCK = 0x626561636f6e
const CONNECT_TIMEOUT_MS = 5_000

/** A libpq address of one database, over the private socket, whatever PGSSLMODE the environment asks for. */
export function socketUrl(folder: Pick<EmbeddedFolder, 'sockets' | 'password'>, database: string): string {
  const host = encodeURIComponent(folder.sockets)
  return `postgresql://${SUPERUSER}:${folder.password}@/${database}?host=${host}&sslmode=disable`
}

/** The lock is ours for as long as its connection stands. */
export interface Ownership {
  readonly ended: Promise<void>
  /** How many connections this PostgreSQL allows: whoever started it may have wanted fewer. */
  readonly maxConnections: number
  release(): Promise<void>
}

export type OwnerAttempt =
  | { readonly outcome: 'owner'; readonly ownership: Ownership }
  /** Another server holds the lock. */
  | { readonly outcome: 'taken'; readonly holder: number | undefined }
  /** Nobody listens on the socket. */
  | { readonly outcome: 'absent' }
  /** PostgreSQL starts, stops or is too busy: worth another try. */
  | { readonly outcome: 'not_yet'; readonly error: Error }
  /** It will not get better by itself. */
  | { readonly outcome: 'refused'; readonly error: Error }

/** Connects and tries to become the data folder's owner; never waits for the lock. */
export async function tryOwn(folder: EmbeddedFolder): Promise<OwnerAttempt> {
  const connection = new pg.Client({
    connectionString: socketUrl(folder, 'postgres'),
    application_name: `beacon server ${process.pid}`,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: CONNECT_TIMEOUT_MS,
  })
  // Without a listener, the end of an idle connection would end the process.
  connection.on('error', () => {})
  const ended = new Promise<void>((resolve) => connection.once('end', resolve))
  try {
    await connection.connect()
    const { rows } = await connection.query<{ locked: boolean; connections: number }>(
      `SELECT pg_try_advisory_lock($1) AS locked, current_setting('max_connections')::integer AS connections`,
      [OWNER_LOCK],
    )
    if (rows[0]?.locked) {
      await ensureDatabase(connection)
      const maxConnections = rows[0].connections
      return { outcome: 'owner', ownership: { ended, maxConnections, release: () => connection.end() } }
    }
    const holder = await findHolder(connection)
    await connection.end()
    // Let go between the two questions, as by a server that was just killed.
    if (holder === undefined) return { outcome: 'not_yet', error: new Error('the lock has just been let go') }
    return { outcome: 'taken', holder: holder.pid }
  } catch (cause) {
    await connection.end().catch(() => {})
    return classify(cause as Error)
  }
}

function classify(error: Error): OwnerAttempt {
  const code = (error as { code?: unknown }).code
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return { outcome: 'absent' }
  if (code === '28P01' || code === '28000' || code === 'EACCES') return { outcome: 'refused', error }
  return { outcome: 'not_yet', error }
}

/** Who holds the lock, if anybody still does; without a number when it is nobody that we know. */
async function findHolder(connection: pg.Client): Promise<{ pid: number | undefined } | undefined> {
  const { rows } = await connection.query<{ application_name: string }>(
    `SELECT activity.application_name
       FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
      WHERE locktype = 'advisory' AND granted AND objsubid = 1
        AND (classid::bigint << 32 | objid::bigint) = $1`,
    [OWNER_LOCK],
  )
  if (!rows[0]) return undefined
  const pid = /^beacon server (\d+)$/.exec(rows[0].application_name)?.[1]
  return { pid: pid === undefined ? undefined : Number(pid) }
}

async function ensureDatabase(connection: pg.Client): Promise<void> {
  const { rowCount } = await connection.query("SELECT 1 FROM pg_database WHERE datname = 'beacon'")
  if (rowCount === 0) await connection.query('CREATE DATABASE beacon')
}
