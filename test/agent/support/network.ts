import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { generate } from 'selfsigned'
import { onTestFinished } from 'vitest'
import type { Network } from '../../../agent/network/dial.ts'
import { NO_PROXIES } from '../../../agent/network/proxy.ts'
import { Trust } from '../../../agent/network/trust.ts'
import type { Clock } from '../../../agent/runtime.ts'

/** A network without proxies, on which only the usual authorities are believed. */
export function plainNetwork(clock: Clock): Network {
  return { proxies: NO_PROXIES, trust: new Trust({ caFile: undefined, systemFiles: [] }), clock }
}

/** A certificate that is its own authority, for these names and addresses. */
export async function certificateFor(
  names: readonly string[],
  validity: { readonly notBeforeDate?: Date; readonly notAfterDate?: Date } = {},
): Promise<{ cert: string; key: string }> {
  const { cert, private: key } = await generate([{ name: 'commonName', value: names[0] ?? 'test' }], {
    keyType: 'ec',
    algorithm: 'sha256',
    ...validity,
    extensions: [
      { name: 'basicConstraints', cA: true },
      { name: 'keyUsage', digitalSignature: true, keyCertSign: true },
      { name: 'extKeyUsage', serverAuth: true },
      {
        name: 'subjectAltName',
        altNames: names.map((name) =>
          /^[\d.]+$|:/.test(name) ? { type: 7 as const, ip: name } : { type: 2 as const, value: name },
        ),
      },
    ],
  })
  return { cert, key }
}

export interface ProxyOptions {
  /** `user:password` that it demands. */
  readonly credentials?: string
  readonly tls?: { readonly cert: string; readonly key: string }
  /** What it answers instead of connecting. */
  readonly refusal?: string
}

/** A real CONNECT proxy, which alone knows where the names of a test are. */
export class ConnectProxy {
  /** What was asked for: `host:port`. */
  readonly asked: string[] = []
  readonly #server: Server
  readonly #names: Readonly<Record<string, number>>
  readonly #options: ProxyOptions

  constructor(names: Readonly<Record<string, number>>, options: ProxyOptions) {
    this.#names = names
    this.#options = options
    this.#server = options.tls ? createSecureServer(options.tls) : createServer()
    this.#server.on('connect', (request: IncomingMessage, socket: Duplex) => this.#connect(request, socket))
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  stop(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  #connect(request: IncomingMessage, socket: Duplex): void {
    socket.on('error', () => {})
    this.asked.push(request.url!)
    const { credentials, refusal } = this.#options
    const wanted = credentials && `Basic ${Buffer.from(credentials).toString('base64')}`
    if (wanted && request.headers['proxy-authorization'] !== wanted) {
      socket.end('HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n')
      return
    }
    const port = this.#names[request.url!]
    if (refusal !== undefined || port === undefined) {
      socket.end(`HTTP/1.1 ${refusal ?? '502 Bad Gateway'}\r\ncontent-length: 0\r\n\r\n`)
      return
    }
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      onward.pipe(socket)
      socket.pipe(onward)
    })
    onward.on('error', () => socket.destroy())
    socket.on('close', () => onward.destroy())
  }
}

export async function startProxy(
  names: Readonly<Record<string, number>>,
  options: ProxyOptions = {},
): Promise<ConnectProxy> {
  const proxy = await new ConnectProxy(names, options).listen()
  onTestFinished(() => proxy.stop())
  return proxy
}
