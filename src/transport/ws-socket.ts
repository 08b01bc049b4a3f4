import type { Duplex } from 'node:stream'
import { WebSocket } from 'ws'
import type { CloseCause } from '../protocol/close-codes.ts'
import { type Admission, BREACH, NOBODY, type RobotSocket, type SocketHandler } from './transport.ts'

type Open = Extract<Admission, { kind: 'accept' }>['open']

/** The engine's own socket with what a robot's socket is besides. Its listeners are shared by all. */
export class WsRobotSocket extends WebSocket implements RobotSocket {
  remoteAddress = ''
  #stream: Duplex | undefined = undefined
  #handler: SocketHandler = NOBODY
  #breach: CloseCause | undefined = undefined

  opened(stream: Duplex, remoteAddress: string, open: Open): void {
    this.#stream = stream
    this.remoteAddress = remoteAddress
    // Before it is given away: without these, what comes of a socket that nobody took would be nobody's error.
    this.on('message', this.received)
    this.on('error', this.failed)
    this.on('close', this.left)
    this.#handler = open(this)
  }

  /**
   * Writes the frame in one piece into the stream that the engine was given, where its own `send` takes twice the time
   * for header and payload apart. Nothing can get in between: without compression the engine holds nothing back.
   */
  override send(text: string): void {
    if (this.readyState !== WebSocket.OPEN) return
    // Nearly all that is said. A text with as many bytes as units is ASCII, and its frame a string that needs no buffer.
    if (text.length < SHORT && Buffer.byteLength(text) === text.length)
      this.#stream!.write(SHORT_HEADERS[text.length] + text, 'latin1')
    else this.#stream!.write(textFrame(text))
  }

  bufferedBytes(): number {
    return this.bufferedAmount
  }

  override close(code?: number, reason?: string | Buffer): void {
    // A paused socket would not see the peer's answer.
    if (this.isPaused) this.resume()
    super.close(code, reason)
  }

  private received(data: Buffer, isBinary: boolean): void {
    // What still comes after we closed is nobody's.
    if (this.readyState !== WebSocket.OPEN) return
    if (isBinary) this.#handler.binary()
    else this.#handler.text(data.toString('utf8'))
  }

  /** The engine closes the socket by itself after an error; `close` follows, without the peer's answer. */
  private failed(error: NodeJS.ErrnoException): void {
    this.#breach = breachOf(error.code)
  }

  private left(code: number, reason: Buffer): void {
    const { code: told, reason: why } = this.#breach ?? { code, reason: reason.toString('utf8') }
    this.#handler.closed(told, why)
  }
}

const FINAL_TEXT = 0x81
/** A payload below this has its length in the header's second byte. */
const SHORT = 126
const SHORT_HEADERS = Array.from({ length: SHORT }, (_, length) => String.fromCharCode(FINAL_TEXT, length))

/** An unmasked text frame. */
function textFrame(text: string): Buffer {
  const length = Buffer.byteLength(text)
  const start = length < SHORT ? 2 : length < 0x10000 ? 4 : 10
  const frame = Buffer.allocUnsafe(start + length)
  frame[0] = FINAL_TEXT
  if (start === 2) frame[1] = length
  else if (start === 4) {
    frame[1] = 126
    frame.writeUInt16BE(length, 2)
  } else {
    frame[1] = 127
    frame.writeBigUInt64BE(BigInt(length), 2)
  }
  frame.write(text, start)
  return frame
}

function breachOf(code: string | undefined): CloseCause | undefined {
  switch (code) {
    case 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH':
    case 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH':
      return BREACH.tooBig
    case 'WS_ERR_INVALID_UTF8':
      return BREACH.invalidText
    default:
      return code?.startsWith('WS_ERR_') ? BREACH.protocol : undefined
  }
}
