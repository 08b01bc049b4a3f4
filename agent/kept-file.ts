import { readFileSync } from 'node:fs'
import { describeFileError, replaceFile } from './files.ts'
import type { Log } from './log.ts'
import type { Clock, Timer } from './runtime.ts'
import { withoutSum, withSum } from './summed.ts'

/** For the sake of flash memory: at most one write in this time, and the longer a file is, the fewer. */
const WRITE_PAUSE_MS = 2_000
const BYTES_PER_SECOND = 16 * 1024

/** A small file of JSON that is replaced whole when what it holds changes: at once, and then again not before a pause. */
export class KeptFile {
  readonly #path: string
  readonly #clock: Clock
  readonly #log: Log
  #waiting: (() => unknown) | undefined
  #timer: Timer | undefined
  #isFailing = false

  constructor(path: string, clock: Clock, log: Log) {
    this.#path = path
    this.#clock = clock
    this.#log = log
  }

  /** What the file holds; undefined when there is none, or a damaged one: nothing of that is taken, and it says so. */
  read(): unknown {
    let text: string
    try {
      text = readFileSync(this.#path, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
        this.#log.warn(`cannot read ${this.#path}: ${describeFileError(this.#path, error)}`)
      return undefined
    }
    try {
      // An agent of before wrote the JSON alone.
      return JSON.parse(/^[[{]/.test(text) ? text : (withoutSum(text) ?? ''))
    } catch {
      this.#log.warn(`${this.#path} is damaged: what it held is left out`)
      return undefined
    }
  }

  /** Keeps what `value` answers when it is written, now or soon. */
  write(value: () => unknown): void {
    this.#waiting = value
    if (!this.#timer) this.#writeNow()
  }

  /** Writes what waits at once, for something is done now that must not be done once more after a crash. */
  flush(): void {
    if (!this.#waiting) return
    this.#timer?.cancel()
    this.#writeNow()
  }

  /** Writes what waits, and no more. */
  stop(): void {
    this.flush()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #writeNow(): void {
    this.#timer = undefined
    const value = this.#waiting
    if (!value) return
    this.#waiting = undefined
    const text = withSum(JSON.stringify(value()))
    try {
      replaceFile(this.#path, text)
      if (this.#isFailing) this.#log.info(`${this.#path} can be written again`)
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing)
        this.#log.warn(`cannot write ${this.#path}: ${describeFileError(this.#path, error)}`)
      this.#isFailing = true
      // Unless there is something newer by then.
      this.#waiting ??= value
    }
    const pause = Math.max(WRITE_PAUSE_MS, (text.length / BYTES_PER_SECOND) * 1_000)
    this.#timer = this.#clock.after(pause, () => this.#writeNow())
  }
}
