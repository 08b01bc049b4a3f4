import { constants, crc32, deflateRawSync } from 'node:zlib'

/** How what is said goes over the wire. */
export type Coding = 'identity' | 'gzip'

/** A part of what is sent, encoded once for all readers of it. */
export interface Part {
  readonly bytes: Buffer
  /** Of the text. */
  readonly textBytes: number
  /** What readers of gzip need of it for the end of the stream. */
  readonly sum?: PartSum
}

interface PartSum {
  /** Of the text. */
  readonly crc: number
  /** What a CRC before it is multiplied with. */
  readonly shift: number
}

/** What fits into one packet is not worth the work. */
const DEFLATED_FROM_BYTES = 1_400
/** The highest take twice as long, for a tenth fewer bytes: a robot's text is much like the one before it. */
const LEVEL = 3

/**
 * Encodes a text so that it can follow any other part. In gzip each part refers to nothing before it and ends with an empty
 * stored block (RFC 1951, 3.2.4): at a whole byte, so that one part is shared among readers who have come at different
 * times, and with what some decoders wait for, Go's among them, before they give away what they have.
 */
export function encode(coding: Coding, text: string): Part {
  const plain = Buffer.from(text)
  const textBytes = plain.length
  if (coding === 'identity') return { bytes: plain, textBytes }
  const bytes =
    textBytes < DEFLATED_FROM_BYTES
      ? Buffer.concat([storedHead(textBytes), plain, EMPTY_BLOCK])
      : deflateRawSync(plain, { level: LEVEL, finishFlush: constants.Z_SYNC_FLUSH })
  return { bytes, textBytes, sum: { crc: crc32(plain), shift: shiftOf(textBytes) } }
}

/** RFC 1951, 3.2.4, as a flush leaves it behind. */
const EMPTY_BLOCK = storedHead(0)

/** One reader's stream: everything that is sent has to pass through it, in order. */
export interface Stream {
  /** The bytes to write for a part. */
  add(part: Part): Buffer
  /** The bytes to write after the last part. */
  end(): Buffer
}

const NOTHING = Buffer.alloc(0)

export function openStream(coding: Coding): Stream {
  return coding === 'gzip' ? new GzipStream() : { add: ({ bytes }) => bytes, end: () => NOTHING }
}

/** RFC 1952: deflated, no name, no time, no system. */
const GZIP_HEAD = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])
/** An empty stored block that is the last one. */
const LAST_BLOCK = storedHead(0, true)

class GzipStream implements Stream {
  #hasBegun = false
  #crc = 0
  #textBytes = 0

  add({ bytes, sum, textBytes }: Part): Buffer {
    if (!sum) throw new Error('a part in another coding')
    this.#crc = (times(this.#crc, sum.shift) ^ sum.crc) >>> 0
    this.#textBytes = (this.#textBytes + textBytes) >>> 0
    if (this.#hasBegun) return bytes
    this.#hasBegun = true
    return Buffer.concat([GZIP_HEAD, bytes])
  }

  end(): Buffer {
    const trailer = Buffer.alloc(8)
    trailer.writeUInt32LE(this.#crc, 0)
    trailer.writeUInt32LE(this.#textBytes, 4)
    return Buffer.concat([this.#hasBegun ? NOTHING : GZIP_HEAD, LAST_BLOCK, trailer])
  }
}

/** RFC 1951, 3.2.4; at a whole byte. */
function storedHead(length: number, isLast = false): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt8(isLast ? 1 : 0, 0)
  head.writeUInt16LE(length, 1)
  head.writeUInt16LE(~length & 0xffff, 3)
  return head
}

// The CRC of A followed by B is crc(A) · x^(8·|B|) + crc(B), in polynomials over two elements modulo that of CRC-32. As in
// the CRC itself the lowest power is the highest bit.

const POLYNOMIAL = 0xedb88320
const ONE = 0x80000000
const X_TO_THE_8TH = ONE >>> 8

function times(a: number, b: number): number {
  let product = 0
  let shifted = b
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if (a & bit) product ^= shifted
    shifted = shifted & 1 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1
  }
  return product >>> 0
}

/** x^(8·bytes). */
function shiftOf(bytes: number): number {
  let shift = ONE
  let square = X_TO_THE_8TH
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shift = times(shift, square)
    square = times(square, square)
  }
  return shift
}
