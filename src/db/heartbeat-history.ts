import { sql } from 'kysely'
import { toColumns } from '../history/columns.ts'
import { openPack } from '../history/pack.ts'
import { unpackTally } from '../history/rollup.ts'
import { addBeats, isUsualField, type Numbers, Tally } from '../history/tally.ts'
import type { HeartbeatBody } from '../protocol/frames.ts'
import type { Database } from './database.ts'
import type { Retention } from './heartbeat-packer.ts'
import type { RollupTable } from './heartbeat-packing.ts'
import { listPacks, type Range, type RowsLeft, rowsLeft } from './heartbeat-packs.ts'

export { NUMERIC_FIELDS } from '../history/tally.ts'
export type { Range } from './heartbeat-packs.ts'

const MINUTE_MS = 60_000
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS
/** Packs, and rows, that are read at once. */
const PACKS = 8
const ROWS = 500

/** The place of a heartbeat in a robot's history; time in microseconds since 1970. */
export interface HeartbeatPlace {
  readonly at: number
  readonly sessionNo: number
  readonly seq: number
}

export interface StoredHeartbeat {
  readonly at: Date
  readonly received_at: Date
  readonly session_no: number
  readonly seq: number
  readonly body: HeartbeatBody
  /** Microseconds since 1970. */
  readonly place_at: number
}

/** All statements of the work see the same: what is packed meanwhile is there once, as row or in a pack. */
function inSnapshot<Result>(db: Database, work: (snapshot: Database) => Promise<Result>): Promise<Result> {
  return db.transaction().setIsolationLevel('repeatable read').setAccessMode('read only').execute(work)
}

/** A robot's heartbeats in the order of its own clock, those behind `after` when given. */
export function listHeartbeats(
  db: Database,
  robotId: string,
  range: Range,
  page: { limit: number; after: HeartbeatPlace | undefined },
): Promise<StoredHeartbeat[]> {
  const { limit, after } = page
  return inSnapshot(db, async (snapshot) => {
    const found: StoredHeartbeat[] = []
    for (const rows of rowsIn(await rowsLeft(snapshot, robotId)))
      found.push(...(await listRows(snapshot, robotId, range, { limit, after, ...rows })))
    // Packs that end before the page begins have nothing for it.
    const from = after === undefined ? range.from : new Date(Math.max(range.from.getTime(), after.at / 1000))
    for (let skip = 0; ; skip += PACKS) {
      const packs = await listPacks(snapshot, robotId, { from, to: range.to }, { limit: PACKS, skip })
      for (const { data } of packs) found.push(...(await heartbeatsIn(data, range, after)))
      found.sort((one, other) => compare(placeOf(one), placeOf(other)))
      found.length = Math.min(found.length, limit)
      if (packs.length < PACKS) return found
      // What is in the packs that follow comes no earlier than the last of these begins.
      const last = found[limit - 1]
      if (last && last.at.getTime() < packs.at(-1)!.first_at.getTime()) return found
    }
  })
}

function placeOf({ place_at, session_no, seq }: StoredHeartbeat): HeartbeatPlace {
  return { at: place_at, sessionNo: session_no, seq }
}

function compare(one: HeartbeatPlace, other: HeartbeatPlace): number {
  return one.at - other.at || one.sessionNo - other.sessionNo || one.seq - other.seq
}

async function heartbeatsIn(
  data: Buffer,
  range: Range,
  after: HeartbeatPlace | undefined,
): Promise<StoredHeartbeat[]> {
  const pack = await openPack(data)
  const { receivedAt, sessionNo } = pack.readArrivals()
  const bodies = pack.readBodies()
  const [from, to] = [range.from.getTime(), range.to.getTime()]
  return bodies.flatMap((body, index) => {
    const ms = pack.at.ms[index]!
    const beat = {
      at: new Date(ms),
      received_at: new Date(receivedAt.ms[index]!),
      session_no: sessionNo[index]!,
      seq: pack.seq[index]!,
      body: body as HeartbeatBody,
      place_at: ms * 1000 + pack.at.us[index]!,
    }
    const isInside = ms >= from && ms < to && (after === undefined || compare(placeOf(beat), after) > 0)
    return isInside ? [beat] : []
  })
}

