import { statfs } from 'node:fs/promises'
import { cpus, freemem, loadavg, totalmem, uptime } from 'node:os'
import type { Sensor } from './board.ts'
import { readText } from './kernel-files.ts'

interface CpuTimes {
  readonly busy: number
  readonly total: number
}

/** Share of processor time used since the reading before; nothing the first time. */
export function cpuSensor(readTimes: () => Promise<CpuTimes | undefined> = cpuTimes): Sensor {
  let before: CpuTimes | undefined
  return async () => {
    const now = await readTimes()
    const then = before
    before = now
    if (!now || !then || now.total <= then.total) return {}
    return { system: { cpu: share(now.busy - then.busy, now.total - then.total) } }
  }
}

async function cpuTimes(): Promise<CpuTimes | undefined> {
  const stat = await readText('/proc/stat')
  if (stat !== undefined) return cpuTimesIn(stat)
  // os.cpus() costs a millisecond and more on large machines: only where there is no /proc/stat.
  const times = cpus().map((cpu) => cpu.times)
  const sum = (pick: (time: (typeof times)[number]) => number) =>
    times.reduce((total, time) => total + pick(time), 0)
  const idle = sum((time) => time.idle)
  const busy = sum((time) => time.user + time.nice + time.sys + time.irq)
  return { busy, total: busy + idle }
}

/** The first line of /proc/stat: user nice system idle iowait irq softirq steal, in ticks. */
export function cpuTimesIn(stat: string): CpuTimes | undefined {
  const found = /^cpu +([\d ]+)/.exec(stat)
  if (!found) return undefined
  const ticks = found[1]!.trim().split(/ +/).slice(0, 8).map(Number)
  const total = ticks.reduce((sum, tick) => sum + tick, 0)
  const idle = (ticks[3] ?? 0) + (ticks[4] ?? 0)
  return { busy: total - idle, total }
}

/** Share of memory that programs could not get any more. */
export const memorySensor: Sensor = async () => {
  const available = /^MemAvailable: +(\d+) kB$/m.exec((await readText('/proc/meminfo')) ?? '')
  const free = available ? Number(available[1]) * 1_024 : freemem()
  return { system: { memory: share(totalmem() - free, totalmem()) } }
}

/** Share of the disk under a folder that is full, as `df` counts. */
export function diskSensor(folder: string): Sensor {
  return async () => {
    const disk = await statfs(folder)
    const used = disk.blocks - disk.bfree
    return used + disk.bavail > 0 ? { system: { disk: share(used, used + disk.bavail) } } : {}
  }
}

/** Load and uptime, where the platform has them. */
export const loadSensor: Sensor = async () => {
  const uptimeSeconds = Math.floor(uptime())
  if (process.platform === 'win32') return { system: { uptime_s: uptimeSeconds } }
  return { system: { load_1m: Number(loadavg()[0]!.toFixed(2)), uptime_s: uptimeSeconds } }
}

/** A share between 0 and 1 with three places: more would be noise on the wire. */
function share(part: number, whole: number): number {
  return Number(Math.min(1, Math.max(0, part / whole)).toFixed(3))
}
