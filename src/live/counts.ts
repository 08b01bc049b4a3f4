import type { Connection, Health } from '../db/tables.ts'
import type { Lifecycle } from '../protocol/frames.ts'
import type { Admits } from './filter.ts'
import type { Facts } from './robot.ts'
import type { LiveStore, Tick } from './store.ts'

/** How many robots are how. Those that are retired count under `lifecycle` alone: nobody waits for them. */
export interface Counts {
  robots: number
  readonly connection: Record<Connection, number>
  readonly health: Record<Health, number>
  readonly lifecycle: Record<Lifecycle, number>
  /** Robots whose latest heartbeat names a fault. */
  faults: number
}

export function noCounts(): Counts {
  return {
    robots: 0,
    connection: { unseen: 0, online: 0, stale: 0, offline: 0 },
    health: { ok: 0, warn: 0, error: 0, unknown: 0 },
    lifecycle: { pending: 0, active: 0, maintenance: 0, retired: 0 },
    faults: 0,
  }
}

/** Adds a robot, or with -1 takes it away. */
export function count(counts: Counts, facts: Facts, by: 1 | -1): void {
  counts.lifecycle[facts.lifecycle] += by
  if (facts.lifecycle === 'retired') return
  counts.robots += by
  counts.connection[facts.connection] += by
  counts.health[facts.health] += by
  if (facts.hasFaults) counts.faults += by
}

/** Counts those robots of a store that it is asked to, for all views that count the same. */
export class Tally {
  readonly counts: Counts = noCounts()
  readonly #store: LiveStore
  readonly #counted: Admits
  #changedTick: number

  constructor(store: LiveStore, counted: Admits) {
    this.#store = store
    this.#counted = counted
    this.#changedTick = store.tick
    for (const { facts } of store.all()) if (counted(facts)) count(this.counts, facts, 1)
  }

  /** The newest tick that made them others; of older ones than the tally itself nothing is known. */
  get changedTick(): number {
    return this.#changedTick
  }

  /** Has to be told of every tick. */
  take({ number, turned }: Tick): void {
    for (const { id, before } of turned) {
      const now = this.#store.get(id)?.facts
      const was = before !== undefined && this.#counted(before)
      const is = now !== undefined && this.#counted(now)
      if (was) count(this.counts, before, -1)
      if (is) count(this.counts, now, 1)
      if (was || is) this.#changedTick = number
    }
  }
}
