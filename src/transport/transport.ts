import type { BeaconError } from '../errors.ts'

/** A robot's socket, whichever engine carries it. */
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
  /** Stops and resumes reading, so that TCP holds the robot back. Frames already read may still be delivered. */
  pause(): void
  resume(): void
}

/** What a socket tells its owner. `closed` comes exactly once, and nothing after it. */
export interface SocketHandler {
  text(text: string): void
  binary(): void
  closed(code: number, reason: string): void
}

/** What there is to know before a socket is accepted. */
export interface UpgradeRequest {
  readonly authorization: string | undefined
  readonly subprotocols: readonly string[]
  readonly remoteAddress: string
  /** Whether the client has hung up meanwhile. Asked when it is its turn; left out where it cannot be known. */
  isGone?(): boolean
}

export type Admission =
  | { readonly kind: 'accept'; readonly open: (socket: RobotSocket) => SocketHandler }
  | { readonly kind: 'refuse'; readonly error: BeaconError }

/** Decides about an upgrade. Never rejects: every trouble is a refusal. */
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
  /** What GET /readyz on this port answers: 200 or 503. GET /healthz is always 200. */
  readonly isReady: () => boolean
  readonly admit: Admit
}

/** A port on which an engine takes robots. */
export interface GatewayListener {
  readonly port: number
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
