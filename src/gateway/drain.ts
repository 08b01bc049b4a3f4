import { MAX_RECONNECT_BACKOFF_MS } from '../protocol/limits.ts'
import type { Clock, Random } from '../runtime.ts'

/** Sessions closed in one turn of the event loop: some milliseconds. In between, robots' frames and acknowledgements pass. */
export const DRAIN_SLICE = 100
const PAUSE_MS = 1
/** From here on what is left is closed at once, for somebody waits for the end of this process. */
const DEADLINE_MS = 3_000

/** Nobody is to return while others are still sent away, which takes about so long for each. */
const CLOSING_MS_EACH = 0.25

const SHORTEST_SPAN_MS = 2_000
/** The last are back before those who do not return count as offline. */
const LONGEST_SPAN_MS = MAX_RECONNECT_BACKOFF_MS - DEADLINE_MS
/** Longer than at the known rate by this much: robots that were away before want to return, too. */
const SPARE = 1.25
/** How long a robot takes that is taken back where no rate is set. */
const MS_EACH_WITHOUT_RATE = 1

/**
 * The time over which robots that are sent away are to return, in milliseconds: as long as it takes to take them back at
 * `perSecond` (0: not limited), within bounds.
 */
export function drainSpanMs(robots: number, perSecond: number): number {
  const msEach = perSecond > 0 ? 1000 / perSecond : MS_EACH_WITHOUT_RATE
  return Math.min(Math.max(robots * msEach * SPARE, SHORTEST_SPAN_MS), LONGEST_SPAN_MS)
}

export interface Drainable {
  drain(reconnectInMs: number): void
}

/** How long sending so many robots away takes, about: the first may return after it. */
export function closingMs(robots: number): number {
  return Math.min(robots * CLOSING_MS_EACH, DEADLINE_MS)
}

/** Sends robots away, some at a time, each to return at a moment of its own within the span that begins after it. */
export async function sendAway(
  robots: readonly Drainable[],
  spanMs: number,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): Promise<void> {
  const deadline = clock.monotonic() + DEADLINE_MS
  const firstMs = closingMs(robots.length)
  for (const [index, robot] of robots.entries()) {
    robot.drain(firstMs + ((index + random.fraction()) / robots.length) * spanMs)
    if ((index + 1) % DRAIN_SLICE === 0 && clock.monotonic() < deadline) await clock.sleep(PAUSE_MS)
  }
}
