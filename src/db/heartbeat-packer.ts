import { setImmediate as nextTurn } from 'node:timers/promises'
import { DamagedError } from '../history/bytes.ts'
import type { JsonObject } from '../history/columns.ts'
import { packBeats, takeApart } from '../history/pack.ts'
import { packTally, unpackTally } from '../history/rollup.ts'
import { addBeats, Tally } from '../history/tally.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Timer } from '../runtime.ts'
import { type Database, isBadData, sqlState } from './database.ts'
import {
  advancePacking,
  BETWEEN_BEATS,
  BETWEEN_FIELDS,
  beginPacking,
  findRollups,
  insertPacks,
  keepUnreadable,
  nextRobots,
  type Packing,
  type PackRow,
  putRollups,
  type RollupKey,
  type RollupTable,
  readUnpacked,
  setAside,
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
  /** Milliseconds since 1970, by which hours are over and heartbeats old. */
  readonly now: () => Promise<number>
  readonly retention: Retention
  readonly log: Log
  readonly metrics: Pick<Metrics, 'heartbeatsPacked' | 'heartbeatsSetAside' | 'packSeconds'>
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
      for (;;) {
        const name = await closePartition(options.upkeep, await options.now())
        if (name === undefined) break
        log.debug({ partition: name }, 'a partition of heartbeats was closed')
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

type Outcome = 'packed' | 'busy' | 'idle'

/**
 * Packs the heartbeats of the next robots, in one transaction: whatever ends it in the middle, nothing of it was. Those of a
 * robot that cannot be packed are set aside. `busy`: another server packs. `idle`: all that is closed is packed.
 */
export async function packSome(options: PackerOptions, robots = ROBOTS): Promise<Outcome> {
  try {
    return await packNext(options, robots)
  } catch (error) {
    if (!isOfTheData(error)) throw error
    // Fewer at a time, until it is known whose it is; those before are packed.
    return robots > 1 ? packSome(options, robots >> 1) : setNextAside(options, error)
  }
}

/** Whether it is what is stored that cannot be worked with, and no later attempt will do better. */
function isOfTheData(error: unknown): boolean {
  const state = sqlState(error)
  // What is damaged on the disk, and limits of what PostgreSQL can hold.
  if (state !== undefined) return isBadData(error) || /^(XX|54)/.test(state)
  return [DamagedError, RangeError, SyntaxError, TypeError].some((kind) => error instanceof kind)
}

async function packNext(options: PackerOptions, robots: number): Promise<Outcome> {
  const { upkeep, clock, metrics } = options
  const begunAt = clock.monotonic()
  const now = await options.now()
  let count = 0
  const outcome = await upkeep.transaction().execute(async (transaction) => {
    const packing = await beginPacking(transaction)
    if (packing === 'busy' || packing === 'idle') return packing
    const last = await nextRobots(transaction, packing, robots)
    if (last !== undefined) count = await packRobots(transaction, packing, last, options.retention, now)
    await advancePacking(transaction, packing, last, now)
    return 'packed'
  })
  if (count > 0) {
    metrics.heartbeatsPacked.inc(count)
    metrics.packSeconds.observe((clock.monotonic() - begunAt) / 1000)
  }
  return outcome
}

/** What is done with heartbeats that cannot be packed; each is tried where the one before cannot read what it has to. */
const WAYS_AROUND = ['set_aside', 'keep_partition', 'keep_rest_of_partition'] as const

/** Leaves the next robot's heartbeats what they are, so that those of others go on. */
async function setNextAside(options: PackerOptions, error: unknown): Promise<Outcome> {
  for (let [why, way] = [error, 0]; ; way++)
    try {
      return await goAround(options, why, WAYS_AROUND[way]!)
    } catch (another) {
      if (!isOfTheData(another) || way === WAYS_AROUND.length - 1) throw another
      why = another
    }
}

async function goAround(
  options: PackerOptions,
  why: unknown,
  way: (typeof WAYS_AROUND)[number],
): Promise<Outcome> {
  const { upkeep, log, metrics } = options
  const now = await options.now()
  let left = 0
  let found: { readonly robot_id: string | undefined; readonly partition: Date } | undefined
  const outcome = await upkeep.transaction().execute(async (transaction) => {
    const packing = await beginPacking(transaction)
    if (packing === 'busy' || packing === 'idle') return packing
    const robotId = way === 'keep_rest_of_partition' ? undefined : await nextRobots(transaction, packing, 1)
    if (robotId !== undefined && way === 'set_aside') left = await setAside(transaction, packing, robotId)
    else await keepUnreadable(transaction, packing)
    await advancePacking(transaction, packing, robotId, now)
    found = { robot_id: robotId, partition: packing.begins }
    return 'packed'
  })
  if (!found) return outcome
  metrics.heartbeatsSetAside.inc(Math.max(left, 1))
  const said =
    way === 'set_aside'
      ? 'heartbeats of a robot cannot be packed; they stay rows of heartbeats_set_aside, and in no minutes and hours'
      : 'heartbeats cannot be read, for the database is damaged; their partition is kept for whoever mends it'
  log.error({ err: why, ...found, heartbeats: left || undefined }, said)
  return outcome
}

async function packRobots(
  transaction: Database,
  packing: Packing,
  last: string,
  retention: Retention,
  now: number,
): Promise<number> {
  // What would be dropped at once is summed up alone.
  const keepsRaw = dayOf(packing.begins.getTime()) + DAY_MS > now - retention.rawMs
  if (keepsRaw) await ensurePartitionsAt(transaction, PACKS, [packing.begins.getTime()])
  const tallies = new Map<string, Tally>()
  let count = 0
  for await (const portion of readUnpacked(transaction, packing, last, PORTION)) {
    const packs: PackRow[] = []
    for (const row of portion) {
      const beats = parseBeats(row)
      await nextTurn()
      const apart = takeApart(beats, beats.bodies)
      await nextTurn()
      let tally = tallies.get(row.robot_id)
      if (!tally) {
        tally = new Tally(MINUTE_MS)
        tallies.set(row.robot_id, tally)
      }
      addBeats(tally, beats.at.ms, apart.columns)
      await nextTurn()
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
