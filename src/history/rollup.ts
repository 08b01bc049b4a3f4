import { type ByteReader, type ByteWriter, DamagedError } from './bytes.ts'
import { readRows, writeRows } from './columns.ts'
import { decimalsOf, readIntegers, readNumbers, writeIntegers, writeNumbers } from './numbers.ts'
import { packBytes, unpackBytes } from './packed.ts'
import type { Numbers, Tally } from './tally.ts'

/** A sum is exact, as a whole number of so many decimals; otherwise there is a mean of seven digits. */
const AS_MEANS = 255
const MAX_SUM_DECIMALS = 10
const LARGEST_SUM = 2 ** 49
/** What adding up decimals as binary fractions leaves, in units of the last decimal. */
const ROUNDING = 1e-4
const MEAN_DIGITS = 7

/** Packs a tally whose buckets begin at `baseMs` or later. */
export function packTally(tally: Tally, baseMs: number): Promise<Buffer> {
  const buckets = [...tally.health.keys()].sort((one, other) => one - other)
  const placeOf = new Map(buckets.map((bucket, place) => [bucket, place]))
  return packBytes((writer) => {
    writer.varint(buckets.length)
    writeIntegers(
      writer,
      buckets.map((bucket) => (bucket - baseMs) / tally.stepMs),
    )
    const states = [...new Set([...tally.health.values()].flatMap((counts) => [...counts.keys()]))]
    writer.text(JSON.stringify(states))
    for (const state of states)
      writeIntegers(
        writer,
        buckets.map((bucket) => tally.health.get(bucket)!.get(state) ?? 0),
      )
    const beats = buckets.map((bucket) =>
      [...tally.health.get(bucket)!.values()].reduce((sum, count) => sum + count, 0),
    )
    const fields = [...tally.fields].filter(([, of]) => of.size > 0)
    writer.text(JSON.stringify(fields.map(([field]) => field)))
    for (const [, of] of fields)
      writer.block((block) => {
        const entries = [...of]
          .map(([bucket, numbers]) => ({ place: placeOf.get(bucket)!, numbers }))
          .sort((one, other) => one.place - other.place)
        const rows = entries.map(({ place }) => place)
        writeRows(block, rows, buckets.length)
        writeSums(
          block,
          entries.map(({ numbers }) => numbers),
          rows.map((place) => beats[place]!),
        )
      })
  })
}

function writeSums(block: ByteWriter, all: readonly Numbers[], beats: readonly number[]): void {
  // A field that every heartbeat tells of takes nothing here.
  writeIntegers(
    block,
    all.map(({ count }, index) => beats[index]! - count),
  )
  const decimals = sumDecimals(all)
  block.byte(decimals ?? AS_MEANS)
  const mins = all.map(({ min }) => min)
  const spans = all.map(({ min, max }) => max - min)
  if (decimals === undefined) {
    writeNumbers(block, mins)
    writeNumbers(
      block,
      all.map(({ max }) => max),
    )
    writeNumbers(
      block,
      all.map(({ sum, count }) => Number((sum / count).toPrecision(MEAN_DIGITS))),
    )
    return
  }
  const power = 10 ** decimals
  const whole = mins.map((min) => Math.round(min * power))
  writeIntegers(block, whole)
  writeIntegers(
    block,
    spans.map((_, index) => Math.round(all[index]!.max * power) - whole[index]!),
  )
  // What is above the least that the sum could be.
  writeIntegers(
    block,
    all.map(({ sum, count }, index) => Math.round(sum * power) - count * whole[index]!),
  )
}

/** With how many decimals all sums are whole numbers, and least and largest ones exact; or undefined. */
function sumDecimals(all: readonly Numbers[]): number | undefined {
  const least = decimalsOf(all.flatMap(({ min, max }) => [min, max]))
  if (least === undefined) return undefined
  for (let decimals = least; decimals <= MAX_SUM_DECIMALS; decimals++) {
    const power = 10 ** decimals
    const isWhole = all.every(({ count, sum, min, max }) => {
      const scaled = sum * power
      const largest = count * Math.max(Math.abs(min), Math.abs(max)) * power
      return largest <= LARGEST_SUM && Math.abs(scaled - Math.round(scaled)) <= ROUNDING
    })
    if (isWhole) return decimals
  }
  return undefined
}

/** Adds what was packed to a tally, whose steps may be longer; `wants` says of which fields. */
export async function unpackTally(
  packed: Uint8Array,
  from: { readonly baseMs: number; readonly stepMs: number },
  tally: Tally,
  wants: (field: string) => boolean = () => true,
): Promise<void> {
  const reader = await unpackBytes(packed)
  const count = reader.varint()
  const buckets = readIntegers(reader, count).map((index) => from.baseMs + index * from.stepMs)
  const beats = new Array<number>(count).fill(0)
  for (const state of JSON.parse(reader.text()) as string[])
    for (const [place, counted] of readIntegers(reader, count).entries()) {
      beats[place]! += counted
      if (counted > 0) tally.addHealth(buckets[place]!, state, counted)
    }
  for (const field of JSON.parse(reader.text()) as string[]) {
    const block = reader.block()
    if (!wants(field)) continue
    const rows = readRows(block, count)
    const all = readSums(
      block,
      rows.map((place) => beats[place]!),
    )
    tally.addNumbers(
      field,
      rows.map((place) => buckets[place]!),
      all,
    )
  }
}

function readSums(block: ByteReader, beats: readonly number[]): Numbers[] {
  const { length } = beats
  const missing = readIntegers(block, length)
  const counts = beats.map((total, index) => total - missing[index]!)
  const decimals = block.byte()
  if (decimals === AS_MEANS) {
    const mins = readNumbers(block, length)
    const maxs = readNumbers(block, length)
    return readNumbers(block, length).map((mean, index) => ({
      count: counts[index]!,
      sum: mean * counts[index]!,
      min: mins[index]!,
      max: maxs[index]!,
    }))
  }
  if (decimals > MAX_SUM_DECIMALS) throw new DamagedError('an unknown form of sums')
  const power = 10 ** decimals
  const mins = readIntegers(block, length)
  const spans = readIntegers(block, length)
  return readIntegers(block, length).map((above, index) => {
    const [count, min] = [counts[index]!, mins[index]!]
    return {
      count,
      sum: (above + count * min) / power,
      min: min / power,
      max: (min + spans[index]!) / power,
    }
  })
}
