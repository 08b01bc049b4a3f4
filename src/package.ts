import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NAME = '@roboflare/beacon'

interface Manifest {
  readonly name?: string
  readonly version?: string
}

function readManifest(folder: string): Manifest | undefined {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Walks up from this file, which runs from src/ as well as from dist/src/. */
function findPackage(): { root: string; version: string } {
  const start = dirname(fileURLToPath(import.meta.url))
  for (let folder = start; ; folder = dirname(folder)) {
    const manifest = readManifest(folder)
    if (manifest?.name === NAME) return { root: folder, version: manifest.version ?? '0.0.0' }
    if (folder === dirname(folder)) throw new Error(`no package.json of ${NAME} above ${start}`)
  }
}

const found = findPackage()

/** The folder that holds package.json, migrations/ and docs/. */
export const packageRoot = found.root
export const version = found.version
