import { statfs } from 'node:fs/promises'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Timer } from '../runtime.ts'
import type { Database } from './database.ts'
import { readHistorySizes } from './history-size.ts'

export interface DiskSpace {
  readonly freeBytes: number
  readonly totalBytes: number
}

export interface DiskWatchOptions {
  readonly database: Database
  /** Where the server's own PostgreSQL lives; undefined: the database is another's, and only its size is told. */
  readonly folder: string | undefined
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Pick<Metrics, 'historyBytes' | 'diskFreeBytes' | 'diskBytes'>
  readonly spaceOf?: (folder: string) => Promise<DiskSpace>
}

export interface DiskWatch {
  /** Waits for a look that is under way. */
  stop(): Promise<void>
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const INTERVAL_MS = 10 * 60_000
/** Growth is judged over as long: hours that come and go as partitions do even out. */
const LOOK_BACK_MS = DAY_MS
const SHORTEST_LOOK_MS = 3 * HOUR_MS
/** What stands is said again after as long. */
const SAID_AGAIN_MS = DAY_MS

const LOW_SHARE = 0.1
const LOW_DAYS = 7

async function spaceOf(folder: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(folder)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}

/**
 * What is wrong with the room on a disk, in words for its owner, or undefined. `growth`: bytes a day, where it is known.
 */
export function judgeSpace(
  { freeBytes, totalBytes }: DiskSpace,
  growth: number | undefined,
): string | undefined {
  const days = growth !== undefined && growth > 0 ? freeBytes / growth : undefined
  if (days !== undefined && days < LOW_DAYS)
    return `the disk with the database is full in ${days < 1 ? 'less than a day' : `about ${Math.round(days)} days`} if it goes on like this`
  if (freeBytes < totalBytes * LOW_SHARE)
    return `the disk with the database has ${Math.floor((freeBytes / totalBytes) * 100)} % left`
  return undefined
}

/** Measures the history and the disk it is on, now and then every ten minutes, and warns before that is full. */
export function startDiskWatch(options: DiskWatchOptions): DiskWatch {
  const { database, folder, clock, log, metrics } = options
  const looks: { readonly at: number; readonly freeBytes: number }[] = []
  let saidAt = Number.NEGATIVE_INFINITY
  let timer: Timer | undefined
  let stopped = false

  async function measure(): Promise<void> {
    const sizes = await readHistorySizes(database)
    for (const [level, bytes] of Object.entries(sizes)) metrics.historyBytes.set({ level }, bytes)
    if (folder === undefined) return
    const space = await (options.spaceOf ?? spaceOf)(folder)
    metrics.diskFreeBytes.set({ folder: 'data' }, space.freeBytes)
    metrics.diskBytes.set({ folder: 'data' }, space.totalBytes)
    const at = clock.monotonic()
    looks.push({ at, freeBytes: space.freeBytes })
    while (looks.length > 1 && at - looks[0]!.at > LOOK_BACK_MS) looks.shift()
    const [first] = looks
    const tookMs = at - first!.at
    const growth =
      tookMs < SHORTEST_LOOK_MS ? undefined : ((first!.freeBytes - space.freeBytes) / tookMs) * DAY_MS
    const finding = judgeSpace(space, growth)
    if (finding === undefined || at - saidAt < SAID_AGAIN_MS) return
    saidAt = at
    log.warn(
      {
        free_bytes: space.freeBytes,
        growth_bytes_per_day: growth && Math.round(growth),
        history_bytes: sizes,
      },
      `${finding}: make room, or keep less with BEACON_HISTORY_HOURS, BEACON_HISTORY_MINUTES_DAYS and BEACON_HISTORY_HOURS_DAYS`,
    )
  }

  const begin = () => {
    running = look()
  }
  const look = async () => {
    await measure().catch((error: unknown) => {
      if (!stopped) log.warn({ err: error }, 'cannot measure the history; it is tried again')
    })
    if (!stopped) timer = clock.after(INTERVAL_MS, begin)
  }
  let running = look()
  return {
    async stop() {
      stopped = true
      timer?.cancel()
      await running
    },
  }
}
