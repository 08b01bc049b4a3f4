import cluster from 'node:cluster'
import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import {
  createServer,
  type ServerOptions as HttpOptions,
  type IncomingMessage,
  type Server,
  ServerResponse,
} from 'node:http'
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https'
import { createRequire } from 'node:module'
import {
  type AddressInfo,
  type ListenOptions as BindOptions,
  Server as NetServer,
  type Socket,
} from 'node:net'
import type { Duplex } from 'node:stream'
import { type ServerOptions, WebSocket, WebSocketServer } from 'ws'
import { BeaconError } from '../errors.ts'
import type { CloseCause } from '../protocol/close-codes.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import { readCertificate, renewCertificate } from '../tls.ts'
import { type Answer, type AnswerOptions, answerTo, reasonOf, refusal } from './answers.ts'
import { callerRule, handshakeFault, isWebSocketUpgrade, upgradeRequest } from './handshake.ts'
import {
  type Admission,
  type Admit,
  BREACH,
  CLOSE_TIMEOUT_MS,
  type Engine,
  type GatewayListener,
  type ListenOptions,
  MAX_MESSAGE_BYTES,
  type RobotSocket,
  type SocketHandler,
} from './transport.ts'

export { isWebSocketUpgrade }

export interface WsTransportOptions {
  /** The HTTP server whose upgrade requests are taken: all of them. */
  readonly server: Server
  readonly path: string
  readonly trustedProxies: readonly string[]
  /** What refusals carry besides what every refusal does. */
  readonly headers: (requestId: string) => Readonly<Record<string, string>>
  readonly admit: Admit
}

/** Carries robot sessions on the `ws` engine. Answers with a function that stops taking upgrades. */
export function attachWsTransport(options: WsTransportOptions): () => void {
  return takeUpgrades(options, () => {})
}

type Open = Extract<Admission, { kind: 'accept' }>['open']

function takeUpgrades(options: WsTransportOptions, onOpen: (socket: WsRobotSocket) => void): () => void {
  // closeTimeout is newer than the type definitions.
  const settings: ServerOptions<typeof WsRobotSocket> & { closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: MAX_MESSAGE_BYTES,
    closeTimeout: CLOSE_TIMEOUT_MS,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
    WebSocket: WsRobotSocket,
  }
  const engine = new WebSocketServer(settings)
  const callerOf = callerRule(options.trustedProxies)

  const onUpgrade = (request: IncomingMessage, stream: Duplex, head: Buffer): void => {
    // Until the engine takes over, a reset of the connection is nobody's fault.
    stream.on('error', destroy)
    const refuse = (error: BeaconError): void => writeRaw(stream, refusal(error, request, options.headers))

    if (!isWebSocketUpgrade(request)) {
      if (hasBody(request))
        refuse(new BeaconError('invalid_request', 'only WebSocket upgrades are taken here'))
      else serveAsRequest(options.server, request, stream)
      return
    }
    const fault = handshakeFault(request.url?.split('?', 1)[0], options.path, request.headers)
    if (fault) {
      refuse(fault)
      return
    }
    const asked = upgradeRequest(
      request.headers,
      callerOf(request.socket.remoteAddress, request.headers['x-forwarded-for']),
    )
    const isGone = () => stream.destroyed || stream.readableEnded
    void options.admit({ ...asked, isGone }).then((admission) => {
      if (stream.destroyed) return
      if (admission.kind === 'refuse') {
        refuse(admission.error)
        return
      }
      stream.off('error', destroy)
      engine.handleUpgrade(request, stream, head, (socket) => {
        onOpen(socket)
        socket.opened(stream, asked.remoteAddress, admission.open)
      })
    })
  }
  // A handshake that the engine cannot accept, for reasons of its own.
  engine.on('wsClientError', (error, stream, request) =>
    writeRaw(stream, refusal(new BeaconError('invalid_request', error.message), request, options.headers)),
  )
  options.server.on('upgrade', onUpgrade)
  return () => {
    options.server.off('upgrade', onUpgrade)
  }
}

