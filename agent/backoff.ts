import { MAX_RECONNECT_BACKOFF_MS } from '../src/protocol/limits.ts'

const FIRST_BACKOFF_MS = 1_000
/** Longest pause that a server may ask for: a wrong number must not keep a robot away for days. */
export const MAX_ASKED_PAUSE_MS = 3_600_000

/** The longest pause before attempt number `attempt` (from 0): 1 s, doubling to 60 s. */
export function backoffCeiling(attempt: number): number {
  return Math.min(MAX_RECONNECT_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** Math.min(attempt, 30))
}

/**
 * The pause before attempt number `attempt`, in whole milliseconds: full jitter, so that a fleet that lost its server in
 * one moment does not come back in one moment. `fraction` is a random number from 0 up to 1.
 */
export function backoffDelay(attempt: number, fraction: number): number {
  return Math.floor(backoffCeiling(attempt) * fraction)
}

/** What time it was where an answer came from: a date in it is of that clock, and this robot's may be years off. */
export function timeOfAnswer(dateHeader: string | undefined, now: number): number {
  const time = Date.parse(dateHeader ?? '')
  return Number.isNaN(time) ? now : time
}

/** Milliseconds that a Retry-After header (seconds, or an HTTP date) asks for; undefined when it says nothing usable. */
export function retryAfterMs(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined
  const text = header.trim()
  const delay = /^\d{1,9}$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - now
  if (Number.isNaN(delay)) return undefined
  return Math.min(MAX_ASKED_PAUSE_MS, Math.max(0, delay))
}
