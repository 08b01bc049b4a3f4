import { CliError, EXIT } from './failure.ts'

// C0 and C1 controls, line separators, direction marks and the byte order mark: all that can move a terminal's cursor
// or make a line read as something else.
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
  /[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g

const codePoint = (character: string) => character.charCodeAt(0).toString(16).padStart(4, '0')

/** Text from elsewhere, made safe to print in a line of a terminal: control characters become `\u001b`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => `\\u${codePoint(character)}`)
}

/** JSON whose text holds no control characters other than the line breaks of its indentation. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(UNSAFE, (character) =>
    character === '\n' ? character : `\\u${codePoint(character)}`,
  )
}

const UNITS = [
  { name: 'd', ms: 86_400_000 },
  { name: 'h', ms: 3_600_000 },
  { name: 'min', ms: 60_000 },
  { name: 's', ms: 1_000 },
] as const

/** A length of time in its largest unit: `3 s`, `12 min`, `2 h`, `40 d`. */
export function duration(ms: number): string {
  const unit = UNITS.find((candidate) => ms >= candidate.ms) ?? UNITS[UNITS.length - 1]!
  return `${Math.max(0, Math.floor(ms / unit.ms))} ${unit.name}`
}

/** A length of time that still lies ahead, rounded: of 24 hours that just began, `24 h`. */
export function remaining(ms: number): string {
  const index = UNITS.findIndex((candidate) => ms >= candidate.ms)
  const unit = UNITS[index] ?? UNITS[UNITS.length - 1]!
  const count = Math.round(ms / unit.ms)
  // 59.9 minutes are an hour, and not sixty minutes.
  const larger = UNITS[index - 1]
  return larger && count * unit.ms >= larger.ms ? `1 ${larger.name}` : `${Math.max(0, count)} ${unit.name}`
}

/** How long ago an RFC 3339 time was, `-` when there is none. */
export function age(instant: string | null | undefined, now: number): string {
  return instant ? duration(now - Date.parse(instant)) : '-'
}

/** An RFC 3339 time for a person: `2026-11-22 02:03:25 UTC`. */
export function when(instant: string | null | undefined): string {
  if (!instant) return '-'
  const time = new Date(instant)
  return Number.isNaN(time.getTime())
    ? printable(instant)
    : `${time.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

const HOURS_IN = { min: 1 / 60, h: 1, d: 24, w: 168 } as const

/** `24h`, `7d`, `2w` or `90min` in hours; null for `never`. */
export function hoursOf(text: string): number | null {
  if (text === 'never') return null
  const found = /^(\d+(?:\.\d+)?)\s*(min|h|d|w)$/.exec(text)
  const hours = found ? Number(found[1]) * HOURS_IN[found[2] as keyof typeof HOURS_IN] : 0
  if (hours <= 0) throw new CliError(`"${printable(text)}" is not a time like 24h, 7d or never`, EXIT.usage)
  return hours
}

/** `key=value` pairs as an object. */
export function labelsOf(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const split = pair.indexOf('=')
      if (split < 1) throw new CliError(`"${printable(pair)}" is not a label like floor=2`, EXIT.usage)
      return [pair.slice(0, split), pair.slice(split + 1)]
    }),
  )
}

/** A whole number above zero, as an option gives it. */
export function countOf(text: string, option: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new CliError(`${option} takes a whole number above 0`, EXIT.usage)
  return Number(text)
}

/** A number of seconds above zero, as an option gives it. */
export function secondsOf(text: string): number {
  if (!/^\d+(\.\d+)?$/.test(text) || Number(text) === 0)
    throw new CliError(`"${printable(text)}" is not a number of seconds`, EXIT.usage)
  return Number(text)
}
