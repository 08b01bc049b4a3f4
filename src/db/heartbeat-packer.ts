import { setImmediate as nextTurn } from 'node:timers/promises'
import type { JsonObject } from '../history/columns.ts'
import { packBeats, takeApart } from '../history/pack.ts'
import { packTally, unpackTally } from '../history/rollup.ts'
import { addBeats, Tally } from '../history/tally.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Timer } from '../runtime.ts'
import type { Database } from './database.ts'
import {
  advancePacking,
  BETWEEN_BEATS,
  BETWEEN_FIELDS,
  beginPacking,
  findRollups,
  insertPacks,
  nextRobots,
  type Packing,
  type PackRow,
  putRollups,
  type RollupKey,
  type RollupTable,
  readUnpacked,
  type UnpackedRow,
} from './heartbeat-packing.ts'
import { closePartition } from './heartbeat-partitions.ts'
import { ensurePartitionsAt, HOURS, MINUTES, PACKS, type PartitionedTable } from './history-partitions.ts'

/** How long each level of the history is kept, in milliseconds. */
export interface Retention {
  readonly rawMs: number
  readonly minutesMs: number
  readonly hoursMs: number
}

export interface PackerOptions {
  /** Connections that own the tables of the history. */
  readonly upkeep: Database
  readonly clock: Clock
  readonly retention: Retention
  readonly log: Log
  readonly metrics: Pick<Metrics, 'heartbeatsPacked' | 'packSeconds'>
}

export interface Packer {
  /** Waits for a transaction that is running. */
  stop(): Promise<void>
}

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
const INTERVAL_MS = MINUTE_MS
/** One transaction packs the heartbeats of so many robots at the most. */
const ROBOTS = 32
/** Packs that are in memory at once, besides what they become. */
const PORTION = 4
/** Heartbeats of robots whose clock is ahead by more are in no roll-up. */
const AHEAD_MS = DAY_MS

/** Closes and packs what is due, now and then every minute. Never rejects. */
export function startPacker(options: PackerOptions): Packer {
  const { clock, log } = options
  const abort = new AbortController()
  let timer: Timer | undefined
  const begin = () => {
    running = pass()
  }
  const pass = async () => {
    try {
      for (let name = await closePartition(options.upkeep, clock.now()); name !== undefined; ) {
        log.debug({ partition: name }, 'a partition of heartbeats was closed')
        name = await closePartition(options.upkeep, clock.now())
      }
      await packAll(options, abort.signal)
    } catch (error) {
      if (!abort.signal.aborted) log.error({ err: error }, 'cannot pack heartbeats; it is tried again')
    }
    if (!abort.signal.aborted) timer = clock.after(INTERVAL_MS, begin)
  }
  let running = pass()
  return {
    async stop() {
      abort.abort()
      timer?.cancel()
      await running
    },
  }
}

async function packAll(options: PackerOptions, signal: AbortSignal): Promise<void> {
  const { clock } = options
  while (!signal.aborted) {
    const begunAt = clock.monotonic()
    const outcome = await packSome(options)
    if (outcome === 'idle' || outcome === 'busy') return
    // Half of the time is for others.
    const took = clock.monotonic() - begunAt
    if (took > 0) await clock.sleep(took, signal).catch(() => {})
  }
}

/**
 * Packs the heartbeats of the next robots, in one transaction: whatever ends it in the middle, nothing of it was. `busy`:
 * another server packs. `idle`: all that is closed is packed.
 */
export async function packSome(
  options: Omit<PackerOptions, 'log'>,
  robots = ROBOTS,
): Promise<'packed' | 'busy' | 'idle'> {
  const { upkeep, clock, metrics } = options
  const begunAt = clock.monotonic()
  let count = 0
  const outcome = await upkeep.transaction().execute(async (transaction) => {
    const packing = await beginPacking(transaction)
    if (packing === 'busy') return 'busy'
    if (packing === undefined) return 'idle'
    const last = await nextRobots(transaction, packing, robots)
    if (last !== undefined) count = await packRobots(transaction, packing, last, options)
    await advancePacking(transaction, packing, last, clock.now())
    return 'packed'
  })
  if (count > 0) {
    metrics.heartbeatsPacked.inc(count)
    metrics.packSeconds.observe((clock.monotonic() - begunAt) / 1000)
  }
  return outcome
}

