import type { ByteReader } from './bytes.ts'
import {
  type FilledColumn,
  fromColumns,
  type JsonObject,
  readColumns,
  toColumns,
  writeColumns,
} from './columns.ts'
import { readNumbers, writeNumbers } from './numbers.ts'
import { packBytes, unpackBytes } from './packed.ts'

/** A point in time to the microsecond, which one number could not hold as far as the year 9999. */
export interface Instants {
  /** Whole milliseconds since 1970. */
  readonly ms: readonly number[]
  /** Microseconds beyond them, 0 to 999. */
  readonly us: readonly number[]
}

/** Heartbeats of one robot, one below the other. */
export interface Beats {
  /** On the robot's clock. */
  readonly at: Instants
  /** On the server's. */
  readonly receivedAt: Instants
  readonly sessionNo: readonly number[]
  readonly seq: readonly number[]
}

/** Heartbeats whose bodies are taken apart already: for whoever sums them up as well. */
export interface TakenApart extends Beats {
  readonly columns: readonly FilledColumn[]
}

export function takeApart(beats: Beats, bodies: readonly JsonObject[]): TakenApart {
  return { ...beats, columns: toColumns(bodies) }
}

/** Packs heartbeats; every one comes back as it was, but for the order of the members of its body. */
export function packBeats(beats: TakenApart): Promise<Buffer> {
  const { at, receivedAt, sessionNo, seq, columns } = beats
  const count = seq.length
  return packBytes((writer) => {
    writer.varint(count)
    writer.block((block) => {
      writeNumbers(block, at.ms)
      writeNumbers(block, at.us)
      writeNumbers(block, seq)
    })
    writer.block((block) => {
      // How long a heartbeat took is nearly the same each time.
      writeNumbers(
        block,
        receivedAt.ms.map((ms, index) => ms - at.ms[index]!),
      )
      writeNumbers(block, receivedAt.us)
      writeNumbers(block, sessionNo)
    })
    writeColumns(writer, columns, count)
  })
}

/** An opened pack: each part is read when it is asked for, in this order, and once. */
export interface OpenedPack {
  readonly count: number
  readonly at: Instants
  readonly seq: readonly number[]
  /** The rest of what is known of each heartbeat besides its body. */
  readArrivals(): Pick<Beats, 'receivedAt' | 'sessionNo'>
  readColumns(wants?: (path: readonly string[]) => boolean): Generator<FilledColumn>
  readBodies(): JsonObject[]
}

export async function openPack(packed: Uint8Array): Promise<OpenedPack> {
  const reader = await unpackBytes(packed)
  const count = reader.varint()
  const head = reader.block()
  const at = { ms: readNumbers(head, count), us: readNumbers(head, count) }
  const seq = readNumbers(head, count)
  const arrivals: ByteReader = reader.block()
  return {
    count,
    at,
    seq,
    readArrivals() {
      const took = readNumbers(arrivals, count)
      return {
        receivedAt: {
          ms: took.map((ms, index) => ms + at.ms[index]!),
          us: readNumbers(arrivals, count),
        },
        sessionNo: readNumbers(arrivals, count),
      }
    },
    readColumns: (wants) => readColumns(reader, count, wants),
    readBodies: () => fromColumns(readColumns(reader, count), count),
  }
}
