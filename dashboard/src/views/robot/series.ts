import type { HeartbeatSummary, Robot } from '../../api/types.ts'
import type { Span } from './ranges.ts'

/** The numbers of one step of time. */
export interface Bucket {
  /** Where the step begins, in ms since 1970. */
  readonly at: number
  readonly count: number
  readonly min: number
  readonly avg: number
  readonly max: number
}

export type Health = Robot['health']

/** How many heartbeats of a step told of which health. */
export interface HealthStep {
  readonly at: number
  readonly counts: Readonly<Partial<Record<Health, number>>>
}

/** What a robot told over some time; all in order of time, and nothing where nothing was told. */
export interface History {
  readonly stepMs: number
  readonly fields: ReadonlyMap<string, readonly Bucket[]>
  readonly health: readonly HealthStep[]
}

const WORST_FIRST: readonly Health[] = ['error', 'warn', 'ok', 'unknown']

export function historyOf(
  items: readonly Pick<HeartbeatSummary, 'at' | 'health' | 'values'>[],
  stepMs: number,
): History {
  const fields = new Map<string, Bucket[]>()
  for (const { at, values } of items)
    for (const [field, numbers] of Object.entries(values)) {
      const buckets = fields.get(field) ?? []
      buckets.push({ at: Date.parse(at), ...numbers })
      fields.set(field, buckets)
    }
  const health = items.map(({ at, health: counts }) => ({ at: Date.parse(at), counts }))
  return { stepMs, fields, health }
}

/** With one more heartbeat, heard while the charts are looked at. One that is older than what is there waits to be loaded. */
export function withBeat(
  history: History,
  at: number,
  numbers: ReadonlyMap<string, number>,
  wanted: readonly string[],
  health: Health = 'unknown',
): History {
  const { stepMs } = history
  const begins = at - (at % stepMs)
  const fields = new Map(history.fields)
  for (const field of wanted) {
    const value = numbers.get(field)
    if (value === undefined) continue
    const buckets = fields.get(field) ?? []
    const last = buckets.at(-1)
    if (last && last.at > begins) continue
    fields.set(
      field,
      last?.at === begins ? [...buckets.slice(0, -1), grown(last, value)] : [...buckets, one(begins, value)],
    )
  }
  return { stepMs, fields, health: withHealth(history.health, begins, health) }
}

function withHealth(steps: readonly HealthStep[], begins: number, health: Health): readonly HealthStep[] {
  const last = steps.at(-1)
  if (last && last.at > begins) return steps
  if (last?.at !== begins) return [...steps, { at: begins, counts: { [health]: 1 } }]
  const counts = { ...last.counts, [health]: (last.counts[health] ?? 0) + 1 }
  return [...steps.slice(0, -1), { at: begins, counts }]
}

const one = (at: number, value: number): Bucket => ({ at, count: 1, min: value, avg: value, max: value })

function grown(bucket: Bucket, value: number): Bucket {
  const count = bucket.count + 1
  return {
    at: bucket.at,
    count,
    min: Math.min(bucket.min, value),
    avg: bucket.avg + (value - bucket.avg) / count,
    max: Math.max(bucket.max, value),
  }
}

/** Only what a chart of this stretch shows, with the step that reaches into it: a page that stays open keeps no more. */
export function within(history: History, { from, to }: Span): History {
  const fields = [...history.fields].map(
    ([field, buckets]) => [field, buckets.filter(({ at }) => at > from - history.stepMs && at < to)] as const,
  )
  const health = history.health.filter(({ at }) => at > from - history.stepMs && at < to)
  return { ...history, fields: new Map(fields), health }
}

export interface HealthSpan extends Span {
  readonly health: Health
}

