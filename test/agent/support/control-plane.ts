import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { onTestFinished } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import type {
  HeartbeatFrame,
  HelloFrame,
  Lifecycle,
  RobotEventFrame,
  ServerFrame,
} from '../../../src/protocol/frames.ts'
import { SUBPROTOCOL } from '../../../src/protocol/limits.ts'
import { hashToken } from '../../../src/protocol/tokens.ts'
import { Mailbox } from './mailbox.ts'

export interface SeenClaim {
  readonly authorization: string | undefined
  readonly body: {
    readonly claim_id: string
    readonly token_hash: string
    readonly name?: string
    readonly fingerprint: Record<string, string>
  }
}

export interface Reply {
  readonly status: number
  readonly headers?: Record<string, string>
  readonly body?: unknown
  /** The text of the body, when it is not to be JSON. */
  readonly text?: string
  /** More is promised than ever comes. */
  readonly isEndless?: boolean
}

export const ROBOT_ID = '0190a000-0000-7000-8000-000000000001'

export function problem(status: number, code: string, detail: string, headers = {}): Reply {
  return {
    status,
    headers: { 'content-type': 'application/problem+json; charset=utf-8', ...headers },
    body: { type: 'about:blank', title: code, status, code, detail },
  }
}

export interface ControlPlaneOptions {
  readonly tls?: { readonly cert: string; readonly key: string }
  readonly host?: string
}

/** A control plane that does what a test tells it, over real HTTP and WebSocket. */
export class ControlPlane {
  readonly claims = new Mailbox<SeenClaim>()
  readonly upgrades = new Mailbox<{ readonly authorization: string | undefined; readonly at: number }>()
  readonly sessions = new Mailbox<RobotSession>()
  /** Answers the claim with this number (from 1); `hang` leaves it unanswered, `cut` drops the connection. */
  onClaim: (number: number) => Reply | 'grant' | 'hang' | 'cut' = () => 'grant'
  /** Answers the upgrade with this number (from 1), or undefined to let it in. */
  onUpgrade: (number: number) => Reply | undefined = () => undefined
  /** Called when a robot has said hello; what it does instead of the usual welcome. */
  onHello: (session: RobotSession) => void = (session) => session.welcome()
  /** Called for each event. */
  onEvent: (event: RobotEventFrame, session: RobotSession) => void = () => {}
  /** Answers a GET of this path; undefined: 404. */
  onGet: (path: string, headers: IncomingMessage['headers']) => Reply | undefined = () => undefined
  isAcknowledging = true
  heartbeatIntervalMs = 100
  lifecycle: Lifecycle = 'active'
  /** What welcomes name; undefined: nothing. */
  reconnectSpreadMs: number | undefined
  /** What the grant names as gateway; undefined: this server. */
  gatewayUrl: string | undefined
  readonly #server: Server
  readonly #sockets = new WebSocketServer({
    noServer: true,
    handleProtocols: (names) => (names.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  })

  readonly #scheme: 'http' | 'https'
  readonly #host: string

  constructor({ tls, host = '127.0.0.1' }: ControlPlaneOptions = {}) {
    const answer = (request: IncomingMessage, response: ServerResponse) =>
      void this.#answer(request, response)
    this.#server = tls ? createSecureServer(tls, answer) : createServer(answer)
    this.#server.on('tlsClientError', () => {})
    this.#scheme = tls ? 'https' : 'http'
    this.#host = host
    this.#server.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head))
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get url(): string {
    return `${this.#scheme}://${this.#host.includes(':') ? `[${this.#host}]` : this.#host}:${this.port}`
  }

  async listen(port = 0): Promise<this> {
    this.#server.listen(port, this.#host)
    await once(this.#server, 'listening')
    return this
  }

  /** Goes away at once, as a killed server does. */
  async stop(): Promise<void> {
    for (const session of this.sessions.all) session.vanish()
    if (!this.#server.listening) return
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = ''
    for await (const part of request) text += part
    const got = request.method === 'GET' ? this.onGet(request.url!, request.headers) : undefined
    if (got) {
      send(response, got)
      return
    }
    if (request.method !== 'POST' || request.url !== '/agent/enroll') {
      response.writeHead(404).end()
      return
    }
    const claim = { authorization: request.headers.authorization, body: JSON.parse(text) }
    const verdict = this.onClaim(this.claims.all.length + 1)
    const reply = verdict === 'grant' ? this.#grant() : verdict
    if (reply === 'cut') request.socket.destroy()
    else if (reply !== 'hang') send(response, reply)
    this.claims.put(claim)
  }

  #grant(): Reply {
    return {
      status: 201,
      body: {
        robot_id: ROBOT_ID,
        name: 'warehouse-bot-01',
        site_id: 'site-1',
        fleet_id: 'fleet-1',
        gateway_url: this.gatewayUrl ?? `${this.url.replace(/^http/, 'ws')}/agent/ws`,
        heartbeat_interval_ms: this.heartbeatIntervalMs,
      },
    }
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => {})
    const reply = this.onUpgrade(this.upgrades.all.length + 1)
    this.upgrades.put({ authorization: request.headers.authorization, at: performance.now() })
    if (reply) {
      const { status, headers = {}, body, text = JSON.stringify(body ?? {}), isEndless = false } = reply
      const length = Buffer.byteLength(text) + (isEndless ? 1 : 0)
      const lines = Object.entries({ ...headers, 'content-length': String(length) })
      socket.write(
        `HTTP/1.1 ${status} Refused\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${text}`,
      )
      if (!isEndless) socket.end()
      return
    }
    this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
      const number = this.sessions.all.length + 1
      const session = new RobotSession(webSocket, number, this)
      this.sessions.put(session)
    })
  }
}

