/** Which stretch of time the charts show, in how fine steps, and how that stands in the address. Times in ms since 1970. */

const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

export interface Span {
  readonly from: number
  readonly to: number
}

/** The last while until now, or a stretch that stays where it is. */
export type Range = { readonly last: string; readonly lengthMs: number } | Span

export const LASTS = [
  { last: '1h', lengthMs: HOUR, name: '1 hour' },
  { last: '6h', lengthMs: 6 * HOUR, name: '6 hours' },
  { last: '24h', lengthMs: DAY, name: '24 hours' },
  { last: '7d', lengthMs: 7 * DAY, name: '7 days' },
  { last: '30d', lengthMs: 30 * DAY, name: '30 days' },
] as const

export const isLive = (range: Range): range is Extract<Range, { last: string }> => 'last' in range

/** Nobody zooms in further. */
const SHORTEST = MINUTE
const LONGEST = 366 * DAY
const LATEST = Date.UTC(9999, 0)

/** The range of an address; the last hour where it says nothing that can be made sense of. */
export function rangeOf(search: URLSearchParams): Range {
  const from = Date.parse(search.get('from') ?? '')
  const to = Date.parse(search.get('to') ?? '')
  if (from >= 0 && to <= LATEST && to - from >= SHORTEST && to - from <= LONGEST) return { from, to }
  const { last, lengthMs } = LASTS.find((each) => each.last === search.get('range')) ?? LASTS[0]
  return { last, lengthMs }
}

export function setRange(search: URLSearchParams, range: Range): void {
  for (const name of ['range', 'from', 'to']) search.delete(name)
  if (!isLive(range)) {
    search.set('from', new Date(range.from).toISOString())
    search.set('to', new Date(range.to).toISOString())
  } else if (range.last !== LASTS[0].last) search.set('range', range.last)
}

export function spanOf(range: Range, now: number): Span {
  return isLive(range) ? { from: now - range.lengthMs, to: now } : range
}

/** What a wish for another stretch comes to: long enough to show something, and never beyond now. */
export function fitted({ from, to }: Span, now: number): Span {
  const length = Math.min(Math.max(to - from, SHORTEST), LONGEST)
  const middle = (from + to) / 2
  const end = Math.min(Math.round(middle + length / 2), now)
  return { from: Math.max(0, end - Math.round(length)), to: end }
}

export function zoomed({ from, to }: Span, factor: number, now: number): Span {
  const half = ((to - from) * factor) / 2
  const middle = (from + to) / 2
  return fitted({ from: middle - half, to: middle + half }, now)
}

export function shifted({ from, to }: Span, lengths: number, now: number): Span {
  const by = (to - from) * lengths
  return fitted({ from: from + by, to: to + by }, now)
}

/** Those that hours are made of, and days of hours, so that summaries of minutes and hours serve. */
const STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((count) => count * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((count) => count * MINUTE),
  ...[1, 2, 3, 6, 12, 24].map((count) => count * HOUR),
]
const MOST_POINTS = 400

/** The finest step that makes no more points than a chart can show, and is no finer than robots report. */
export function stepFor({ from, to }: Span, heartbeatMs: number): number {
  const least = Math.max((to - from) / MOST_POINTS, heartbeatMs)
  return STEPS.find((step) => step >= least) ?? STEPS.at(-1)!
}

/** How often what is at the right edge is asked for anew; between that, what is heard live is added. */
export function refreshMs(stepMs: number): number {
  return Math.min(Math.max(stepMs, 30 * SECOND), 5 * MINUTE)
}

export function stepText(stepMs: number): string {
  if (stepMs % DAY === 0) return `${stepMs / DAY} d`
  if (stepMs % HOUR === 0) return `${stepMs / HOUR} h`
  if (stepMs % MINUTE === 0) return `${stepMs / MINUTE} min`
  return `${stepMs / SECOND} s`
}
