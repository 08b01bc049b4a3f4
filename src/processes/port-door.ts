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

/** This process's place on the shared port: leaves it and comes back as told, and goes on trying where that fails. */
export class PortDoor {
  readonly #parts: PortDoorParts
  #wanted = true
  #listening = true
  #busy = false
  #stopped = false
  #retry: Timer | undefined

  constructor(parts: PortDoorParts) {
    this.#parts = parts
  }

  set(listen: boolean): void {
    this.#wanted = listen
    void this.#follow()
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
        log.info(wanted ? 'on the shared port again' : 'left the shared port to processes with room')
        tell(wanted)
      }
    } catch (error) {
      log.error({ err: error }, 'cannot come back to the shared port; trying again')
      this.#retry = clock.after(TRY_AGAIN_MS, () => void this.#follow())
    } finally {
      this.#busy = false
    }
  }
}
