import { type Clock, systemClock } from '../runtime.ts'

const SIGNALS: ReadonlySet<unknown> = new Set(['SIGINT', 'SIGTERM'])
const REPEAT_MS = 1_000
const LOOK_MS = 250

/**
 * Makes signals mean the same below npm (`npx beacon …`, `npm run …`) as without it. npm passes a signal on that the
 * terminal or the process group has sent us already: one that comes again within a second is that echo, and not a
 * person who insists. And a shell that npm put between may die of a signal and leave us behind: its end is our SIGTERM.
 */
export function followNpm(clock: Clock = systemClock): void {
  if (!process.env.npm_lifecycle_event) return
  let lastSignalAt: number | undefined

  const emit = process.emit as (...args: unknown[]) => boolean
  const emitOnce = (...args: unknown[]): boolean => {
    if (SIGNALS.has(args[0])) {
      const now = clock.monotonic()
      if (lastSignalAt !== undefined && now - lastSignalAt < REPEAT_MS) return true
      lastSignalAt = now
    }
    return emit.apply(process, args)
  }
  process.emit = emitOnce as typeof process.emit

  const parent = process.ppid
  const watch = clock.every(LOOK_MS, () => {
    if (process.ppid === parent) return
    watch.cancel()
    if (lastSignalAt === undefined) process.kill(process.pid, 'SIGTERM')
  })
}
