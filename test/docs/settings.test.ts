import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const textOf = (path: string) => readFile(join(root, path), 'utf8')

test('the README tells every setting that the server reads, once, and no other', async () => {
  const source = await textOf('src/config.ts')
  const read = [...source.matchAll(/^ {2}(BEACON_\w+): /gm)].map(([, name]) => name!)
  expect(read).toContain('BEACON_HISTORY_HOURS_DAYS')
  const table = (await textOf('README.md')).matchAll(/^\| (`BEACON_[^|]*) \|/gm)
  const told = [...table].flatMap(([, names]) => [...names!.matchAll(/BEACON_\w+/g)].map(([name]) => name))
  expect(told.toSorted()).toEqual(read.toSorted())
})
