import type { Clock } from '../runtime.ts'
import { type PoseType, type ReadPose, readPose } from './mapping-pose.ts'

/** A pose that was not told again for so long may have become wrong. */
const HOLD_MS = 30_000

/** Where the robot is, by the last message. */
export class Position {
  readonly #clock: Clock
  #last: { readonly read: ReadPose; readonly heardAt: number } | undefined
  #malformed = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get malformed(): number {
    return this.#malformed
  }

  take(type: PoseType, message: unknown): void {
    const read = readPose(type, message)
    if (read) this.#last = { read, heardAt: this.#clock.monotonic() }
    else this.#malformed++
  }

  /** The robot stands still: a localisation that speaks only of movements has nothing to say. */
  stillThere(): void {
    if (this.#last) this.#last = { ...this.#last, heardAt: this.#clock.monotonic() }
  }

  get pose() {
    if (!this.#last || this.#clock.monotonic() - this.#last.heardAt >= HOLD_MS) return undefined
    return 'pose' in this.#last.read ? this.#last.read.pose : undefined
  }
}
