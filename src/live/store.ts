import type { Entry, Facts } from './robot.ts'

/** What one look at the database brought. */
export interface Tick {
  readonly number: number
  /** Robots that are otherwise than before in anything. */
  readonly changed: readonly string[]
  /** Those whose status is otherwise, with how they were; undefined: they were not there. */
  readonly turned: readonly { readonly id: string; readonly before: Facts | undefined }[]
}

export interface LogLimits {
  readonly ticks: number
  /** Changes of all ticks together. */
  readonly changes: number
}

/** Five minutes at one tick a second; changes for 10,000 robots at 10 s as long. */
export const LOG_LIMITS: LogLimits = { ticks: 300, changes: 400_000 }

/**
 * All robots as they were when they were looked at last, and what changed with each of the last looks. Ticks count looks
 * that found something; `epoch` tells those of this store from all others.
 */
export class LiveStore {
  readonly epoch: string
  readonly #limits: LogLimits
  readonly #entries = new Map<string, Entry>()
  #log: Tick[] = []
  #logged = 0
  #tick = 0
  #time = 0

  constructor(epoch: string, limits: LogLimits = LOG_LIMITS) {
    this.epoch = epoch
    this.#limits = limits
  }

  get size(): number {
    return this.#entries.size
  }

  /** The newest tick. */
  get tick(): number {
    return this.#tick
  }

  /** When the database was looked at last, on its clock. */
  get time(): number {
    return this.#time
  }

  get(id: string): Entry | undefined {
    return this.#entries.get(id)
  }

  all(): Iterable<Entry> {
    return this.#entries.values()
  }

  ids(): Iterable<string> {
    return this.#entries.keys()
  }

  /** Takes in what a look found; returns the tick that it makes, or undefined when nothing is otherwise. */
  apply(entries: readonly Entry[], gone: readonly string[], time: number): Tick | undefined {
    this.#time = time
    const changed: string[] = []
    const turned: { id: string; before: Facts | undefined }[] = []
    for (const entry of entries) {
      const { id } = entry.facts
      const before = this.#entries.get(id)
      if (before?.status === entry.status) {
        this.#entries.set(id, { ...entry, facts: before.facts })
        if (before.full === entry.full) continue
      } else {
        this.#entries.set(id, entry)
        turned.push({ id, before: before?.facts })
      }
      changed.push(id)
    }
    for (const id of gone) {
      const before = this.#entries.get(id)
      if (!before) continue
      this.#entries.delete(id)
      turned.push({ id, before: before.facts })
    }
    if (changed.length + turned.length === 0) return undefined
    this.#tick += 1
    const tick = { number: this.#tick, changed, turned }
    this.#keep(tick)
    return tick
  }

  /** The ticks after this one, oldest first; undefined when the log does not reach back so far, or it is yet to come. */
  since(tick: number): readonly Tick[] | undefined {
    const missing = this.#tick - tick
    if (!Number.isInteger(missing) || missing < 0 || missing > this.#log.length) return undefined
    return missing === 0 ? [] : this.#log.slice(-missing)
  }

  #keep(tick: Tick): void {
    this.#log.push(tick)
    this.#logged += tick.changed.length + tick.turned.length
    let forgotten = 0
    while (
      this.#log.length - forgotten > this.#limits.ticks ||
      (this.#logged > this.#limits.changes && this.#log.length - forgotten > 1)
    ) {
      const { changed, turned } = this.#log[forgotten]!
      this.#logged -= changed.length + turned.length
      forgotten += 1
    }
    if (forgotten > 0) this.#log = this.#log.slice(forgotten)
  }
}
