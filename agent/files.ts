import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describeError } from './text.ts'

/** Makes the folder for its owner alone, when it is not there yet. */
export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/**
 * Replaces a file whole or not at all, also when the power goes: the new content is on the disk before it takes the
 * name, and `backup`, when given, keeps the content that was there.
 */
export function replaceFile(path: string, content: string | Buffer, backup?: string): void {
  const fresh = `${path}.${process.pid}.tmp`
  makeFolder(dirname(path))
  try {
    writeSynced(fresh, content)
    if (backup) keepCopy(path, backup)
    renameSync(fresh, path)
  } catch (error) {
    rmSync(fresh, { force: true })
    throw error
  }
  syncFolder(dirname(path))
}

/** What the names of an identity's files, besides agent.toml itself, end with. Only these: an agent.toml.two is another's. */
export const ENDINGS = ['bak', 'damaged', 'seq', 'seq.bak', 'session', 'clock', 'faults', 'events'] as const

/** What a file is written to before it takes its name, without the beginning. */
export function isTemporary(ending: string): boolean {
  const [, of] = /^(?:(.+)\.)?\d+\.tmp$/.exec(ending) ?? [undefined, 'none']
  return of === undefined || ENDINGS.some((one) => one === of)
}

/** Removes what a process that was killed while it replaced a file of this `stem` left. Nobody else may be at it now. */
export function removeLeftovers(folder: string, stem: string): void {
  for (const name of namesIn(folder))
    if (name.startsWith(`${stem}.`) && isTemporary(name.slice(stem.length + 1)))
      rmSync(join(folder, name), { force: true })
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

/** Why a file or folder cannot be read or written, for a person. */
export function describeFileError(path: string, error: unknown): string {
  const { code } = error as NodeJS.ErrnoException
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return `this user may not (${code}${ownersOf(path)})`
    case 'EROFS':
      return 'its file system is read-only (EROFS); one that became so by itself has found an error on the disk: see dmesg'
    case 'ENOSPC':
    case 'EDQUOT':
      return `there is no room left on the disk (${code})`
    default:
      return describeError(error)
  }
}

function ownersOf(path: string): string {
  const own = process.geteuid?.()
  try {
    const { uid } = statSync(path)
    if (own !== undefined && own !== uid) return `; it belongs to user ${uid}, and this runs as user ${own}`
  } catch {
    // Then nothing more can be said.
  }
  return ''
}

function writeSynced(path: string, content: string | Buffer): void {
  rmSync(path, { force: true })
  const file = openSync(path, 'wx', 0o600)
  try {
    const bytes = Buffer.from(content as string)
    // A disk that fills up takes a part, and says so only when it is asked to take the rest.
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}

/** The name `path` must never be without a file, so the copy is a second name for it, not a move. */
function keepCopy(path: string, backup: string): void {
  const fresh = `${backup}.${process.pid}.tmp`
  rmSync(fresh, { force: true })
  try {
    linkSync(path, fresh)
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT') return
    // Some file systems know no hard links.
    writeSynced(fresh, readFileSync(path))
  }
  renameSync(fresh, backup)
}

function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } catch (error) {
    // Not every file system lets a folder be synced; those that do are the ones that need it.
    if (!['EINVAL', 'EPERM', 'ENOTSUP', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? ''))
      throw error
  } finally {
    closeSync(folder)
  }
}
