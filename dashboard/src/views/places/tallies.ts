/** What of a robot is counted. */
export interface Counted {
  readonly id: string
  readonly fleet_id: string
  readonly connection: string
  readonly lifecycle: string
}

export interface Tally {
  /** Without those that are retired. */
  readonly robots: number
  readonly online: number
  readonly retired: number
}

export const NOBODY: Tally = { robots: 0, online: 0, retired: 0 }

type Seen = Omit<Counted, 'id'>

/** Robots by fleet, kept up to date. */
export class Tallies {
  readonly #robots = new Map<string, Seen>()

  clear(): void {
    this.#robots.clear()
  }

  take(changed: readonly Counted[], removed: readonly string[] = []): void {
    for (const { id, fleet_id, connection, lifecycle } of changed)
      this.#robots.set(id, { fleet_id, connection, lifecycle })
    for (const id of removed) this.#robots.delete(id)
  }

  byFleet(): ReadonlyMap<string, Tally> {
    const tallies = new Map<string, { robots: number; online: number; retired: number }>()
    for (const { fleet_id, connection, lifecycle } of this.#robots.values()) {
      const tally = tallies.get(fleet_id) ?? { ...NOBODY }
      tallies.set(fleet_id, tally)
      if (lifecycle === 'retired') tally.retired++
      else {
        tally.robots++
        if (connection === 'online') tally.online++
      }
    }
    return tallies
  }
}

export function sumOf(tallies: readonly Tally[]): Tally {
  return tallies.reduce(
    (sum, { robots, online, retired }) => ({
      robots: sum.robots + robots,
      online: sum.online + online,
      retired: sum.retired + retired,
    }),
    NOBODY,
  )
}
