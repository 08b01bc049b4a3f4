/** Ctrl-C, or the like. */
export class Interrupted extends Error {}

/** The work that is going on, each inside the one before it. */
const going: ((reason: Interrupted) => void)[] = []
let interrupted: Interrupted | undefined

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    if (interrupted) return
    interrupted = new Interrupted(`ended by ${signal}`)
    going.at(-1)?.(interrupted)
  })

export function isInterrupted(): boolean {
  return interrupted !== undefined
}

/**
 * Fails when a signal comes, so that whoever started something comes to its `finally`. The innermost work fails first,
 * and those around it after that has cleaned up.
 */
export function unlessInterrupted<Result>(work: () => Promise<Result>): Promise<Result> {
  if (interrupted) return Promise.reject(interrupted)
  return new Promise((resolve, reject) => {
    going.push(reject)
    work()
      .finally(() => going.splice(going.indexOf(reject), 1))
      .then(resolve, reject)
  })
}
