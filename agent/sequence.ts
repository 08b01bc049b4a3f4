import { readFileSync } from 'node:fs'
import { describeFileError, replaceFile } from './files.ts'
import type { Clock } from './runtime.ts'
import { withoutSum, withSum } from './summed.ts'

const BLOCK = 1_000
/** Numbers that go out before a disk that could not be written is tried again. */
const RETRY_BLOCK = 30

/**
 * Hands out the numbers of heartbeats. Invariant: a number is never handed out twice in the life of an identity,
 * through restarts, power cuts and clocks that jump.
 *
 * Numbers are used only below a mark that is on the disk already, in two files, and a start goes on from the mark, so what
 * a crash leaves unused is skipped. Either file alone is enough: no number above the old mark goes out before both hold the
 * new one. A start also begins no lower than the wall clock in milliseconds, which no robot outruns: that holds the
 * invariant when the mark could not be written or was lost with the folder.
 */
export class Sequence {
  readonly #paths: readonly string[]
  readonly #tell: (sentence: string) => void
  #next: number
  #mark: number
  #isFailing = false

  /** `tell` hears what a person should know of the files, once each. */
  constructor(path: string, clock: Clock, tell: (sentence: string) => void) {
    this.#paths = [path, `${path}.bak`]
    this.#tell = tell
    const marks = this.#paths.map((one) => readMark(one, tell))
    this.#next = Math.max(...marks, Math.floor(clock.now()), 1)
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
    const mark = this.#next + BLOCK
    const [path] = this.#paths
    try {
      for (const one of this.#paths) replaceFile(one, withSum(String(mark)))
      this.#mark = mark
      if (this.#isFailing) this.#tell(`${path} can be written again`)
      this.#isFailing = false
    } catch (error) {
      this.#mark = this.#next + RETRY_BLOCK
      if (!this.#isFailing) this.#tell(`cannot write ${path}: ${describeFileError(path!, error)}`)
      this.#isFailing = true
    }
  }
}

function readMark(path: string, tell: (sentence: string) => void): number {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      tell(`cannot read ${path}: ${describeFileError(path, error)}`)
    return 0
  }
  // An agent of before wrote the number alone.
  const mark = withoutSum(text) ?? (/^\d+\n$/.test(text) ? text.trimEnd() : '')
  if (/^\d{1,15}$/.test(mark)) return Number(mark)
  tell(`${path} is damaged: its copy, this robot's clock and what waits to be sent stand for it`)
  return 0
}
