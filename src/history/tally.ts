import type { FilledColumn, JsonObject } from './columns.ts'

/** Numbers that were summed up. */
export interface Numbers {
  count: number
  sum: number
  min: number
  max: number
}

/** Numbers a heartbeat may hold besides its metrics. */
export const NUMERIC_FIELDS = [
  'battery.charge',
  'battery.voltage',
  'pose.x',
  'pose.y',
  'pose.theta',
  'pose.lat',
  'pose.lon',
  'system.cpu',
  'system.memory',
  'system.disk',
  'system.temperature_c',
  'system.load_1m',
  'system.uptime_s',
] as const

const WELL_KNOWN: ReadonlySet<string> = new Set(NUMERIC_FIELDS)

/** Whether a field is told of where none was asked for. */
export function isUsualField(field: string): boolean {
  return WELL_KNOWN.has(field) || (field.startsWith('metrics.') && field.indexOf('.', 8) < 0)
}

/** One part of a dotted path: what may be asked for. */
const NAME = /^[A-Za-z0-9_][\w-]{0,62}$/
const MAX_PARTS = 5
/** Besides the well-known ones: a robot that calls its metrics by new names all the time gets no further. */
const MAX_FIELDS = 160

/** The dotted path by which people ask for what stands at a path; undefined where they could not. */
export function fieldAt(path: readonly string[]): string | undefined {
  if (path.length === 0 || path.length > MAX_PARTS) return undefined
  return path.every((name) => NAME.test(name)) ? path.join('.') : undefined
}

/** Heartbeats and their numbers by steps of time: buckets, which are named by where they begin, in milliseconds since 1970. */
export class Tally {
  readonly stepMs: number
  readonly #from: number
  readonly #to: number
  readonly #fields = new Map<string, Map<number, Numbers>>()
  readonly #health = new Map<number, Map<string, number>>()

  /** With a range, whose ends are those of buckets: what lies outside is not counted. */
  constructor(stepMs: number, range?: { readonly from: Date; readonly to: Date }) {
    this.stepMs = stepMs
    this.#from = range?.from.getTime() ?? Number.NEGATIVE_INFINITY
    this.#to = range?.to.getTime() ?? Number.POSITIVE_INFINITY
  }

  /** In no order. */
  get fields(): ReadonlyMap<string, ReadonlyMap<number, Numbers>> {
    return this.#fields
  }

  /** How many heartbeats told of which health, per bucket. */
  get health(): ReadonlyMap<number, ReadonlyMap<string, number>> {
    return this.#health
  }

  bucketOf(ms: number): number {
    return ms - (((ms % this.stepMs) + this.stepMs) % this.stepMs)
  }

