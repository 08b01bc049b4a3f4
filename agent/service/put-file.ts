import { randomBytes } from 'node:crypto'
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/**
 * Writes a file whole or not at all. It belongs to whoever owns its folder, for root writes into the service's, too; a link
 * that lies in its place is replaced and not followed.
 */
export function putFile(path: string, content: string, mode: number): void {
  const folder = statSync(dirname(path))
  const fresh = `${path}.${randomBytes(6).toString('hex')}.tmp`
  const file = openSync(fresh, 'wx', 0o600)
  try {
    try {
      const bytes = Buffer.from(content)
      for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done)
      const own = process.geteuid?.()
      if (own === 0 && folder.uid !== own) fchownSync(file, folder.uid, folder.gid)
      fchmodSync(file, mode)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(fresh, path)
  } catch (error) {
    rmSync(fresh, { force: true })
    throw error
  }
}
