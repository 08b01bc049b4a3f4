import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import type { Clock } from '../runtime.ts'
import { describeError, duration, printable } from '../text.ts'

export interface ExecOutcome {
  /** Why it failed; undefined: it did not. */
  readonly failure: string | undefined
  readonly lines: readonly string[]
}

export interface ExecBounds {
  readonly timeoutMs: number
  readonly outputBytes: number
}

export const EXEC_BOUNDS: ExecBounds = { timeoutMs: 30_000, outputBytes: 64 * 1024 }

/** Of what it said on standard error, the end counts. */
const ERROR_BYTES = 512
/** How long output may still come when the program has ended. */
const DRAIN_MS = 500

/**
 * Becomes the program, whose path is its only argument, beside a watcher in the same group: that reads from a pipe on which
 * nothing is ever written, and kills the group when the agent's end of it is gone, however the agent ended.
 */
const BECOME = '{ read -r end <&3; kill -KILL 0; } </dev/null >/dev/null 2>&1 & exec "$0" 3<&-'

/**
 * Runs one program to its end, in a process group of its own, without arguments. The group is killed when the time is up,
 * when it says too much, when `signal` aborts or the agent is gone, and also when the program has ended: it leaves nothing
 * behind.
 */
export function runProgram(
  path: string,
  env: Record<string, string>,
  clock: Clock,
  signal: AbortSignal,
  bounds: ExecBounds = EXEC_BOUNDS,
): Promise<ExecOutcome> {
  return new Promise((resolve) => {
    const child = spawn('/bin/sh', ['-c', BECOME, path], {
      cwd: '/',
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    }) as ChildProcessByStdio<null, Readable, Readable>
    let failure: string | undefined
    let isOver = false
    let bytes = 0
    const parts: Buffer[] = []
    let said = Buffer.alloc(0)

    const kill = () => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // The group is gone.
      }
    }
    const giveUp = (why: string) => {
      failure ??= why
      kill()
    }
    const stop = () => giveUp('the agent stopped')
    const timer = clock.after(bounds.timeoutMs, () =>
      giveUp(`still running after ${duration(bounds.timeoutMs)}: killed`),
    )
    const finish = () => {
      if (isOver) return
      isOver = true
      timer.cancel()
      drain?.cancel()
      signal.removeEventListener('abort', stop)
      child.stdout.destroy()
      child.stderr.destroy()
      child.stdio[3]?.destroy()
      const lines = Buffer.concat(parts).toString('utf8').split('\n')
      const because = printable(said.toString('utf8').trim(), ERROR_BYTES)
      resolve({
        failure: failure && because ? `${failure}: ${because}` : failure,
        lines: lines.map((line) => line.trim()).filter((line) => line !== ''),
      })
    }
    let drain: { cancel(): void } | undefined

    child.stdout.on('data', (part: Buffer) => {
      bytes += part.length
      if (bytes <= bounds.outputBytes) parts.push(part)
      else giveUp(`said more than ${bounds.outputBytes} bytes: killed`)
    })
    child.stderr.on('data', (part: Buffer) => {
      said = Buffer.from(Buffer.concat([said, part]).subarray(-ERROR_BYTES))
    })
    child.on('error', (error) => {
      failure ??= `cannot be started: ${describeError(error)}`
      finish()
    })
    child.on('exit', (code, name) => {
      if (code !== 0) failure ??= code === null ? `ended by ${name}` : `exit code ${code}`
      kill()
      // One that left the group may hold the pipe open.
      drain = clock.after(DRAIN_MS, finish)
    })
    child.on('close', finish)
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
  })
}
