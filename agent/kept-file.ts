import { readFileSync } from 'node:fs'
import { replaceFile } from './files.ts'
import type { Log } from './log.ts'
import type { Clock, Timer } from './runtime.ts'
import { describeError } from './text.ts'

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

  /** What the file holds; undefined when there is none, or none that can be read. */
  read(): unknown {
    try {
      return JSON.parse(readFileSync(this.#path, 'utf8'))
    } catch {
      return undefined
    }
  }

  /** Keeps what `value` answers when it is written, now or soon. */
  write(value: () => unknown): void {
    this.#waiting = value
    if (!this.#timer) this.#writeNow()
  }

  /** Writes what waits, and no more. */
  stop(): void {
    this.#timer?.cancel()
    this.#writeNow()
    this.#timer?.cancel()
    this.#timer = undefined
  }

  #writeNow(): void {
    this.#timer = undefined
    const value = this.#waiting
    if (!value) return
    this.#waiting = undefined
    const text = `${JSON.stringify(value())}\n`
    try {
      replaceFile(this.#path, text)
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing) this.#log.warn(`cannot write ${this.#path}: ${describeError(error)}`)
      this.#isFailing = true
    }
    const pause = Math.max(WRITE_PAUSE_MS, (text.length / BYTES_PER_SECOND) * 1_000)
    this.#timer = this.#clock.after(pause, () => this.#writeNow())
  }
}
