import { type AuditEntry, insertAudit } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { inTransaction } from '../db/transaction.ts'
import { newId } from '../ids.ts'
import type { Log } from '../observe/log.ts'
import type { Clock, Timer } from '../runtime.ts'
import { type DecidedRobot, decidePending, PENDING_FOR_MS } from './approvals.ts'

export interface PendingExpiryOptions {
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
  /** Tells all servers of robots whose sessions have to end. */
  readonly bus: {
    publish(message: { readonly type: 'robots_denied'; readonly robot_ids: readonly string[] }): Promise<void>
  }
}

const INTERVAL_MS = 60_000
/** Robots that one transaction denies, and one message tells of. */
const BATCH = 100
/** What is left after so many batches waits for the next pass. */
const MAX_BATCHES = 100

/** Denies robots that nobody approved in time, once at the start and then every minute. */
export function startPendingExpiry(options: PendingExpiryOptions): { stop(): Promise<void> } {
  const { clock, log } = options
  let timer: Timer | undefined
  let stopped = false
  const untold = new Set<string>()
  const begin = () => {
    running = pass()
  }
  const pass = async () => {
    try {
      await tell(options, untold)
      for (let batch = 0; batch < MAX_BATCHES && !stopped; batch++)
        if (!(await expireSome(options, untold))) break
    } catch (error) {
      log.error({ err: error }, 'cannot deny robots that waited too long; it is tried again')
    }
    if (!stopped) timer = clock.after(INTERVAL_MS, begin)
  }
  let running = pass()
  return {
    async stop() {
      stopped = true
      timer?.cancel()
      await running
    },
  }
}

/** True when there are more. */
async function expireSome(options: PendingExpiryOptions, untold: Set<string>): Promise<boolean> {
  const { database, clock, log } = options
  const filter = { reach: 'everything', waitedForMs: PENDING_FOR_MS } as const
  const { robots, more } = await inTransaction(database, async (transaction) => {
    const decided = await decidePending(transaction, 'deny', filter, BATCH)
    const at = new Date(clock.now())
    await insertTimeline(
      transaction,
      decided.robots.map((robot) => timelineRow(robot, at)),
    )
    await insertAudit(
      transaction,
      decided.robots.map((robot) => auditEntry(robot, at)),
    )
    return decided
  })
  if (robots.length > 0) {
    log.info({ robots: robots.length }, 'robots that nobody approved in time were denied')
    for (const { id } of robots) untold.add(id)
    await tell(options, untold)
  }
  return more
}

/** Tells of robots that are denied already. Those that nobody could be told of stay for the next pass: none finds them. */
async function tell({ bus }: PendingExpiryOptions, untold: Set<string>): Promise<void> {
  if (untold.size === 0) return
  await bus.publish({ type: 'robots_denied', robot_ids: [...untold] })
  untold.clear()
}

/** Of a robot that was removed nothing is kept. */
function timelineRow(robot: DecidedRobot, at: Date): TimelineRow {
  return {
    id: newId(),
    robotId: robot.id,
    source: 'server',
    eventId: null,
    at,
    level: 'warn',
    code: 'denied',
    message: 'Nobody approved it within 72 hours: its new token stands no more',
    data: { reason: 'expired' },
  }
}

function auditEntry(robot: DecidedRobot, at: Date): AuditEntry {
  return {
    id: newId(),
    at,
    action: 'robot.denied',
    outcome: 'ok',
    actor: { kind: 'server', id: null, name: 'approval expiry' },
    target: { kind: 'robot', id: robot.id, name: robot.name },
    siteId: robot.site_id,
    fleetId: robot.fleet_id,
    requestId: null,
    address: null,
    data: { reason: 'expired', outcome: robot.outcome, credential_id: robot.credential_id },
  }
}
