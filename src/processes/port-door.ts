import type { Log } from '../observe/log.ts'
import type { Clock, Timer } from '../runtime.ts'
import type { GatewayListener } from '../transport/transport.ts'

export interface PortDoorParts {
  readonly listener: Pick<GatewayListener, 'pause' | 'resume'>
  readonly clock: Clock
  readonly log: Log
  /** Told whenever this process has come to the port or left it. */
  readonly tell: (listening: boolean) => void
}

const TRY_AGAIN_MS = 1_000

/**
 * This process's place on a port, shared or not: leaves it and comes back as told, and goes on trying where that fails. While
 * it is shut it is not there whatever it is told: an engine that has no descriptor left for who knocks asks again without a
 * pause, and takes all of a processor for it.
 */
export class PortDoor {
  readonly #parts: PortDoorParts
  #told = true
  #shut = false
  #listening = true
  #busy = false
  #stopped = false
  #retry: Timer | undefined

  constructor(parts: PortDoorParts) {
    this.#parts = parts
  }

  set(listen: boolean): void {
    this.#told = listen
    void this.#follow()
  }

  /** Shuts it, or opens it again to whoever is told to be there. */
  shut(isShut: boolean): void {
    if (isShut === this.#shut) return
    this.#shut = isShut
    if (isShut)
      this.#parts.log.warn('no descriptors are left for connections; nobody may connect until there are')
    void this.#follow()
  }

  get #wanted(): boolean {
    return this.#told && !this.#shut
  }

  stop(): void {
    this.#stopped = true
    this.#retry?.cancel()
  }

  async #follow(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    this.#retry?.cancel()
    const { listener, clock, log, tell } = this.#parts
    try {
      while (!this.#stopped && this.#wanted !== this.#listening) {
        const wanted = this.#wanted
        if (wanted) await listener.resume()
        else listener.pause()
        this.#listening = wanted
        if (wanted) log.info('on the port for robots again')
        else if (!this.#shut) log.info('left the shared port to processes with room')
        tell(wanted)
      }
    } catch (error) {
      log.error({ err: error }, 'cannot come back to the port for robots; trying again')
      this.#retry = clock.after(TRY_AGAIN_MS, () => void this.#follow())
    } finally {
      this.#busy = false
    }
  }
}
