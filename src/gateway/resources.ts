import { readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { getHeapStatistics } from 'node:v8'
import { descriptorLimit } from '../descriptor-limit.ts'

/** What this process has and how much of it is in use. Each reading costs some microseconds. */
export interface Resources {
  /** File descriptors that this process may have open; undefined where it cannot be known. */
  readonly descriptorLimit: number | undefined
  /** Those that are open now; undefined where it cannot be known. */
  openDescriptors(): number | undefined
  /** Counting them costs microseconds, however many there are, and not milliseconds. */
  readonly countsCheaply: boolean
  /** Of V8's heap, from 0 to 1. */
  heapShare(): number
  /** Of the memory that the machine, or a limit over this process, grants; 0 where it cannot be known. */
  memoryShare(): number
  /** Mean delay of a turn of the event loop since the last reading, in milliseconds. */
  eventLoopDelayMs(): number
  /** Ends measuring. */
  stop(): void
}

const LOOP_RESOLUTION_MS = 20

/** The readings of this process. Where the system has no /proc, less is known, and nothing is made up. */
export function systemResources(root = '/'): Resources {
  const loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
  loop.enable()
  let turnsBefore = 0
  let lastedBefore = 0
  const groups = limitedGroups(root)
  const limit = descriptorLimit(root)
  return {
    descriptorLimit: limit,
    openDescriptors: () => openDescriptors(root, limit),
    countsCheaply: knownDescriptors(root) !== undefined,
    heapShare() {
      const { used_heap_size: used, heap_size_limit: limit } = getHeapStatistics()
      return used / limit
    },
    memoryShare: () => Math.max(machineShare(root), ...groups.map(groupShare)),
    eventLoopDelayMs() {
      // By differences: a reset would lose the turn that goes on, and with slow turns that is all there is.
      const turns = loop.count - turnsBefore
      if (turns === 0) return 0
      const lasted = loop.count * loop.mean
      const meanMs = (lasted - lastedBefore) / turns / 1e6
      turnsBefore = loop.count
      lastedBefore = lasted
      return Math.max(meanMs - LOOP_RESOLUTION_MS, 0)
    },
    stop: () => loop.disable(),
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

function readNumber(path: string): number | undefined {
  const text = read(path)?.trim()
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined
}

const descriptorFolder = (root: string) => join(root, 'proc/self/fd')

/** Linux 6.2 and later say how many there are without naming them. */
function knownDescriptors(root: string): number | undefined {
  try {
    return statSync(descriptorFolder(root)).size || undefined
  } catch {
    return undefined
  }
}

function openDescriptors(root: string, limit: number | undefined): number | undefined {
  const known = knownDescriptors(root)
  if (known !== undefined) return known
  for (const folder of [descriptorFolder(root), '/dev/fd'])
    try {
      return readdirSync(folder).length
    } catch (error) {
      // Not even one is left to count them with.
      if ((error as NodeJS.ErrnoException).code === 'EMFILE') return limit
    }
  return undefined
}

function machineShare(root: string): number {
  const text = read(join(root, 'proc/meminfo'))
  const amount = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB`, 'm').exec(text ?? '')?.[1])
  const share = 1 - amount('MemAvailable') / amount('MemTotal')
  return Number.isFinite(share) ? share : 0
}

/** A control group with a memory limit over this process. */
interface LimitedGroup {
  readonly limit: number
  readonly usage: string
  readonly stat: string
  /** Pages of files in `stat` that the kernel gives back as soon as memory is needed. */
  readonly reclaimable: RegExp
}

function groupShare({ limit, usage, stat, reclaimable }: LimitedGroup): number {
  const used = readNumber(usage)
  if (used === undefined) return 0
  const cached = Number(reclaimable.exec(read(stat) ?? '')?.[1] ?? 0)
  return Math.max(used - cached, 0) / limit
}

/** All groups above this process whose memory is limited, in either version of control groups. */
function limitedGroups(root: string): LimitedGroup[] {
  const lines = read(join(root, 'proc/self/cgroup'))?.split('\n') ?? []
  return lines.flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? []
    if (controllers === undefined || path === undefined) return []
    if (controllers === '') {
      return groupsFrom(path, join(root, 'sys/fs/cgroup'), {
        limit: 'memory.max',
        usage: 'memory.current',
        reclaimable: /^inactive_file (\d+)$/m,
      })
    }
    if (!controllers.split(',').includes('memory')) return []
    return groupsFrom(path, join(root, 'sys/fs/cgroup/memory'), {
      limit: 'memory.limit_in_bytes',
      usage: 'memory.usage_in_bytes',
      reclaimable: /^total_inactive_file (\d+)$/m,
    })
  })
}

/** Version 1 says "no limit" with a number near 2^63. */
const NO_LIMIT = 2 ** 60

function groupsFrom(
  path: string,
  mount: string,
  names: { readonly limit: string; readonly usage: string; readonly reclaimable: RegExp },
): LimitedGroup[] {
  const groups: LimitedGroup[] = []
  // Within a container the path may be the host's, of which only the end, the mount itself, is to be seen.
  for (let at = path; ; at = dirname(at)) {
    const folder = join(mount, at)
    const limit = readNumber(join(folder, names.limit))
    if (limit !== undefined && limit > 0 && limit < NO_LIMIT)
      groups.push({
        limit,
        usage: join(folder, names.usage),
        stat: join(folder, 'memory.stat'),
        reclaimable: names.reclaimable,
      })
    if (at === '/' || at === '.') return groups
  }
}
