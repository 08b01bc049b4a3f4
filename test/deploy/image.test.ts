import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')
const text = (path: string) => readFileSync(join(root, path), 'utf8')

/** What the image's first stage copies out of the repository. */
const copied = text('deploy/Dockerfile')
  .split(/^FROM /m)[1]!
  .split('\n')
  .filter((line) => line.startsWith('COPY '))
  .flatMap((line) => line.split(' ').slice(1, -1))
const sent = text('.dockerignore')
  .split('\n')
  .filter((line) => line.startsWith('!'))
  .map((line) => line.slice(1))
const isIn = (path: string, folders: readonly string[]) =>
  folders.some((folder) => path === folder || path.startsWith(`${folder}/`))

test('the image is built from all that the build reads', () => {
  const { scripts } = JSON.parse(text('package.json')) as { scripts: Record<string, string> }
  const named = ['build', 'build:agent', 'build:dashboard']
    .flatMap((name) => scripts[name]?.split(' ') ?? [])
    .filter((word) => existsSync(join(root, word)))
  const { include } = JSON.parse(text('tsconfig.build.json')) as { include: string[] }
  expect(named).toContain('deploy/agent/self-contained.mjs')
  for (const path of [...named, ...include]) expect([path, isIn(path, copied)]).toEqual([path, true])
})

test('what the image copies is there, and is sent to the builder', () => {
  const ofRepository = text('deploy/Dockerfile')
    .split('\n')
    .filter((line) => line.startsWith('COPY ') && !line.startsWith('COPY --from='))
    .flatMap((line) => line.split(' ').slice(1, -1))
  for (const path of ofRepository)
    expect([path, existsSync(join(root, path)), isIn(path, sent)]).toEqual([path, true, true])
})
