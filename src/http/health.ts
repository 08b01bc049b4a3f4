import type { Database } from '../db/database.ts'
import { DATABASE_PATIENCE_MS, ping } from '../db/ping.ts'
import type { Clock } from '../runtime.ts'

/** Whether this server should be sent requests. */
export interface Health {
  ready(): Promise<{ readonly ready: boolean; readonly reasons: readonly string[] }>
  /** True while the server sends its robots away, to stop. */
  readonly draining: boolean
}

interface HealthParts {
  readonly database: Database
  readonly clock: Pick<Clock, 'after'>
  readonly draining: () => boolean
  /** Whether anybody takes robots where they are told to connect. */
  readonly takesRobots: () => boolean
}

/** Ready while the database answers, robots are taken, and the server does not drain. Questions that come together ask once. */
export function createHealth(parts: HealthParts): Health {
  let asking: Promise<boolean> | undefined
  const answers = () => {
    asking ??= ping(parts.database)
      .then(
        () => true,
        () => false,
      )
      .finally(() => {
        asking = undefined
      })
    return asking
  }
  const answersInTime = () =>
    new Promise<boolean>((resolve) => {
      const timer = parts.clock.after(DATABASE_PATIENCE_MS, () => resolve(false))
      void answers().then((answered) => {
        timer.cancel()
        resolve(answered)
      })
    })
  return {
    get draining() {
      return parts.draining()
    },
    async ready() {
      const reasons: string[] = []
      if (parts.draining()) reasons.push('draining')
      if (!parts.takesRobots()) reasons.push('no_gateway_process')
      if (!(await answersInTime())) reasons.push('database_unavailable')
      return { ready: reasons.length === 0, reasons }
    },
  }
}
