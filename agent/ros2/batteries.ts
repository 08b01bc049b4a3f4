import type { Clock } from '../runtime.ts'
import { type BatteryReading, readBattery } from './mapping-battery.ts'

export interface BatteriesParts {
  readonly clock: Clock
  /** The one that counts; undefined: the first by its id. */
  readonly named: string | undefined
  readonly perHundred: boolean
}

/** A battery that was silent for so long is not the robot's any more. */
const HOLD_MS = 120_000
const MAX_KNOWN = 16

/** The batteries of one topic, of which the robot has one: the named one, else the first in the order of their ids. */
export class Batteries {
  readonly #parts: BatteriesParts
  readonly #known = new Map<string, { readonly reading: BatteryReading; readonly heardAt: number }>()
  #malformed = 0
  #isOutOfScale = false

  constructor(parts: BatteriesParts) {
    this.#parts = parts
  }

  get malformed(): number {
    return this.#malformed
  }

  /** A percentage of more than 1 came. */
  get isOutOfScale(): boolean {
    return this.#isOutOfScale
  }

  take(message: unknown): void {
    const { clock, named, perHundred } = this.#parts
    const reading = readBattery(message, perHundred)
    if (!reading) {
      if ((message as { present?: unknown } | null)?.present !== false) this.#malformed++
      return
    }
    this.#isOutOfScale ||= reading.isOutOfScale
    if (named !== undefined && reading.id !== named) return
    const heardAt = clock.monotonic()
    this.#dropOld(heardAt)
    if (!this.#known.has(reading.id) && this.#known.size >= MAX_KNOWN) this.#malformed++
    else this.#known.set(reading.id, { reading, heardAt })
  }

  /** The one that counts; one that knows how full it is before one that does not. */
  get robots(): BatteryReading | undefined {
    this.#dropOld(this.#parts.clock.monotonic())
    const readings = [...this.#known.values()]
      .map(({ reading }) => reading)
      .sort((one, other) => (one.id < other.id ? -1 : 1))
    return readings.find(({ battery }) => battery) ?? readings[0]
  }

  #dropOld(now: number): void {
    for (const [id, { heardAt }] of this.#known) if (now - heardAt >= HOLD_MS) this.#known.delete(id)
  }
}