async function packRobots(
  transaction: Database,
  packing: Packing,
  last: string,
  { clock, retention }: Pick<PackerOptions, 'clock' | 'retention'>,
): Promise<number> {
  const now = clock.now()
  // What would be dropped at once is summed up alone.
  const keepsRaw = dayOf(packing.begins.getTime()) + DAY_MS > now - retention.rawMs
  if (keepsRaw) await ensurePartitionsAt(transaction, PACKS, [packing.begins.getTime()])
  const tallies = new Map<string, Tally>()
  let count = 0
  for await (const portion of readUnpacked(transaction, packing, last, PORTION)) {
    const packs: PackRow[] = []
    for (const row of portion) {
      const beats = parseBeats(row)
      const apart = takeApart(beats, beats.bodies)
      let tally = tallies.get(row.robot_id)
      if (!tally) {
        tally = new Tally(MINUTE_MS)
        tallies.set(row.robot_id, tally)
      }
      addBeats(tally, beats.at.ms, apart.columns)
      count += beats.seq.length
      if (keepsRaw)
        packs.push({
          robotId: row.robot_id,
          hour: row.hour,
          firstAt: beats.firstAt,
          lastAt: beats.lastAt,
          lowestSeq: beats.seq.reduce((one, other) => Math.min(one, other)),
          highestSeq: beats.seq.reduce((one, other) => Math.max(one, other)),
          heartbeats: beats.seq.length,
          data: await packBeats(apart),
        })
      else await nextTurn()
    }
    await insertPacks(transaction, packing, packs)
  }
  const hourly = new Map<string, Tally>()
  for (const [robotId, tally] of tallies) {
    const hours = new Tally(HOUR_MS)
    hours.addAll(tally)
    hourly.set(robotId, hours)
    await nextTurn()
  }
  const newest = packing.ends.getTime() + AHEAD_MS
  await rollUp(transaction, MINUTES, 'heartbeat_minutes', HOUR_MS, tallies, now - retention.minutesMs, newest)
  await rollUp(transaction, HOURS, 'heartbeat_hours', DAY_MS, hourly, now - retention.hoursMs, newest)
  return count
}

/** Adds tallies to the roll-ups that are there, one for each robot and `spanMs`; they are good for nothing afterwards. */
async function rollUp(
  transaction: Database,
  table: PartitionedTable,
  name: RollupTable,
  spanMs: number,
  tallies: ReadonlyMap<string, Tally>,
  oldest: number,
  newest: number,
): Promise<void> {
  const wanted: (RollupKey & { readonly tally: Tally })[] = []
  for (const [robotId, tally] of tallies) {
    const spans = new Set([...tally.health.keys()].map((bucket) => bucket - (bucket % spanMs)))
    for (const begins of spans)
      if (begins + spanMs > oldest && begins < newest)
        wanted.push({ robotId, begins, tally: tally.slice(begins, begins + spanMs) })
  }
  await ensurePartitionsAt(
    transaction,
    table,
    wanted.map(({ begins }) => begins),
  )
  for (let at = 0; at < wanted.length; at += ROBOTS) {
    const some = wanted.slice(at, at + ROBOTS)
    const stored = new Map(
      (await findRollups(transaction, name, some)).map((row) => [`${row.robotId} ${row.begins}`, row.data]),
    )
    const rows: (RollupKey & { readonly data: Buffer })[] = []
    for (const { robotId, begins, tally } of some) {
      const data = stored.get(`${robotId} ${begins}`)
      if (data) await unpackTally(data, { baseMs: begins, stepMs: tally.stepMs }, tally)
      rows.push({ robotId, begins, data: await packTally(tally, begins) })
    }
    await putRollups(transaction, name, rows)
  }
}

function dayOf(ms: number): number {
  return ms - (ms % DAY_MS)
}

function parseBeats(row: UnpackedRow) {
  const at = { ms: [] as number[], us: [] as number[] }
  const receivedAt = { ms: [] as number[], us: [] as number[] }
  const sessionNo: number[] = []
  const seq: number[] = []
  const bodies: JsonObject[] = []
  let [firstAt, lastAt] = ['', '']
  for (const beat of row.beats.split(BETWEEN_BEATS)) {
    const fields = beat.split(BETWEEN_FIELDS, 5)
    lastAt = fields[0]!
    if (firstAt === '') firstAt = lastAt
    pushInstant(at, lastAt)
    pushInstant(receivedAt, fields[1]!)
    sessionNo.push(Number(fields[2]))
    seq.push(Number(fields[3]))
    bodies.push(JSON.parse(fields[4]!) as JsonObject)
  }
  return { at, receivedAt, sessionNo, seq, bodies, firstAt, lastAt }
}

/** From microseconds since 1970, which may be more than a number holds. */
function pushInstant(instants: { ms: number[]; us: number[] }, text: string): void {
  instants.ms.push(Number(text.slice(0, -3)))
  instants.us.push(Number(text.slice(-3)))
}
