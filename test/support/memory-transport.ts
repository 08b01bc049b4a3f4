import type { BeaconError } from '../../src/errors.ts'
import { SUBPROTOCOL } from '../../src/protocol/limits.ts'
import type { Admit, RobotSocket, SocketHandler } from '../../src/transport/transport.ts'

/** The robot's end of a socket, whichever transport carries it. */
export interface RobotEnd {
  /** Text frames received so far. */
  readonly frames: readonly string[]
  /** Set once the socket is closed. */
  readonly closed: Promise<{ code: number; reason: string }>
  send(text: string): void
  sendBinary(bytes: Uint8Array): void
  close(code: number, reason: string): void
  /** Drops the connection without a word. */
  vanish(): void
}

export interface ConnectOptions {
  readonly authorization?: string
  readonly subprotocols?: readonly string[]
  readonly remoteAddress?: string
}

/** Thrown when an upgrade was refused. */
export class UpgradeRefused extends Error {
  readonly status: number
  readonly code: string
  readonly retryAfter: string | undefined
  constructor(status: number, code: string, retryAfter: string | undefined) {
    super(`${status} ${code}`)
    this.status = status
    this.code = code
    this.retryAfter = retryAfter
  }
}

/** Connects a robot to `admit` without any network: frames arrive in the same turn, time plays no part. */
export async function connectInMemory(admit: Admit, options: ConnectOptions = {}): Promise<MemoryRobotEnd> {
  const admission = await admit({
    authorization: options.authorization,
    subprotocols: options.subprotocols ?? [SUBPROTOCOL],
    remoteAddress: options.remoteAddress ?? '192.0.2.1',
  })
  if (admission.kind === 'refuse') {
    const { status, code, retryAfterSeconds } = admission.error satisfies BeaconError
    throw new UpgradeRefused(status, code, retryAfterSeconds?.toString())
  }
  const end = new MemoryRobotEnd(options.remoteAddress ?? '192.0.2.1')
  end.handler = admission.open(end.serverSide)
  return end
}

export class MemoryRobotEnd implements RobotEnd {
  readonly frames: string[] = []
  readonly closed: Promise<{ code: number; reason: string }>
  readonly serverSide: RobotSocket
  handler: SocketHandler | undefined
  /** What bufferedBytes answers: a robot that does not read. */
  unreadBytes = 0
  paused = false
  #held: (() => void)[] = []
  #open = true
  #resolveClosed: (end: { code: number; reason: string }) => void = () => {}

  constructor(remoteAddress: string) {
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve
    })
    this.serverSide = {
      remoteAddress,
      send: (text) => {
        if (this.#open) this.frames.push(text)
      },
      bufferedBytes: () => this.unreadBytes,
      close: (code, reason) => this.#end({ code, reason }),
      terminate: () => this.#end({ code: 1006, reason: '' }),
      pause: () => {
        this.paused = true
      },
      resume: () => {
        this.paused = false
        while (!this.paused && this.#held.length > 0) this.#held.shift()?.()
      },
    }
  }

  get isOpen(): boolean {
    return this.#open
  }

  send(text: string): void {
    this.#deliver(() => this.handler?.text(text))
  }

  sendBinary(_bytes: Uint8Array): void {
    this.#deliver(() => this.handler?.binary())
  }

  close(code: number, reason: string): void {
    this.#leave({ code, reason })
  }

  vanish(): void {
    this.#leave({ code: 1006, reason: '' })
  }

  /** What was sent before comes first, also where it is held. */
  #leave(end: { code: number; reason: string }): void {
    if (this.paused && this.#held.length > 0) this.#held.push(() => this.#end(end))
    else this.#end(end)
  }

  #deliver(call: () => void): void {
    if (!this.#open) return
    if (this.paused) this.#held.push(() => this.#open && call())
    else call()
  }

  #end(end: { code: number; reason: string }): void {
    if (!this.#open) return
    this.#open = false
    this.#resolveClosed(end)
    // As with a real socket, the server hears of it in a later turn.
    setImmediate(() => this.handler?.closed(end.code, end.reason))
  }
}
