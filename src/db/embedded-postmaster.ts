import { execFile, spawn } from 'node:child_process'
import { chown, link, open, readFile, rename, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Clock, Random } from '../runtime.ts'
import type { Binaries } from './embedded-binaries.ts'
import { EmbeddedPostgresError } from './embedded-error.ts'
import { type EmbeddedFolder, restoreSocketFolder } from './embedded-folder.ts'
import { isNumberTaken, isPostmaster, sendSignal } from './embedded-process.ts'

const run = promisify(execFile)

/** The superuser of our private cluster. */
export const SUPERUSER = 'beacon'
const MAX_LOG_BYTES = 16 * 1024 * 1024
const FAST_SHUTDOWN_MS = 20_000
const IMMEDIATE_SHUTDOWN_MS = 10_000
const POLL_MS = 25

export type Settings = Readonly<Record<string, string>>

function identity(folder: EmbeddedFolder) {
  return folder.user ? { uid: folder.user.uid, gid: folder.user.gid } : {}
}

/** Nothing of our own environment, which may hold secrets, reaches PostgreSQL. */
const ENVIRONMENT = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** Makes the cluster if there is none: whole or not at all, however many servers try at once. */
export async function ensureCluster(
  folder: EmbeddedFolder,
  binaries: Binaries,
  settings: Settings,
  random: Random,
): Promise<void> {
  if (!(await exists(folder.cluster))) await initialise(folder, binaries, settings, random)
  const found = (await readFile(join(folder.cluster, 'PG_VERSION'), 'utf8')).trim()
  if (found !== binaries.majorVersion)
    throw new EmbeddedPostgresError(
      `${folder.cluster} was made by PostgreSQL ${found}, and this program brings PostgreSQL ${binaries.majorVersion}: ` +
        'carry the data over with pg_dump and pg_restore, or set BEACON_DATABASE_URL to a server of your own',
    )
}

