import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Stranger } from './stranger.ts'

/** What install.sh meets on a robot: programs of the machine, and an agent that tells how it was called. */

export const KEY = `rf_enroll_${'5a'.repeat(32)}`
export const SCRIPT = readFileSync(join(import.meta.dirname, '../../deploy/agent/install.sh'), 'utf8')
/** What install.sh is let use besides a shell, unless a test says otherwise. */
export const TOOLS =
  'cat chmod cp curl cut getconf gzip id mkdir mktemp mv node rm rmdir sed sha256sum tar uname wget'.split(
    ' ',
  )
export const without = (...tools: string[]) => TOOLS.filter((tool) => !tools.includes(tool))

export const pathOf = (tool: string): string | undefined => {
  try {
    return execFileSync('/bin/sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim() || undefined
  } catch {
    return undefined
  }
}

/** A folder with these programs of the machine and nothing else, and what a test puts there itself. */
export function toolboxOf(
  stranger: Stranger,
  tools: readonly string[] = TOOLS,
  own: Readonly<Record<string, string>> = {},
): string {
  const folder = join(stranger.home, 'tools')
  mkdirSync(folder)
  for (const tool of tools) {
    const found = pathOf(tool)
    if (found && !(tool in own)) symlinkSync(found, join(folder, tool))
  }
  for (const [name, text] of Object.entries(own)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`)
    chmodSync(join(folder, name), 0o755)
  }
  return folder
}

export const sum = (contents: string | Buffer) => createHash('sha256').update(contents).digest('hex')

/** Says its version, and writes down everything else that it is asked for. */
export const AGENT = `import { readFileSync, statSync, writeFileSync } from 'node:fs'
const args = process.argv.slice(2)
if (args[0] === '--version') console.log('9.9.9')
else {
  const file = args[args.indexOf('--enrollment-key-file') + 1]
  const key = args.includes('--enrollment-key-file') ? { mode: statSync(file).mode & 0o777, text: readFileSync(file, 'utf8') } : null
  writeFileSync(process.env.HOME + '/told.json', JSON.stringify({ args, key, env: Object.keys(process.env) }))
}
`
