import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer } from 'node:net'
import type {
  HttpRequest,
  HttpResponse,
  TemplatedApp,
  us_listen_socket,
  us_socket_context_t,
  WebSocket,
} from '@uwsjs/core'
import type { BeaconError } from '../errors.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import type { Clock } from '../runtime.ts'
import { type Answer, answerTo, type PlainRequest, reasonOf, refusal } from './answers.ts'
import { callerRule, handshakeFault, isWebSocketUpgrade, upgradeRequest } from './handshake.ts'
import {
  type Admission,
  BREACH,
  CLOSE_TIMEOUT_MS,
  type Engine,
  type GatewayListener,
  type ListenOptions,
  MAX_HELD_BYTES,
  MAX_HELD_BYTES_IN_ALL,
  MAX_MESSAGE_BYTES,
  type RobotSocket,
  type SocketHandler,
} from './transport.ts'

/** The package, whoever ships it. */
export type Uws = typeof import('@uwsjs/core')

type Open = Extract<Admission, { kind: 'accept' }>['open']

/** What the engine copies onto its own object of each socket. */
interface Carried {
  peer: UwsRobotSocket
}

type Socket = WebSocket<Carried> & Carried

/**
 * A message somewhat beyond what is taken is read to its end, so that its sender hears of it with 1009. One beyond this
 * is cut off by the engine without a closing frame.
 */
const MAX_READ_BYTES = 4 * MAX_MESSAGE_BYTES
/** Beyond what a robot may leave unread, after which its owner drops it. Nothing is dropped silently: the socket closes. */
const MAX_UNSENT_BYTES = 2 * MAX_MESSAGE_BYTES
/**
 * The longest that the engine knows. It must not be none: the engine counts with it, too, how long a socket may go on
 * whose closing frame had to wait. Only robots that are silent for a quarter of an hour are ever pinged for it.
 */
const IDLE_TIMEOUT_S = 960
/** What a held frame costs besides its text. */
const HELD_FRAME_BYTES = 64

const PHASE = { open: 0, closing: 1, left: 2, gone: 3 } as const
type Phase = (typeof PHASE)[keyof typeof PHASE]

const NOBODY: SocketHandler = { text() {}, binary() {}, overflowed() {}, closed() {} }

/** Headers that matter; the others are not copied. */
const HEADERS = new Set([
  'host',
  'authorization',
  'connection',
  'upgrade',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-protocol',
  'x-forwarded-for',
  'x-request-id',
])

/** Frames of a paused socket, oldest first; undefined stands for a binary one. */
interface Held {
  frames: (string | undefined)[]
  next: number
  bytes: number
}

/** Robots' own bytes: valid UTF-8, as the engine has seen to. Twice as fast as Buffer's for frames of their size. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true })

/** What all paused sockets of this process hold. */
let heldInAll = 0

/** What robots' sockets share. */
class Listener {
  readonly #clock: Clock
  /** Sockets that wait for their peer to read before the closing frame can go out, oldest first. */
  readonly #closing: { peer: UwsRobotSocket; until: number }[] = []
  #ended: UwsRobotSocket[] = []
  #sweeping = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Tells the socket's owner in a later turn that it is gone. */
  tellLater(peer: UwsRobotSocket): void {
    if (this.#ended.push(peer) === 1) setImmediate(() => this.#tell())
  }

  /** Drops the socket unless it could be closed in time. */
  giveUpLater(peer: UwsRobotSocket): void {
    this.#closing.push({ peer, until: this.#clock.monotonic() + CLOSE_TIMEOUT_MS })
    if (this.#sweeping) return
    this.#sweeping = true
    this.#clock.after(CLOSE_TIMEOUT_MS, () => this.#sweep())
  }

  #tell(): void {
    const ended = this.#ended
    this.#ended = []
    for (const peer of ended) peer.tellEnd()
  }

  #sweep(): void {
    const now = this.#clock.monotonic()
    let due = 0
    for (const { peer, until } of this.#closing) {
      if (until > now) break
      due += 1
      peer.giveUp()
    }
    this.#closing.splice(0, due)
    const next = this.#closing[0]
    this.#sweeping = next !== undefined
    if (next) this.#clock.after(next.until - now, () => this.#sweep())
  }
}

