import {
  closeSync,
  fdatasync,
  fdatasyncSync,
  fsync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { makeFolder } from '../files.ts'

/** What a ring needs of a disk. All but `sync` throw as node:fs does. */
export interface Disk {
  makeFolder(path: string): void
  list(folder: string): string[]
  /** Makes a new file for its owner alone; it must not be there yet. */
  create(path: string): number
  /** Opens a file of ours to write on at its end. */
  reopen(path: string): number
  /** Opens for reading; of a folder, to sync it. */
  open(path: string): number
  /** Writes all of it at the end, or throws. */
  append(descriptor: number, bytes: Buffer): void
  truncate(descriptor: number, size: number): void
  /** As many bytes as there are, up to `length`. */
  readAt(descriptor: number, at: number, length: number): Buffer
  /** Off the main thread: a card may take seconds. */
  sync(descriptor: number, isFolder: boolean): Promise<void>
  syncNow(descriptor: number, isFolder: boolean): void
  close(descriptor: number): void
  remove(path: string): void
}

export const systemDisk: Disk = {
  makeFolder,
  list: (folder) => readdirSync(folder),
  create: (path) => openSync(path, 'ax', 0o600),
  reopen: (path) => openSync(path, 'a'),
  open: (path) => openSync(path, 'r'),
  append(descriptor, bytes) {
    for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done)
  },
  truncate: (descriptor, size) => ftruncateSync(descriptor, size),
  readAt(descriptor, at, length) {
    const bytes = Buffer.alloc(length)
    let done = 0
    while (done < length) {
      const count = readSync(descriptor, bytes, done, length - done, at + done)
      if (count === 0) break
      done += count
    }
    return bytes.subarray(0, done)
  },
  sync: (descriptor, isFolder) =>
    new Promise((resolve, reject) => {
      const synced = isFolder ? fsync : fdatasync
      synced(descriptor, (error) => (error && !isUnsyncable(error, isFolder) ? reject(error) : resolve()))
    }),
  syncNow(descriptor, isFolder) {
    try {
      if (isFolder) fsyncSync(descriptor)
      else fdatasyncSync(descriptor)
    } catch (error) {
      if (!isUnsyncable(error, isFolder)) throw error
    }
  },
  close: (descriptor) => closeSync(descriptor),
  remove: (path) => rmSync(path, { force: true }),
}

/** Not every file system lets a folder be synced; those that do are the ones that need it. */
function isUnsyncable(error: unknown, isFolder: boolean): boolean {
  return (
    isFolder && ['EINVAL', 'EPERM', 'ENOTSUP', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')
  )
}
