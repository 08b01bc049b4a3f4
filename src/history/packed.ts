import { promisify } from 'node:util'
import { constants, deflateRaw, inflateRaw } from 'node:zlib'
import { ByteReader, ByteWriter, DamagedError } from './bytes.ts'

/**
 * What most of what is packed says in words, so that it need not. Never changed: what was packed with it is read with
 * it. Another one goes with another first byte.
 */
const WORDS_1 = Buffer.from(
  [
    '["clock_offset_ms"],["faults"],["estop"],["activity"],["mode"],["pose","lat"],["pose","lon"],',
    '["pose","frame"],["pose","x"],["pose","y"],["pose","theta"],"docking","driving","charging","idle","auto","manual",',
    '"map","odom","cellular","tunnel","ethernet","wlan0","eth0","wifi","unknown","error","warn","ok",truefalse',
    '"network.rtt_ms","network.signal_dbm","pose.lat","pose.lon","pose.x","pose.y","pose.theta",',
    '"battery.charge","battery.voltage","system.cpu","system.memory","system.disk","system.temperature_c",',
    '"system.load_1m","system.uptime_s","metrics.speed","metrics.gpu_load","metrics.gpu_temperature_c","metrics.',
    '["metrics","speed"],["metrics","gpu_load"],["metrics","gpu_temperature_c"],["metrics","',
    '["network","kind"],["network","interface"],["network","signal_dbm"],["network","rtt_ms"],',
    '["battery","charging"],["battery","voltage"],["battery","charge"],["system","uptime_s"],["system","load_1m"],',
    '["system","temperature_c"],["system","disk"],["system","memory"],["system","cpu"],["health"],[["health"],',
  ].join(''),
)
const VERSION = 1
/** Of what a pack of ours holds at the most, many times over: bytes that say they hold more are damaged. */
const MAX_INFLATED = 256 * 1024 * 1024

const deflate = promisify<Uint8Array, object, Buffer>(deflateRaw)
const inflate = promisify<Uint8Array, object, Buffer>(inflateRaw)

/** What `write` writes, deflated on another thread, with the version of the form before it. */
export async function packBytes(write: (writer: ByteWriter) => void): Promise<Buffer> {
  const writer = new ByteWriter()
  write(writer)
  const deflated = await deflate(writer.finish(), {
    level: constants.Z_DEFAULT_COMPRESSION,
    dictionary: WORDS_1,
  })
  return Buffer.concat([Buffer.of(VERSION), deflated])
}

export async function unpackBytes(packed: Uint8Array): Promise<ByteReader> {
  if (packed[0] !== VERSION)
    throw new DamagedError(`its form is ${packed[0]}, which this program does not know`)
  try {
    return new ByteReader(
      await inflate(packed.subarray(1), { dictionary: WORDS_1, maxOutputLength: MAX_INFLATED }),
    )
  } catch (cause) {
    throw new DamagedError((cause as Error).message)
  }
}
