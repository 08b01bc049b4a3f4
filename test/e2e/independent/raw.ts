/** Bytes on a socket: for everything that a well-behaved client library refuses to send. */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export class RawSocket {
  readonly socket: Socket
  received = Buffer.alloc(0)
  ended = false
  readonly #watchers = new Set<() => void>()

  private constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (chunk) => {
      this.received = Buffer.concat([this.received, chunk])
      this.#changed()
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      this.ended = true
      this.#changed()
    })
    socket.on('end', () => {
      this.ended = true
      this.#changed()
    })
  }

  static open(base: string): Promise<RawSocket> {
    const url = new URL(base)
    const socket = connect({ host: url.hostname, port: Number(url.port), allowHalfOpen: false })
    const raw = new RawSocket(socket)
    return new Promise((resolve, reject) => {
      socket.once('connect', () => resolve(raw))
      socket.once('error', reject)
    })
  }

  get text(): string {
    return this.received.toString('latin1')
  }

  write(data: string | Buffer): void {
    this.socket.write(typeof data === 'string' ? Buffer.from(data, 'latin1') : data)
  }

  /** Resolves when `look` is content, or when the peer has closed; says which. */
  until(look: () => boolean, timeoutMs: number): Promise<'met' | 'closed' | 'timeout'> {
    return new Promise((resolve) => {
      const settle = () => {
        if (look()) finish('met')
        else if (this.ended) finish('closed')
      }
      const finish = (outcome: 'met' | 'closed' | 'timeout') => {
        clearTimeout(timer)
        this.#watchers.delete(settle)
        resolve(outcome)
      }
      const timer = setTimeout(() => finish('timeout'), timeoutMs)
      this.#watchers.add(settle)
      settle()
    })
  }

  close(): void {
    this.socket.destroy()
  }

  #changed(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }
}

/** What comes back for these bytes: everything up to the close, or up to the first whole head. */
export async function exchange(
  base: string,
  bytes: string | Buffer,
  timeoutMs = 5_000,
): Promise<{ status: number; text: string; closed: boolean }> {
  const raw = await RawSocket.open(base)
  raw.write(bytes)
  await raw.until(() => raw.text.includes('\r\n\r\n'), timeoutMs)
  const { text, ended } = raw
  raw.close()
  return { status: statusOf(text), text, closed: ended }
}

export const statusOf = (text: string): number => Number(/^HTTP\/1\.[01] (\d{3})/.exec(text)?.[1] ?? 0)

export const opcodes = { more: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa }

/** One masked client frame, as RFC 6455 lays it out, with every bit open to misuse. */
export function frameOf(
  payload: string | Buffer,
  { opcode = opcodes.text, fin = true, masked = true, rsv = 0, claimedLength = -1 } = {},
): Buffer {
  const body = Buffer.isBuffer(payload) ? payload : Buffer.from(payload, 'utf8')
  const length = claimedLength >= 0 ? claimedLength : body.length
  const head = [(fin ? 0x80 : 0) | rsv | opcode]
  const mask = masked ? 0x80 : 0
  if (length < 126) head.push(mask | length)
  else if (length < 65_536) head.push(mask | 126, length >> 8, length & 0xff)
  else {
    const long = Buffer.alloc(8)
    long.writeBigUInt64BE(BigInt(length))
    head.push(mask | 127, ...long)
  }
  if (!masked) return Buffer.concat([Buffer.from(head), body])
  const key = randomBytes(4)
  const scrambled = Buffer.from(body.map((byte, index) => byte ^ (key[index % 4] as number)))
  return Buffer.concat([Buffer.from(head), key, scrambled])
}

/** The upgrade request, header by header; `null` leaves a header out. */
export function upgradeRequest(
  token: string | null,
  changes: Readonly<Record<string, string | null>> = {},
): string {
  const headers: Record<string, string | null> = {
    Host: '127.0.0.1',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Protocol': 'beacon.v1',
    Authorization: token === null ? null : `Bearer ${token}`,
    ...changes,
  }
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    value === null ? [] : [`${name}: ${value}`],
  )
  return `GET /agent/ws HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`
}
