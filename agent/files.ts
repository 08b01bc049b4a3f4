import {
  closeSync,
  copyFileSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** Makes the folder for its owner alone, when it is not there yet. */
export function makeFolder(path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/**
 * Replaces a file whole or not at all, also when the power goes: the new content is on the disk before it takes the
 * name, and `backup`, when given, keeps the content that was there.
 */
export function replaceFile(path: string, content: string, backup?: string): void {
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

function writeSynced(path: string, content: string): void {
  rmSync(path, { force: true })
  const file = openSync(path, 'wx', 0o600)
  try {
    writeSync(file, content)
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
    copyFileSync(path, fresh)
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
