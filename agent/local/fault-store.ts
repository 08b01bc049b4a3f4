import { z } from 'zod'
import { faultSchema } from '../../src/protocol/frames.ts'
import { KeptFile } from '../kept-file.ts'
import type { Log } from '../log.ts'
import type { Clock } from '../runtime.ts'
import { momentSchema } from '../server-time.ts'

/** A fault that the robot's software raised. `ttl_s` counts anew after a restart of the agent. `moment`: that of `since`. */
const keptFaultSchema = faultSchema.extend({ ttl_s: z.number().optional(), moment: momentSchema.optional() })
export type KeptFault = z.infer<typeof keptFaultSchema>

/** Keeps the standing faults of the robot's software over a restart of the agent. */
export interface FaultStore {
  read(): readonly KeptFault[]
  write(faults: readonly KeptFault[]): void
}

const fileSchema = z.object({ boot_id: z.string().nullable(), faults: z.array(z.unknown()) })

/**
 * Faults in a file. They end when the machine starts anew: whoever raised them is gone then, too, and would never clear
 * them, but raises them again if they still stand.
 */
export class FaultFile implements FaultStore {
  readonly #file: KeptFile
  readonly #bootId: string | null

  constructor(path: string, bootId: string | undefined, clock: Clock, log: Log) {
    this.#file = new KeptFile(path, clock, log)
    this.#bootId = bootId ?? null
  }

  read(): readonly KeptFault[] {
    const { data } = fileSchema.safeParse(this.#file.read())
    if (data?.boot_id !== this.#bootId) return []
    return data.faults.flatMap((fault) => keptFaultSchema.safeParse(fault).data ?? [])
  }

  write(faults: readonly KeptFault[]): void {
    this.#file.write(() => ({ boot_id: this.#bootId, faults }))
  }

  /** Writes what waits, and no more. */
  stop(): void {
    this.#file.stop()
  }
}
