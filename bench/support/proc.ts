import { readdirSync, readFileSync } from 'node:fs'

/** Linux counts processor time in ticks of 10 ms. */
const TICKS_PER_SECOND = 100

interface ProcessTimes {
  readonly parent: number
  /** Of the process with all its threads. */
  readonly own: number
  /** Of `own`, what the kernel took on its behalf. */
  readonly kernel: number
  /** Of its children that have ended and were waited for. */
  readonly ended: number
}

function timesOf(pid: number): ProcessTimes | undefined {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The program's name stands in brackets and may hold anything.
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  const [parent, user, system, endedUser, endedSystem] = [1, 11, 12, 13, 14].map((place) => fields[place]!)
  return {
    parent: parent!,
    own: (user! + system!) / TICKS_PER_SECOND,
    kernel: system! / TICKS_PER_SECOND,
    ended: (endedUser! + endedSystem!) / TICKS_PER_SECOND,
  }
}

export function parentOf(pid: number): number {
  const times = timesOf(pid)
  if (!times) throw new Error(`process ${pid} is gone`)
  return times.parent
}

/** Processor seconds that the kernel has used on behalf of a process: for sockets, above all. In ticks of 10 ms. */
export function kernelSecondsOf(pid: number): number {
  const times = timesOf(pid)
  if (!times) throw new Error(`process ${pid} is gone`)
  return times.kernel
}

/** Processor seconds that a process has used, with all its threads, without its children. To the nanosecond. */
export function cpuSecondsOf(pid: number): number {
  let nanoseconds = 0
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const [running] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ', 1)
    nanoseconds += Number(running)
  }
  return nanoseconds / 1e9
}

/** The same with its children that have ended, whose time is counted in ticks of 10 ms. */
export function cpuSecondsWithChildrenOf(pid: number): number {
  const times = timesOf(pid)
  if (!times) throw new Error(`process ${pid} is gone`)
  return cpuSecondsOf(pid) + times.ended
}

/** Processor seconds of a process and all that it started, ended ones included. */
export function cpuSecondsOfTree(root: number): number {
  const all = new Map<number, ProcessTimes>()
  for (const name of readdirSync('/proc')) {
    const times = /^\d+$/.test(name) ? timesOf(Number(name)) : undefined
    if (times) all.set(Number(name), times)
  }
  const below = (pid: number | undefined): boolean =>
    pid === root || (pid !== undefined && pid > 1 && below(all.get(pid)?.parent))
  let seconds = 0
  for (const [pid, times] of all) if (below(pid)) seconds += times.own + times.ended
  return seconds
}

/** Processor seconds that the whole machine has used. */
export function cpuSecondsOfMachine(): number {
  const line = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]!
  const [user, nice, system, , , irq, softirq] = line.split(/ +/).slice(1).map(Number)
  return (user! + nice! + system! + irq! + softirq!) / TICKS_PER_SECOND
}

/** Bytes of a process that are in memory, those that it shares with others included. */
export function residentBytesOf(pid: number): number {
  const kilobytes = /^Rss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]
  if (kilobytes === undefined) throw new Error(`the memory of process ${pid} cannot be read`)
  return Number(kilobytes) * 1024
}
