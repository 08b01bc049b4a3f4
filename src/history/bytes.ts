/** Bytes and bits that are written one after the other. Numbers are safe integers unless said otherwise. */
export class ByteWriter {
  #bytes = new Uint8Array(1024)
  #view = new DataView(this.#bytes.buffer)
  #length = 0
  /** Bits that do not fill a byte yet. */
  #bits = 0
  #bitCount = 0

  get length(): number {
    return this.#length
  }

  /** What was written so far; a copy. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length)
  }

  byte(value: number): void {
    this.#reserve(1)
    this.#bytes[this.#length++] = value
  }

  bytes(given: Uint8Array): void {
    this.#reserve(given.length)
    this.#bytes.set(given, this.#length)
    this.#length += given.length
  }

  /** 0 or more; small ones are short. */
  varint(value: number): void {
    this.#reserve(8)
    let rest = value
    while (rest >= 0x80) {
      this.#bytes[this.#length++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#bytes[this.#length++] = rest
  }

  float64(value: number): void {
    this.#reserve(8)
    this.#view.setFloat64(this.#length, value, true)
    this.#length += 8
  }

  text(value: string): void {
    const encoded = Buffer.from(value)
    this.varint(encoded.length)
    this.bytes(encoded)
  }

  /** What another has written, with its length before it. */
  block(write: (writer: ByteWriter) => void): void {
    const inner = new ByteWriter()
    write(inner)
    this.varint(inner.#length)
    this.bytes(inner.#bytes.subarray(0, inner.#length))
  }

  /** The lowest `count` bits of a number, the highest first; 53 at the most. `alignBits` has to follow the last ones. */
  bits(value: number, count: number): void {
    let left = count
    while (left > 24) {
      left -= 24
      this.#fewBits(Math.floor(value / 2 ** left) % 2 ** 24, 24)
    }
    this.#fewBits(value % 2 ** left, left)
  }

  alignBits(): void {
    if (this.#bitCount > 0) this.byte((this.#bits << (8 - this.#bitCount)) & 0xff)
    this.#bits = 0
    this.#bitCount = 0
  }

  #fewBits(value: number, count: number): void {
    this.#bits = (this.#bits << count) | value
    this.#bitCount += count
    while (this.#bitCount >= 8) {
      this.#bitCount -= 8
      this.byte((this.#bits >>> this.#bitCount) & 0xff)
    }
    this.#bits &= (1 << this.#bitCount) - 1
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + count))
    grown.set(this.#bytes)
    this.#bytes = grown
    this.#view = new DataView(grown.buffer)
  }
}

/** Bytes that do not hold what they should. */
export class DamagedError extends Error {
  constructor(what: string) {
    super(`packed history is damaged: ${what}`)
    this.name = 'DamagedError'
  }
}

/** Whatever bit of a byte they begin with, so many lie within four bytes. */
const MOST_AT_ONCE = 24

/** Reads what a ByteWriter wrote. Throws DamagedError where the bytes end too soon. */
export class ByteReader {
  readonly #bytes: Uint8Array
  #at = 0
  /** How many bits of the next byte are read already. */
  #bit = 0

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
  }

  byte(): number {
    const value = this.#bytes[this.#at]
    if (value === undefined) throw new DamagedError('it ends too soon')
    this.#at += 1
    return value
  }

  bytes(count: number): Uint8Array {
    if (count > this.#bytes.length - this.#at) throw new DamagedError('it ends too soon')
    this.#at += count
    return this.#bytes.subarray(this.#at - count, this.#at)
  }

  varint(): number {
    let value = 0
    for (let weight = 1; weight < 2 ** 56; weight *= 0x80) {
      const next = this.byte()
      value += (next & 0x7f) * weight
      if (next < 0x80) return value
    }
    throw new DamagedError('a number is too long')
  }

  float64(): number {
    const bytes = this.bytes(8)
    return new DataView(bytes.buffer, bytes.byteOffset, 8).getFloat64(0, true)
  }

  text(): string {
    const bytes = this.bytes(this.varint())
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()
  }

  block(): ByteReader {
    return new ByteReader(this.bytes(this.varint()))
  }

  bits(count: number): number {
    let value = 0
    let left = count
    for (; left > MOST_AT_ONCE; left -= MOST_AT_ONCE)
      value = value * 2 ** MOST_AT_ONCE + this.#fewBits(MOST_AT_ONCE)
    return left === 0 ? value : value * 2 ** left + this.#fewBits(left)
  }

  /** How many zeros come before the next one, which is read, too. */
  zeros(): number {
    for (let count = 0; count <= 64; ) {
      const leading = Math.clz32(this.#ahead())
      if (leading <= MOST_AT_ONCE) {
        this.#bit += leading + 1
        this.#takeBytes()
        return count + leading
      }
      count += MOST_AT_ONCE
      this.#bit += MOST_AT_ONCE
      this.#takeBytes()
    }
    throw new DamagedError('a number is too long')
  }

  /** Leaves out what is left of a byte that was begun. */
  alignBits(): void {
    if (this.#bit > 0) this.#at += 1
    this.#bit = 0
    if (this.#at > this.#bytes.length) throw new DamagedError('it ends too soon')
  }

  #fewBits(count: number): number {
    const value = this.#ahead() >>> (32 - count)
    this.#bit += count
    this.#takeBytes()
    return value
  }

  /** At least 25 bits that come next, the first one highest; zeros behind the end. */
  #ahead(): number {
    const bytes = this.#bytes
    const at = this.#at
    return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) << this.#bit
  }

  #takeBytes(): void {
    this.#at += this.#bit >> 3
    this.#bit &= 7
  }
}
