import { isDatabaseUnavailable, isRetryable } from '../db/database.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock } from '../runtime.ts'

export interface PersistParts {
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  /** Aborted when the process gives up on writing. */
  readonly signal: AbortSignal
}

const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 2_000

/** What the work brings, unless the signal aborts before: then its reason is thrown, and what still comes is ignored. */
export async function unlessAborted<Result>(signal: AbortSignal, work: Promise<Result>): Promise<Result> {
  let giveUp = (): void => {}
  const aborted = new Promise<never>((_, reject) => {
    giveUp = () => reject(signal.reason)
  })
  if (signal.aborted) giveUp()
  else signal.addEventListener('abort', giveUp)
  try {
    return await Promise.race([aborted, work])
  } finally {
    signal.removeEventListener('abort', giveUp)
  }
}

/**
 * Runs a database operation until it succeeds, with growing pauses, and counts its time under `operation`. `attempt`
 * starts at 1: from 2 on, an earlier attempt may have taken effect without our knowing. Errors for which `isHopeless`
 * holds are thrown at once; all others are tried again until the signal aborts. Then nothing more is begun, and an
 * attempt that is under way is waited for no longer: it may take effect yet.
 */
export async function untilStored<Result>(
  parts: PersistParts,
  operation: string,
  run: (attempt: number) => Promise<Result>,
  isHopeless: (error: unknown) => boolean = () => false,
): Promise<Result> {
  for (let attempt = 1, pauseMs = FIRST_PAUSE_MS; ; attempt += 1) {
    parts.signal.throwIfAborted()
    const startedAt = parts.clock.monotonic()
    try {
      const result = await unlessAborted(parts.signal, run(attempt))
      parts.metrics.databaseSeconds.observe({ operation }, (parts.clock.monotonic() - startedAt) / 1000)
      return result
    } catch (error) {
      if (parts.signal.aborted) throw error
      parts.metrics.databaseErrors.inc({ operation })
      if (isHopeless(error)) throw error
      if (isRetryable(error)) continue
      const level = isDatabaseUnavailable(error) ? 'warn' : 'error'
      if (attempt === 1 || pauseMs === LONGEST_PAUSE_MS)
        parts.log[level](
          { err: error, operation, attempt },
          'the database did not take a write; trying again',
        )
      await parts.clock.sleep(pauseMs, parts.signal)
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)
    }
  }
}
