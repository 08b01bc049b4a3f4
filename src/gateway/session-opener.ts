import { type AuditEntry, insertAudit } from '../db/audit.ts'
import { type Database, violatedUnique } from '../db/database.ts'
import { type OpenedSession, openSessions, type SessionToOpen } from '../db/sessions.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { inTransaction } from '../db/transaction.ts'
import { Grouping } from '../grouping.ts'
import { newId } from '../ids.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock } from '../runtime.ts'
import { inRounds } from './rounds.ts'

const MAX_GROUP = 500
const MAX_WAITING = 20_000

export interface AskedSession extends SessionToOpen {
  /** It came with the robot's next token. */
  readonly withNextToken: boolean
  readonly address: string
}

/** Opens sessions in the database, all that wait in one statement. */
export class SessionOpener {
  readonly #grouping: Grouping<AskedSession, OpenedSession | undefined>
  readonly #database: Database
  readonly #serverId: string
  readonly #clock: Clock
  readonly #metrics: Metrics

  constructor(database: Database, serverId: string, clock: Clock, metrics: Metrics) {
    this.#database = database
    this.#serverId = serverId
    this.#clock = clock
    this.#metrics = metrics
    this.#grouping = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      // A robot that asks twice in one group gets two sessions, one after the other, as if it had asked later.
      run: (sessions) =>
        inRounds(
          sessions,
          (session) => session.robotId,
          (round) => this.#openRound(round),
        ),
    })
  }

  get waiting(): number {
    return this.#grouping.waiting
  }

  /** Answers with the opened session, or undefined when the robot's token no longer stands. */
  open(session: AskedSession): Promise<OpenedSession | undefined> {
    return this.#grouping.add(session)
  }

  async #openRound(sessions: readonly AskedSession[]): Promise<(OpenedSession | undefined)[]> {
    const startedAt = this.#clock.monotonic()
    const rows = await this.#openOnce(sessions).catch((error: unknown) => {
      // A next token became another robot's token in this very moment. From now on it is seen as such.
      if (violatedUnique(error) === undefined) throw error
      return this.#openOnce(sessions)
    })
    this.#metrics.databaseSeconds.observe(
      { operation: 'open_sessions' },
      (this.#clock.monotonic() - startedAt) / 1000,
    )
    const opened = new Map(rows.map((row) => [row.robotId, row]))
    return sessions.map((session) => opened.get(session.robotId))
  }

  /** A token can be taken the place of only by a session that came with the next one: the others need no transaction. */
  async #openOnce(sessions: readonly AskedSession[]): Promise<OpenedSession[]> {
    const now = new Date(this.#clock.now())
    const open = (database: Database) => openSessions(database, this.#serverId, now, sessions)
    if (!sessions.some((session) => session.withNextToken)) return open(this.#database)
    return inTransaction(this.#database, async (transaction) => {
      const rows = await open(transaction)
      const rotated = rows.filter((row) => row.rotated)
      if (rotated.length > 0) {
        await insertTimeline(
          transaction,
          rotated.map((row) => timelineRow(row, now)),
        )
        const addresses = new Map(sessions.map((session) => [session.robotId, session.address]))
        await insertAudit(
          transaction,
          rotated.map((row) => auditEntry(row, addresses.get(row.robotId) ?? null, now)),
        )
      }
      return rows
    })
  }
}

function requestOf(row: OpenedSession): Record<string, unknown> {
  return {
    reason: row.rotationReason,
    requested_at: row.rotationRequestedAt?.toISOString() ?? null,
    session_no: row.sessionNo,
  }
}

function timelineRow(row: OpenedSession, now: Date): TimelineRow {
  return {
    id: newId(),
    robotId: row.robotId,
    source: 'server',
    eventId: null,
    at: now,
    level: 'info',
    code: 'token_rotated',
    message: 'Came with the token that it made for itself; the one before is void',
    data: requestOf(row),
  }
}

function auditEntry(row: OpenedSession, address: string | null, now: Date): AuditEntry {
  return {
    id: newId(),
    at: now,
    action: 'robot.token_rotated',
    outcome: 'ok',
    actor: { kind: 'robot', id: row.robotId, name: row.name },
    target: { kind: 'robot', id: row.robotId, name: row.name },
    siteId: row.siteId,
    fleetId: row.fleetId,
    requestId: null,
    address,
    data: requestOf(row),
  }
}