function send(response: ServerResponse, reply: Reply): void {
  response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers })
  response.end(reply.text ?? JSON.stringify(reply.body ?? {}))
}

type RobotFrameSeen = { readonly type: string } & Record<string, unknown>

/** One robot's connection, seen from the server. */
export class RobotSession {
  readonly frames = new Mailbox<RobotFrameSeen>()
  readonly heartbeats = new Mailbox<HeartbeatFrame>()
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>
  readonly number: number
  readonly openedAt = performance.now()
  readonly #socket: WebSocket
  readonly #server: ControlPlane

  constructor(socket: WebSocket, number: number, server: ControlPlane) {
    this.#socket = socket
    this.#server = server
    this.number = number
    this.closed = new Promise((resolve) => {
      socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
    })
    socket.on('error', () => {})
    socket.on('message', (data) => this.#received(JSON.parse(data.toString())))
  }

  /** The robot's hello; waits for it. */
  async hello(): Promise<HelloFrame> {
    return (await this.frames.next((frame) => frame.type === 'hello')) as unknown as HelloFrame
  }

  welcome(lifecycle: Lifecycle = this.#server.lifecycle): void {
    this.send({
      type: 'welcome',
      robot_id: ROBOT_ID,
      name: 'warehouse-bot-01',
      session_no: this.number,
      heartbeat_interval_ms: this.#server.heartbeatIntervalMs,
      server_time: new Date().toISOString(),
      lifecycle,
      ...(this.#server.reconnectSpreadMs === undefined
        ? {}
        : { reconnect_spread_ms: this.#server.reconnectSpreadMs }),
    })
  }

  send(frame: ServerFrame): void {
    this.sendText(JSON.stringify(frame))
  }

  sendText(text: string): void {
    this.#socket.send(text)
  }

  sendBytes(bytes: Buffer): void {
    this.#socket.send(bytes)
  }

  close(code: number, reason = ''): void {
    this.#socket.close(code, reason)
  }

  /** The connection breaks without a word. */
  vanish(): void {
    this.#socket.terminate()
  }

  /** Reads and answers nothing more, and keeps the connection open. */
  freeze(): void {
    this.#socket.pause()
  }

  #received(frame: RobotFrameSeen): void {
    if (frame.type === 'hello') this.#server.onHello(this)
    if (frame.type === 'heartbeat') {
      const heartbeat = frame as unknown as HeartbeatFrame
      if (this.#server.isAcknowledging) this.send({ type: 'ack', seq: heartbeat.seq })
      this.heartbeats.put(heartbeat)
    }
    if (frame.type === 'event') this.#server.onEvent(frame as unknown as RobotEventFrame, this)
    this.frames.put(frame)
  }
}

/** A control plane for one test. */
export async function startControlPlane(options?: ControlPlaneOptions): Promise<ControlPlane> {
  const server = await new ControlPlane(options).listen()
  onTestFinished(() => server.stop())
  return server
}

/** The token behind an upgrade, as the server would look it up. */
export function hashOfBearer(authorization: string | undefined): string {
  return hashToken((authorization ?? '').replace(/^Bearer /, '')).toString('hex')
}