function destroy(this: Duplex): void {
  this.destroy()
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

/** The engine's own socket with what a robot's socket is besides. Its listeners are shared by all. */
class WsRobotSocket extends WebSocket implements RobotSocket {
  remoteAddress = ''
  #stream: Duplex | undefined = undefined
  #handler: SocketHandler | undefined = undefined
  #breach: CloseCause | undefined = undefined

  opened(stream: Duplex, remoteAddress: string, open: Open): void {
    this.#stream = stream
    this.remoteAddress = remoteAddress
    this.#handler = open(this)
    this.on('message', this.received)
    this.on('error', this.failed)
    this.on('close', this.left)
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
    if (isBinary) this.#handler!.binary()
    else this.#handler!.text(data.toString('utf8'))
  }

  /** The engine closes the socket by itself after an error; `close` follows, without the peer's answer. */
  private failed(error: NodeJS.ErrnoException): void {
    this.#breach = breachOf(error.code)
  }

  private left(code: number, reason: Buffer): void {
    const { code: told, reason: why } = this.#breach ?? { code, reason: reason.toString('utf8') }
    this.#handler!.closed(told, why)
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

/** Answers where there is nothing but a connection, in plain HTTP, and hangs up. */
function writeRaw(stream: Duplex, answer: Answer): void {
  const headers = {
    ...answer.headers,
    connection: 'close',
    'content-length': String(Buffer.byteLength(answer.body)),
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  stream.end(
    `HTTP/1.1 ${answer.status} ${reasonOf(answer.status)}\r\n${lines.join('')}\r\n${answer.body}`,
    () => stream.destroy(),
  )
}

const { version } = createRequire(import.meta.url)('ws/package.json') as { version: string }

export const wsEngine: Engine = { name: 'ws', build: `ws ${version}`, listen }

/** How long a peer may take for its TLS handshake, and for its request's headers. */
const TLS_HANDSHAKE_TIMEOUT_MS = 10_000
const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
/** How late those may strike. */
const TIMEOUT_CHECK_MS = 2_000
/** Connections that wait to be taken when all robots return at once. The kernel has a bound of its own, too. */
const BACKLOG = 4096

async function listen(options: ListenOptions): Promise<GatewayListener> {
  const { clock, log, tls } = options
  const sockets = new Set<WebSocket>()
  const http: HttpOptions & { shouldUpgradeCallback: typeof isWebSocketUpgrade } = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // From Node 22.21 on.
    shouldUpgradeCallback: isWebSocketUpgrade,
  }
  const server: Server = tls
    ? createTlsServer({
        ...http,
        ...readCertificate(tls),
        handshakeTimeout: TLS_HANDSHAKE_TIMEOUT_MS,
      })
    : createServer(http)
  server.on('request', (request, response) => answer(request, response, options))
  server.on('clientError', (error, stream) => refuseGarbage(error, stream as Socket, options))
  const detach = takeUpgrades({ ...options, server }, (socket) => {
    sockets.add(socket)
    socket.on('close', forget)
  })
  function forget(this: WebSocket): void {
    sockets.delete(this)
  }
  const { address } = await lookup(options.host)
  server.listen(bindOptions(address, options))
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  let stopped = false
  const endRenewal = tls
    ? renewCertificate({
        server: server as TlsServer,
        tls,
        clock,
        onRenewed: () => log.info('robots are shown the new certificate'),
        onError: (error) => log.error({ err: error }, 'the certificate could not be renewed'),
      })
    : () => {}
  return {
    port,
    pause() {
      // Not as an HTTP server closes: that would drop idle connections, and look for slow requests no more.
      NetServer.prototype.close.call(server)
    },
    async resume() {
      if (server.listening || stopped) return
      server.listen(bindOptions(address, { ...options, port }))
      await once(server, 'listening')
    },
    stop: async () => {
      stopped = true
      endRenewal()
      // Gives the port back at once. It calls back when the last connection is gone, and one that has not finished its
      // TLS handshake cannot be told from here; it times out.
      server.close()
      detach()
      server.closeAllConnections()
      for (const socket of sockets) socket.terminate()
    },
  }
}

/** Within a cluster its primary shares the port out; elsewhere the kernel does, where Node can ask it to (22.12 on). */
function bindOptions(host: string, { port, shared }: ListenOptions): BindOptions & { reusePort: boolean } {
  return {
    host,
    port,
    backlog: BACKLOG,
    exclusive: !shared,
    reusePort: shared && !cluster.isWorker,
  }
}

function answer(request: IncomingMessage, response: ServerResponse, options: AnswerOptions): void {
  const { method = '', url = '', headers } = request
  const {
    status,
    headers: more,
    body,
    last,
  } = answerTo({ method, path: url.split('?', 1)[0]!, headers }, options)
  response.writeHead(status, {
    ...more,
    'content-length': Buffer.byteLength(body),
    ...(last ? { connection: 'close' } : {}),
  })
  response.end(body)
}

/** Answers what is not even HTTP. */
function refuseGarbage(error: NodeJS.ErrnoException, stream: Socket, options: AnswerOptions): void {
  // Only what broke while HTTP was spoken: where TLS is not established, nothing can be said, and nothing ends by itself.
  if (!/^(HPE|ERR_HTTP)_/.test(error.code ?? '') || !stream.writable) {
    stream.destroy()
    return
  }
  writeRaw(
    stream,
    refusal(
      new BeaconError('invalid_request', 'this is not HTTP as we speak it'),
      { headers: {} },
      options.headers,
    ),
  )
}
