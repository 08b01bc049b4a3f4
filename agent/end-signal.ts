import { EXIT } from './exit.ts'
import type { Log } from './log.ts'

/** Aborts at the first SIGTERM or SIGINT; the second one ends the process where it stands. */
export function endSignal(log: Log): { signal: AbortSignal; release(): void } {
  const ending = new AbortController()
  const names = ['SIGTERM', 'SIGINT'] as const
  const onSignal = (name: NodeJS.Signals) => {
    if (ending.signal.aborted) process.exit(EXIT.error)
    log.info(`${name}: stopping`)
    ending.abort()
  }
  for (const name of names) process.on(name, onSignal)
  return {
    signal: ending.signal,
    release: () => {
      for (const name of names) process.removeListener(name, onSignal)
    },
  }
}
