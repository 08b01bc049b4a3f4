import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import { FIRST_SEQ, HEARTBEAT, HeartbeatFrames, SHORT_HEARTBEAT } from './heartbeat-frames.ts'
import { textFrame } from './raw-websocket.ts'

/** What a message of the server means to a robot: it is greeted, or a heartbeat is answered, or nothing. */
export const NOTHING = -1
export const GREETING = -2
/** The server means to say how its robot shall come back: `drain {reconnect_in_ms}`. */
export const DRAIN = -3
export const ERROR = -4
/** The oldest heartbeats that are on the way: as many as `answersIn` says. */
export const OLDEST = -5

/** How robots talk with one kind of server. */
export interface Dialect {
  readonly path: string
  headers(token: string): readonly string[]
  /** Sent after the upgrade. Undefined: the upgrade is all there is to it. */
  readonly hello: ((token: string) => Buffer) | undefined
  heartbeat(seq: number, at: number): Buffer
  /** One of the meanings above, or the highest heartbeat that is now answered. */
  meaningOf(payload: Buffer): number
  /** Undefined: one. */
  answersIn?(payload: Buffer): number
}

/** `upgrade`: nothing is said at all. */
export type DialectName = 'beacon' | 'upgrade' | 'nats' | 'socket.io'

const HELLO = textFrame(
  JSON.stringify({
    type: 'hello',
    protocol: 1,
    agent: { version: '1.0.0', hostname: 'robot', os: 'Debian 12', platform: 'linux', arch: 'arm64' },
    machine_id: '0f8c2f9e4f5c4e0f9c0f5d5b3c7a1e42',
    boot_id: 'b7b1b4a5-2f46-4f0f-9a52-0d9f0f4f7a10',
    instance_id: '2d3b8a90-5f0e-4b7f-8a34-54d4e6f0c7a9',
  }),
).frame

const ACK_START = '{"type":"ack","seq":'
const ECHO_START = '{"type":"heartbeat","seq":'
/** Where the server's word for a frame's type differs. */
const TYPE_OFFSET = '{"type":"'.length
const [A, D, E, H, W] = [...'adehw'].map((letter) => letter.charCodeAt(0))

function readNumber(payload: Buffer, start: number): number {
  let number = 0
  for (let at = start; at < payload.length; at++) {
    const digit = payload[at]! - 0x30
    if (digit < 0 || digit > 9) break
    number = number * 10 + digit
  }
  return number
}

/** Our own server, and the bare engine, which sends back what robots say: an acknowledgement and an echo both answer. */
const beacon = (heartbeat: string): Dialect => {
  const frames = new HeartbeatFrames(heartbeat)
  return {
    path: '/agent/ws',
    headers: (token) => [`Sec-WebSocket-Protocol: ${SUBPROTOCOL}`, `Authorization: Bearer ${token}`],
    hello: () => HELLO,
    heartbeat: (seq, at) => frames.make(seq, at),
    meaningOf(payload) {
      switch (payload[TYPE_OFFSET]) {
        case A:
          return readNumber(payload, ACK_START.length)
        case W:
          return GREETING
        case H:
          return payload[TYPE_OFFSET + 2] === A ? readNumber(payload, ECHO_START.length) : GREETING
        case D:
          return DRAIN
        case E:
          return ERROR
        default:
          return NOTHING
      }
    },
  }
}

/** The bytes of a heartbeat as our robots send it, as something else's payload. */
const BODY = HEARTBEAT.replaceAll(String(FIRST_SEQ), '0000000')

/** NATS over WebSocket, with its token: it says `+OK` to each message that it has taken (and stores none). */
const nats = (): Dialect => {
  const connect = (token: string) =>
    textFrame(
      `CONNECT ${JSON.stringify({ verbose: true, pedantic: false, tls_required: false, auth_token: token, lang: 'bench', version: '1', protocol: 1 })}\r\nPING\r\n`,
    ).frame
  const heartbeat = textFrame(`PUB heartbeats ${BODY.length}\r\n${BODY}\r\n`).frame
  return {
    path: '/',
    headers: () => [],
    hello: connect,
    heartbeat: () => heartbeat,
    meaningOf(payload) {
      const text = payload.toString('latin1')
      if (text.startsWith('-ERR')) return ERROR
      // The CONNECT is answered with +OK of its own, before or along with the PONG.
      if (text.includes('PONG')) return GREETING
      // Several may come in one frame, and a PING of the server's along with them.
      return text.includes('+OK') ? OLDEST : NOTHING
    },
    answersIn: (payload) => payload.toString('latin1').split('+OK').length - 1,
  }
}

/** Bare socket.io over WebSocket alone: an event that asks for an acknowledgement, and the same bytes in it. */
const socketIo = (): Dialect => {
  const connect = (token: string) => textFrame(`40${JSON.stringify({ token })}`).frame
  return {
    path: '/socket.io/?EIO=4&transport=websocket',
    headers: () => [],
    hello: connect,
    heartbeat: (seq) => textFrame(`42${seq}["heartbeat",${HEARTBEAT}]`).frame,
    meaningOf(payload) {
      const text = payload.toString('latin1', 0, 2)
      if (text === '43') return readNumber(payload, 2)
      if (text === '40') return GREETING
      return text === '44' ? ERROR : NOTHING
    },
  }
}

/** `short`: robots say little with each heartbeat. */
export function dialectOf(name: DialectName, short = false): Dialect {
  switch (name) {
    case 'beacon':
      return beacon(short ? SHORT_HEARTBEAT : HEARTBEAT)
    case 'upgrade':
      return { ...beacon(HEARTBEAT), hello: undefined }
    case 'nats':
      return nats()
    case 'socket.io':
      return socketIo()
  }
}
