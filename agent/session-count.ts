import { readFileSync, rmSync } from 'node:fs'
import { describeFileError, replaceFile } from './files.ts'
import { withoutSum, withSum } from './summed.ts'

/**
 * The number of the newest session that this robot knows of, kept beside its identity. A copy of the disk keeps an older
 * one, and by that the server tells the two apart. So a number that may be too old is never told: none is.
 */
export class SessionCount {
  readonly #path: string
  readonly #robotId: string
  readonly #tell: (sentence: string) => void
  #last: number | undefined
  #isFailing = false

  /** What another robot left in the file does not count. `tell` hears once what could not be written. */
  constructor(path: string, robotId: string, tell: (sentence: string) => void) {
    this.#path = path
    this.#robotId = robotId
    this.#tell = tell
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
      replaceFile(this.#path, withSum(`${this.#robotId} ${sessionNo}`))
      this.#isFailing = false
    } catch (error) {
      this.#forget()
      if (!this.#isFailing) this.#tell(`cannot write ${this.#path}: ${describeFileError(this.#path, error)}`)
      this.#isFailing = true
    }
  }

  /** After a restart an old number would make this robot look like a copy of itself. Removing it takes no room. */
  #forget(): void {
    try {
      rmSync(this.#path, { force: true })
    } catch {
      // A disk that cannot be changed at all keeps the old one.
    }
  }
}

function read(path: string, robotId: string): number | undefined {
  try {
    const text = readFileSync(path, 'utf8')
    // An agent of before wrote no checksum; a file cut short lacks its last character.
    const line = withoutSum(text) ?? (text.endsWith('\n') ? text.slice(0, -1) : '')
    const [id, count = '', ...more] = line.split(' ')
    return id === robotId && more.length === 0 && /^\d{1,15}$/.test(count) ? Number(count) : undefined
  } catch {
    return undefined
  }
}
