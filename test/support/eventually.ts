import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises'

const DEADLINE_MS = 15_000
/** Looks in a row before the pauses, so that what is a few turns away is seen at once. */
const EAGER_LOOKS = 200
/** Leaves the processor to the processes that are waited for. */
const PAUSE_MS = 5

/** Waits until `look` answers with something; fails when it does not in time. */
export async function eventually<Found>(
  look: () => Found | Promise<Found>,
  what = 'what was waited for',
): Promise<NonNullable<Found>> {
  const startedAt = performance.now()
  for (let looks = 1; ; looks += 1) {
    const found = await look()
    if (found) return found
    if (performance.now() - startedAt > DEADLINE_MS)
      throw new Error(`${what} did not come within ${DEADLINE_MS} ms`)
    await (looks < EAGER_LOOKS ? nextTurn() : pause(PAUSE_MS))
  }
}
