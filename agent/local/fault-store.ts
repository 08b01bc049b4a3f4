import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { faultSchema } from '../../src/protocol/frames.ts'
import { replaceFile } from '../files.ts'
import type { Log } from '../log.ts'
import type { Clock, Timer } from '../runtime.ts'
import { describeError } from '../text.ts'

/** A fault that the robot's software raised. `ttl_s` counts anew after a restart of the agent. */
const keptFaultSchema = faultSchema.extend({ ttl_s: z.number().optional() })
export type KeptFault = z.infer<typeof keptFaultSchema>

/** Keeps the standing faults of the robot's software over a restart of the agent. */
export interface FaultStore {
  read(): readonly KeptFault[]
  write(faults: readonly KeptFault[]): void
}

/** Written at most so often, for the sake of flash memory; a fault of the last moments may be lost with the power. */
const WRITE_PAUSE_MS = 2_000

const fileSchema = z.object({ boot_id: z.string().nullable(), faults: z.array(z.unknown()) })

/**
 * Faults in a file. They end when the machine starts anew: whoever raised them is gone then, too, and would never clear
 * them, but raises them again if they still stand.
 */
export class FaultFile implements FaultStore {
  readonly #path: string
  readonly #bootId: string | undefined
  readonly #clock: Clock
  readonly #log: Log
  #waiting: readonly KeptFault[] | undefined
  #timer: Timer | undefined

  constructor(path: string, bootId: string | undefined, clock: Clock, log: Log) {
    this.#path = path
    this.#bootId = bootId
    this.#clock = clock
    this.#log = log
  }

  read(): readonly KeptFault[] {
    try {
      const parsed = fileSchema.safeParse(JSON.parse(readFileSync(this.#path, 'utf8')))
      if (!parsed.success || parsed.data.boot_id !== (this.#bootId ?? null)) return []
      return parsed.data.faults.flatMap((fault) => keptFaultSchema.safeParse(fault).data ?? [])
    } catch {
      // Faults that cannot be read any more are raised again by those whom they concern.
      return []
    }
  }

  /** Writes at once when the last time is long enough ago, else soon. */
  write(faults: readonly KeptFault[]): void {
    this.#waiting = faults
    if (this.#timer) return
    this.flush()
    this.#timer = this.#clock.after(WRITE_PAUSE_MS, () => {
      this.#timer = undefined
      if (this.#waiting) this.write(this.#waiting)
    })
  }

  /** Writes what waits, at the end. */
  flush(): void {
    const faults = this.#waiting
    if (!faults) return
    this.#waiting = undefined
    try {
      replaceFile(this.#path, `${JSON.stringify({ boot_id: this.#bootId ?? null, faults })}\n`)
    } catch (error) {
      this.#log.warn(`cannot keep the faults in ${this.#path}: ${describeError(error)}`)
    }
  }

  /** Writes what waits and starts no more timers. */
  stop(): void {
    this.flush()
    this.#timer?.cancel()
    this.#timer = undefined
  }
}