interface Rows {
  readonly table: 'heartbeats' | 'heartbeats_set_aside'
  readonly receivedFrom: number
}

/** Heartbeats that are rows yet: those that came at `receivedFrom` or later, and those that cannot be packed, are in no pack. */
function rowsIn({ receivedFrom, hasSetAside }: RowsLeft): Rows[] {
  const rows: Rows[] = [{ table: 'heartbeats', receivedFrom }]
  if (hasSetAside) rows.push({ table: 'heartbeats_set_aside', receivedFrom: 0 })
  return rows
}

function listRows(
  db: Database,
  robotId: string,
  range: Range,
  page: Rows & { limit: number; after: HeartbeatPlace | undefined },
): Promise<StoredHeartbeat[]> {
  const { after, table } = page
  return db
    .selectFrom(table)
    .select(['at', 'received_at', 'session_no', 'seq', 'body'])
    .select(sql<number>`(extract(epoch FROM at) * 1000000)::bigint`.as('place_at'))
    .where('robot_id', '=', robotId)
    .where('at', '>=', range.from)
    .where('at', '<', range.to)
    .where('received_at', '>=', new Date(page.receivedFrom))
    .$if(after !== undefined, (query) =>
      query.where(
        sql<boolean>`(at, session_no, seq) > (
          timestamptz 'epoch' + ${after?.at}::float8 * interval '1 microsecond',
          ${after?.sessionNo}::bigint, ${after?.seq}::bigint)`,
      ),
    )
    .orderBy('at')
    .orderBy('session_no')
    .orderBy('seq')
    .limit(page.limit)
    .execute()
}

export interface HeartbeatSummary {
  readonly bucket: Date
  readonly field: string
  readonly count: number
  readonly min: number
  readonly avg: number
  readonly max: number
}

/** The heartbeats of one step. */
export interface HeartbeatCount {
  readonly bucket: Date
  readonly heartbeats: number
  /** How many told of which health. */
  readonly health: Readonly<Record<string, number>>
}

export interface HeartbeatSummaries {
  readonly steps: HeartbeatCount[]
  readonly numbers: HeartbeatSummary[]
}

/** The range, and what is missing to steps counted from 1970. */
export function wholeSteps({ from, to }: Range, stepMs: number): Range {
  const begins = (ms: number) => new Date(ms - (ms % stepMs))
  return { from: begins(from.getTime()), to: begins(to.getTime() + stepMs - 1) }
}

/**
 * A robot's heartbeats and their numbers, per step of the robot's clock (steps count from 1970) and field. Whole steps: the
 * first is the one that `from` lies in, the last the one before `to`. Without `fields`: all of NUMERIC_FIELDS and every
 * metric.
 */
export async function summarizeHeartbeats(
  db: Database,
  robotId: string,
  range: Range,
  options: { stepMs: number; fields: readonly string[] | undefined; retention: Retention; now: number },
): Promise<HeartbeatSummaries> {
  const { stepMs, fields } = options
  const asked = fields && new Set(fields)
  const wants = asked ? (field: string) => asked.has(field) : isUsualField
  const whole = wholeSteps(range, stepMs)
  const tally = new Tally(stepMs, whole)
  await inSnapshot(db, async (snapshot) => {
    const level = levelFor(stepMs, whole, options)
    if (level === 'raw') await addPacks(snapshot, robotId, whole, tally, wants)
    else await addRollups(snapshot, robotId, whole, level, tally, wants)
    await addRows(snapshot, robotId, whole, tally, wants)
  })
  return { steps: stepsOf(tally), numbers: summariesOf(tally) }
}

const LEVELS = {
  hours: { table: 'heartbeat_hours', stepMs: HOUR_MS, spanMs: DAY_MS },
  minutes: { table: 'heartbeat_minutes', stepMs: MINUTE_MS, spanMs: HOUR_MS },
} as const satisfies Record<string, { table: RollupTable; stepMs: number; spanMs: number }>

