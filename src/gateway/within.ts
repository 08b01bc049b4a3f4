import type { Clock, Timer } from '../runtime.ts'

/** Waits for work, but not for longer; what becomes of it later is ignored. */
export async function within(clock: Pick<Clock, 'after'>, ms: number, work: Promise<unknown>): Promise<void> {
  let timer: Timer | undefined
  const tooLong = new Promise<void>((resolve) => {
    timer = clock.after(ms, resolve)
  })
  try {
    await Promise.race([work, tooLong])
  } finally {
    timer?.cancel()
  }
}
