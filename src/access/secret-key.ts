import { readFileSync, statSync } from 'node:fs'
import { link, mkdir, open, readFile, rename, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { Random } from '../runtime.ts'

/** 32 bytes each. */
export interface SecretKeys {
  /** The one that seals. */
  readonly current: Buffer
  /** These only open what they sealed. */
  readonly older: readonly Buffer[]
}

/** The keys that a server seals and opens with. */
export interface Keyring {
  /** The keys at this moment: the same object for as long as they are the same. */
  keys(): SecretKeys
  /** Undefined where the settings give the key: then only they can give another. */
  readonly file: KeyFile | undefined
}

/** The name of the file in the data folder. */
const FILE = 'secret.key'
/** Rotations that keep the old key, or fail again and again, must not make the file grow for ever. */
const MAX_KEYS = 16

/** One key in hex on each line: the first seals, the others open. */
function parse(path: string, text: string): readonly Buffer[] {
  if (!/^[0-9a-f]{64}(\n[0-9a-f]{64})*\n?$/.test(text))
    throw new Error(`${path} does not hold 32 bytes in hex`)
  const keys = text.trimEnd().split('\n')
  return keys.map((key) => Buffer.from(key, 'hex'))
}

const format = (keys: readonly Buffer[]) => keys.map((key) => `${key.toString('hex')}\n`).join('')

async function readKeys(path: string): Promise<readonly Buffer[] | undefined> {
  try {
    return parse(path, await readFile(path, 'utf8'))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

async function sync(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Lays the text down on the disk under a name of its own, lets `place` put it where it belongs, and leaves nothing else. */
async function write(
  path: string,
  text: string,
  random: Random,
  place: (draft: string) => Promise<void>,
): Promise<void> {
  const draft = `${path}.${random.bytes(8).toString('hex')}`
  try {
    const handle = await open(draft, 'wx', 0o600)
    try {
      await handle.writeFile(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await place(draft)
    await sync(join(path, '..'))
  } finally {
    await unlink(draft).catch(() => {})
  }
}

/**
 * The keys in `<dataDir>/secret.key`. Servers that share the folder share the file: each looks whether it was replaced
 * whenever it needs a key. Whoever changes it has to hold off everybody else who does.
 */
export class KeyFile {
  readonly path: string
  readonly #random: Random
  #keys: readonly Buffer[]
  #seen = ''

  private constructor(path: string, keys: readonly Buffer[], random: Random) {
    this.path = path
    this.#keys = keys
    this.#random = random
  }

  /**
   * Reads the file, or makes one with a new key, readable by its owner alone. It appears whole or not at all, and of
   * several servers that start together all get the same key.
   */
  static async open(dataDir: string, random: Random): Promise<KeyFile> {
    const path = join(dataDir, FILE)
    const there = await readKeys(path)
    if (there) return new KeyFile(path, there, random)
    await mkdir(dataDir, { recursive: true, mode: 0o700 })
    await write(path, format([random.bytes(32)]), random, async (draft) => {
      // link, unlike rename, does not replace the key of a server that was faster.
      await link(draft, path).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error
      })
    })
    const made = await readKeys(path)
    if (!made) throw new Error(`${path} is gone again`)
    return new KeyFile(path, made, random)
  }

  /** What the file holds, or held when it could last be read. The same array for as long as it is the same file. */
  keys(): readonly Buffer[] {
    try {
      const { ino, mtimeNs, size } = statSync(this.path, { bigint: true })
      const seen = `${ino} ${mtimeNs} ${size}`
      if (seen === this.#seen) return this.#keys
      const keys = parse(this.path, readFileSync(this.path, 'utf8'))
      this.#seen = seen
      if (format(keys) !== format(this.#keys)) this.#keys = keys
    } catch {
      // Gone or spoilt: what was read before goes on opening.
    }
    return this.#keys
  }

  /** Whether one has to go before another comes. */
  get isFull(): boolean {
    return this.keys().length >= MAX_KEYS
  }

  /** Puts a new key before all others. */
  async add(): Promise<void> {
    const keys = await this.#read()
    if (keys.length >= MAX_KEYS) throw new Error(`${this.path} holds ${keys.length} keys already`)
    await this.#replace([this.#random.bytes(32), ...keys])
  }

  /** Takes keys away. The one that seals stays, whatever is asked. */
  async remove(which: (key: Buffer) => boolean): Promise<void> {
    const [current, ...older] = await this.#read()
    await this.#replace([current!, ...older.filter((key) => !which(key))])
  }

  async #read(): Promise<readonly Buffer[]> {
    const keys = await readKeys(this.path)
    if (!keys) throw new Error(`${this.path} is gone`)
    return keys
  }

  async #replace(keys: readonly Buffer[]): Promise<void> {
    await write(this.path, format(keys), this.#random, (draft) => rename(draft, this.path))
  }
}

/** The keys that the settings give: one that seals, and others that open. */
export function settingsKeyring(current: Buffer, older: readonly Buffer[]): Keyring {
  const keys = { current, older: older.filter((key) => !key.equals(current)) }
  return { keys: () => keys, file: undefined }
}

/** The keys in the data folder; the settings may give others that open. */
export async function fileKeyring(
  dataDir: string,
  random: Random,
  older: readonly Buffer[],
): Promise<Keyring & { readonly file: KeyFile }> {
  const file = await KeyFile.open(dataDir, random)
  let from: readonly Buffer[] = []
  let keys: SecretKeys | undefined
  return {
    file,
    keys() {
      const inFile = file.keys()
      if (keys && inFile === from) return keys
      from = inFile
      const [current, ...others] = inFile
      const given = older.filter((key) => !inFile.some((known) => known.equals(key)))
      keys = { current: current!, older: [...others, ...given] }
      return keys
    },
  }
}
