const MINUTE_MS = 60_000

/** Which minute since 1970 a time is in. */
export function minuteOf(ms: number): number {
  return Math.floor(ms / MINUTE_MS)
}
