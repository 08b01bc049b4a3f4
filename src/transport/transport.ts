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
}

export type Admission =
  | { readonly kind: 'accept'; readonly open: (socket: RobotSocket) => SocketHandler }
  | { readonly kind: 'refuse'; readonly error: BeaconError }

/** Decides about an upgrade. Never rejects: every trouble is a refusal. */
export type Admit = (request: UpgradeRequest) => Promise<Admission>

/**
 * What an engine buffers of one message before it gives up on the socket (close 1009). Larger than the protocol's
 * limit, so that a frame somewhat too large gets its error and the session lives.
 */
export const MAX_MESSAGE_BYTES = 256 * 1024

/** How long a peer may take to finish the closing handshake. */
export const CLOSE_TIMEOUT_MS = 5_000
