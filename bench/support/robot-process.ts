import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, copyFileSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { lookAt, type ProcessLook } from './process-look.ts'

const GRACE_MS = 10_000

/** A Node for one process alone: of a program that several processes run, each would be counted a part only. */
export function nodeOfItsOwn(node: string, folder: string): string {
  const copy = join(folder, 'node')
  copyFileSync(node, copy)
  return copy
}

export function versionOf(node: string): string {
  return execFileSync(node, ['--version'], { encoding: 'utf8' }).trim()
}

/** A process as it runs on a robot: nothing of the bench is in it, and what it says is in a file of its folder. */
export class RobotProcess {
  readonly #process: ChildProcess
  readonly #ended: Promise<unknown>

  constructor(command: readonly string[], folder: string, settings: Readonly<Record<string, string>> = {}) {
    const [program, ...args] = command
    const log = openSync(join(folder, 'log'), 'a')
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(BEACON_|NODE_|GLIBC_TUNABLES$|npm_)/.test(name),
    )
    this.#process = spawn(program!, args, {
      env: { ...Object.fromEntries(inherited), ...settings },
      stdio: ['ignore', log, log],
      detached: true,
    })
    closeSync(log)
    this.#ended = once(this.#process, 'exit')
  }

  get pid(): number {
    return this.#process.pid!
  }

  get isRunning(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null
  }

  look(): ProcessLook {
    if (!this.isRunning) throw new Error(`${this.#process.spawnargs.join(' ')} has ended`)
    return lookAt(this.pid)
  }

  async stop(): Promise<void> {
    if (!this.isRunning) return
    this.#process.kill('SIGTERM')
    const impatience = setTimeout(() => this.#process.kill('SIGKILL'), GRACE_MS)
    await this.#ended
    clearTimeout(impatience)
  }
}
