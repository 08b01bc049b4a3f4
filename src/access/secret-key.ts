import { link, mkdir, open, readFile, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Random } from '../runtime.ts'

/** The name of the file in the data folder. */
const FILE = 'secret.key'

async function readKey(path: string): Promise<Buffer | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  if (!/^[0-9a-f]{64}\n?$/.test(text)) throw new Error(`${path} does not hold 32 bytes in hex`)
  return Buffer.from(text.trim(), 'hex')
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/**
 * Reads the 32-byte key in `<dataDir>/secret.key`, or makes one there, readable by its owner alone. The file appears
 * whole or not at all, and of several servers that start together all get the same key.
 */
export async function readOrMakeSecretKey(dataDir: string, random: Random): Promise<Buffer> {
  const path = join(dataDir, FILE)
  const there = await readKey(path)
  if (there) return there
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  const temporary = `${path}.${random.bytes(8).toString('hex')}`
  try {
    const handle = await open(temporary, 'wx', 0o600)
    try {
      await handle.writeFile(`${random.bytes(32).toString('hex')}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    // link, unlike rename, does not replace the key of a server that was faster.
    await link(temporary, path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
    await sync(dataDir)
  } finally {
    await unlink(temporary).catch(() => {})
  }
  const made = await readKey(path)
  if (!made) throw new Error(`${path} is gone again`)
  return made
}
