import type { Spot } from './geometry.ts'

export interface Step extends Spot {
  readonly frame: string
  /** Milliseconds since 1970. */
  readonly at: number
}

/** Steps that are kept of one robot; beyond that the oldest go, however young they are. */
const MOST_STEPS = 120

/** Where robots were in the last minutes. */
export class Trails {
  readonly #keptMs: number
  readonly #steps = new Map<string, Step[]>()

  constructor(keptMs: number) {
    this.#keptMs = keptMs
  }

  /** A robot that stands leaves one step, its newest; none leads from one frame into another. */
  add(id: string, step: Step): void {
    const steps = this.#steps.get(id) ?? []
    const last = steps.at(-1)
    if (last && step.at <= last.at) return
    if (last && last.frame !== step.frame) steps.length = 0
    else if (last && last.x === step.x && last.y === step.y) steps.pop()
    steps.push(step)
    while (steps.length > MOST_STEPS || steps[0]!.at < step.at - this.#keptMs) steps.shift()
    this.#steps.set(id, steps)
  }

  /** Puts before what was added whatever of these steps, oldest first, is older than all of it. */
  addBefore(id: string, earlier: readonly Step[]): void {
    const later = this.#steps.get(id) ?? []
    this.#steps.delete(id)
    const begins = later[0]?.at ?? Number.POSITIVE_INFINITY
    for (const step of [...earlier.filter(({ at }) => at < begins), ...later]) this.add(id, step)
  }

  of(id: string, now: number): readonly Step[] {
    return (this.#steps.get(id) ?? []).filter(({ at }) => at >= now - this.#keptMs)
  }

  forget(id: string): void {
    this.#steps.delete(id)
  }

  clear(): void {
    this.#steps.clear()
  }
}
