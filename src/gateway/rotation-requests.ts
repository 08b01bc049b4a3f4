import type { Bus } from '../bus/bus.ts'
import { type AuditEntry, insertAudit } from '../db/audit.ts'
import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import { type AskedRobot, requestAgedRotations, requestSuspectedRotations } from '../db/robot-rotation.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { inTransaction } from '../db/transaction.ts'
import { newId } from '../ids.ts'
import type { Log } from '../observe/log.ts'
import type { Clock, Timer } from '../runtime.ts'
import { within } from './within.ts'

export interface RotationRequestsParts {
  readonly database: Database
  readonly bus: Pick<Bus, 'publish'>
  readonly clock: Clock
  readonly log: Log
  readonly server: { readonly id: string; readonly hostname: string }
}

type Reason = 'age' | 'suspicion'

/** All servers together ask this many robots in this time: a fleet of one age does not reconnect in one moment. */
export const AGED_PACE = { robots: 100, everyMs: 10_000 }

const STOP_WITHIN_MS = 2_000

/** Asks robots for new tokens without an operator: for the age of their tokens, and on the suspicion of a clone. */
export class RotationRequests {
  readonly #parts: RotationRequestsParts
  #timer: Timer | undefined
  #stopped = false
  readonly #working = new Set<Promise<void>>()

  constructor(parts: RotationRequestsParts) {
    this.#parts = parts
  }

  /** Begins to look for old tokens. */
  start(): void {
    this.#timer = this.#parts.clock.after(AGED_PACE.everyMs, () => {
      void this.#ask('age', (transaction) =>
        requestAgedRotations(transaction, AGED_PACE.robots, AGED_PACE.everyMs),
      ).then(() => {
        if (!this.#stopped) this.start()
      })
    })
  }

  /** Another machine said that it is one of these robots. Never rejects. */
  suspect(robotIds: readonly string[]): Promise<void> {
    const now = new Date(this.#parts.clock.now())
    return this.#ask('suspicion', (transaction) => requestSuspectedRotations(transaction, robotIds, now))
  }

  /** Waits for what is under way, but not for a database that does not answer. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    await within(this.#parts.clock, STOP_WITHIN_MS, Promise.all(this.#working))
  }

  /** Never rejects: robots that could not be asked now are asked another time. */
  async #ask(reason: Reason, request: (transaction: Database) => Promise<AskedRobot[]>): Promise<void> {
    const work = this.#tryToAsk(reason, request)
    this.#working.add(work)
    await work
    this.#working.delete(work)
  }

  async #tryToAsk(reason: Reason, request: (transaction: Database) => Promise<AskedRobot[]>): Promise<void> {
    const { database, bus, clock, log } = this.#parts
    try {
      const asked = await inTransaction(database, async (transaction) => {
        const robots = await request(transaction)
        if (robots.length === 0) return robots
        const now = new Date(clock.now())
        await insertTimeline(
          transaction,
          robots.map((robot) => timelineRow(robot, reason, now)),
        )
        await insertAudit(
          transaction,
          robots.map((robot) => this.#auditEntry(robot, reason, now)),
        )
        return robots
      })
      if (asked.length === 0) return
      log.info({ robots: asked.length, reason }, 'robots are asked for new tokens')
      await bus.publish({ type: 'robots_changed', robot_ids: asked.map((robot) => robot.id) })
    } catch (error) {
      log[isDatabaseUnavailable(error) ? 'warn' : 'error'](
        { err: error, reason },
        'robots could not be asked for new tokens',
      )
    }
  }

  #auditEntry(robot: AskedRobot, reason: Reason, now: Date): AuditEntry {
    const { server } = this.#parts
    return {
      id: newId(),
      at: now,
      action: 'robot.token_rotation_requested',
      outcome: 'ok',
      actor: { kind: 'server', id: server.id, name: server.hostname },
      target: { kind: 'robot', id: robot.id, name: robot.name },
      siteId: robot.siteId,
      fleetId: robot.fleetId,
      requestId: null,
      address: null,
      data: { reason },
    }
  }
}

const MESSAGES: Record<Reason, string> = {
  age: 'Asked for a new token: the one it has is old',
  suspicion: 'Asked for a new token: another machine says that it is this robot',
}

function timelineRow(robot: AskedRobot, reason: Reason, at: Date): TimelineRow {
  return {
    id: newId(),
    robotId: robot.id,
    source: 'server',
    eventId: null,
    at,
    level: reason === 'suspicion' ? 'warn' : 'info',
    code: 'token_rotation_requested',
    message: MESSAGES[reason],
    data: { reason },
  }
}