/** The worst of each step; those of one health as one, for as long as no silence lies between them. Cut to what is shown. */
export function healthSpans({ health, stepMs }: History, silence: number, shown: Span): HealthSpan[] {
  const spans: HealthSpan[] = []
  for (const { at, counts } of health) {
    const worst = WORST_FIRST.find((each) => (counts[each] ?? 0) > 0) ?? 'unknown'
    const last = spans.at(-1)
    const isJoined = last !== undefined && at + stepMs - last.to <= silence
    const isSame = isJoined && last.health === worst
    if (isJoined) spans[spans.length - 1] = { ...last, to: isSame ? at + stepMs : at }
    if (!isSame) spans.push({ from: at, to: at + stepMs, health: worst })
  }
  return spans
    .map((span) => ({ ...span, from: Math.max(span.from, shown.from), to: Math.min(span.to, shown.to) }))
    .filter(({ from, to }) => to > from)
}

/** Which part of all heartbeats told of which health, the worst first. */
export function healthShares({ health }: History): { readonly health: Health; readonly share: number }[] {
  const counts = WORST_FIRST.map((each) => ({
    health: each,
    count: health.reduce((sum, step) => sum + (step.counts[each] ?? 0), 0),
  }))
  const all = counts.reduce((sum, { count }) => sum + count, 0)
  return counts.filter(({ count }) => count > 0).map(({ health, count }) => ({ health, share: count / all }))
}

/** Silence up to here is none: what makes a robot offline, or one step in which nothing came. */
export function silenceMs(stepMs: number, heartbeatMs: number): number {
  return Math.max(stepMs * 1.5, stepMs + 3 * heartbeatMs + 5_000)
}

/** Times in seconds, then minimum, maximum and average, as uPlot draws them; null where a gap is. */
export type Columns = [at: number[], min: (number | null)[], max: (number | null)[], avg: (number | null)[]]

/** Points stand in the middle of their steps. What lies further apart than `silence` is not joined. */
export function columnsOf(
  buckets: readonly Bucket[],
  { stepMs, silence, factor }: { stepMs: number; silence: number; factor: number },
): Columns {
  const columns: Columns = [[], [], [], []]
  let before: number | undefined
  for (const { at, min, avg, max } of buckets) {
    const middle = (at + stepMs / 2) / 1_000
    if (before !== undefined && at - before > silence) {
      columns[0].push((before + at + stepMs) / 2_000)
      for (const column of columns.slice(1)) column.push(null as never)
    }
    columns[0].push(middle)
    columns[1].push(min * factor)
    columns[2].push(max * factor)
    columns[3].push(avg * factor)
    before = at
  }
  return columns
}

/** Points that no line leads to or from, which would not be seen. */
export function lonelyOf(values: readonly (number | null | undefined)[]): number[] {
  return values.flatMap((value, index) =>
    value != null && values[index - 1] == null && values[index + 1] == null ? [index] : [],
  )
}

export interface Total {
  readonly count: number
  readonly min: number
  readonly avg: number
  readonly max: number
  readonly last: number
}

/** All buckets as one. */
export function totalOf(buckets: readonly Bucket[]): Total | undefined {
  const last = buckets.at(-1)
  if (!last) return undefined
  let [count, sum, min, max] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const bucket of buckets) {
    count += bucket.count
    sum += bucket.avg * bucket.count
    min = Math.min(min, bucket.min)
    max = Math.max(max, bucket.max)
  }
  return { count, min, avg: Math.min(Math.max(sum / count, min), max), max, last: last.avg }
}

/** Every step in which something was told, newest first, with what each field was then. */
export function rowsOf(
  history: History,
  chosen: readonly string[],
): { at: number; values: (Bucket | undefined)[] }[] {
  const rows = new Map<number, (Bucket | undefined)[]>()
  for (const [column, field] of chosen.entries())
    for (const bucket of history.fields.get(field) ?? []) {
      const row = rows.get(bucket.at) ?? new Array<Bucket | undefined>(chosen.length).fill(undefined)
      row[column] = bucket
      rows.set(bucket.at, row)
    }
  return [...rows].map(([at, values]) => ({ at, values })).sort((one, other) => other.at - one.at)
}