/**
 * A robot's socket. Always in one of these phases: open; closing (by us: the closing frame waits for the peer to read
 * what stands before it); left (by the peer, while paused: what is held is delivered first); gone (the engine's socket
 * must not be touched any more).
 */
class UwsRobotSocket implements RobotSocket {
  readonly remoteAddress: string
  readonly #listener: Listener
  #socket: Socket | undefined = undefined
  #handler: SocketHandler | undefined = undefined
  #held: Held | undefined = undefined
  #phase: Phase = PHASE.open
  #isPaused = false
  #isDelivering = false
  /** The engine holds bytes that the kernel did not take. */
  #isBehind = false
  /** Set when we end it; the engine tells our own code, too. */
  #byUs = false
  #code = 1006
  #reason = ''

  constructor(remoteAddress: string, listener: Listener) {
    this.remoteAddress = remoteAddress
    this.#listener = listener
  }

  /**
   * From within the engine's upgrade, where nothing else may be done: after it the engine still reads, from where the
   * socket lay before it was made smaller, whether to hang up. What is allocated meanwhile may come to lie there, and
   * then it does.
   */
  upgraded(socket: Socket): void {
    this.#socket = socket
  }

  /** Gives the socket to its owner, unless the upgrade has failed. */
  begin(open: Open): void {
    if (this.#socket === undefined) return
    // It may be closed by whom it is given to, before they have said who they are.
    this.#handler = NOBODY
    this.#handler = open(this)
  }

  // From the owner

  send(text: string): void {
    if (this.#phase !== PHASE.open || this.#socket === undefined) return
    if (this.#socket.send(text, false, false) !== 1) this.#isBehind = true
  }

  bufferedBytes(): number {
    if (!this.#isBehind || this.#socket === undefined) return 0
    const bytes = this.#socket.getBufferedAmount()
    this.#isBehind = bytes > 0
    return bytes
  }

  close(code: number, reason: string): void {
    if (this.#phase === PHASE.left) this.#drop()
    if (this.#phase !== PHASE.open || this.#socket === undefined) return
    this.#letGo()
    this.#byUs = true
    this.#code = code
    this.#reason = reason
    if (this.#socket.getBufferedAmount() === 0) {
      this.#socket.end(code, reason)
      return
    }
    this.#phase = PHASE.closing
    this.#listener.giveUpLater(this)
  }

  terminate(): void {
    if (this.#phase === PHASE.left) this.#drop()
    if (this.#phase === PHASE.gone || this.#socket === undefined) return
    this.#letGo()
    this.#byUs = true
    this.#code = 1006
    this.#reason = ''
    this.#socket.close()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    if (this.#held === undefined || this.#isDelivering) return
    this.#isDelivering = true
    try {
      this.#deliverHeld()
    } finally {
      this.#isDelivering = false
    }
    if (this.#held !== undefined) return
    if (this.#phase === PHASE.left) this.#drop()
  }

  // From the engine

  message(bytes: ArrayBuffer, isBinary: boolean): void {
    if (this.#phase !== PHASE.open) return
    if (bytes.byteLength > MAX_MESSAGE_BYTES) {
      this.close(BREACH.tooBig.code, '')
      this.#reason = BREACH.tooBig.reason
      return
    }
    if (this.#isPaused || this.#held !== undefined) {
      this.#hold(isBinary ? undefined : decoder.decode(bytes), bytes.byteLength)
      return
    }
    if (isBinary) this.#handler!.binary()
    else this.#handler!.text(decoder.decode(bytes))
  }

  drained(): void {
    if (this.#phase !== PHASE.closing || this.#socket!.getBufferedAmount() > 0) return
    this.#socket!.end(this.#code, this.#reason)
  }

  closed(code: number, message: ArrayBuffer): void {
    this.#socket = undefined
    if (!this.#byUs) {
      const { code: told, reason } = endOf(code, decoder.decode(message))
      this.#code = told
      this.#reason = reason
      if (this.#held !== undefined) {
        this.#phase = PHASE.left
        return
      }
    }
    this.#phase = PHASE.gone
    // Without an owner it has ended within its upgrade.
    if (this.#handler !== undefined) this.#listener.tellLater(this)
  }

  /** It did not read in time. */
  giveUp(): void {
    if (this.#phase === PHASE.closing) this.terminate()
  }

  tellEnd(): void {
    this.#handler!.closed(this.#code, this.#reason)
  }

  #hold(frame: string | undefined, length: number): void {
    const bytes = length + HELD_FRAME_BYTES
    this.#held ??= { frames: [], next: 0, bytes: 0 }
    if (this.#held.bytes + bytes > MAX_HELD_BYTES || heldInAll + bytes > MAX_HELD_BYTES_IN_ALL) {
      this.#handler!.overflowed()
      if (this.#phase === PHASE.open) this.terminate()
      return
    }
    this.#held.frames.push(frame)
    this.#held.bytes += bytes
    heldInAll += bytes
  }

  #deliverHeld(): void {
    const held = this.#held!
    // The handler may pause, close and drop the socket meanwhile.
    while (!this.#isPaused && this.#held === held && held.next < held.frames.length) {
      const frame = held.frames[held.next]
      held.next += 1
      if (frame === undefined) this.#handler!.binary()
      else this.#handler!.text(frame)
    }
    if (this.#held === held && held.next === held.frames.length) this.#letGo()
  }

  #letGo(): void {
    if (this.#held === undefined) return
    heldInAll -= this.#held.bytes
    this.#held = undefined
  }

  /** The peer left before, and nobody waits any more for what it had sent. */
  #drop(): void {
    this.#letGo()
    this.#phase = PHASE.gone
    this.#listener.tellLater(this)
  }
}

/** What the engine's own words for how a socket ended mean. */
function endOf(code: number, message: string): { code: number; reason: string } {
  if (code !== 1006) return { code, reason: message }
  if (message.includes('too big')) return BREACH.tooBig
  if (message.includes('UTF-8')) return BREACH.invalidText
  if (message.includes('invalid WebSocket frame')) return BREACH.protocol
  return { code, reason: '' }
}

/** Copies what matters out of a request, which is gone when the call returns. Joined as node:http does. */
function copyRequest(request: HttpRequest): PlainRequest & { headers: Record<string, string> } {
  const headers: Record<string, string> = {}
  request.forEach((name, value) => {
    if (!HEADERS.has(name)) return
    const before = headers[name]
    if (before === undefined) headers[name] = value
    else if (name !== 'authorization' && name !== 'host') headers[name] = `${before}, ${value}`
  })
  return { method: request.getCaseSensitiveMethod(), path: request.getUrl(), headers }
}

function offersUpgrade(headers: Readonly<Record<string, string>>): boolean {
  return (headers.connection ?? '').split(',').some((token) => token.trim().toLowerCase() === 'upgrade')
}

/** The peer's address in a form that is one already where it is IPv4. */
function addressOf(response: HttpResponse): string {
  const bytes = new Uint8Array(response.getRemoteAddress())
  return bytes.length === 4
    ? `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`
    : Buffer.from(response.getRemoteAddressAsText()).toString('latin1')
}

function write(response: HttpResponse, request: PlainRequest, answer: Answer): void {
  response.writeStatus(`${answer.status} ${reasonOf(answer.status)}`)
  for (const name in answer.headers) response.writeHeader(name, answer.headers[name]!)
  // As the engine counts it; it leaves the header out where the caller said the same.
  const callerCloses = request.headers.connection?.length === 5
  if (request.method === 'HEAD') {
    if (answer.last || callerCloses) response.writeHeader('connection', 'close')
    // With the length as its parameter, the engine would take the answer for unfinished.
    response.writeHeader('content-length', String(Buffer.byteLength(answer.body)))
    response.endWithoutBody()
    return
  }
  if (callerCloses) response.writeHeader('connection', 'close')
  response.end(answer.body, answer.last)
}

/** Carries robot sessions on uWebSockets.js, on a port of its own. `build` names the package. */
export function createUwsEngine(uws: Uws, build: string): Engine {
  return { name: 'uws', build, listen: (options) => listen(uws, options) }
}

async function listen(uws: Uws, options: ListenOptions): Promise<GatewayListener> {
  const { tls } = options
  const app = tls ? uws.SSLApp({ cert_file_name: tls.certFile, key_file_name: tls.keyFile }) : uws.App()
  takeRobots(app, options)
  // As node:net does; the engine would ask for IPv6 first.
  const { address } = await lookup(options.host)
  let token = await bind(app, address, options)
  if (!token) {
    app.close()
    throw await reasonNotToListen(address, options.port)
  }
  const port = uws.us_socket_local_port(token)
  let stopped = false
  return {
    port,
    pause() {
      if (token && !stopped) uws.us_listen_socket_close(token)
      token = false
    },
    async resume() {
      if (token || stopped) return
      token = await bind(app, address, { ...options, port })
      if (!token) throw await reasonNotToListen(address, port)
    },
    stop: async () => {
      stopped = true
      app.close()
    },
  }
}

/** LIBUS_LISTEN_EXCLUSIVE_PORT, which the engine's types put where its code does not. Otherwise it sets SO_REUSEPORT. */
const EXCLUSIVE_PORT = 1

/** The overload that takes everything is missing in the engine's types. */
type Bind = (
  host: string,
  port: number,
  options: number,
  told: (token: us_listen_socket | false) => void,
) => void

function bind(
  app: TemplatedApp,
  host: string,
  { port, shared }: ListenOptions,
): Promise<us_listen_socket | false> {
  return new Promise((resolve) => {
    ;(app.listen as unknown as Bind).call(app, host, port, shared ? 0 : EXCLUSIVE_PORT, resolve)
  })
}

/** The engine does not say why it cannot listen. */
async function reasonNotToListen(host: string, port: number): Promise<Error> {
  const probe = createServer()
  try {
    await once(probe.listen({ host, port, exclusive: true }), 'listening')
    probe.close()
    return Object.assign(new Error(`listen EADDRINUSE: address already in use ${host}:${port}`), {
      code: 'EADDRINUSE',
    })
  } catch (error) {
    return error as Error
  }
}

function takeRobots(app: TemplatedApp, options: ListenOptions): void {
  const listener = new Listener(options.clock)
  const callerOf = callerRule(options.trustedProxies)

  /** `context` is missing where the engine saw no key of the right length. */
  const take = (response: HttpResponse, request: HttpRequest, context?: us_socket_context_t): void => {
    let isGone = false
    // First of all: the engine ends the process when a call returns that has neither answered nor done this.
    response.onAborted(() => {
      isGone = true
    })
    const copy = copyRequest(request)
    if (!isWebSocketUpgrade(copy) || !offersUpgrade(copy.headers)) {
      write(response, copy, answerTo(copy, options))
      return
    }
    const refuse = (error: BeaconError): void => write(response, copy, refusal(error, copy, options.headers))
    const fault = handshakeFault(copy.path, options.path, copy.headers)
    if (fault) {
      refuse(fault)
      return
    }
    const { headers } = copy
    const asked = upgradeRequest(headers, callerOf(addressOf(response), headers['x-forwarded-for']))
    void options.admit({ ...asked, isGone: () => isGone }).then((admission) => {
      if (isGone) return
      if (admission.kind === 'refuse') {
        response.cork(() => refuse(admission.error))
        return
      }
      const peer = new UwsRobotSocket(asked.remoteAddress, listener)
      response.cork(() =>
        response.upgrade<Carried>(
          { peer },
          headers['sec-websocket-key']!,
          asked.subprotocols.includes(SUBPROTOCOL) ? SUBPROTOCOL : '',
          '',
          context!,
        ),
      )
      peer.begin(admission.open)
    })
  }

  app.ws<Carried>('/*', {
    maxPayloadLength: MAX_READ_BYTES,
    maxBackpressure: MAX_UNSENT_BYTES,
    closeOnBackpressureLimit: true,
    idleTimeout: IDLE_TIMEOUT_S,
    sendPingsAutomatically: true,
    compression: 0,
    upgrade: take,
    open: (socket) => (socket as Socket).peer.upgraded(socket as Socket),
    message: (socket, bytes, isBinary) => (socket as Socket).peer.message(bytes, isBinary),
    drain: (socket) => (socket as Socket).peer.drained(),
    close: (socket, code, message) => (socket as Socket).peer.closed(code, message),
  })
  app.any('/*', (response, request) => take(response, request))
}
