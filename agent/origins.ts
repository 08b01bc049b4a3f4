import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { describeFileError, replaceFile } from './files.ts'
import { withoutSum, withSum } from './summed.ts'

/** When a machine started, by the server's clock. */
export interface Origin {
  readonly originMs: number
  /** How exactly that is known; a clock that is off by less is taken to be right. */
  readonly toleranceMs: number
}

/** When the machine started, by the server's clock, for each of its last starts of which that was learnt. */
export interface Origins {
  get(boot: string): Origin | undefined
  /** Keeps what was learnt first of a start; what is learnt later changes nothing. */
  keepFirst(boot: string, origin: Origin): void
}

/** Heartbeats of so many starts may wait for the server; those of older ones are long gone from a full spool. */
const MAX_STARTS = 64

const fileSchema = z.array(
  z
    .object({ boot: z.string(), origin_ms: z.number().int(), tolerance_ms: z.number().int() })
    .transform(({ boot, origin_ms, tolerance_ms }) => ({
      boot,
      originMs: origin_ms,
      toleranceMs: tolerance_ms,
    })),
)

/** Origins in memory, and in a file when there is a path for it. */
export class KeptOrigins implements Origins {
  readonly #path: string | undefined
  readonly #onTrouble: (sentence: string) => void
  readonly #origins = new Map<string, Origin>()
  #isWritten = true
  #isFailing = false

  constructor(path?: string, onTrouble: (sentence: string) => void = () => {}) {
    this.#path = path
    this.#onTrouble = onTrouble
    for (const { boot, ...origin } of path === undefined ? [] : read(path, onTrouble))
      this.#origins.set(boot, origin)
  }

  get(boot: string): Origin | undefined {
    return this.#origins.get(boot)
  }

  keepFirst(boot: string, origin: Origin): void {
    if (!this.#origins.has(boot)) {
      this.#origins.set(boot, origin)
      this.#isWritten = false
      const [oldest] = this.#origins.keys()
      if (this.#origins.size > MAX_STARTS) this.#origins.delete(oldest!)
    }
    if (!this.#isWritten) this.#write()
  }

  /** Before anything is dated by it, so that it is dated the same once more after a crash. */
  #write(): void {
    if (this.#path === undefined) return
    const rows = [...this.#origins].map(([boot, { originMs, toleranceMs }]) => ({
      boot,
      origin_ms: originMs,
      tolerance_ms: toleranceMs,
    }))
    try {
      replaceFile(this.#path, withSum(JSON.stringify(rows)))
      this.#isWritten = true
      this.#isFailing = false
    } catch (error) {
      if (!this.#isFailing)
        this.#onTrouble(`cannot write ${this.#path}: ${describeFileError(this.#path, error)}`)
      this.#isFailing = true
    }
  }
}

function read(path: string, onTrouble: (sentence: string) => void): z.output<typeof fileSchema> {
  try {
    return fileSchema.parse(JSON.parse(withoutSum(readFileSync(path, 'utf8')) ?? ''))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      onTrouble(`${path} cannot be read, or is damaged: what was known of this robot's clock is left out`)
    return []
  }
}
