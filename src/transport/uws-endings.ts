import type { Clock } from '../runtime.ts'
import { CLOSE_TIMEOUT_MS } from './transport.ts'

/** A socket, as far as its end goes. */
interface Ending {
  /** Its owner hears that it is gone. */
  tellEnd(): void
  /** It did not close in time. */
  giveUp(): void
}

/** What the sockets of one listener share for their ends, so that none has a timer of its own. */
export class Endings {
  readonly #clock: Clock
  /** Sockets that wait for their peer to read before the closing frame can go out, oldest first. */
  readonly #closing: { peer: Ending; until: number }[] = []
  #ended: Ending[] = []
  #sweeping = false

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Tells the socket's owner in a later turn that it is gone. */
  tellLater(peer: Ending): void {
    if (this.#ended.push(peer) === 1) setImmediate(() => this.#tell())
  }

  /** Drops the socket unless it could be closed in time. */
  giveUpLater(peer: Ending): void {
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