async function initialise(
  folder: EmbeddedFolder,
  binaries: Binaries,
  settings: Settings,
  random: Random,
): Promise<void> {
  const draft = `${folder.cluster}.new-${random.bytes(8).toString('hex')}`
  const passwordFile = `${draft}.password`
  try {
    await writeFile(passwordFile, folder.password, { mode: 0o600, flag: 'wx' })
    if (folder.user) await chown(passwordFile, folder.user.uid, folder.user.gid)
    await run(
      binaries.initdb,
      [
        ...['--pgdata', draft, '--username', SUPERUSER, '--pwfile', passwordFile],
        ...['--auth', 'scram-sha-256', '--encoding', 'UTF8', '--locale', 'C', '--no-instructions'],
        // The same order and case rules on every machine, whatever locales it has.
        ...['--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
        ...(settings.fsync === 'off' ? ['--no-sync'] : []),
      ],
      { cwd: '/', env: ENVIRONMENT, ...identity(folder) },
    )
    await rename(draft, folder.cluster).catch((error: NodeJS.ErrnoException) => {
      // Another server was quicker.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  } catch (cause) {
    if (await exists(folder.cluster)) return
    const { stderr, message } = cause as { stderr?: string; message: string }
    throw new EmbeddedPostgresError(`initdb failed in ${folder.home}: ${stderr?.trim() || message}`, cause)
  } finally {
    await rm(passwordFile, { force: true })
    await rm(draft, { recursive: true, force: true })
  }
}

async function readPidFile(cluster: string): Promise<{ pid: number; content: string } | undefined> {
  try {
    const content = await readFile(join(cluster, 'postmaster.pid'), 'utf8')
    const pid = Number.parseInt(content, 10)
    return pid > 0 ? { pid, content } : undefined
  } catch {
    return undefined
  }
}

/** The process id of the postmaster that runs this cluster, whoever started it. */
export async function findPostmaster(folder: EmbeddedFolder): Promise<number | undefined> {
  const found = await readPidFile(folder.cluster)
  return found && (await isPostmaster(found.pid, folder.cluster)) ? found.pid : undefined
}

/**
 * After a restart of the machine or container, the number in a dead postmaster's pid file may belong to another
 * process, and PostgreSQL would refuse to start for as long as that one lives. Our own number put in its place tells
 * PostgreSQL that the file is stale (it knows its parent), while the rest of the file, by which it finds left-over
 * backends, stays. Every step is atomic, so that a postmaster that another server starts meanwhile keeps its file.
 */
async function disownStalePidFile(folder: EmbeddedFolder): Promise<void> {
  const stale = await readPidFile(folder.cluster)
  if (!stale || !isNumberTaken(stale.pid) || (await isPostmaster(stale.pid, folder.cluster))) return
  const path = join(folder.cluster, 'postmaster.pid')
  const aside = `${path}.${process.pid}`
  try {
    await rename(path, aside)
    if ((await readFile(aside, 'utf8')) === stale.content) {
      await writeFile(aside, stale.content.replace(/^\d+/, String(process.pid)))
      await rm(join(folder.sockets, '.s.PGSQL.5432.lock'), { force: true })
    }
    await link(aside, path)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error
  } finally {
    await rm(aside, { force: true })
  }
}

/** Keeps one older log, and the current one from growing for ever: PostgreSQL appends to a file that it inherited. */
export async function trimLog(folder: EmbeddedFolder): Promise<void> {
  const size = await stat(folder.log).then(
    (found) => found.size,
    () => 0,
  )
  if (size <= MAX_LOG_BYTES) return
  await writeFile(`${folder.log}.1`, await readFile(folder.log), { mode: 0o600 })
  await truncate(folder.log)
}

/** A postmaster that we started. */
export interface StartedPostmaster {
  /** Undefined when it could not even be started. */
  readonly pid: number | undefined
  /** Its exit code, its signal, or the reason why it could not be started; undefined while it runs. */
  ended(): string | undefined
  /** Where its own words begin in the log. */
  readonly logOffset: number
}

function quotedDirectory(path: string): string {
  return `"${path.replaceAll('"', '""')}"`
}

/**
 * Starts a postmaster that outlives us: its own process group, so that Ctrl-C in a terminal reaches only the server,
 * which then drains and stops it; and a file as its log, because a pipe would end with us.
 */
export async function startPostmaster(
  folder: EmbeddedFolder,
  binaries: Binaries,
  settings: Settings,
): Promise<StartedPostmaster> {
  await restoreSocketFolder(folder)
  await disownStalePidFile(folder)
  const all: Settings = {
    listen_addresses: '',
    unix_socket_directories: quotedDirectory(folder.sockets),
    unix_socket_permissions: '0700',
    cluster_name: 'beacon',
    timezone: 'UTC',
    log_timezone: 'UTC',
    log_checkpoints: 'off',
    logging_collector: 'off',
    ...settings,
  }
  const log = await open(folder.log, 'a', 0o600)
  try {
    const { size } = await log.stat()
    const child = spawn(
      binaries.postgres,
      ['-D', folder.cluster, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      { cwd: '/', env: ENVIRONMENT, detached: true, stdio: ['ignore', log.fd, log.fd], ...identity(folder) },
    )
    child.unref()
    let ended: string | undefined
    child.once('exit', (code, signal) => {
      ended = signal ? `signal ${signal}` : `exit code ${code}`
    })
    child.once('error', (error) => {
      ended = error.message
    })
    return { pid: child.pid, ended: () => ended, logOffset: size }
  } finally {
    await log.close()
  }
}

/** What PostgreSQL itself said about why it ended, or undefined. */
export async function lastWords(folder: EmbeddedFolder, offset: number): Promise<string | undefined> {
  const log = await readFile(folder.log).catch(() => Buffer.alloc(0))
  const lines = log.subarray(offset).toString('utf8').split('\n')
  return lines.findLast((line) => /FATAL|PANIC|could not|error/.test(line))
}

/**
 * Ends a postmaster, whoever started it, and comes back when it is gone. Fast first: open transactions are rolled back
 * and everything is written; should that hang, at once, and PostgreSQL recovers at its next start.
 */
export async function stopPostmaster(
  folder: EmbeddedFolder,
  pid: number,
  clock: Clock,
  onEscalation: (signal: NodeJS.Signals) => void,
): Promise<void> {
  const steps = [
    { signal: 'SIGINT', patienceMs: FAST_SHUTDOWN_MS },
    { signal: 'SIGQUIT', patienceMs: IMMEDIATE_SHUTDOWN_MS },
    { signal: 'SIGKILL', patienceMs: Number.POSITIVE_INFINITY },
  ] as const
  for (const { signal, patienceMs } of steps) {
    if (signal !== 'SIGINT') onEscalation(signal)
    sendSignal(pid, signal)
    const begun = clock.monotonic()
    while (clock.monotonic() - begun < patienceMs) {
      if (!(await isPostmaster(pid, folder.cluster))) return
      await clock.sleep(POLL_MS)
    }
  }
}
