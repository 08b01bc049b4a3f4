import type { Weather } from './robot-relay.ts'

export interface Phase {
  readonly weather: Weather
  readonly ms: number
}

const [SHORTEST_MS, LONGEST_MS] = [5_000, 60_000]
const FAULTS = ['refused', 'stalled', 'lost'] as const

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** A network that comes and goes: fair and foul in turn, each for 5 to 60 s, for that long in all. */
export function flapping(totalMs: number, fraction: () => number): Phase[] {
  const phases: Phase[] = []
  for (let left = totalMs; left > 0; ) {
    const lasting = SHORTEST_MS + fraction() * (LONGEST_MS - SHORTEST_MS)
    const foul = FAULTS[Math.floor(fraction() * FAULTS.length)]!
    const phase = { weather: phases.length % 2 === 0 ? 'fair' : foul, ms: Math.min(lasting, left) } as const
    phases.push(phase)
    left -= phase.ms
  }
  return phases
}
