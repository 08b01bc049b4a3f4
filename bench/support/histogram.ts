/** Each power of two is cut into so many parts: what is told of a value is at most 1/64 beside it. */
const PARTS_BITS = 5
const PARTS = 2 ** PARTS_BITS
/** Microseconds up to 2^32 (71 minutes); what is longer counts as that. */
const BUCKETS = (32 - PARTS_BITS + 1) * PARTS

/** As it travels between processes: pairs of bucket and count, without the empty ones. */
export interface HistogramCounts {
  readonly buckets: readonly (readonly [bucket: number, count: number])[]
  readonly maxUs: number
}

function bucketOf(us: number): number {
  const whole = us >>> 0
  if (whole < PARTS) return whole
  const shift = 31 - Math.clz32(whole) - PARTS_BITS
  return (shift + 1) * PARTS + ((whole >>> shift) - PARTS)
}

/** The middle of what a bucket holds. */
function middleOf(bucket: number): number {
  if (bucket < PARTS) return bucket
  const shift = Math.floor(bucket / PARTS) - 1
  return ((bucket % PARTS) + PARTS + 0.5) * 2 ** shift
}

/** How often which duration was seen, in the same few kilobytes however many there are. Histograms add up. */
export class Histogram {
  readonly #counts = new Float64Array(BUCKETS)
  #count = 0
  #maxUs = 0

  static of(parts: readonly HistogramCounts[]): Histogram {
    const all = new Histogram()
    for (const part of parts) all.add(part)
    return all
  }

  get count(): number {
    return this.#count
  }

  get maxMs(): number {
    return this.#maxUs / 1000
  }

  recordMs(ms: number): void {
    const us = Math.min(Math.max(Math.round(ms * 1000), 0), 0xffff_ffff)
    this.#counts[bucketOf(us)]! += 1
    this.#count += 1
    if (us > this.#maxUs) this.#maxUs = us
  }

  add({ buckets, maxUs }: HistogramCounts): void {
    for (const [bucket, count] of buckets) {
      this.#counts[bucket]! += count
      this.#count += count
    }
    this.#maxUs = Math.max(this.#maxUs, maxUs)
  }

  /** The duration below which this share (0 to 1) of all lies; NaN when there is none. */
  quantileMs(share: number): number {
    if (this.#count === 0) return Number.NaN
    let left = Math.floor(this.#count * share)
    for (const [bucket, count] of this.#counts.entries()) {
      left -= count
      if (left < 0) return Math.min(middleOf(bucket), this.#maxUs) / 1000
    }
    return this.maxMs
  }

  counts(): HistogramCounts {
    const buckets: [number, number][] = []
    for (const [bucket, count] of this.#counts.entries()) if (count > 0) buckets.push([bucket, count])
    return { buckets, maxUs: this.#maxUs }
  }

  clear(): void {
    this.#counts.fill(0)
    this.#count = 0
    this.#maxUs = 0
  }
}
