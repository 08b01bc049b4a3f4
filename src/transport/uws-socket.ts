import type { WebSocket, WebSocketBehavior } from '@uwsjs/core'
import {
  type Admission,
  BREACH,
  MAX_HELD_BYTES,
  MAX_HELD_BYTES_IN_ALL,
  MAX_MESSAGE_BYTES,
  NOBODY,
  type RobotSocket,
  type SocketHandler,
} from './transport.ts'
import type { Endings } from './uws-endings.ts'

type Open = Extract<Admission, { kind: 'accept' }>['open']

/** What the engine copies onto its own object of each socket. */
export interface Carried {
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

const PHASE = { open: 0, deaf: 1, closing: 2, left: 3, gone: 4 } as const
type Phase = (typeof PHASE)[keyof typeof PHASE]

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

/**
 * A robot's socket. Always in one of these phases: open; deaf (it sent more than is held: nothing of it is delivered any
 * more, and it is dropped unless it is closed in time); closing (by us: the closing frame waits for the peer to read
 * what stands before it); left (by the peer, while paused: what is held is delivered first); gone (the engine's socket
 * must not be touched any more).
 */
export class UwsRobotSocket implements RobotSocket {
  readonly remoteAddress: string
  readonly #endings: Endings
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

  constructor(remoteAddress: string, endings: Endings) {
    this.remoteAddress = remoteAddress
    this.#endings = endings
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
    if (this.#phase > PHASE.deaf || this.#socket === undefined) return
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
    if (this.#phase > PHASE.deaf || this.#socket === undefined) return
    this.#letGo()
    this.#byUs = true
    this.#code = code
    this.#reason = reason
    if (this.#socket.getBufferedAmount() === 0) {
      this.#socket.end(code, reason)
      return
    }
    this.#phase = PHASE.closing
    this.#endings.giveUpLater(this)
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
    if (this.#handler !== undefined) this.#endings.tellLater(this)
  }

  giveUp(): void {
    if (this.#phase === PHASE.deaf || this.#phase === PHASE.closing) this.terminate()
  }

  tellEnd(): void {
    this.#handler!.closed(this.#code, this.#reason)
  }

  #hold(frame: string | undefined, length: number): void {
    const bytes = length + HELD_FRAME_BYTES
    this.#held ??= { frames: [], next: 0, bytes: 0 }
    if (this.#held.bytes + bytes > MAX_HELD_BYTES || heldInAll + bytes > MAX_HELD_BYTES_IN_ALL) {
      this.#letGo()
      this.#phase = PHASE.deaf
      this.#endings.giveUpLater(this)
      this.#handler!.overflowed()
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
    this.#endings.tellLater(this)
  }
}

/** What the engine's own words for how a socket ended mean. */
function endOf(code: number, message: string): { code: number; reason: string } {
  if (code !== 1006) return { code, reason: message }
  if (message.includes('too big')) return BREACH.tooBig
  if (message.includes('UTF-8')) return BREACH.invalidText
  if (message.includes('invalid WebSocket frame')) return BREACH.protocol
  // It says so of 1012 to 1014 and of 3000 to 3999, too.
  if (message.includes('invalid close payload')) return BREACH.protocol
  return { code, reason: '' }
}

/** How the engine is to treat robots' sockets, and whom it tells of them. */
export const SOCKETS: WebSocketBehavior<Carried> = {
  maxPayloadLength: MAX_READ_BYTES,
  maxBackpressure: MAX_UNSENT_BYTES,
  closeOnBackpressureLimit: true,
  idleTimeout: IDLE_TIMEOUT_S,
  sendPingsAutomatically: true,
  compression: 0,
  open: (socket) => (socket as Socket).peer.upgraded(socket as Socket),
  message: (socket, bytes, isBinary) => (socket as Socket).peer.message(bytes, isBinary),
  drain: (socket) => (socket as Socket).peer.drained(),
  close: (socket, code, message) => (socket as Socket).peer.closed(code, message),
}
