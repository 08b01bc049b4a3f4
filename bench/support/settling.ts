import { setTimeout as sleep } from 'node:timers/promises'
import { cpuSecondsOf, residentBytesOf } from './proc.ts'

/** Memory is settled when it changed by less than this for so long; garbage is collected meanwhile or never. */
const SETTLED_BYTES = 512 * 1024
const SETTLED_MS = 3_000
const PATIENCE_MS = 12_000
const LOOK_EVERY_MS = 250
/** A gateway collects the garbage of a storm 10 to 20 s after it, and once more a second later. */
const STORM_OVER_MS = 22_000

/** Resident bytes of a process in which many sessions were opened just now, once they no longer change. */
export async function settledBytesAfterStorm(pid: number): Promise<number> {
  await sleep(STORM_OVER_MS)
  return settledBytesOf(pid)
}

/** Resident bytes of a process, once they no longer change. */
export async function settledBytesOf(pid: number): Promise<number> {
  let [low, high] = [Number.POSITIVE_INFINITY, 0]
  let settledFor = 0
  for (let waited = 0; ; waited += LOOK_EVERY_MS) {
    const bytes = residentBytesOf(pid)
    low = Math.min(low, bytes)
    high = Math.max(high, bytes)
    if (high - low > SETTLED_BYTES) {
      ;[low, high] = [bytes, bytes]
      settledFor = 0
    }
    if (settledFor >= SETTLED_MS || waited >= PATIENCE_MS) return bytes
    await sleep(LOOK_EVERY_MS)
    settledFor += LOOK_EVERY_MS
  }
}

/** Waits until a process does next to nothing, so that what it still owes to the last round is not in the next. */
export async function untilQuiet(pids: readonly number[], patienceMs = 10_000): Promise<void> {
  const used = () => pids.reduce((sum, pid) => sum + cpuSecondsOf(pid), 0)
  for (let waited = 0, before = used(); waited < patienceMs; waited += LOOK_EVERY_MS) {
    await sleep(LOOK_EVERY_MS)
    const now = used()
    if ((now - before) * 1000 < LOOK_EVERY_MS * 0.05) return
    before = now
  }
}
