import { readdirSync, readFileSync } from 'node:fs'
import { fieldsOf } from './memory.ts'
import { cpuSecondsWithChildrenOf } from './proc.ts'

const MIB = 2 ** 20

/** What a process takes at one moment. */
export interface ProcessLook {
  readonly residentMiB: number
  /** The most since its start. */
  readonly peakMiB: number
  /** What it shares with others counted in parts. */
  readonly proportionalMiB: number
  /** Not backed by a file, and so nothing that the kernel could take back where there is no swap. */
  readonly anonymousMiB: number
  /** Since its start, with its children that have ended. */
  readonly cpuSeconds: number
  /** What it has had written to disks since its start. */
  readonly writtenBytes: number
  readonly descriptors: number
  readonly threads: number
}

export function lookAt(pid: number): ProcessLook {
  const memory = fieldsOf(`/proc/${pid}/smaps_rollup`)
  const mib = (name: string) => (memory.get(name) ?? Number.NaN) / MIB
  const written = /^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))
  return {
    residentMiB: mib('Rss'),
    peakMiB: (fieldsOf(`/proc/${pid}/status`).get('VmHWM') ?? Number.NaN) / MIB,
    proportionalMiB: mib('Pss'),
    anonymousMiB: mib('Anonymous'),
    cpuSeconds: cpuSecondsWithChildrenOf(pid),
    writtenBytes: Number(written?.[1]),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    threads: readdirSync(`/proc/${pid}/task`).length,
  }
}
