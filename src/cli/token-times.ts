import { CliError, EXIT } from './failure.ts'
import { printable } from './text.ts'

const SECONDS_IN = { s: 1, min: 60, h: 3_600, d: 86_400, w: 604_800, y: 31_536_000 } as const

function secondsOf(text: string): number | undefined {
  const found = /^(\d+(?:\.\d+)?)\s*(s|min|h|d|w|y)$/.exec(text)
  return found ? Number(found[1]) * SECONDS_IN[found[2] as keyof typeof SECONDS_IN] : undefined
}

/** `2027-01-31` (its first moment, UTC) or a whole RFC 3339 time with an offset, as the latter. */
function dateOf(text: string): string | undefined {
  const whole = /^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text
  const hasOffset = /^\d{4}-\d{2}-\d{2}T[\d:.]+(Z|[+-]\d{2}:\d{2})$/.test(whole)
  const day = Number(whole.slice(8, 10))
  // JavaScript takes 30 February for 2 March.
  const isDay = new Date(`${whole.slice(0, 10)}T00:00:00Z`).getUTCDate() === day
  return hasOffset && isDay && !Number.isNaN(Date.parse(whole)) ? whole : undefined
}

/** `30d`, `1y`, `never` or a date, as the server takes it. */
export function expiryOf(text: string): { expires_in_days: number | null } | { expires_at: string } {
  if (text === 'never') return { expires_in_days: null }
  const seconds = secondsOf(text)
  if (seconds !== undefined && seconds > 0) return { expires_in_days: seconds / SECONDS_IN.d }
  const date = dateOf(text)
  if (date === undefined)
    throw new CliError(
      `"${printable(text)}" is not a time like 30d, 90d, 1y, never or 2027-01-31`,
      EXIT.usage,
    )
  return { expires_at: date }
}

/** `24h`, `0` (at once) or a date, as the server takes it. */
export function overlapOf(text: string): { overlap_seconds: number } | { old_expires_at: string } {
  if (text === '0') return { overlap_seconds: 0 }
  const seconds = secondsOf(text)
  if (seconds !== undefined) return { overlap_seconds: Math.round(seconds) }
  const date = dateOf(text)
  if (date === undefined)
    throw new CliError(`"${printable(text)}" is not a time like 24h, 0 or 2027-01-31`, EXIT.usage)
  return { old_expires_at: date }
}
