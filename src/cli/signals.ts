import { type Clock, systemClock } from '../runtime.ts'

const SIGNALS: ReadonlySet<unknown> = new Set(['SIGINT', 'SIGTERM'])
const ECHO_MS = 250
const LOOK_MS = 250

/**
 * Lets a signal that comes again within a quarter of a second count once. npm passes on what the terminal has sent us already, and
 * `timeout`, like other supervisors, signals a process and then its whole group: that is an echo, and not a person who
 * insists. Answers whether any signal has come yet.
 */
export function joinEchoedSignals(clock: Clock = systemClock): () => boolean {
  let lastSignalAt: number | undefined
  const emit = process.emit as (...args: unknown[]) => boolean
  const emitOnce = (...args: unknown[]): boolean => {
    if (SIGNALS.has(args[0])) {
      const now = clock.monotonic()
      if (lastSignalAt !== undefined && now - lastSignalAt < ECHO_MS) return true
      lastSignalAt = now
    }
    return emit.apply(process, args)
  }
  process.emit = emitOnce as typeof process.emit
  return () => lastSignalAt !== undefined
}

/**
 * Below npm (`npx beacon …`, `npm run …`) a shell stands between that may die of a signal and leave us behind: its end
 * is our SIGTERM, unless that has come already.
 */
export function endWithNpm(isSignalled: () => boolean, clock: Clock = systemClock): void {
  if (!process.env.npm_lifecycle_event) return
  const parent = process.ppid
  const watch = clock.every(LOOK_MS, () => {
    if (process.ppid === parent) return
    watch.cancel()
    if (!isSignalled()) process.kill(process.pid, 'SIGTERM')
  })
}
