import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readOrMakeSecretKey } from '../../src/access/secret-key.ts'
import { systemRandom } from '../../src/runtime.ts'

describe('the key in the data folder', () => {
  let folder = ''
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'beacon-key-'))
  })
  afterEach(() => rm(folder, { recursive: true }))

  test('is made once, for its owner alone, and read from then on', async () => {
    const dataDir = join(folder, 'not', 'there', 'yet')
    const key = await readOrMakeSecretKey(dataDir, systemRandom)
    expect(key).toHaveLength(32)
    expect(await readOrMakeSecretKey(dataDir, systemRandom)).toEqual(key)
    const path = join(dataDir, 'secret.key')
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await stat(dataDir)).mode & 0o777).toBe(0o700)
    expect(await readFile(path, 'utf8')).toBe(`${key.toString('hex')}\n`)
  })

  test('is the same for servers that start together, and nothing else is left', async () => {
    const keys = await Promise.all(
      Array.from({ length: 20 }, () => readOrMakeSecretKey(folder, systemRandom)),
    )
    expect(new Set(keys.map((key) => key.toString('hex'))).size).toBe(1)
    expect(await readdir(folder)).toEqual(['secret.key'])
  })

  test('is not replaced when it cannot be understood', async () => {
    const path = join(folder, 'secret.key')
    for (const text of ['', 'short', 'zz'.repeat(32), `${'00'.repeat(32)}\n\n`]) {
      await writeFile(path, text)
      await expect(readOrMakeSecretKey(folder, systemRandom)).rejects.toThrow('does not hold 32 bytes in hex')
      expect(await readFile(path, 'utf8')).toBe(text)
    }
  })

  test('needs a folder that can be written', async () => {
    await writeFile(join(folder, 'file'), '')
    await expect(readOrMakeSecretKey(join(folder, 'file'), systemRandom)).rejects.toThrow(/ENOTDIR/)
  })
})
