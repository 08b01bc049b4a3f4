import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { Environment } from '../support/server-process.ts'

const BEACON = join(import.meta.dirname, '../../bin/beacon.js')

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs the real `beacon …` as a process of its own, as this operator or, without a key, as nobody. */
export function beacon(
  argv: readonly string[],
  { url, apiKey, env = {} }: { url?: string; apiKey?: string; env?: Environment } = {},
): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [BEACON, ...argv],
      {
        env: {
          PATH: process.env.PATH ?? '',
          HOME: '/nonexistent',
          NO_COLOR: '1',
          ...(url === undefined ? {} : { BEACON_URL: url }),
          ...(apiKey === undefined ? {} : { BEACON_API_KEY: apiKey }),
          ...env,
        },
        timeout: 60_000,
        maxBuffer: 16 * 1024 * 1024,
      },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
    )
  })
}

/** A command that goes on until it is stopped. */
export interface BackgroundCommand {
  readonly output: string
  /** Ends it as an operating system does, and answers with its exit code. */
  stop(): Promise<number | null>
  kill(): Promise<void>
}

export function startBeacon(argv: readonly string[], env: Environment): BackgroundCommand {
  const child = spawn(process.execPath, [BEACON, ...argv], {
    env: { PATH: process.env.PATH ?? '', HOME: '/nonexistent', NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const exited = once(child, 'close').then(([code]) => code as number | null)
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal)
    return exited
  }
  return {
    get output() {
      return output
    },
    stop: () => end('SIGTERM'),
    kill: async () => void (await end('SIGKILL')),
  }
}
