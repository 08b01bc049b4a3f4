import { decodeBySchema, decodeRobotFrame } from '../src/protocol/codec.ts'
import { HEARTBEAT, HEARTBEAT_BYTES } from './programs/heartbeat-frames.ts'
import { alternate, perSecond, ratiosOf, spreadOf } from './support/measure.ts'
import { saveReport } from './support/report.ts'

// What does it cost to read and check a heartbeat, from its text to what goes into the database?

const ROUNDS = 9
const FRAMES = 100_000
/** Texts that differ, so that nothing can be kept from one to the next, and in one piece, as a socket hands them out. */
const TEXTS = Array.from({ length: 1_000 }, (_, index) =>
  Buffer.from(HEARTBEAT.replace('"seq":1000000', `"seq":${1_000_000 + index}`)).toString(),
)

/** So that nobody leaves out work whose result is of no use. */
let bytes = 0

const readAll = (read: (text: string) => number) => () =>
  perSecond(async () => {
    for (let index = 0; index < FRAMES; index++) bytes += read(TEXTS[index % TEXTS.length]!)
    return FRAMES
  })

const rounds = await alternate(ROUNDS, {
  /** The least that anybody does who builds objects: not checked at all. */
  parse: readAll((text) => {
    const { type: _type, seq, at, ...body } = JSON.parse(text)
    return seq + Date.parse(at) + JSON.stringify(body).length
  }),
  schema: readAll((text) => sizeOf(decodeBySchema(text))),
  scanner: readAll((text) => sizeOf(decodeRobotFrame(text))),
})
if (bytes === 0) throw new Error('nothing was read')

function sizeOf(decoded: ReturnType<typeof decodeRobotFrame>): number {
  if (decoded.kind !== 'heartbeat') throw new Error('this is not a heartbeat')
  return decoded.heartbeat.seq + decoded.heartbeat.time + decoded.heartbeat.body.length
}

const microseconds = (name: keyof typeof rounds) => spreadOf(rounds[name].map((rate) => 1e6 / rate))

await saveReport({
  name: 'frame-decoding',
  question:
    'Heartbeats read and checked in one pass over the text, against JSON.parse and JSON.stringify that check nothing, ' +
    'and against the schema that decides what is valid',
  figures: [
    { what: 'one pass: µs', spread: microseconds('scanner'), digits: 2 },
    { what: 'JSON.parse and JSON.stringify, unchecked: µs', spread: microseconds('parse'), digits: 2 },
    { what: 'schema: µs', spread: microseconds('schema'), digits: 2 },
    {
      what: 'one pass ÷ unchecked, heartbeats/s',
      spread: spreadOf(ratiosOf(rounds.scanner, rounds.parse)),
      digits: 1,
      headline: true,
    },
    {
      what: 'one pass ÷ schema, heartbeats/s',
      spread: spreadOf(ratiosOf(rounds.scanner, rounds.schema)),
      digits: 1,
      headline: true,
    },
  ],
  settings: { rounds: ROUNDS, frames: FRAMES, texts: TEXTS.length, heartbeat_bytes: HEARTBEAT_BYTES },
  rounds,
})
