import { z } from 'zod'
import type { Origin, Origins } from './origins.ts'
import type { Clock } from './runtime.ts'

/** A clock that is no further off than that is taken to be right: it is set by the network, better than we could. */
const TOLERANCE_MS = 1_000

/** When something was, as far as a robot that knows nothing of the server's clock can say. */
export interface Moment {
  /** Which start of the machine. */
  readonly boot: string
  /** Milliseconds since then. */
  readonly up: number
  /** By the robot's own clock, RFC 3339. */
  readonly own: string
}

/** A moment without its time, as it is written down beside one. */
export const momentSchema = z.object({
  boot: z.string().min(1).max(128),
  up: z.number().int().min(0),
  own: z.string(),
})

/** The time of something, as it is told to the server. */
export interface Stamp {
  /** RFC 3339. */
  readonly at: string
  /** How far ahead this robot's clock was, when `at` was corrected by it. */
  readonly clockOffsetMs?: number
  /** `at` is by a clock that was never compared with the server's. */
  readonly isUnsure?: true
  /** With those of a clock that was not compared yet: what `date` makes the true time of, once it was. */
  readonly moment?: Moment
}

export interface ServerTimeParts {
  readonly clock: Pick<Clock, 'now'>
  /** Milliseconds since the machine started: neither steps nor stops while the machine sleeps. */
  readonly sinceBoot: () => number
  /** Names the start of the machine. */
  readonly boot: string
  /** Origins that outlast the process. */
  readonly origins: Origins
}

/**
 * Knows the server's time from the first welcome since the machine started, whatever the robot's own clock says and
 * however it is set meanwhile: by when the machine started and how long it has run.
 *
 * What was made before that welcome is dated by the first origin that was learnt of its start, which is written down and
 * never changes: whoever asks again, also after a restart, gets the same time.
 */
export class ServerTime {
  readonly #parts: ServerTimeParts
  /** By the last welcome. */
  #origin: Origin | undefined

  constructor(parts: ServerTimeParts) {
    this.#parts = parts
    this.#origin = parts.origins.get(parts.boot)
  }

  /** The server said what time it was, within the last `roundTripMs`. Says something unreadable: nothing is learnt. */
  learn(serverTime: string, roundTripMs: number): void {
    const time = Date.parse(serverTime)
    if (!Number.isFinite(time)) return
    const { origins, boot, sinceBoot } = this.#parts
    const halfMs = roundTripMs / 2
    this.#origin = {
      originMs: Math.round(time + halfMs - sinceBoot()),
      toleranceMs: Math.round(TOLERANCE_MS + halfMs),
    }
    origins.keepFirst(boot, this.#origin)
  }

  /** Now. */
  stamp(): Stamp {
    const { clock, boot, sinceBoot } = this.#parts
    const now = clock.now()
    const up = Math.round(sinceBoot())
    if (this.#origin) return stampOf(now, up, this.#origin)
    const own = timeText(now)
    return { at: own, moment: { boot, up, own } }
  }

  /** The time of a moment; its own, marked, as long as nothing better is known. */
  date({ boot, up, own }: Moment): Stamp {
    const origin = this.#parts.origins.get(boot)
    return origin ? stampOf(Date.parse(own), up, origin) : { at: own, isUnsure: true }
  }

  /** The time of a stamp, as well as it is known by now. */
  timeOf({ at, moment }: Stamp): string {
    return moment ? this.date(moment).at : at
  }
}

function stampOf(own: number, up: number, { originMs, toleranceMs }: Origin): Stamp {
  const time = originMs + up
  const offset = Math.round(own - time)
  if (Math.abs(offset) <= toleranceMs) return { at: timeText(own) }
  return { at: timeText(time), clockOffsetMs: offset }
}

const LAST_INSTANT = 253_402_300_799_998

/** A robot's clock may stand anywhere; what no server takes is moved to the nearest moment that it does. */
function timeText(ms: number): string {
  return new Date(Math.min(LAST_INSTANT, Math.max(0, ms))).toISOString()
}
