// dist/install/, or the folder that the command line names: where everything lies that robots are handed.
import { createHash, randomBytes } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join, resolve } from 'node:path'

export const root = join(import.meta.dirname, '../..')
export const FOLDER = resolve(process.argv[2] ?? join(root, 'dist/install'))
export const BUNDLE = 'beacon-agent.mjs'
export const SCRIPT = 'install.sh'
export const SUMS = 'SHA256SUMS'

/** Puts a file there, whole or not at all: a server may be reading it. */
export function put(name, contents, mode) {
  mkdirSync(FOLDER, { recursive: true })
  const temporary = join(FOLDER, `.${name}.${randomBytes(6).toString('hex')}`)
  try {
    writeFileSync(temporary, contents)
    chmodSync(temporary, mode)
    renameSync(temporary, join(FOLDER, name))
  } finally {
    rmSync(temporary, { force: true })
  }
}

/** Removes what was built around another agent than this one: all that is handed out is of one version. */
export function discardOthersThan(bundle) {
  if (!existsSync(join(FOLDER, BUNDLE)) || readFileSync(join(FOLDER, BUNDLE)).equals(bundle)) return
  for (const name of readdirSync(FOLDER)) if (name.endsWith('.tar.gz')) rmSync(join(FOLDER, name))
}

/** Writes SHA256SUMS over what is downloaded; install.sh is what checks it. */
export function sumUp() {
  const names = readdirSync(FOLDER).filter((name) => /^beacon-agent[.-]/.test(name))
  const lines = names.sort().map((name) => `${sha256(readFileSync(join(FOLDER, name)))}  ${name}\n`)
  put(SUMS, lines.join(''), 0o644)
}

export function sha256(contents) {
  return createHash('sha256').update(contents).digest('hex')
}
