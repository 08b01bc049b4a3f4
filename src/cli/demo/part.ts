import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { packageRoot } from '../../package.ts'
import type { Clock } from '../../runtime.ts'

/** What a part's process did at the end. */
export interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface PartOptions {
  readonly name: string
  /** Arguments of `beacon`. */
  readonly args: readonly string[]
  /** BEACON_* settings; none of the caller's own reach the part. */
  readonly settings: Readonly<Record<string, string>>
  readonly logFile: string
  readonly clock: Clock
}

const LEASH = join(import.meta.dirname, `leash${fileURLToPath(import.meta.url).slice(-3)}`)
const LOG_LINES = 15

function environmentWith(settings: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('BEACON_'))
  return { ...Object.fromEntries(inherited), ...settings }
}

/** One process of the demo, from its start to its end. */
export class Part {
  readonly name: string
  /** Settles once the process has ended. */
  readonly ended: Promise<Ending>
  readonly #child: ChildProcess
  readonly #logFile: string
  readonly #clock: Clock

  constructor(options: PartOptions) {
    this.name = options.name
    this.#logFile = options.logFile
    this.#clock = options.clock
    const log = openSync(options.logFile, 'a', 0o600)
    // A group of its own: Ctrl-C reaches the demo alone, which then stops its parts in order.
    this.#child = spawn(
      process.execPath,
      ['--import', LEASH, join(packageRoot, 'bin', 'beacon.js'), ...options.args],
      { env: environmentWith(options.settings), stdio: ['ignore', log, log, 'ipc'], detached: true },
    )
    closeSync(log)
    this.ended = once(this.#child, 'exit').then(([code, signal]) => ({ code, signal }) as Ending)
  }

  get #running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** The log's last lines. */
  lastLines(): string[] {
    return readFileSync(this.#logFile, 'utf8').trimEnd().split('\n').slice(-LOG_LINES)
  }

  /** The first line of the log that matches. */
  logLine(pattern: RegExp): string | undefined {
    return readFileSync(this.#logFile, 'utf8')
      .split('\n')
      .find((line) => pattern.test(line))
  }

  /** Asks the process to end, and after `graceMs` makes it. */
  async stop(graceMs: number): Promise<void> {
    if (!this.#running) return
    this.#child.kill('SIGTERM')
    const deadline = this.#clock.after(graceMs, () => this.kill())
    await this.ended
    deadline.cancel()
  }

  /** Ends the process and all that it started in its group, at once. */
  kill(): void {
    if (!this.#running) return
    try {
      process.kill(-this.#child.pid!, 'SIGKILL')
    } catch {
      this.#child.kill('SIGKILL')
    }
  }
}
