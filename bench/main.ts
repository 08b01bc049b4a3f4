import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { Interrupted, isInterrupted } from './support/interrupt.ts'

/** `npm run bench <name>` runs one bench, each of which answers one question; `npm run bench` all but the large ones. */
const folder = new URL('.', import.meta.url)
const names = (await readdir(folder))
  .filter((file) => file.endsWith('.js') && file !== 'main.js')
  .map((file) => file.slice(0, -3))

async function runOne(name: string): Promise<void> {
  try {
    await import(new URL(`${name}.js`, folder).href)
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error
    process.stderr.write(`${error.message}\n`)
    process.exitCode = 130
  }
}

/** Take an hour, or the whole machine: only when asked for. */
const LARGE = ['soak', 'growth', 'agent-flapping']

/** Each in a process of its own, so that none inherits what another has made of the heap. */
async function runAll(): Promise<void> {
  for (const name of names.filter((name) => !LARGE.includes(name))) {
    const bench = spawn(process.execPath, [...process.execArgv, fileURLToPath(import.meta.url), name], {
      stdio: 'inherit',
    })
    const [exitCode] = await once(bench, 'exit')
    if (exitCode !== 0) process.exitCode = 1
    // Ctrl-C has reached that one too, and it has cleaned up.
    if (isInterrupted()) return
    process.stdout.write('\n')
  }
}

const name = process.argv[2]
if (name === undefined) await runAll()
else if (names.includes(name)) await runOne(name)
else {
  process.stderr.write(`there is no such bench; there are ${names.join(', ')}\n`)
  process.exitCode = 2
}
