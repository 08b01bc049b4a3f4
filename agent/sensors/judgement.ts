import type { HeartbeatBody } from '../../src/protocol/frames.ts'
import type { Reading } from './board.ts'

type Fault = NonNullable<HeartbeatBody['faults']>[number]

/** What the readings mean: a health, and what is wrong since when. */
export interface Judgement {
  readonly health: NonNullable<HeartbeatBody['health']>
  readonly faults: readonly Fault[]
}

interface Symptom {
  readonly code: string
  readonly message: string
  /** `wasSo`: the fault stands already; it takes a clearer value to end it than to begin it. */
  readonly isSo: (reading: Reading, wasSo: boolean) => boolean
}

const SYMPTOMS: readonly Symptom[] = [
  {
    code: 'disk_nearly_full',
    message: 'less than a twentieth of the disk is free',
    isSo: ({ system }, wasSo) => (system?.disk ?? 0) >= (wasSo ? 0.94 : 0.95),
  },
  {
    code: 'memory_nearly_full',
    message: 'programs can get hardly any more memory',
    isSo: ({ system }, wasSo) => (system?.memory ?? 0) >= (wasSo ? 0.94 : 0.96),
  },
  {
    code: 'hot',
    message: 'the processor is about to slow down or stop for heat',
    isSo: ({ system }, wasSo) => (system?.temperature_c ?? 0) >= (wasSo ? 88 : 92),
  },
  {
    code: 'battery_low',
    message: 'the battery is nearly empty and not charging',
    isSo: ({ battery }, wasSo) =>
      battery !== undefined && battery.charging !== true && battery.charge <= (wasSo ? 0.12 : 0.1),
  },
]

/** Judges a reading. A fault keeps the time it began while it lasts. */
export function judge(reading: Reading, before: readonly Fault[], at: string): Judgement {
  const faults = SYMPTOMS.flatMap(({ code, message, isSo }) => {
    const standing = before.find((fault) => fault.code === code)
    if (!isSo(reading, standing !== undefined)) return []
    return [standing ?? { code, level: 'warn' as const, message, since: at }]
  })
  return { health: faults.length > 0 ? 'warn' : 'ok', faults }
}
