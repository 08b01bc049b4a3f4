import type { Spool, SpoolEntry } from '../../../agent/spool.ts'

/** A spool as simple as can be, without bounds. */
export class ArraySpool implements Spool {
  #entries: SpoolEntry[] = []
  readonly dropped = 0
  readonly unreported = 0

  get size(): number {
    return this.#entries.length
  }

  get bytes(): number {
    return this.#entries.reduce((sum, { text }) => sum + text.length, 0)
  }

  get oldestSeq(): number | undefined {
    return this.#entries[0]?.seq
  }

  add(entry: SpoolEntry): void {
    this.#entries.push(entry)
  }

  acknowledge(from: number, to: number): void {
    this.#entries = this.#entries.filter(({ seq }) => seq < from || seq > to)
  }

  after(seq: number, limit: number, below = Infinity): readonly SpoolEntry[] {
    return this.#entries.filter((entry) => entry.seq > seq && entry.seq < below).slice(0, limit)
  }

  report(): undefined {}

  reported(): void {}

  clear(): void {
    this.#entries = []
  }
}
