import { printable } from '../text.ts'

/** Messages come from other people's programs: nothing in them is taken for granted. */
type Fields = Readonly<Record<string, unknown>>

/** The fields of a message within a message; none when it is something else. */
export function fieldsOf(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {}
}

/** The items of an array or a typed array, at most so many. */
export function itemsOf(value: unknown, max: number): readonly unknown[] {
  if (Array.isArray(value)) return value.slice(0, max)
  if (ArrayBuffer.isView(value) && Symbol.iterator in value)
    return [...(value as unknown as Iterable<unknown>)].slice(0, max)
  return []
}

/** A number that means something: not NaN, which stands for "not measured" in ROS, and not without end. */
export function finiteIn(value: unknown): number | undefined {
  const number = typeof value === 'bigint' ? Number(value) : value
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined
}

/** Text on one line that every heartbeat can carry, of at most `max` characters. */
export function textIn(value: unknown, max: number): string {
  if (typeof value !== 'string') return ''
  return printable(value.slice(0, max * 2), max - 1)
    .toWellFormed()
    .trim()
}

/** Without the digits that are noise; also for numbers of which the decimals would overflow. */
export function rounded(value: number, decimals: number): number {
  return Number(value.toFixed(decimals))
}
