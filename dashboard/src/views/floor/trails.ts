import type { Spot } from './geometry.ts'

export interface Step extends Spot {
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

  /** A robot that stands leaves one step, its newest. */
  add(id: string, spot: Spot, at: number): void {
    const steps = this.#steps.get(id) ?? []
    const last = steps.at(-1)
    if (last && at <= last.at) return
    if (last && last.x === spot.x && last.y === spot.y) steps.pop()
    steps.push({ x: spot.x, y: spot.y, theta: spot.theta, at })
    while (steps.length > MOST_STEPS || steps[0]!.at < at - this.#keptMs) steps.shift()
    this.#steps.set(id, steps)
  }

  /** Puts before what was added whatever of these steps, oldest first, is older than all of it. */
  addBefore(id: string, earlier: readonly Step[]): void {
    const later = this.#steps.get(id) ?? []
    this.#steps.delete(id)
    const begins = later[0]?.at ?? Number.POSITIVE_INFINITY
    for (const step of [...earlier.filter(({ at }) => at < begins), ...later]) this.add(id, step, step.at)
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
