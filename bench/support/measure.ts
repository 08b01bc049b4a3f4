import { performance } from 'node:perf_hooks'

/** How one number came out over all rounds. */
export interface Spread {
  readonly median: number
  readonly min: number
  readonly max: number
}

export function spreadOf(values: readonly number[]): Spread {
  if (values.length === 0) throw new Error('there is nothing to measure by')
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const median =
    sorted.length % 2 === 1 ? sorted[Math.floor(middle)]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  return { median, min: sorted[0]!, max: sorted.at(-1)! }
}

/** `1,234 (1,100–1,300)` */
export function inWords({ median, min, max }: Spread, digits = 0): string {
  const [middle, low, high] = [median, min, max].map((value) =>
    value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }),
  )
  return `${middle} (${low}–${high})`
}

/** Runs the work and answers how often a second it did what it counts. */
export async function perSecond(work: () => Promise<number>): Promise<number> {
  const begun = performance.now()
  const count = await work()
  return (count * 1000) / (performance.now() - begun)
}

/**
 * Runs variants in turn, round after round, so that whatever else the machine does meets all of them. The order turns
 * around with each round. A round before the first one counts is thrown away.
 */
export async function alternate<Name extends string, Result>(
  rounds: number,
  variants: Readonly<Record<Name, () => Promise<Result>>>,
): Promise<Record<Name, Result[]>> {
  const names = Object.keys(variants) as Name[]
  const results = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<Name, Result[]>
  for (let round = 0; round <= rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const value = await variants[name]()
      if (round > 0) results[name].push(value)
    }
  }
  return results
}

/** Each round's figure over that round's baseline. */
export function ratiosOf(figures: readonly number[], baselines: readonly number[]): number[] {
  return figures.map((figure, round) => figure / baselines[round]!)
}

/** The value below which this share of the sorted ones lies. */
export function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? Number.NaN
}

/** Calls `work(0)` to `work(count - 1)`, at most `concurrency` at a time. */
export async function inParallel(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<void>,
): Promise<void> {
  let next = 0
  const worker = async () => {
    for (let index = next++; index < count; index = next++) await work(index)
  }
  await Promise.all(Array.from({ length: Math.min(count, concurrency) }, worker))
}