/** The coarsest level whose steps these are made of and that is kept as far back; without one, the one that is kept longest. */
function levelFor(
  stepMs: number,
  { from }: Range,
  { retention, now }: { retention: Retention; now: number },
): keyof typeof LEVELS | 'raw' {
  const usable = [
    ...(stepMs % HOUR_MS === 0 ? [{ level: 'hours' as const, keptMs: retention.hoursMs }] : []),
    ...(stepMs % MINUTE_MS === 0 ? [{ level: 'minutes' as const, keptMs: retention.minutesMs }] : []),
    { level: 'raw' as const, keptMs: retention.rawMs },
  ]
  const longest = usable.reduce((one, other) => (other.keptMs > one.keptMs ? other : one))
  return (usable.find(({ keptMs }) => from.getTime() >= now - keptMs) ?? longest).level
}

async function addRollups(
  db: Database,
  robotId: string,
  range: Range,
  level: keyof typeof LEVELS,
  tally: Tally,
  wants: (field: string) => boolean,
): Promise<void> {
  const { table, stepMs, spanMs } = LEVELS[level]
  const rows = await db
    .selectFrom(table)
    .select(['begins', 'data'])
    .where('robot_id', '=', robotId)
    .where('begins', '>', new Date(range.from.getTime() - spanMs))
    .where('begins', '<', range.to)
    .execute()
  await Promise.all(
    rows.map((row) => unpackTally(row.data, { baseMs: row.begins.getTime(), stepMs }, tally, wants)),
  )
}

async function addPacks(
  db: Database,
  robotId: string,
  range: Range,
  tally: Tally,
  wants: (field: string) => boolean,
): Promise<void> {
  for (let skip = 0; ; skip += PACKS) {
    const packs = await listPacks(db, robotId, range, { limit: PACKS, skip })
    await Promise.all(
      packs.map(async ({ data }) => {
        const pack = await openPack(data)
        addBeats(tally, pack.at.ms, pack.readColumns(), wants)
      }),
    )
    if (packs.length < PACKS) return
  }
}

async function addRows(
  db: Database,
  robotId: string,
  range: Range,
  tally: Tally,
  wants: (field: string) => boolean,
): Promise<void> {
  for (const where of rowsIn(await rowsLeft(db, robotId)))
    for (let after: HeartbeatPlace | undefined; ; ) {
      const rows = await listRows(db, robotId, range, { limit: ROWS, after, ...where })
      addBeats(
        tally,
        rows.map((row) => row.at.getTime()),
        toColumns(rows.map((row) => row.body as Parameters<typeof toColumns>[0][number])),
        wants,
      )
      if (rows.length < ROWS) break
      after = placeOf(rows.at(-1)!)
    }
}

function stepsOf(tally: Tally): HeartbeatCount[] {
  return [...tally.health]
    .sort(([one], [other]) => one - other)
    .map(([bucket, counts]) => ({
      bucket: new Date(bucket),
      heartbeats: [...counts.values()].reduce((sum, count) => sum + count, 0),
      health: Object.fromEntries(counts),
    }))
}

function summariesOf(tally: Tally): HeartbeatSummary[] {
  const fields = [...tally.fields].sort(([one], [other]) => (one < other ? -1 : 1))
  const summaries: HeartbeatSummary[] = []
  for (const bucket of [...tally.health.keys()].sort((one, other) => one - other))
    for (const [field, buckets] of fields) {
      const numbers = buckets.get(bucket)
      if (!numbers) continue
      const { count, min, max } = numbers
      summaries.push({ bucket: new Date(bucket), field, count, min, avg: meanOf(numbers), max })
    }
  return summaries
}

/** Between the least and the largest, whatever adding up has left or could not hold. */
function meanOf({ count, sum, min, max }: Numbers): number {
  const mean = Number.isFinite(sum) ? sum / count : min / 2 + max / 2
  return Math.min(Math.max(mean, min), max)
}
