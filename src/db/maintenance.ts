import type { Log } from '../observe/log.ts'
import type { Clock, Timer } from '../runtime.ts'
import type { Database } from './database.ts'
import type { Retention } from './heartbeat-packer.ts'
import { dropPackedPartitions, ensureHeartbeatPartitions } from './heartbeat-partitions.ts'
import { dropOldPartitions, HOURS, MINUTES, PACKS, type PartitionedTable } from './history-partitions.ts'
import { pruneIdempotentRequests, pruneRobotEvents, pruneSetAside } from './pruning.ts'
import { pruneSignIns } from './sign-ins.ts'

export interface MaintenanceOptions {
  readonly database: Database
  /** Connections that may make and drop the partitions of the history. */
  readonly upkeep: Database
  readonly clock: Clock
  /** Milliseconds since 1970, by which something is old. */
  readonly now: () => Promise<number>
  readonly retention: Retention
  readonly log: Log
}

export interface Maintenance {
  /** Resolves when heartbeats that arrive now have a partition to go to. Never rejects. */
  readonly ready: Promise<void>
  /** Waits for a pass that is running. */
  stop(): Promise<void>
}

const INTERVAL_MS = 10 * 60_000
/** When there may be no partition for the next heartbeat, ten minutes are too long. */
const RETRY_MS = 2_000
const EVENTS_KEPT_MS = 30 * 24 * 3_600_000
/** From an address that somebody signed in from before, they are let in sooner after others guessed. */
const SIGN_INS_KEPT_MS = 90 * 24 * 3_600_000
const IDEMPOTENT_KEPT_MS = 24 * 3_600_000
const PRUNE_LIMIT = 2_000
/** What is left after so many batches waits for the next pass. */
const MAX_BATCHES = 500

/** Keeps partitions ahead of the heartbeats and drops what is too old, once at the start and then every ten minutes. */
export function startMaintenance(options: MaintenanceOptions): Maintenance {
  const { clock } = options
  let timer: Timer | undefined
  let stopped = false
  let becomeReady = () => {}
  const ready = new Promise<void>((resolve) => {
    becomeReady = resolve
  })
  const begin = () => {
    running = pass()
  }
  const pass = async () => {
    const ensured = await attempt(options, 'make partitions', async () => {
      const made = await ensureHeartbeatPartitions(options.upkeep, clock.now())
      if (made.length > 0) options.log.info({ partitions: made }, 'partitions were made')
    })
    if (ensured) {
      becomeReady()
      await tidy(options, () => stopped)
    }
    if (!stopped) timer = clock.after(ensured ? INTERVAL_MS : RETRY_MS, begin)
  }
  let running = pass()
  return {
    ready,
    async stop() {
      stopped = true
      timer?.cancel()
      await running
      becomeReady()
    },
  }
}

async function tidy(options: MaintenanceOptions, isStopped: () => boolean): Promise<void> {
  const { database, upkeep, retention, log } = options
  const drop = (what: string, work: () => Promise<string[]>) =>
    attempt(options, `drop ${what}`, async () => {
      const dropped = await work()
      if (dropped.length > 0) log.info({ partitions: dropped }, `dropped ${what}`)
    })
  const dropOld = (table: PartitionedTable, keptMs: number) => async () =>
    dropOldPartitions(upkeep, table, await options.now(), keptMs)
  await drop('packed heartbeats', async () =>
    dropPackedPartitions(upkeep, await options.now(), retention.rawMs),
  )
  await drop('old packs', dropOld(PACKS, retention.rawMs))
  await drop('old minutes', dropOld(MINUTES, retention.minutesMs))
  await drop('old hours', dropOld(HOURS, retention.hoursMs))
  const prune = async (deleteSome: typeof pruneRobotEvents, keptMs: number, from = database) => {
    const before = new Date((await options.now()) - keptMs)
    for (let batch = 0; batch < MAX_BATCHES && !isStopped(); batch++)
      if ((await deleteSome(from, before, PRUNE_LIMIT)) < PRUNE_LIMIT) return
  }
  await attempt(options, 'prune heartbeats', () => prune(pruneSetAside, retention.rawMs, upkeep))
  await attempt(options, 'prune events', () => prune(pruneRobotEvents, EVENTS_KEPT_MS))
  await attempt(options, 'prune sign-ins', () => prune(pruneSignIns, SIGN_INS_KEPT_MS))
  await attempt(options, 'prune remembered answers', () => prune(pruneIdempotentRequests, IDEMPOTENT_KEPT_MS))
}

async function attempt(
  { log }: MaintenanceOptions,
  what: string,
  work: () => Promise<void>,
): Promise<boolean> {
  try {
    await work()
    return true
  } catch (error) {
    log.error({ err: error }, `cannot ${what}; it is tried again`)
    return false
  }
}
