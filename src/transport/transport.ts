import type { BeaconError } from '../errors.ts'
import type { Log } from '../observe/log.ts'
import { CLOSE, type CloseCause } from '../protocol/close-codes.ts'
import type { Clock } from '../runtime.ts'

/** A robot's socket, whichever engine carries it. None of its methods calls `closed` of its handler before it returns. */
export interface RobotSocket {
  readonly remoteAddress: string
  /** Queues one text frame. Does nothing once the socket is closing. */
  send(text: string): void
  /** Bytes queued and not yet handed to the kernel. */
  bufferedBytes(): number
  /** Begins the closing handshake; the engine gives up on a peer that does not finish it. */
  close(code: number, reason: string): void
  /** Drops the connection at once. */
  terminate(): void
  /**
   * Stops reading, so that TCP holds the robot back. Frames already read may still be delivered. The uws engine cannot
   * stop reading: it holds what comes in memory, up to MAX_HELD_BYTES for a socket and MAX_HELD_BYTES_IN_ALL for the
   * process, and tells the handler with `overflowed` when it cannot hold more.
   */
  pause(): void
  /** Goes on reading. Frames that were held are delivered within this call, and the handler may pause again in it. */
  resume(): void
}

/**
 * What a socket tells its owner. `closed` comes exactly once, and nothing after it; after `close` or `terminate` of the
 * socket nothing else comes.
 */
export interface SocketHandler {
  text(text: string): void
  binary(): void
  /**
   * The robot went on sending while the socket was paused, beyond what is held. Nothing of what is held is delivered any
   * more, nor anything that still comes. A socket that its owner does not close in time is dropped.
   */
  overflowed(): void
  closed(code: number, reason: string): void
}

/** Owns a socket until somebody takes it, and when nobody does. */
export const NOBODY: SocketHandler = { text() {}, binary() {}, overflowed() {}, closed() {} }

/** What there is to know before a socket is accepted. */
export interface UpgradeRequest {
  readonly authorization: string | undefined
  readonly subprotocols: readonly string[]
  readonly remoteAddress: string
  /** Whether the client has hung up meanwhile. Asked when it is its turn; left out where it cannot be known. */
  isGone?(): boolean
}

/** A socket whose `open` throws is dropped; nobody is told of its end. */
export type Admission =
  | { readonly kind: 'accept'; readonly open: (socket: RobotSocket) => SocketHandler }
  | { readonly kind: 'refuse'; readonly error: BeaconError }

/** Decides about an upgrade. Every trouble is a refusal; should it reject, that one upgrade is answered with 500. */
export type Admit = (request: UpgradeRequest) => Promise<Admission>

/** Where and how an engine listens for robots on a port of its own. */
export interface ListenOptions {
  readonly host: string
  /** 0: any. */
  readonly port: number
  /** Other processes listen on this very port, too, and share its robots. Otherwise a port in use is an error. */
  readonly shared: boolean
  readonly path: string
  readonly tls: { readonly certFile: string; readonly keyFile: string } | undefined
  readonly trustedProxies: readonly string[]
  /** What refusals and other answers carry besides what every one does. */
  readonly headers: (requestId: string) => Readonly<Record<string, string>>
  /** The reasons for which GET /readyz on this port answers 503; none: 200. GET /healthz is always 200. */
  readonly notReadyFor: () => readonly string[]
  readonly admit: Admit
  readonly clock: Clock
  readonly log: Log
}

/** A port on which an engine takes robots. */
export interface GatewayListener {
  readonly port: number
  /**
   * Takes no new connections, so that others who share the port get them all. Those that are there live on: sockets,
   * upgrades that are being decided, and requests.
   */
  pause(): void
  /** Takes new connections again, on the same port. Rejects as `listen` of the engine does. */
  resume(): Promise<void>
  /**
   * Closes the listening socket and drops what is left of its connections. Upgrades go on being decided, and refused,
   * until then: robots sent away have to find somebody who tells them when to come back.
   */
  stop(): Promise<void>
}

/** What carries robots' sockets. */
export interface Engine {
  readonly name: 'ws' | 'uws'
  /** The package that it is, with its version, for the line that is printed at the start. */
  readonly build: string
  /** Rejects with an error that has a `code` as Node's have (EADDRINUSE, EACCES). */
  listen(options: ListenOptions): Promise<GatewayListener>
}

/**
 * What an engine buffers of one message before it gives up on the socket (close 1009). Larger than the protocol's
 * limit, so that a frame somewhat too large gets its error and the session lives.
 */
export const MAX_MESSAGE_BYTES = 256 * 1024

/** How long a peer may take to finish the closing handshake. */
export const CLOSE_TIMEOUT_MS = 5_000

/** What is held of one paused socket, and of all, by an engine that cannot stop reading. */
export const MAX_HELD_BYTES = 64 * 1024
export const MAX_HELD_BYTES_IN_ALL = 64 * 1024 * 1024

/** How sockets end whose robots break the WebSocket protocol: the engine's own doing, and what its owner is told. */
export const BREACH = {
  tooBig: CLOSE.messageTooBig,
  invalidText: { code: 1007, reason: 'invalid_utf8' },
  protocol: { code: 1002, reason: 'protocol_error' },
} as const satisfies Record<string, CloseCause>
