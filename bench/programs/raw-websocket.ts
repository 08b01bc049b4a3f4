import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

/** Any but zero: the engine does not unmask what is masked with zeros. */
const MASK = Buffer.from([0x5a, 0xc3, 0x17, 0xe8])
const TEXT = 0x1
const CLOSE = 0x8
const FINAL = 0x80
const MASKED = 0x80
const NOTHING = Buffer.alloc(0)

/** Masks `bytes`, which stand at `offset` of a frame's payload. */
export function mask(bytes: Buffer, offset = 0): Buffer {
  return Buffer.from(bytes.map((byte, index) => byte ^ MASK[(offset + index) & 3]!))
}

/** A whole masked text frame, and where in it the payload begins. */
export function textFrame(text: string): { frame: Buffer; payloadStart: number } {
  const payload = Buffer.from(text)
  if (payload.length > 0xffff) throw new Error('too long a message')
  const head =
    payload.length < 126
      ? Buffer.from([FINAL | TEXT, MASKED | payload.length])
      : Buffer.from([FINAL | TEXT, MASKED | 126, payload.length >> 8, payload.length & 0xff])
  return { frame: Buffer.concat([head, MASK, mask(payload)]), payloadStart: head.length + MASK.length }
}

export interface RawWebSocketOptions {
  readonly port: number
  readonly path: string
  readonly localAddress: string
  readonly headers: readonly string[]
  /** Takes the payload of a text frame; it is only good until the call returns. */
  readonly onText: (payload: Buffer) => void
  readonly onEnd: (reason: string) => void
}

/** A WebSocket client with as little in it as can be, so that load costs the machine little beside what it loads. */
export class RawWebSocket {
  readonly #socket: Socket
  readonly #options: RawWebSocketOptions
  readonly #opened: () => void
  #isOpen = false
  #rest: Buffer = NOTHING

  constructor(options: RawWebSocketOptions, opened: () => void) {
    this.#options = options
    this.#opened = opened
    const { port, localAddress, path, headers } = options
    this.#socket = connect({ host: '127.0.0.1', port, localAddress, noDelay: true })
    this.#socket.on('data', (chunk) => this.#take(chunk))
    this.#socket.on('error', (error) => options.onEnd(error.message))
    this.#socket.on('close', () => options.onEnd('the connection was closed'))
    this.#socket.write(
      [
        `GET ${path} HTTP/1.1`,
        `Host: 127.0.0.1:${port}`,
        'Upgrade: websocket',
        'Connection: Upgrade',
        `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}`,
        'Sec-WebSocket-Version: 13',
        ...headers,
        '\r\n',
      ].join('\r\n'),
    )
  }

  send(frame: Buffer): void {
    this.#socket.write(frame)
  }

  #take(chunk: Buffer): void {
    const bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk
    let position = this.#isOpen ? 0 : this.#takeHandshake(bytes)
    while (this.#isOpen) {
      const next = this.#takeFrame(bytes, position)
      if (next === undefined) break
      position = next
    }
    this.#rest = position < bytes.length ? Buffer.from(bytes.subarray(position)) : NOTHING
  }

  #takeHandshake(bytes: Buffer): number {
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return 0
    const answer = bytes.toString('latin1', 0, end)
    if (!answer.startsWith('HTTP/1.1 101 ')) {
      this.#options.onEnd(`the upgrade was refused: ${answer.split('\r\n', 1)[0]}`)
      this.#socket.destroy()
      return bytes.length
    }
    this.#isOpen = true
    this.#opened()
    return end + 4
  }

  /** Answers where the next frame begins, or undefined when this one is not all there. */
  #takeFrame(bytes: Buffer, start: number): number | undefined {
    if (bytes.length < start + 2) return undefined
    let length = bytes[start + 1]!
    let payload = start + 2
    if (length === 126) {
      if (bytes.length < start + 4) return undefined
      length = bytes.readUInt16BE(start + 2)
      payload = start + 4
    } else if (length > 126) throw new Error('the server sends a frame that is too long')
    const end = payload + length
    if (bytes.length < end) return undefined
    const opcode = bytes[start]! & 0x0f
    if (opcode === TEXT) this.#options.onText(bytes.subarray(payload, end))
    else if (opcode === CLOSE)
      this.#options.onEnd(
        `closed with ${bytes.readUInt16BE(payload)} ${bytes.toString('utf8', payload + 2, end)}`,
      )
    return end
  }
}
