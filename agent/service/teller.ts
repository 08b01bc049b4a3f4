import type { LoggedError } from '../last-errors.ts'
import type { Lock } from '../lock.ts'
import type { Log } from '../log.ts'
import type { Clock } from '../runtime.ts'
import type { Environment } from '../settings.ts'
import type { AgentStatus } from '../status.ts'
import { conditionOf } from './condition.ts'
import { type Notifier, startNotifying } from './notify.ts'

export interface TellerParts {
  readonly lock: Lock
  readonly env: Environment
  readonly clock: Clock
  readonly log: Log
  readonly lastErrors: () => readonly LoggedError[]
}

/** Tells how the agent does: whoever asks on its socket, and the service manager. */
export class Teller {
  readonly #notifier: Notifier
  #status: () => AgentStatus
  #isStuck = () => false
  #stopped: Promise<void> | undefined

  constructor(parts: TellerParts, first: () => AgentStatus) {
    this.#status = first
    parts.lock.answerWith(() => ({ ...this.#status(), last_errors: parts.lastErrors() }))
    this.#notifier = startNotifying({ ...parts, look: () => conditionOf(this.#status(), !this.#isStuck()) })
  }

  /** From now on this is how it does; `isStuck` says when its work does not go on. */
  tell(status: () => AgentStatus, isStuck: () => boolean = () => false): void {
    this.#status = status
    this.#isStuck = isStuck
  }

  /** Says that the agent is about to end, once, and why; resolves when that is said. */
  stopping(why = 'Stopping'): Promise<void> {
    this.#stopped ??= this.#notifier.stopping(why)
    return this.#stopped
  }
}