  addHealth(ms: number, health: string, count: number): void {
    if (!this.#isInside(ms)) return
    const bucket = this.bucketOf(ms)
    let counts = this.#health.get(bucket)
    if (!counts) {
      counts = new Map()
      this.#health.set(bucket, counts)
    }
    counts.set(health, (counts.get(health) ?? 0) + count)
  }

  /** What was summed up already, each of `all` at one of `times`; none of it is kept. */
  addNumbers(field: string, times: readonly number[], all: readonly Readonly<Numbers>[]): void {
    let buckets: Map<number, Numbers> | undefined
    for (let index = 0; index < all.length; index++) {
      const ms = times[index]!
      if (!this.#isInside(ms)) continue
      buckets ??= this.#bucketsOf(field)
      if (!buckets) return
      const bucket = this.bucketOf(ms)
      const { count, sum, min, max } = all[index]!
      const known = buckets.get(bucket)
      if (!known) {
        buckets.set(bucket, { count, sum, min, max })
        continue
      }
      known.count += count
      known.sum += sum
      if (min < known.min) known.min = min
      if (max > known.max) known.max = max
    }
  }

  /** One column of numbers; `times` are those of all heartbeats, of which the column's rows are some. */
  addColumn(field: string, column: FilledColumn & { kind: 'number' }, times: readonly number[]): void {
    const buckets = this.#bucketsOf(field)
    if (!buckets) return
    const { rows, values } = column
    let at = Number.NaN
    let numbers: Numbers | undefined
    for (let index = 0; index < rows.length; index++) {
      const ms = times[rows[index]!]!
      if (!this.#isInside(ms)) continue
      const bucket = this.bucketOf(ms)
      const value = values[index]!
      if (bucket !== at || !numbers) {
        at = bucket
        numbers = buckets.get(bucket)
        if (!numbers) {
          numbers = { count: 0, sum: 0, min: value, max: value }
          buckets.set(bucket, numbers)
        }
      }
      numbers.count += 1
      numbers.sum += value
      if (value < numbers.min) numbers.min = value
      if (value > numbers.max) numbers.max = value
    }
  }

  addAll(other: Tally): void {
    for (const [bucket, counts] of other.#health)
      for (const [health, count] of counts) this.addHealth(bucket, health, count)
    for (const [field, buckets] of other.#fields)
      this.addNumbers(field, [...buckets.keys()], [...buckets.values()])
  }

  /** Only the buckets from `from` up to, not including, `to`; they stay the same numbers. */
  slice(from: number, to: number): Tally {
    const part = new Tally(this.stepMs)
    for (const [bucket, counts] of this.#health)
      if (bucket >= from && bucket < to) part.#health.set(bucket, counts)
    for (const [field, buckets] of this.#fields) {
      const inside = [...buckets].filter(([bucket]) => bucket >= from && bucket < to)
      if (inside.length > 0) part.#fields.set(field, new Map(inside))
    }
    return part
  }

  #isInside(ms: number): boolean {
    return ms >= this.#from && ms < this.#to
  }

  #bucketsOf(field: string): Map<number, Numbers> | undefined {
    let buckets = this.#fields.get(field)
    if (!buckets) {
      if (this.#fields.size >= MAX_FIELDS && !WELL_KNOWN.has(field)) return undefined
      buckets = new Map()
      this.#fields.set(field, buckets)
    }
    return buckets
  }
}

/** Adds heartbeats whose bodies are taken apart; `wants` says of which fields. */
export function addBeats(
  tally: Tally,
  times: readonly number[],
  columns: Iterable<FilledColumn>,
  wants: (field: string) => boolean = () => true,
): void {
  const health = new Array<string>(times.length).fill('unknown')
  for (const column of columns) {
    if (column.kind === 'number') {
      const field = fieldAt(column.path)
      if (field !== undefined && wants(field)) tally.addColumn(field, column, times)
      continue
    }
    const { path, rows, values } = column
    if (path.length === 1 && path[0] === 'health')
      for (const [index, row] of rows.entries()) health[row] = stateOf(JSON.parse(values[index]!))
    // Bodies that were too much for columns are whole.
    if (path.length === 0)
      for (const [index, row] of rows.entries()) {
        const body = JSON.parse(values[index]!) as JsonObject
        health[row] = stateOf(body.health)
        addNumbersIn(tally, times[row]!, body, [], wants)
      }
  }
  for (const [index, state] of health.entries()) tally.addHealth(times[index]!, state, 1)
}

const STATES: ReadonlySet<unknown> = new Set(['ok', 'warn', 'error', 'unknown'])

function stateOf(health: unknown): string {
  return STATES.has(health) ? String(health) : 'unknown'
}

function addNumbersIn(
  tally: Tally,
  ms: number,
  object: JsonObject,
  path: readonly string[],
  wants: (field: string) => boolean,
): void {
  for (const [name, value] of Object.entries(object)) {
    const at = [...path, name]
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      addNumbersIn(tally, ms, value as JsonObject, at, wants)
    const field = typeof value === 'number' ? fieldAt(at) : undefined
    if (typeof value !== 'number' || field === undefined || !wants(field)) continue
    tally.addNumbers(field, [ms], [{ count: 1, sum: value, min: value, max: value }])
  }
}
