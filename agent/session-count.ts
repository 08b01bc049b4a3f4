import { readFileSync } from 'node:fs'
import { replaceFile } from './files.ts'
import { describeError } from './text.ts'

/**
 * The number of the newest session that this robot knows of, kept beside its identity. A copy of the disk keeps an older
 * one, and by that the server tells the two apart.
 */
export class SessionCount {
  readonly #path: string
  readonly #robotId: string
  readonly #onError: (why: string) => void
  #last: number | undefined

  /** What another robot left in the file does not count. `onError` is told what could not be written. */
  constructor(path: string, robotId: string, onError: (why: string) => void) {
    this.#path = path
    this.#robotId = robotId
    this.#onError = onError
    this.#last = read(path, robotId)
  }

  /** Undefined: it never knew, or no longer does. */
  get last(): number | undefined {
    return this.#last
  }

  /** Remembers a session that the server has welcomed; it is on the disk when this returns, unless that fails. */
  opened(sessionNo: number): void {
    this.#last = sessionNo
    try {
      replaceFile(this.#path, `${this.#robotId} ${sessionNo}\n`)
    } catch (error) {
      this.#onError(`cannot write ${this.#path}: ${describeError(error)}`)
    }
  }
}

function read(path: string, robotId: string): number | undefined {
  try {
    const [id, count = '', ...more] = readFileSync(path, 'utf8').trimEnd().split(' ')
    return id === robotId && more.length === 0 && /^\d{1,15}$/.test(count) ? Number(count) : undefined
  } catch {
    return undefined
  }
}
