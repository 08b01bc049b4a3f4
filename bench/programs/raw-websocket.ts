import { Socket } from 'node:net'

/** Any but zero: the engine does not unmask what is masked with zeros. */
const MASK = Buffer.from([0x5a, 0xc3, 0x17, 0xe8])
const TEXT = 0x1
const BINARY = 0x2
const CLOSE = 0x8
const PING = 0x9
const PONG = 0xa
const FINAL = 0x80
const MASKED = 0x80

/** Masks `bytes`, which stand at `offset` of a frame's payload. */
export function mask(bytes: Buffer, offset = 0): Buffer {
  return Buffer.from(bytes.map((byte, index) => byte ^ MASK[(offset + index) & 3]!))
}

/** A whole masked text frame, and where in it the payload begins. */
export function textFrame(text: string): { frame: Buffer; payloadStart: number } {
  return frameOf(TEXT, Buffer.from(text))
}

function frameOf(opcode: number, payload: Buffer): { frame: Buffer; payloadStart: number } {
  if (payload.length > 0xffff) throw new Error('too long a message')
  const head =
    payload.length < 126
      ? Buffer.from([FINAL | opcode, MASKED | payload.length])
      : Buffer.from([FINAL | opcode, MASKED | 126, payload.length >> 8, payload.length & 0xff])
  return { frame: Buffer.concat([head, MASK, mask(payload)]), payloadStart: head.length + MASK.length }
}

/** What becomes of the sockets of many robots, which go by number. */
export interface RawWebSocketOwner {
  /** The server has agreed to the upgrade. */
  opened(robot: number): void
  /** A message; its payload is only good until the call returns. */
  message(robot: number, payload: Buffer): void
  /** Comes once, and nothing after it, unless the owner itself dropped the socket. */
  ended(robot: number, ending: Ending): void
}

export interface Ending {
  readonly kind: 'refused' | 'closed' | 'lost'
  /** The HTTP status of a refusal, or the code of a close frame. */
  readonly code: number
  /** The reason of a close frame, or the error of the connection. */
  readonly reason: string
  readonly retryAfterSeconds: number | undefined
}

export interface RawWebSocketTarget {
  readonly port: number
  readonly localAddress: string
  /** The whole head of the upgrade request. */
  readonly request: string
}

/** The head of an upgrade request. The key is no secret, and nobody here looks at the answer to it. */
export function upgradeRequest(port: number, path: string, headers: readonly string[]): string {
  return [
    `GET ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'Upgrade: websocket',
    'Connection: Upgrade',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
    ...headers,
    '\r\n',
  ].join('\r\n')
}

/**
 * One of 16 million loopback addresses by its number: connections from one address to one port end at about 28,000.
 */
export function loopbackAddress(number: number): string {
  return `127.${1 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`
}

/** All sockets of the process read into this: what is read is taken before anything else is read. */
const READ = Buffer.allocUnsafeSlow(64 * 1024)

/**
 * A WebSocket client with as little in it as can be, so that load costs the machine little beside what it loads: no
 * closures, no buffers and no listeners of its own, for there are tens of thousands of it in a process.
 */
export class RawWebSocket extends Socket {
  readonly #robot: number
  readonly #owner: RawWebSocketOwner
  #isOpen = false
  #isOver = false
  /** A frame, or a handshake, that is not all there. */
  #rest: Buffer | undefined

  constructor(robot: number, owner: RawWebSocketOwner, { port, localAddress, request }: RawWebSocketTarget) {
    super({ onread: { buffer: READ, callback: takeRead } } as ConstructorParameters<typeof Socket>[0])
    this.#robot = robot
    this.#owner = owner
    this.on('error', endWithError)
    this.on('close', endWithoutError)
    this.connect({ host: '127.0.0.1', port, localAddress, noDelay: true })
    this.write(request, 'latin1')
  }

  /**
   * Ends the connection without a word; the owner hears nothing of it. By a reset: tens of thousands of connections in
   * TIME_WAIT make each one that follows cost this side of the same machine up to ten times as much.
   */
  abandon(): void {
    this.#isOver = true
    this.resetAndDestroy()
  }

  feed(chunk: Buffer): void {
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk])
    let position = this.#isOpen ? 0 : this.#takeHandshake(bytes)
    while (this.#isOpen && !this.#isOver) {
      const next = this.#takeFrame(bytes, position)
      if (next < 0) break
      position = next
    }
    this.#rest = position < bytes.length && !this.#isOver ? Buffer.from(bytes.subarray(position)) : undefined
  }

  over(kind: Ending['kind'], code: number, reason: string, retryAfterSeconds?: number): void {
    if (this.#isOver) return
    this.#isOver = true
    this.destroy()
    this.#owner.ended(this.#robot, { kind, code, reason, retryAfterSeconds })
  }

  #takeHandshake(bytes: Buffer): number {
    const end = bytes.indexOf('\r\n\r\n')
    if (end < 0) return 0
    const answer = bytes.toString('latin1', 0, end)
    if (!answer.startsWith('HTTP/1.1 101 ')) {
      const retryAfter = /^retry-after: *(\d+)/im.exec(answer)?.[1]
      this.over(
        'refused',
        Number(answer.slice(9, 12)),
        answer.split('\r\n', 1)[0]!,
        retryAfter === undefined ? undefined : Number(retryAfter),
      )
      return bytes.length
    }
    this.#isOpen = true
    this.#owner.opened(this.#robot)
    return end + 4
  }

  /** Answers where the next frame begins, or -1 when this one is not all there. */
  #takeFrame(bytes: Buffer, start: number): number {
    if (bytes.length < start + 2) return -1
    let length = bytes[start + 1]!
    let payload = start + 2
    if (length === 126) {
      if (bytes.length < start + 4) return -1
      length = bytes.readUInt16BE(start + 2)
      payload = start + 4
    } else if (length > 126) throw new Error('the server sends a frame that is too long')
    const end = payload + length
    if (bytes.length < end) return -1
    switch (bytes[start]! & 0x0f) {
      case TEXT:
      case BINARY:
        this.#owner.message(this.#robot, bytes.subarray(payload, end))
        break
      case PING:
        this.write(frameOf(PONG, Buffer.from(bytes.subarray(payload, end))).frame)
        break
      case CLOSE:
        this.over(
          'closed',
          length < 2 ? 1005 : bytes.readUInt16BE(payload),
          bytes.toString('utf8', payload + 2, end),
        )
    }
    return end
  }
}

// The engine calls it as a method of the socket.
function takeRead(this: unknown, length: number): boolean {
  ;(this as RawWebSocket).feed(READ.subarray(0, length))
  return true
}

function endWithError(this: unknown, error: NodeJS.ErrnoException): void {
  ;(this as RawWebSocket).over('lost', 0, error.code ?? error.message)
}

function endWithoutError(this: unknown): void {
  ;(this as RawWebSocket).over('lost', 0, 'end of the connection')
}
