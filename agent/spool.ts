/** One heartbeat that waits for its acknowledgement: the frame as it is sent, each time the same. */
export interface SpoolEntry {
  readonly seq: number
  readonly text: string
}

/** Heartbeats that the server has not acknowledged, oldest first. */
export interface Spool {
  /** Keeps an entry; `seq` must be above all before it. At the bounds the oldest go. */
  add(entry: SpoolEntry): void
  /** Forgets every entry up to and including `seq`. */
  acknowledge(seq: number): void
  /** At most `limit` entries above `seq`, oldest first. */
  after(seq: number, limit: number): readonly SpoolEntry[]
  /** Forgets everything, for nobody will ever ask for it. */
  clear(): void
  readonly oldestSeq: number | undefined
  readonly newestSeq: number | undefined
  readonly size: number
  readonly bytes: number
  /** Entries lost at the bounds since the start. */
  readonly dropped: number
}

export interface SpoolBounds {
  readonly entries: number
  readonly bytes: number
}

/** 10,000 heartbeats are more than a day at one every ten seconds. */
const SPOOL_BOUNDS: SpoolBounds = { entries: 10_000, bytes: 4 * 1024 * 1024 }

/** A spool that ends with the process. */
export class MemorySpool implements Spool {
  readonly #bounds: SpoolBounds
  #entries: SpoolEntry[] = []
  /** Entries before it are gone; they are cut off now and then, not one by one. */
  #head = 0
  #bytes = 0
  #dropped = 0

  constructor(bounds: SpoolBounds = SPOOL_BOUNDS) {
    this.#bounds = bounds
  }

  get size(): number {
    return this.#entries.length - this.#head
  }

  get bytes(): number {
    return this.#bytes
  }

  get dropped(): number {
    return this.#dropped
  }

  get oldestSeq(): number | undefined {
    return this.#entries[this.#head]?.seq
  }

  get newestSeq(): number | undefined {
    return this.size === 0 ? undefined : this.#entries.at(-1)?.seq
  }

  add(entry: SpoolEntry): void {
    const newest = this.newestSeq
    if (newest !== undefined && entry.seq <= newest)
      throw new RangeError(`seq ${entry.seq} is not above ${newest}`)
    this.#entries.push(entry)
    this.#bytes += Buffer.byteLength(entry.text)
    while (this.size > this.#bounds.entries || (this.#bytes > this.#bounds.bytes && this.size > 1)) {
      this.#removeOldest()
      this.#dropped++
    }
    this.#tidy()
  }

  acknowledge(seq: number): void {
    while (this.size > 0 && this.#entries[this.#head]!.seq <= seq) this.#removeOldest()
    this.#tidy()
  }

  after(seq: number, limit: number): readonly SpoolEntry[] {
    const start = this.#indexAbove(seq)
    return this.#entries.slice(start, start + limit)
  }

  clear(): void {
    this.#entries = []
    this.#head = 0
    this.#bytes = 0
  }

  #indexAbove(seq: number): number {
    let low = this.#head
    let high = this.#entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#entries[middle]!.seq <= seq) low = middle + 1
      else high = middle
    }
    return low
  }

  #removeOldest(): void {
    this.#bytes -= Buffer.byteLength(this.#entries[this.#head]!.text)
    this.#head++
  }

  #tidy(): void {
    if (this.#head < 64 || this.#head * 2 < this.#entries.length) return
    this.#entries = this.#entries.slice(this.#head)
    this.#head = 0
  }
}
