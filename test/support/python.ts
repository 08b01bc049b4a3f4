import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'

const IMPORTS = 'import sys, websockets; print(sys.version.split()[0], websockets.__version__)'

/** A Python 3 that has the `websockets` package: Debian's own may have it where another one comes first in PATH. */
function findPython(): string | undefined {
  return [process.env.BEACON_TEST_PYTHON, 'python3', '/usr/bin/python3'].find((program) => {
    if (!program) return false
    try {
      execFileSync(program, ['-c', IMPORTS], { stdio: ['ignore', 'ignore', 'ignore'] })
      return true
    } catch {
      return false
    }
  })
}

/**
 * The Python that tests run, or undefined after one line that says that they are left out. In a pipeline (`CI`) they are
 * not: it throws.
 */
export function pythonOrLeaveOut(what: string): string | undefined {
  const python = findPython()
  if (python !== undefined) return python
  const how = `${what}: no python3 with the package websockets; get it with: apt-get install python3-websockets`
  if (process.env.CI) throw new Error(how)
  process.stderr.write(`LEFT OUT: ${how}\n`)
  return undefined
}

/** A Python program that goes on until it ends or is stopped. */
export interface PythonProcess {
  readonly output: string
  readonly exited: Promise<number | null>
  stop(): Promise<number | null>
  kill(): Promise<number | null>
}

export function startPython(
  python: string,
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): PythonProcess {
  const child = spawn(python, argv, {
    env: { PATH: process.env.PATH ?? '', HOME: '/nonexistent', PYTHONDONTWRITEBYTECODE: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const exited = once(child, 'close').then(([code]) => code as number | null)
  const end = (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    return exited
  }
  return {
    get output() {
      return output
    },
    exited,
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
  }
}
