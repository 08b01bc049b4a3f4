import { monitorEventLoopDelay } from 'node:perf_hooks'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { packSome, type Retention } from '../../src/db/heartbeat-packer.ts'
import { closePartition } from '../../src/db/heartbeat-partitions.ts'
import { ensurePartitions, HEARTBEATS } from '../../src/db/history-partitions.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { type Clock, systemClock, systemRandom } from '../../src/runtime.ts'
import { databaseCpuSeconds, withConnection } from './database.ts'
import { drivingRobot } from './heartbeat-bodies.ts'

export const HOUR_MS = 3_600_000
export const DAY_MS = 24 * HOUR_MS
const INTERVAL_MS = 10_000
const ROWS_AT_ONCE = 2_000

export const KEPT: Retention = { rawMs: 2 * DAY_MS, minutesMs: 14 * DAY_MS, hoursMs: 400 * DAY_MS }

export interface Packed {
  readonly heartbeats: number
  readonly seconds: number
  readonly nodeSeconds: number
  readonly databaseSeconds: number
  /** Of the event loop. */
  readonly turnP99Ms: number
}

/** A history that a bench fills, on a clock of its own. */
export interface BenchHistory {
  readonly database: Database
  /** Heartbeats of robots every ten seconds from `from` to `to` on their clocks; they arrive at `receivedAt`, or then. */
  fill(robots: readonly string[], from: number, to: number, receivedAt?: number): Promise<number>
  /** Closes all that was over at `now`, and packs it. */
  pack(now: number, retention?: Retention): Promise<Packed>
  bytesOf(table: string): Promise<number>
  end(): Promise<void>
}

export async function openBenchHistory(url: string): Promise<BenchHistory> {
  const pool = openPool({
    url,
    name: 'beacon bench',
    maxConnections: 4,
    statementTimeoutMs: 600_000,
    idleInTransactionMs: 600_000,
    onIdleError: () => {},
  })
  const database = openDatabase(pool)
  const databaseSeconds = await databaseCpuSeconds(url)
  const metrics = createMetrics()
  return {
    database,
    async fill(robots, from, to, receivedAt) {
      const arrivals = receivedAt === undefined ? [from, to - 1] : [receivedAt]
      const hours = Array.from(
        { length: Math.ceil((to - from) / HOUR_MS) },
        (_, hour) => from + hour * HOUR_MS,
      )
      await ensurePartitions(database, HEARTBEATS, async () => (receivedAt === undefined ? hours : arrivals))
      const nexts = robots.map(() => drivingRobot(systemRandom))
      const offsets = robots.map(() => Math.floor(systemRandom.fraction() * INTERVAL_MS))
      let rows: [string, string, string, number, string][] = []
      let count = 0
      await withConnection(url, async (connection) => {
        const store = async () => {
          await connection.query(
            `INSERT INTO heartbeats (robot_id, received_at, at, session_no, seq, body)
             SELECT robot_id, received_at, at, 1, seq, body::jsonb
             FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], string_to_array($5, E'\\x1e'))
               AS given (robot_id, received_at, at, seq, body)`,
            [
              rows.map((row) => row[0]),
              rows.map((row) => row[1]),
              rows.map((row) => row[2]),
              rows.map((row) => row[3]),
              rows.map((row) => row[4]).join('\u001e'),
            ],
          )
          rows = []
        }
        for (let time = from; time < to; time += INTERVAL_MS)
          for (const [index, robot] of robots.entries()) {
            const at = time + offsets[index]! + Math.round(systemRandom.fraction() * 4)
            const arrival = receivedAt ?? Math.min(at + 5 + Math.round(systemRandom.fraction() * 20), to - 1)
            count += 1
            rows.push([
              robot,
              new Date(arrival).toISOString(),
              new Date(Math.min(at, to - 1)).toISOString(),
              Math.floor(time / INTERVAL_MS),
              JSON.stringify(nexts[index]!()),
            ])
            if (rows.length === ROWS_AT_ONCE) await store()
          }
        if (rows.length > 0) await store()
      })
      return count
    },
    async pack(now, retention = KEPT) {
      const clock: Clock = { ...systemClock, now: () => now }
      const log = createLog('warn')
      while ((await closePartition(database, now)) !== undefined);
      const before = { at: performance.now(), cpu: process.cpuUsage(), database: databaseSeconds() }
      const packedBefore = await packedCount()
      const turns = monitorEventLoopDelay({ resolution: 1 })
      turns.enable()
      const options = { upkeep: database, clock, now: async () => now, retention, log, metrics }
      while ((await packSome(options)) !== 'idle');
      turns.disable()
      const cpu = process.cpuUsage(before.cpu)
      return {
        heartbeats: (await packedCount()) - packedBefore,
        seconds: (performance.now() - before.at) / 1000,
        nodeSeconds: (cpu.user + cpu.system) / 1e6,
        databaseSeconds: databaseSeconds() - before.database,
        turnP99Ms: turns.percentile(99) / 1e6,
      }
      async function packedCount(): Promise<number> {
        const { values } = await metrics.heartbeatsPacked.get()
        return values[0]?.value ?? 0
      }
    },
    bytesOf: (table) =>
      withConnection(url, async (connection) => {
        const { rows } = await connection.query(
          'SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::float8 AS bytes FROM pg_inherits WHERE inhparent = $1::regclass',
          [table],
        )
        return rows[0].bytes
      }),
    end: () => pool.end(),
  }
}
