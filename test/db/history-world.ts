import { type PackerOptions, packSome, type Retention } from '../../src/db/heartbeat-packer.ts'
import {
  closePartition,
  dropPackedPartitions,
  ensureHeartbeatPartitions,
} from '../../src/db/heartbeat-partitions.ts'
import type { HeartbeatRow } from '../../src/db/heartbeat-writes.ts'
import { dropPartitions, HEARTBEATS } from '../../src/db/history-partitions.ts'
import { type HeartbeatSender, HeartbeatWriter } from '../../src/gateway/heartbeat-writer.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { systemClock } from '../../src/runtime.ts'
import { ManualClock } from '../support/clock.ts'
import { insertRobotsInSession, SESSION_NO } from '../support/heartbeats.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import { RETENTION } from '../support/retention.ts'

export const MINUTE = 60_000
export const HOUR = 60 * MINUTE
export const DAY = 24 * HOUR

/** What is told to robots: the numbers that were acknowledged. */
class Sender implements HeartbeatSender {
  heartbeatGroup = 0
  readonly told: (number | 'fenced' | 'rejected')[] = []

  heartbeatsStored(seq: number): void {
    this.told.push(seq)
  }
  heartbeatRejected(): void {
    this.told.push('rejected')
  }
  fenced(): void {
    this.told.push('fenced')
  }
}

export interface SentBeat {
  readonly robotId: string
  readonly atMs: number
  readonly seq: number
  readonly body: Readonly<Record<string, unknown>>
  /** When it arrives; default: now. */
  readonly receivedAt?: number
}

/** A database with the history of some robots, the parts that write, pack and drop it, and a clock that is moved by hand. */
export interface HistoryWorld {
  readonly db: TestDatabase
  readonly clock: ManualClock
  readonly metrics: ReturnType<typeof createMetrics>
  addRobots(count: number): Promise<string[]>
  /** As the gateway does with what robots send; answers what they are told, one after the other. */
  send(beats: readonly SentBeat[], resent?: boolean): Promise<Sender['told']>
  /** Closes what is over and packs all of it. */
  packAll(retention?: Retention): Promise<void>
  closeAll(): Promise<string[]>
  readonly packing: PackerOptions
  packSome(robots?: number): Promise<string>
  /** Moves time on, with partitions made ahead. */
  advance(ms: number): Promise<void>
  dropPacked(): Promise<string[]>
  end(): Promise<void>
}

export async function createHistoryWorld(begin = '2030-03-01T12:30:00Z'): Promise<HistoryWorld> {
  const db = await createTestDatabase()
  const clock = new ManualClock(begin)
  const metrics = createMetrics()
  const log = createLog('silent')
  // Those of the present, which the copied database comes with.
  await dropPartitions(db.database, HEARTBEATS, () => true)
  await ensureHeartbeatPartitions(db.database, clock.now())
  const writer = new HeartbeatWriter(
    db.database,
    {
      // What is tried again waits for a moment, and not for the test.
      clock: { ...systemClock, now: () => clock.now(), sleep: (_, signal) => systemClock.sleep(1, signal) },
      log,
      metrics,
      signal: new AbortController().signal,
    },
    () => {},
  )
  const closeAll = async () => {
    const names: string[] = []
    for (;;) {
      const name = await closePartition(db.database, clock.now())
      if (name === undefined) return names
      names.push(name)
    }
  }
  const packing: PackerOptions = {
    upkeep: db.database,
    clock,
    now: async () => clock.now(),
    retention: RETENTION,
    log,
    metrics,
  }
  const pack = (robots?: number, retention: Retention = RETENTION) =>
    packSome({ ...packing, retention }, robots)
  return {
    db,
    clock,
    metrics,
    addRobots: (count) => insertRobotsInSession(db.database, count),
    async send(beats, resent = false) {
      const senders = new Map(beats.map(({ robotId }) => [robotId, new Sender()]))
      for (const { robotId, atMs, seq, body, receivedAt = clock.now() } of beats) {
        const row: HeartbeatRow = {
          robotId,
          sessionNo: SESSION_NO,
          seq,
          at: new Date(atMs).toISOString(),
          receivedAt,
          health: 'ok',
          body: JSON.stringify(body),
          recheck: resent,
          latest: !resent,
        }
        writer.add({ ...row, sender: senders.get(robotId)! })
      }
      await writer.flush()
      return [...senders.values()].flatMap(({ told }) => told)
    },
    closeAll,
    packing,
    packSome: pack,
    async packAll(retention) {
      await closeAll()
      while ((await pack(undefined, retention)) !== 'idle');
    },
    async advance(ms) {
      for (let left = ms; left > 0; left -= 6 * HOUR) {
        clock.advance(Math.min(left, 6 * HOUR))
        await ensureHeartbeatPartitions(db.database, clock.now())
      }
    },
    dropPacked: () => dropPackedPartitions(db.database, clock.now(), RETENTION.rawMs),
    end: () => db.drop(),
  }
}
