import { chown, link, lstat, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import type { Random } from '../runtime.ts'
import { EmbeddedPostgresError } from './embedded-error.ts'
import { allowPassage, findServerUser, requirePassage, type ServerUser } from './embedded-user.ts'

/** What of the data folder belongs to PostgreSQL. */
export interface EmbeddedFolder {
  /** The data folder, without symbolic links. */
  readonly dataDir: string
  /** Everything PostgreSQL itself may write; owned by its user. */
  readonly home: string
  /** PGDATA. */
  readonly cluster: string
  readonly log: string
  readonly sockets: string
  readonly password: string
  readonly user: ServerUser | undefined
}

/** The kernel's limit is 107 bytes on Linux and 103 on macOS. */
const MAX_SOCKET_PATH_BYTES = 90
const SOCKET_NAME = '.s.PGSQL.5432'

function isShortEnough(folder: string): boolean {
  return Buffer.byteLength(join(folder, SOCKET_NAME)) <= MAX_SOCKET_PATH_BYTES
}

/**
 * Writes the file unless it exists, and answers what it holds afterwards. Of several servers that start at once, one
 * writes and all read the same; nobody sees half a file.
 */
async function keepOnce(path: string, content: string, unique: string): Promise<string> {
  const draft = `${path}.${unique}`
  await writeFile(draft, content, { mode: 0o600, flag: 'wx' })
  try {
    await link(draft, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await rm(draft)
  }
  return readFile(path, 'utf8')
}

async function makeOwned(folder: string, user: ServerUser | undefined): Promise<void> {
  await mkdir(folder, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw error
  })
  if (user) await chown(folder, user.uid, user.gid)
}

/** The folder exists and nobody else can have put a socket of their own into it. */
async function isOurs(folder: string, user: ServerUser | undefined): Promise<boolean> {
  try {
    const found = await lstat(folder)
    return (
      found.isDirectory() && found.uid === (user?.uid ?? process.getuid?.()) && (found.mode & 0o077) === 0
    )
  } catch {
    return false
  }
}

async function makeTemporary(user: ServerUser | undefined): Promise<string> {
  const parent = [tmpdir(), '/tmp'].find((folder) => isShortEnough(join(folder, 'beacon-postgres-XXXXXX')))
  const folder = await mkdtemp(join(parent ?? '/tmp', 'beacon-postgres-'))
  if (user) {
    requirePassage(folder, user)
    await chown(folder, user.uid, user.gid)
  }
  return folder
}

/**
 * Where the socket goes: into the data folder, or, when its path is too long for a socket, into a temporary folder whose
 * name is written down, so that a second server finds the first one.
 */
async function findSocketFolder(home: string, user: ServerUser | undefined, unique: string): Promise<string> {
  const inside = join(home, 'run')
  if (isShortEnough(inside)) {
    await makeOwned(inside, user)
    return inside
  }
  const note = join(home, 'socket-folder')
  const noted = await readFile(note, 'utf8').catch(() => undefined)
  if (noted !== undefined) {
    if (await isOurs(noted, user)) return noted
    await rm(note)
  }
  const made = await makeTemporary(user)
  const kept = await keepOnce(note, made, unique)
  if (kept !== made) await rm(made, { recursive: true })
  return kept
}

/** Removes the temporary socket folder, if there is one; PostgreSQL has to be gone. */
export async function releaseSocketFolder(folder: EmbeddedFolder): Promise<void> {
  if (folder.sockets.startsWith(folder.home)) return
  await rm(join(folder.home, 'socket-folder'), { force: true })
  await rm(folder.sockets, { recursive: true, force: true })
}

/** Makes sure that the socket folder is still there: temporary folders get cleaned up by others. */
export async function restoreSocketFolder(folder: EmbeddedFolder): Promise<void> {
  await makeOwned(folder.sockets, folder.user)
}

/** Makes the folders and the password, and sees to it that the user PostgreSQL runs as can reach them. */
export async function prepareFolder(givenDataDir: string, random: Random): Promise<EmbeddedFolder> {
  // Folders above ours are made as any others are; PostgreSQL's user has to pass through them.
  await mkdir(dirname(resolve(givenDataDir)), { recursive: true })
  await mkdir(givenDataDir, { recursive: true, mode: 0o700 })
  const dataDir = await realpath(givenDataDir)
  const user = findServerUser()
  if (user) {
    requirePassage(dataDir, user)
    allowPassage(dataDir)
  }
  const home = join(dataDir, 'postgres')
  await makeOwned(home, user)
  const unique = random.bytes(8).toString('hex')
  const password = await keepOnce(
    join(dataDir, 'postgres-password'),
    random.bytes(32).toString('hex'),
    unique,
  ).catch((cause: unknown) => {
    throw new EmbeddedPostgresError(`cannot keep the database's password in ${dataDir}: ${cause}`, cause)
  })
  return {
    dataDir,
    home,
    cluster: join(home, 'data'),
    log: join(home, 'postgres.log'),
    sockets: await findSocketFolder(home, user, unique),
    password,
    user,
  }
}
