import { readFileSync } from 'node:fs'
import { replaceFile } from './files.ts'
import type { Clock } from './runtime.ts'

const BLOCK = 1_000

/**
 * Hands out the numbers of heartbeats. Invariant: a number is never handed out twice in the life of an identity,
 * through restarts, power cuts and clocks that jump.
 *
 * Numbers are used only below a mark that is on the disk already, and a start goes on from the mark, so what a crash
 * leaves unused is skipped. A start also begins no lower than the wall clock in milliseconds, which no robot outruns:
 * that holds the invariant when the mark could not be written or was lost with the folder.
 */
export class Sequence {
  readonly #path: string
  readonly #onError: (error: unknown) => void
  #next: number
  #mark: number

  constructor(path: string, clock: Clock, onError: (error: unknown) => void) {
    this.#path = path
    this.#onError = onError
    this.#next = Math.max(readMark(path), Math.floor(clock.now()), 1)
    this.#mark = this.#next
  }

  /** Hands out no number up to this one any more, for it is known to be taken. */
  goAbove(seq: number): void {
    this.#next = Math.max(this.#next, seq + 1)
  }

  /** The number that `next` will hand out. */
  get upcoming(): number {
    return this.#next
  }

  next(): number {
    if (this.#next >= this.#mark) this.#raiseMark()
    return this.#next++
  }

  #raiseMark(): void {
    this.#mark = this.#next + BLOCK
    try {
      replaceFile(this.#path, `${this.#mark}\n`)
    } catch (error) {
      this.#onError(error)
    }
  }
}

function readMark(path: string): number {
  try {
    const text = readFileSync(path, 'utf8').trim()
    return /^\d{1,15}$/.test(text) ? Number(text) : 0
  } catch {
    return 0
  }
}
