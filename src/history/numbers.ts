import { type ByteReader, type ByteWriter, DamagedError } from './bytes.ts'

/**
 * A column of numbers, kept exactly. Nearly all numbers that machines tell are decimals of few places, close to the one
 * before or to all others: they become whole numbers, differences, and those as few bits as they need (Exp-Golomb codes).
 */

/** Of whole numbers up to this the differences, and what tells them apart, stay exact. */
const LARGEST = 2 ** 49
const MAX_DECIMALS = 10
const POWERS = Array.from({ length: MAX_DECIMALS + 1 }, (_, decimals) => 10 ** decimals)
/** Written where else the number of decimals stands. */
const AS_THEY_ARE = 255

const [CONSTANT, PLAIN, DIFFERENCES] = [0, 1, 2]

export function writeNumbers(writer: ByteWriter, values: readonly number[]): void {
  const decimals = decimalsOf(values)
  if (decimals === undefined) {
    writer.byte(AS_THEY_ARE)
    writeFloats(writer, values)
    return
  }
  writer.byte(decimals)
  const power = POWERS[decimals]!
  writeIntegers(writer, decimals === 0 ? values : values.map((value) => Math.round(value * power)))
}

export function readNumbers(reader: ByteReader, count: number): number[] {
  const decimals = reader.byte()
  if (decimals === AS_THEY_ARE) return readFloats(reader, count)
  const power = POWERS[decimals]
  if (power === undefined) throw new DamagedError('an unknown form of numbers')
  const values = readIntegers(reader, count)
  if (decimals > 0) for (let index = 0; index < count; index++) values[index] = values[index]! / power
  return values
}

/** The fewest decimals with which all of them are exact, or undefined. */
export function decimalsOf(values: readonly number[]): number | undefined {
  let decimals = 0
  for (const value of values)
    for (; !isDecimal(value, decimals); decimals++) if (decimals === MAX_DECIMALS) return undefined
  // What took fewer decimals than others may have grown too large for theirs.
  return decimals === 0 || values.every((value) => isDecimal(value, decimals)) ? decimals : undefined
}

function isDecimal(value: number, decimals: number): boolean {
  const power = POWERS[decimals]!
  const whole = Math.round(value * power)
  // Minus zero is a number of its own.
  return Math.abs(whole) <= LARGEST && whole / power === value && !Object.is(whole, -0)
}

/** Whole numbers up to 2^49, of either sign. */
export function writeIntegers(writer: ByteWriter, values: readonly number[]): void {
  const first = values[0] ?? 0
  if (values.every((value) => value === first)) {
    writer.byte(CONSTANT)
    writer.varint(zigzag(first))
    return
  }
  const differences = new Array<number>(values.length - 1)
  for (let index = 1; index < values.length; index++)
    differences[index - 1] = values[index]! - values[index - 1]!
  const plain = codeFor(values)
  const stepped = codeFor(differences)
  if (stepped.bits < plain.bits) {
    writer.byte(DIFFERENCES)
    writer.varint(zigzag(first))
    writeCoded(writer, differences, stepped)
  } else {
    writer.byte(PLAIN)
    writeCoded(writer, values, plain)
  }
}

export function readIntegers(reader: ByteReader, count: number): number[] {
  const mode = reader.byte()
  if (mode === CONSTANT) return new Array<number>(count).fill(unzigzag(reader.varint()))
  if (mode === PLAIN) return readCoded(reader, count)
  if (mode !== DIFFERENCES) throw new DamagedError('an unknown form of numbers')
  let value = unzigzag(reader.varint())
  const values = [value]
  for (const difference of readCoded(reader, count - 1)) {
    value += difference
    values.push(value)
  }
  return values
}

interface Code {
  /** What is taken from each number first. */
  readonly middle: number
  /** How many bits every number has at least. */
  readonly order: number
  /** About how many bits all take. */
  readonly bits: number
}

function codeFor(values: readonly number[]): Code {
  const middle = middleOf(values)
  const lengths = new Array<number>(55).fill(0)
  let longest = 0
  for (const value of values) {
    const length = bitLength(zigzag(value - middle))
    lengths[length]! += 1
    if (length > longest) longest = length
  }
  let best = { order: 0, bits: Number.POSITIVE_INFINITY }
  for (let order = 0; order <= longest; order++) {
    let bits = 0
    for (let length = 0; length <= longest; length++)
      bits += lengths[length]! * (order + 1 + (length > order ? 2 * (length - order) : 0))
    if (bits < best.bits) best = { order, bits }
  }
  return { middle, ...best }
}

function writeCoded(writer: ByteWriter, values: readonly number[], { middle, order }: Code): void {
  writer.varint(zigzag(middle))
  writer.byte(order)
  const unit = 2 ** order
  for (const value of values) {
    const number = zigzag(value - middle)
    const high = Math.floor(number / unit) + 1
    const length = bitLength(high)
    if (length > 1) writer.bits(0, length - 1)
    writer.bits(high, length)
    if (order > 0) writer.bits(number % unit, order)
  }
  writer.alignBits()
}

function readCoded(reader: ByteReader, count: number): number[] {
  const middle = unzigzag(reader.varint())
  const order = reader.byte()
  if (order > 53) throw new DamagedError('an unknown form of numbers')
  const unit = 2 ** order
  const values = new Array<number>(count)
  for (let index = 0; index < count; index++) {
    const zeros = reader.zeros()
    const high = 2 ** zeros + reader.bits(zeros)
    values[index] = unzigzag((high - 1) * unit + reader.bits(order)) + middle
  }
  reader.alignBits()
  return values
}

/** Of some of them: numbers far from all others change it little. */
function middleOf(values: readonly number[]): number {
  const step = Math.max(1, values.length / 31)
  const some: number[] = []
  for (let at = 0; at < values.length; at += step) some.push(values[Math.floor(at)]!)
  some.sort((one, other) => one - other)
  return some[some.length >> 1] ?? 0
}

/** Small numbers of either sign as small ones from 0 on. */
function zigzag(value: number): number {
  return value < 0 ? -2 * value - 1 : 2 * value
}

function unzigzag(number: number): number {
  return number % 2 === 1 ? -(number + 1) / 2 : number / 2
}

function bitLength(number: number): number {
  return number < 2 ** 31 ? 32 - Math.clz32(number) : 63 - Math.clz32(Math.floor(number / 2 ** 31))
}

/** The bytes of all numbers that have the same place in theirs stand together: those that are alike. */
function writeFloats(writer: ByteWriter, values: readonly number[]): void {
  const bytes = new Uint8Array(Float64Array.from(values).buffer)
  for (let place = 0; place < 8; place++)
    for (let index = place; index < bytes.length; index += 8) writer.byte(bytes[index]!)
}

function readFloats(reader: ByteReader, count: number): number[] {
  const bytes = new Uint8Array(count * 8)
  const planes = reader.bytes(count * 8)
  for (let place = 0; place < 8; place++)
    for (let index = 0; index < count; index++) bytes[index * 8 + place] = planes[place * count + index]!
  return [...new Float64Array(bytes.buffer)]
}
