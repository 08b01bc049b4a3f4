import { type IncomingMessage, type Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import proxyAddress from '@fastify/proxy-addr'
import { type ServerOptions, WebSocket, WebSocketServer } from 'ws'
import { canonicalAddress, proxyRule } from '../addresses.ts'
import { BeaconError, problemOf } from '../errors.ts'
import { newId } from '../ids.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import {
  type Admit,
  CLOSE_TIMEOUT_MS,
  MAX_MESSAGE_BYTES,
  type RobotSocket,
  type SocketHandler,
} from './transport.ts'

export interface WsTransportOptions {
  /** The HTTP server whose upgrade requests are taken: all of them. */
  readonly server: Server
  readonly path: string
  readonly trustedProxies: readonly string[]
  /** What refusals carry besides what every refusal does. */
  readonly headers: (requestId: string) => Readonly<Record<string, string>>
  readonly admit: Admit
}

function callerOf(request: IncomingMessage, trusts: ReturnType<typeof proxyRule>): string {
  // A connection that is gone has none.
  const address: string | undefined = proxyAddress(request, trusts)
  return canonicalAddress(address ?? '') ?? address ?? ''
}

/** Carries robot sessions on the `ws` engine. Answers with a function that stops taking upgrades. */
export function attachWsTransport(options: WsTransportOptions): () => void {
  // closeTimeout is newer than the type definitions.
  const settings: ServerOptions & { closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    closeTimeout: CLOSE_TIMEOUT_MS,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  }
  const engine = new WebSocketServer(settings)
  const trusts = proxyRule(options.trustedProxies)

  const onUpgrade = (request: IncomingMessage, stream: Duplex, head: Buffer): void => {
    // Until the engine takes over, a reset of the connection is nobody's fault.
    const onStreamError = (): void => void stream.destroy()
    stream.on('error', onStreamError)
    const refuse = (error: BeaconError): void => refuseUpgrade(stream, request, error, options.headers)

    if (!isWebSocketUpgrade(request)) {
      if (hasBody(request))
        refuse(new BeaconError('invalid_request', 'only WebSocket upgrades are taken here'))
      else serveAsRequest(options.server, request, stream)
      return
    }
    const path = request.url?.split('?', 1)[0]
    if (path !== options.path) {
      refuse(new BeaconError('not_found', 'there is no WebSocket at this address'))
      return
    }
    void options
      .admit({
        authorization: request.headers.authorization,
        subprotocols: (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim()),
        remoteAddress: callerOf(request, trusts),
      })
      .then((admission) => {
        if (stream.destroyed) return
        if (admission.kind === 'refuse') {
          refuse(admission.error)
          return
        }
        stream.off('error', onStreamError)
        engine.handleUpgrade(request, stream, head, (socket) => own(socket, request, admission.open, trusts))
      })
  }
  // A handshake that the engine cannot accept: no key, or another version.
  engine.on('wsClientError', (error, stream, request) =>
    refuseUpgrade(stream, request, new BeaconError('invalid_request', error.message), options.headers),
  )
  options.server.on('upgrade', onUpgrade)
  return () => {
    options.server.off('upgrade', onUpgrade)
  }
}

/** True when this is the one kind of upgrade that is taken. For http.Server's shouldUpgradeCallback, too. */
export function isWebSocketUpgrade(request: IncomingMessage): boolean {
  return request.method === 'GET' && request.headers.upgrade?.toLowerCase() === 'websocket'
}

function hasBody(request: IncomingMessage): boolean {
  return (
    request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length'] ?? 0) > 0
  )
}

/**
 * An upgrade may be declined by answering as if it had not been offered, and clients that offer HTTP/2 with every
 * request rely on that. Node does so by itself from 22.21 on (shouldUpgradeCallback); before, it hands us the bare
 * connection, without what would parse a body.
 */
function serveAsRequest(server: Server, request: IncomingMessage, stream: Duplex): void {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(stream as Socket)
  response.on('finish', () => stream.end())
  request.push(null)
  server.emit('request', request, response)
}

function own(
  socket: WebSocket,
  request: IncomingMessage,
  open: (socket: RobotSocket) => SocketHandler,
  trusts: ReturnType<typeof proxyRule>,
): void {
  // A robot's heartbeats are small and rare: waiting for company would only delay them.
  request.socket.setNoDelay(true)
  const handler = open(new WsRobotSocket(socket, callerOf(request, trusts)))
  socket.on('message', (data, isBinary) => {
    // Buffer is what ws delivers unless told otherwise.
    if (isBinary) handler.binary()
    else handler.text((data as Buffer).toString('utf8'))
  })
  // ws closes the socket by itself after an error; `close` follows with its code.
  socket.on('error', () => {})
  socket.on('close', (code, reason) => handler.closed(code, reason.toString('utf8')))
}

class WsRobotSocket implements RobotSocket {
  readonly remoteAddress: string
  readonly #socket: WebSocket

  constructor(socket: WebSocket, remoteAddress: string) {
    this.#socket = socket
    this.remoteAddress = remoteAddress
  }

  send(text: string): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(text)
  }

  bufferedBytes(): number {
    return this.#socket.bufferedAmount
  }

  close(code: number, reason: string): void {
    // A paused socket would not see the peer's answer.
    this.#socket.resume()
    this.#socket.close(code, reason)
  }

  terminate(): void {
    this.#socket.terminate()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }
}

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  503: 'Service Unavailable',
}

/** Answers an upgrade request with a problem document, in plain HTTP, and hangs up. */
function refuseUpgrade(
  stream: Duplex,
  request: IncomingMessage,
  error: BeaconError,
  more: WsTransportOptions['headers'],
): void {
  const given = request.headers['x-request-id']
  const requestId = typeof given === 'string' && /^[A-Za-z0-9._:-]{1,128}$/.test(given) ? given : newId()
  const body = JSON.stringify(problemOf(error, requestId))
  const headers: Record<string, string | number> = {
    'x-request-id': requestId,
    ...more(requestId),
    connection: 'close',
    'content-type': 'application/problem+json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    ...(error.status === 401 ? { 'www-authenticate': 'Bearer realm="beacon"' } : {}),
    ...(error.status === 426 ? { upgrade: 'websocket' } : {}),
    ...(error.retryAfterSeconds === undefined ? {} : { 'retry-after': error.retryAfterSeconds }),
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  stream.end(
    `HTTP/1.1 ${error.status} ${REASONS[error.status] ?? 'Error'}\r\n${lines.join('')}\r\n${body}`,
    () => stream.destroy(),
  )
}
