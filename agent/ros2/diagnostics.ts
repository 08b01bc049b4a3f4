import type { Clock } from '../runtime.ts'
import { GRAVITY, readDiagnostics, type Status } from './mapping-diagnostics.ts'

/** A fault as the robot ought to have it. */
export interface WantedFault {
  readonly code: string
  readonly level: 'warn' | 'error'
  readonly message: string
}

export interface DiagnosticsParts {
  readonly clock: Clock
  /** A status that was not reported for so long is stale; undefined: never. */
  readonly staleMs: number | undefined
}

interface Known {
  readonly status: Status
  /** On the monotonic clock. */
  readonly heardAt: number
  /** Since when it is not OK; undefined while it is. */
  readonly badSince: number | undefined
}

/** The agent holds 24 faults of the robot's software, and this is not all of it. */
export const MAX_TOLD = 16
export const MORE_FAULTS = 'ros2-bridge:more'
const MAX_KNOWN = 1_000
/** Then a status that is not reported any more is forgotten: its node was taken out of service. */
const FORGET_MS = 3_600_000

/**
 * What is known of every status: the last report, and when that was. A status that is not OK is a fault, and so is one
 * that is not reported any more.
 */
export class Diagnostics {
  readonly #parts: DiagnosticsParts
  readonly #known = new Map<string, Known>()
  #heardAt: number | undefined
  #malformed = 0

  constructor(parts: DiagnosticsParts) {
    this.#parts = parts
  }

  /** On the monotonic clock; undefined before the first message. */
  get heardAt(): number | undefined {
    return this.#heardAt
  }

  /** Messages and statuses that could not be read, or for which there was no room. */
  get malformed(): number {
    return this.#malformed
  }

  /** Takes a message of the topic. */
  take(message: unknown): void {
    const read = readDiagnostics(message)
    if (!read) {
      this.#malformed++
      return
    }
    const now = this.#parts.clock.monotonic()
    this.#heardAt = now
    this.#malformed += read.malformed
    this.#forget(now)
    for (const status of read.statuses) {
      const before = this.#known.get(status.code)
      if (!before && this.#known.size >= MAX_KNOWN) {
        this.#malformed++
        continue
      }
      const badSince = status.level === 'ok' ? undefined : (before?.badSince ?? now)
      this.#known.set(status.code, { status, heardAt: now, badSince })
    }
  }

  /** Statuses that are reported still. */
  get current(): readonly Status[] {
    const now = this.#parts.clock.monotonic()
    return [...this.#known.values()].filter((known) => !this.#isStale(known, now)).map(({ status }) => status)
  }

  /** The faults that ought to stand: the gravest, of these the oldest; and one for all that have no room. */
  get faults(): readonly WantedFault[] {
    const now = this.#parts.clock.monotonic()
    this.#forget(now)
    const bad = [...this.#known.values()]
      .filter((known) => known.status.level !== 'ok' || this.#isStale(known, now))
      .map((known) => ({ fault: faultOf(known.status, this.#isStale(known, now)), since: beginOf(known) }))
      .sort(
        (one, other) =>
          Number(other.fault.level === 'error') - Number(one.fault.level === 'error') ||
          one.since - other.since ||
          (one.fault.code < other.fault.code ? -1 : 1),
      )
      .map(({ fault }) => fault)
    if (bad.length <= MAX_TOLD) return bad
    const [told, rest] = [bad.slice(0, MAX_TOLD - 1), bad.slice(MAX_TOLD - 1)]
    return [
      ...told,
      { code: MORE_FAULTS, level: rest[0]!.level, message: `${rest.length} more are not OK in diagnostics` },
    ]
  }

  #isStale({ heardAt }: Known, now: number): boolean {
    const { staleMs } = this.#parts
    return staleMs !== undefined && now - heardAt >= staleMs
  }

  #forget(now: number): void {
    const { staleMs } = this.#parts
    if (staleMs === undefined) return
    for (const [code, { heardAt }] of this.#known)
      if (now - heardAt >= staleMs + FORGET_MS) this.#known.delete(code)
  }
}

function beginOf({ badSince, heardAt }: Known): number {
  return badSince ?? heardAt
}

function faultOf({ code, level, message, name }: Status, isSilent: boolean): WantedFault {
  const said = message || name
  if (isSilent)
    return {
      code,
      level: GRAVITY[level] >= GRAVITY.error ? 'error' : 'warn',
      message: `not reported any more; the last report was ${level}: ${said}`,
    }
  // As the diagnostic aggregator has it: a part of which nothing is known is as bad as one that failed.
  if (level === 'stale') return { code, level: 'error', message: `stale: ${said}` }
  return { code, level: level === 'error' ? 'error' : 'warn', message: said }
}
