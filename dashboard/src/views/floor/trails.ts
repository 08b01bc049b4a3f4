import type { Spot } from './geometry.ts'

interface Step extends Spot {
  /** Milliseconds since 1970. */
  readonly at: number
}

/** Steps that are kept of one robot; beyond that the oldest go, however young they are. */
const MOST_STEPS = 120

/** Where robots were in the last minutes, as they said it while somebody looked. */
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
    steps.push({ ...spot, at })
    while (steps.length > MOST_STEPS || steps[0]!.at < at - this.#keptMs) steps.shift()
    this.#steps.set(id, steps)
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
