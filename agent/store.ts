import type { Places } from './places.ts'
import type { AgentState, Identity, PendingClaim } from './state.ts'
import { saveState } from './state-file.ts'

/** What agent.toml holds, and the one who writes it while an agent runs. Throws AgentExit when it cannot be written. */
export class Store {
  readonly #places: Places
  #state: AgentState

  constructor(places: Places, state: AgentState) {
    this.#places = places
    this.#state = state
  }

  get identity(): Identity | undefined {
    return this.#state.identity
  }

  get pending(): PendingClaim | undefined {
    return this.#state.pending
  }

  /**
   * Writes a claim down, or its end; the identity stays until another takes its place. A claim is written twice, so that the
   * copy of the file knows of it, too: by a copy without it another one would be made, and burn another use.
   */
  keepPending(pending: PendingClaim | undefined): void {
    for (let copy = 0; copy < (pending ? 2 : 1); copy++) this.#write({ identity: this.identity, pending })
  }

  /** Writes down what changed about the identity. */
  keepIdentity(identity: Identity): void {
    this.#write({ identity, pending: this.pending })
  }

  /** Writes a new identity. Twice, so that the copy of the file is this identity too, and not the claim for it. */
  becomeIdentity(identity: Identity): void {
    for (let copy = 0; copy < 2; copy++) this.#write({ identity, pending: undefined })
  }

  #write({ identity, pending }: { identity: Identity | undefined; pending: PendingClaim | undefined }): void {
    const { settings, others } = this.#state
    const state = { settings, others, ...(identity ? { identity } : {}), ...(pending ? { pending } : {}) }
    saveState(this.#places, state)
    this.#state = state
  }
}
