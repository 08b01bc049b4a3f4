import { randomFillSync } from 'node:crypto'
import { v7 } from 'uuid'
import { systemClock } from './runtime.ts'

const BYTES_OF_ONE = 16

/** Random bytes for many ids: asked for one by one, they cost more than all else about an id. */
const pool = Buffer.alloc(256 * BYTES_OF_ONE)
let used = pool.length

/** Ids of the same millisecond count from a random number on, which begins low enough to have room. */
let msecs = 0
let seq = 0

/** A new UUIDv7: sorts by the time it was made, and in this process by the order of the calls. */
export function newId(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const random = pool.subarray(used, used + BYTES_OF_ONE)
  used += BYTES_OF_ONE
  const now = systemClock.now()
  if (now > msecs) {
    msecs = now
    // Bytes that are nowhere else in the id.
    seq = random.readUInt32BE(0) >>> 1
  } else seq += 1
  return v7({ random, msecs, seq })
}
