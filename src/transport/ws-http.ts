import { type IncomingMessage, type Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { type ServerOptions, WebSocketServer } from 'ws'
import { BeaconError } from '../errors.ts'
import type { Log } from '../observe/log.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import { type Answer, type AnswerOptions, answerTo, reasonOf, refusal } from './answers.ts'
import { callerRule, handshakeFault, hasBody, isWebSocketUpgrade, upgradeRequest } from './handshake.ts'
import { type Admission, type Admit, CLOSE_TIMEOUT_MS, MAX_MESSAGE_BYTES } from './transport.ts'
import { WsRobotSocket } from './ws-socket.ts'

export interface WsTransportOptions {
  /** The HTTP server whose upgrade requests are taken: all of them. */
  readonly server: Server
  readonly path: string
  readonly trustedProxies: readonly string[]
  /** What refusals carry besides what every refusal does. */
  readonly headers: (requestId: string) => Readonly<Record<string, string>>
  readonly admit: Admit
  readonly log: Log
}

export function takeUpgrades(options: WsTransportOptions): () => void {
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
      if (hasBody(request.headers))
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
    const settle = (admission: Admission): void => {
      if (stream.destroyed) return
      if (admission.kind === 'refuse') {
        refuse(admission.error)
        return
      }
      stream.off('error', destroy)
      engine.handleUpgrade(request, stream, head, (socket) => {
        isUpgraded = true
        socket.opened(stream, asked.remoteAddress, admission.open)
      })
    }
    let isUpgraded = false
    options
      .admit({ ...asked, isGone })
      .then(settle)
      .catch((error: unknown) => {
        options.log.error({ err: error }, 'an upgrade failed')
        if (isUpgraded || !stream.writable) stream.destroy()
        else refuse(new BeaconError('internal_error'))
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

/**
 * An upgrade may be declined by answering as if it had not been offered, and clients that offer HTTP/2 with every
 * request rely on that. Node does so by itself from 22.21 on (shouldUpgradeCallback); before, it hands us the bare
 * connection, without what would parse a body.
 */
function serveAsRequest(server: Server, request: IncomingMessage, stream: Duplex): void {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(stream as Socket)
  // Without what parses requests, nothing would ever end a connection that the client keeps open on its side.
  response.on('finish', () => hangUp(stream))
  request.push(null)
  server.emit('request', request, response)
}

/** Answers where there is nothing but a connection, in plain HTTP, and hangs up. */
function writeRaw(stream: Duplex, answer: Answer): void {
  const headers = {
    ...answer.headers,
    connection: 'close',
    'content-length': String(Buffer.byteLength(answer.body)),
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  stream.write(`HTTP/1.1 ${answer.status} ${reasonOf(answer.status)}\r\n${lines.join('')}\r\n${answer.body}`)
  hangUp(stream)
}

/** Ends a connection once all is written, and in a few seconds where the client does not read that. */
function hangUp(stream: Duplex): void {
  stream.end(() => stream.destroy())
  ;(stream as Socket).setTimeout(CLOSE_TIMEOUT_MS, destroy)
}

export function answer(request: IncomingMessage, response: ServerResponse, options: AnswerOptions): void {
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
export function refuseGarbage(error: NodeJS.ErrnoException, stream: Socket, options: AnswerOptions): void {
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
