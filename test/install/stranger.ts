import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What `npm run build` makes for robots. */
export const HANDED_OUT = join(import.meta.dirname, '../../dist/install')

const LONGEST_MS = 60_000

export interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Somebody on a machine of their own: an empty home, and nothing of ours in the environment. */
export class Stranger {
  readonly home = realpathSync(mkdtempSync(join(tmpdir(), 'beacon-stranger-')))
  readonly #endings: (() => Promise<unknown>)[] = []

  environment(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: process.env.PATH ?? '',
      HOME: this.home,
      // As root, too: what is the machine's is not theirs.
      XDG_CONFIG_HOME: join(this.home, '.config'),
      NO_COLOR: '1',
      ...more,
    }
  }

  /** Runs a program in their home to its end, with `input` on its standard input. */
  run(
    program: string,
    args: readonly string[],
    { env = {}, input = '' }: { env?: Readonly<Record<string, string>>; input?: string } = {},
  ): Promise<Ran> {
    return new Promise((resolve) => {
      const child = execFile(
        program,
        args,
        { cwd: this.home, env: this.environment(env), timeout: LONGEST_MS },
        (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
      )
      // Who ends before reading all of it leaves a broken pipe.
      child.stdin?.on('error', () => {})
      child.stdin?.end(input)
    })
  }

  /** Starts a program that goes on until it is stopped. */
  start(program: string, args: readonly string[]): { stop(): Promise<number | null> } {
    const child = spawn(program, args, { cwd: this.home, env: this.environment(), stdio: 'ignore' })
    const exited = once(child, 'close').then(([code]) => code as number | null)
    const stop = () => {
      child.kill('SIGTERM')
      return exited
    }
    this.#endings.push(async () => {
      child.kill('SIGKILL')
      await exited
    })
    return { stop }
  }

  /** Ends what they started, and removes their home. */
  async leave(): Promise<void> {
    await Promise.all(this.#endings.map((end) => end()))
    rmSync(this.home, { recursive: true, force: true })
  }
}
