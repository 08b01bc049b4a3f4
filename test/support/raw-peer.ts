import { connect, type Socket } from 'node:net'

export const OPCODE = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa } as const

export interface RawFrame {
  readonly opcode: number
  readonly payload: Buffer
}

const MASK = Buffer.from([0x5a, 0xc3, 0x17, 0xe8])

interface FrameOptions {
  readonly final?: boolean
  /** Bits beside the opcode that the protocol reserves. */
  readonly reserved?: number
  readonly masked?: boolean
  /** What the header says instead of the payload's own length. */
  readonly length?: number
}

/** A frame as a client sends it, or one that breaks the protocol as told. */
export function frameOf(opcode: number, data: string | Uint8Array = '', options: FrameOptions = {}): Buffer {
  const payload = Buffer.from(data as string)
  const { final = true, reserved = 0, masked = true, length = payload.length } = options
  const head = [(final ? 0x80 : 0) | reserved | opcode]
  const bit = masked ? 0x80 : 0
  if (length < 126) head.push(bit | length)
  else if (length < 0x10000) head.push(bit | 126, length >> 8, length & 0xff)
  else
    head.push(
      bit | 127,
      0,
      0,
      0,
      0,
      length >>> 24,
      (length >> 16) & 0xff,
      (length >> 8) & 0xff,
      length & 0xff,
    )
  if (!masked) return Buffer.concat([Buffer.from(head), payload])
  return Buffer.concat([Buffer.from(head), MASK, payload.map((byte, index) => byte ^ MASK[index & 3]!)])
}

/** A client that speaks TCP alone, to say what no proper client says. Ends when the server does, unless `allowHalfOpen`. */
export class RawPeer {
  readonly socket: Socket
  /** Resolves when the server has ended or reset the connection. */
  readonly ended: Promise<void>
  #received = Buffer.alloc(0)
  #look: () => void = () => {}

  constructor(port: number, options: { readonly allowHalfOpen?: boolean } = {}) {
    this.socket = connect({ host: '127.0.0.1', port, ...options })
    this.socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk])
      this.#look()
    })
    this.socket.on('error', () => {})
    this.ended = new Promise((resolve) => {
      this.socket.once('end', resolve)
      this.socket.once('close', () => resolve())
    })
  }

  get text(): string {
    return this.#received.toString('latin1')
  }

  write(data: string | Uint8Array): void {
    this.socket.write(data)
  }

  /** Asks for an upgrade, with these lines besides what every client sends, and gives the answer's head. */
  async upgrade(lines: readonly string[] = [], path = '/agent/ws'): Promise<string> {
    this.write(upgradeRequest(lines, path))
    await this.until(() => this.#received.includes('\r\n\r\n'))
    const end = this.#received.indexOf('\r\n\r\n') + 4
    const head = this.#received.toString('latin1', 0, end)
    this.#received = this.#received.subarray(end)
    return head
  }

  /** The next frame of the server. */
  async frame(): Promise<RawFrame> {
    await this.until(() => this.#whole() !== undefined)
    const { start, end } = this.#whole()!
    const opcode = this.#received[0]! & 0x0f
    const payload = Buffer.from(this.#received.subarray(start, end))
    this.#received = this.#received.subarray(end)
    return { opcode, payload }
  }

  /** The code and reason of the close frame that comes next, or undefined when the connection ends without one. */
  async closeFrame(): Promise<{ code: number; reason: string } | undefined> {
    const found = await Promise.race([
      this.frame(),
      this.ended.then(() => (this.#whole() ? this.frame() : undefined)),
    ])
    if (found?.opcode !== OPCODE.close) return undefined
    return { code: found.payload.readUInt16BE(0), reason: found.payload.toString('utf8', 2) }
  }

  vanish(): void {
    this.socket.resetAndDestroy()
  }

  until(done: () => boolean): Promise<void> {
    if (done()) return Promise.resolve()
    return new Promise((resolve) => {
      this.#look = () => {
        if (done()) resolve()
      }
    })
  }

  #whole(): { start: number; end: number } | undefined {
    const bytes = this.#received
    if (bytes.length < 2) return undefined
    const short = bytes[1]! & 0x7f
    const start = short === 127 ? 10 : short === 126 ? 4 : 2
    if (bytes.length < start) return undefined
    const length =
      short === 127 ? Number(bytes.readBigUInt64BE(2)) : short === 126 ? bytes.readUInt16BE(2) : short
    return bytes.length < start + length ? undefined : { start, end: start + length }
  }
}

/** An upgrade request in full; a line of a name that stands there already takes its place. */
export function upgradeRequest(lines: readonly string[], path = '/agent/ws'): string {
  const usual = [
    'Host: beacon',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Protocol: beacon.v1',
  ]
  const names = new Set(lines.map((line) => line.split(':', 1)[0]!.toLowerCase()))
  const kept = usual.filter((line) => !names.has(line.split(':', 1)[0]!.toLowerCase()))
  // A name alone takes the usual line away.
  const given = lines.filter((line) => line.includes(':'))
  return `${[`GET ${path} HTTP/1.1`, ...kept, ...given].join('\r\n')}\r\n\r\n`
}

/** Sends bytes and gives all that comes back until the server hangs up. */
export async function exchange(port: number, bytes: string | Uint8Array): Promise<string> {
  const peer = new RawPeer(port)
  peer.write(bytes)
  await peer.ended
  peer.socket.destroy()
  return peer.text
}
