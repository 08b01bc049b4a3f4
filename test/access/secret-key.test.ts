import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createKeyringSeal, SealError } from '../../src/access/seal.ts'
import { fileKeyring, KeyFile, settingsKeyring } from '../../src/access/secret-key.ts'
import { ConfigError, readConfig } from '../../src/config.ts'
import { systemRandom } from '../../src/runtime.ts'

let folder = ''
let path = ''
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'beacon-key-'))
  path = join(folder, 'secret.key')
})
afterEach(() => rm(folder, { recursive: true }))

const hex = (keys: readonly Buffer[]) => keys.map((key) => key.toString('hex'))
const key = (byte: number) => Buffer.alloc(32, byte)
const lines = async () => (await readFile(path, 'utf8')).trimEnd().split('\n')

describe('the key in the data folder', () => {
  test('is made once, for its owner alone, and read from then on', async () => {
    const dataDir = join(folder, 'not', 'there', 'yet')
    const made = (await KeyFile.open(dataDir, systemRandom)).keys()
    expect(made).toHaveLength(1)
    expect((await KeyFile.open(dataDir, systemRandom)).keys()).toEqual(made)
    const file = join(dataDir, 'secret.key')
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700)
    expect(await readFile(file, 'utf8')).toBe(`${made[0]!.toString('hex')}\n`)
  })

  test('is the same for servers that start together, and nothing else is left', async () => {
    const files = await Promise.all(Array.from({ length: 20 }, () => KeyFile.open(folder, systemRandom)))
    expect(new Set(files.flatMap((file) => hex(file.keys()))).size).toBe(1)
    expect(await readdir(folder)).toEqual(['secret.key'])
  })

  test('is not replaced when it cannot be understood', async () => {
    const good = '00'.repeat(32)
    for (const text of ['', 'short', 'zz'.repeat(32), `${good}\n\n`, `${good}\nshort\n`, `${good} ${good}`]) {
      await writeFile(path, text)
      await expect(KeyFile.open(folder, systemRandom)).rejects.toThrow('does not hold 32 bytes in hex')
      expect(await readFile(path, 'utf8')).toBe(text)
    }
  })

  test('needs a folder that can be written', async () => {
    await writeFile(join(folder, 'file'), '')
    await expect(KeyFile.open(join(folder, 'file'), systemRandom)).rejects.toThrow(/ENOTDIR/)
  })

  test('gets another before it, for its owner alone, and keeps the old one for opening', async () => {
    const file = await KeyFile.open(folder, systemRandom)
    const [first] = file.keys()
    await chmod(path, 0o644)
    await file.add()
    const keys = file.keys()
    expect(keys).toHaveLength(2)
    expect(keys[1]).toEqual(first)
    expect(await lines()).toEqual(hex(keys))
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readdir(folder)).toEqual(['secret.key'])
  })

  test('loses the old ones that it is told to, and never the one that seals', async () => {
    await writeFile(path, `${hex([key(1), key(2), key(3)]).join('\n')}\n`)
    const file = await KeyFile.open(folder, systemRandom)
    await file.remove((one) => one.equals(key(3)))
    expect(file.keys()).toEqual([key(1), key(2)])
    await file.remove(() => true)
    expect(file.keys()).toEqual([key(1)])
    expect(await lines()).toEqual(hex([key(1)]))
  })

  test('does not grow for ever', async () => {
    const file = await KeyFile.open(folder, systemRandom)
    for (let keys = 1; keys < 16; keys++) await file.add()
    await expect(file.add()).rejects.toThrow('holds 16 keys already')
    expect(file.keys()).toHaveLength(16)
  })

  test('is read anew once it was replaced, and stays what it was while it cannot be read', async () => {
    const ours = await KeyFile.open(folder, systemRandom)
    const before = ours.keys()
    expect(ours.keys()).toBe(before)
    const theirs = await KeyFile.open(folder, systemRandom)
    await theirs.add()
    expect(ours.keys()).toEqual(theirs.keys())
    const known = ours.keys()
    for (const spoil of [() => writeFile(path, 'spoilt'), () => rm(path)]) {
      await spoil()
      expect(ours.keys()).toBe(known)
    }
    await expect(ours.add()).rejects.toThrow('is gone')
  })
})

describe('a ring of keys', () => {
  test('of the settings seals with the one and opens with all', () => {
    const older = createKeyringSeal(settingsKeyring(key(1), []), systemRandom)
    const newer = createKeyringSeal(settingsKeyring(key(2), [key(1), key(2)]), systemRandom)
    expect(newer.open(older.seal('text', 'here'), 'here')).toBe('text')
    expect(() => older.open(newer.seal('text', 'here'), 'here')).toThrow(SealError)
    expect(settingsKeyring(key(2), [key(1), key(2)]).keys().older).toEqual([key(1)])
  })

  test('of a file takes a new key at once, in every server that shares the file', async () => {
    const [ours, theirs] = await Promise.all([
      fileKeyring(folder, systemRandom, []),
      fileKeyring(folder, systemRandom, []),
    ])
    const [our, their] = [ours, theirs].map((ring) => createKeyringSeal(ring, systemRandom)) as [
      ReturnType<typeof createKeyringSeal>,
      ReturnType<typeof createKeyringSeal>,
    ]
    const old = their.seal('old', 'here')
    await ours.file.add()
    const fresh = our.seal('fresh', 'here')
    expect(their.open(fresh, 'here')).toBe('fresh')
    expect(our.open(old, 'here')).toBe('old')
    // The other one seals with the new key, too, though nobody told it.
    await ours.file.remove(() => true)
    expect(their.open(our.seal('newer', 'here'), 'here')).toBe('newer')
    expect(() => our.open(old, 'here')).toThrow('which is not here')
  })

  test('of a file opens with keys that the settings give, and lists none twice', async () => {
    await writeFile(path, `${hex([key(1)])[0]}\n`)
    const ring = await fileKeyring(folder, systemRandom, [key(1), key(2)])
    expect(ring.keys()).toEqual({ current: key(1), older: [key(2)] })
    expect(ring.keys()).toBe(ring.keys())
  })
})

describe('the settings', () => {
  const [one, two] = ['01'.repeat(32), Buffer.alloc(32, 2).toString('base64')]

  test('give one key that seals, and any number that open', () => {
    const read = (list: string) => readConfig({ BEACON_SECRET_KEY: one, BEACON_SECRET_KEY_PREVIOUS: list })
    expect(read('').secretKeyPrevious).toEqual([])
    expect(read(two).secretKeyPrevious).toEqual([key(2)])
    expect(read(`${one}, ${two}`).secretKeyPrevious).toEqual([key(1), key(2)])
    expect(read('').secretKey).toEqual(key(1))
  })

  test('take both from files, one key on each line, or none in an empty file', async () => {
    await writeFile(path, `${one}\n${two}\n`)
    expect(readConfig({ BEACON_SECRET_KEY_PREVIOUS_FILE: path }).secretKeyPrevious).toEqual([key(1), key(2)])
    await writeFile(path, '')
    expect(readConfig({ BEACON_SECRET_KEY_PREVIOUS_FILE: path }).secretKeyPrevious).toEqual([])
  })

  test('that are no keys are refused without being quoted', () => {
    for (const text of ['short', `${one}0`, `${one};${two}`, `${one},x`]) {
      const read = () => readConfig({ BEACON_SECRET_KEY_PREVIOUS: text })
      expect(read).toThrow(ConfigError)
      expect(read).toThrow('BEACON_SECRET_KEY_PREVIOUS must be keys of 32 bytes')
      expect(read).not.toThrow(text)
    }
  })
})
