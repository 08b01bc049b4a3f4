/** A gateway process that runs, as whoever decides about the shared port sees it. */
export interface Door {
  /** `room`: it takes more robots; `full`: it turns them away for a while; `leaving`: it sends all of them away. */
  readonly state: 'room' | 'full' | 'leaving'
  /** It is on the port, and has not been told to leave it. */
  readonly listens: boolean
}

/**
 * Decides which processes are to be on the shared port. Whoever shares it gets new robots in its turn, whether it can
 * take them or not, so those that cannot leave it to those that can. As long as nobody can, one goes on answering, so
 * that robots hear when to come back.
 */
export function whoListens(doors: readonly Door[]): boolean[] {
  if (doors.some(({ state, listens }) => state === 'room' && listens))
    return doors.map(({ state }) => state === 'room')
  const isKept = keeper(doors)
  return doors.map((door) => door.state === 'room' || isKept(door))
}

/** Who answers until somebody with room does. Whoever listens already comes first: it has nothing to do for it. */
function keeper(doors: readonly Door[]): (door: Door) => boolean {
  for (const state of ['full', 'leaving'] as const) {
    const candidates = doors.filter((door) => door.state === state)
    const listening = candidates.filter(({ listens }) => listens)
    if (listening.length > 0) return (door) => listening.includes(door)
    // Until it is back, whoever is there stays.
    const [first] = candidates
    if (first) return (door) => door === first || (door.state === 'leaving' && door.listens)
  }
  return () => false
}
