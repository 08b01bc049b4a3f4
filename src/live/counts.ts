import type { Connection, Health } from '../db/tables.ts'
import type { Lifecycle } from '../protocol/frames.ts'
import type { Facts } from './robot.ts'

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
