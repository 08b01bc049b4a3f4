import type { Random } from '../runtime.ts'

/** Whole seconds after which to try again, from `from` to `to`, different for everybody. */
export function spreadSeconds(random: Random, from: number, to: number): number {
  return from + Math.floor(random.fraction() * (to - from + 1))
}
