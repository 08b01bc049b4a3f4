import type { Ring } from './spool/ring.ts'

/** One heartbeat that waits for its acknowledgement. */
export interface SpoolEntry {
  readonly seq: number
  readonly text: string
}

/** Heartbeats that the server has not acknowledged, oldest first. */
export interface Spool {
  /** Keeps an entry; `seq` must be above all before it. At the bounds the oldest go. */
  add(entry: SpoolEntry): void
  /** Forgets the entries from one `seq` to another, both included. */
  acknowledge(from: number, to: number): void
  /** At most `limit` entries above `seq` and below `below`, oldest first. */
  after(seq: number, limit: number, below?: number): readonly SpoolEntry[]
  /** Forgets everything, for nobody will ever ask for it. */
  clear(): void
  readonly oldestSeq: number | undefined
  readonly size: number
  readonly bytes: number
  /** Entries lost at the bounds, also by processes before this one while nobody was told of it. */
  readonly dropped: number
}

/** A spool that outlasts the process. */
export class DiskSpool implements Spool {
  readonly #ring: Ring

  constructor(ring: Ring) {
    this.#ring = ring
  }

  get oldestSeq(): number | undefined {
    return this.#ring.oldest
  }

  get size(): number {
    return this.#ring.size
  }

  get bytes(): number {
    return this.#ring.bytes
  }

  get dropped(): number {
    return this.#ring.dropped
  }

  add({ seq, text }: SpoolEntry): void {
    this.#ring.add({ no: seq, text })
  }

  acknowledge(from: number, to: number): void {
    this.#ring.acknowledge(from, to)
  }

  after(seq: number, limit: number, below?: number): readonly SpoolEntry[] {
    return this.#ring.after(seq, limit, below).map(({ no, text }) => ({ seq: no, text }))
  }

  clear(): void {
    this.#ring.clear()
  }
}
