import { setImmediate as nextTurn } from 'node:timers/promises'

const DEADLINE_MS = 15_000

/** Waits, turn by turn of the event loop, until `look` answers with something; fails when it does not in time. */
export async function eventually<Found>(
  look: () => Found | Promise<Found>,
  what = 'what was waited for',
): Promise<NonNullable<Found>> {
  const startedAt = performance.now()
  for (;;) {
    const found = await look()
    if (found) return found
    if (performance.now() - startedAt > DEADLINE_MS)
      throw new Error(`${what} did not come within ${DEADLINE_MS} ms`)
    await nextTurn()
  }
}
