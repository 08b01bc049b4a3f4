/** Buckets for each doubling: two neighbours are 2.2 % apart. */
const BUCKETS_PER_DOUBLING = 32
/** The smallest time that is told from none, in milliseconds. */
const UNIT_MS = 0.01
/** Ten minutes and more are one bucket. */
const BUCKETS = Math.ceil(Math.log2(1 + 600_000 / UNIT_MS) * BUCKETS_PER_DOUBLING)

/** As it travels between processes: buckets that hold something, and how many. */
export type LatencyCounts = readonly (readonly [bucket: number, count: number])[]

/** Times in milliseconds, kept as counts, so that many processes' times for an hour have one p99 and take no memory. */
export class Latencies {
  readonly #counts = new Uint32Array(BUCKETS)
  #total = 0

  static of(parts: Iterable<LatencyCounts>): Latencies {
    const all = new Latencies()
    for (const part of parts) all.add(part)
    return all
  }

  get total(): number {
    return this.#total
  }

  record(ms: number): void {
    const bucket = Math.min(
      Math.floor(Math.log2(1 + Math.max(ms, 0) / UNIT_MS) * BUCKETS_PER_DOUBLING),
      BUCKETS - 1,
    )
    this.#counts[bucket]! += 1
    this.#total += 1
  }

  add(counts: LatencyCounts): void {
    for (const [bucket, count] of counts) {
      this.#counts[bucket]! += count
      this.#total += count
    }
  }

  /** The time in milliseconds below which this share of all lies; NaN when there are none. */
  quantile(share: number): number {
    if (this.#total === 0) return Number.NaN
    let left = Math.min(Math.floor(this.#total * share), this.#total - 1)
    let bucket = 0
    for (; left >= this.#counts[bucket]!; bucket++) left -= this.#counts[bucket]!
    return (2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING) - 1) * UNIT_MS
  }

  counts(): LatencyCounts {
    return [...this.#counts.entries()].filter(([, count]) => count > 0)
  }

  clear(): void {
    this.#counts.fill(0)
    this.#total = 0
  }
}
