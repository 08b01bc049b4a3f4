import { insertAudit } from '../db/audit.ts'
import { type Database, violatedUnique } from '../db/database.ts'
import { type OpenedSession, openSessions, type SessionToOpen } from '../db/sessions.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { inTransaction } from '../db/transaction.ts'
import { Grouping } from '../grouping.ts'
import { newId } from '../ids.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock } from '../runtime.ts'
import { ownDeed } from './own-deeds.ts'
import { inRounds } from './rounds.ts'

const MAX_GROUP = 500
const MAX_WAITING = 20_000

export interface AskedSession extends SessionToOpen {
  /** It came with the robot's next token. */
  readonly withNextToken: boolean
  readonly address: string
}

/**
 * Opens sessions in the database, all that wait in one statement. Those that come with a next token are grouped apart: they
 * end the token before, which is written into the audit log, and for that servers wait for each other.
 */
export class SessionOpener {
  readonly #plain: Grouping<AskedSession, OpenedSession | undefined>
  readonly #rotating: Grouping<AskedSession, OpenedSession | undefined>
  readonly #database: Database
  readonly #serverId: string
  readonly #clock: Clock
  readonly #metrics: Metrics

  constructor(database: Database, serverId: string, clock: Clock, metrics: Metrics) {
    this.#database = database
    this.#serverId = serverId
    this.#clock = clock
    this.#metrics = metrics
    this.#plain = this.#groupingOf((round) => this.#open(this.#database, round))
    this.#rotating = this.#groupingOf((round) =>
      this.#openRotating(round).catch((error: unknown) => {
        // A next token became another robot's token in this very moment. From now on it is seen as such.
        if (violatedUnique(error) === undefined) throw error
        return this.#openRotating(round)
      }),
    )
  }

  get waiting(): number {
    return this.#plain.waiting + this.#rotating.waiting
  }

  /** Answers with the opened session, or undefined when the robot's token no longer stands. */
  open(session: AskedSession): Promise<OpenedSession | undefined> {
    return (session.withNextToken ? this.#rotating : this.#plain).add(session)
  }

  #groupingOf(
    open: (round: readonly AskedSession[]) => Promise<readonly OpenedSession[]>,
  ): Grouping<AskedSession, OpenedSession | undefined> {
    const openRound = async (round: readonly AskedSession[]) => {
      const startedAt = this.#clock.monotonic()
      const rows = await open(round)
      const seconds = (this.#clock.monotonic() - startedAt) / 1000
      this.#metrics.databaseSeconds.observe({ operation: 'open_sessions' }, seconds)
      const opened = new Map(rows.map((row) => [row.robotId, row]))
      return round.map((session) => opened.get(session.robotId))
    }
    return new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      // A robot that asks twice in one group gets two sessions, one after the other, as if it had asked later.
      run: (sessions) => inRounds(sessions, (session) => session.robotId, openRound),
    })
  }

  #open(database: Database, round: readonly AskedSession[]): Promise<OpenedSession[]> {
    return openSessions(database, this.#serverId, new Date(this.#clock.now()), round)
  }

  #openRotating(round: readonly AskedSession[]): Promise<OpenedSession[]> {
    return inTransaction(this.#database, async (transaction) => {
      const rows = await this.#open(transaction, round)
      const rotated = rows.filter((row) => row.rotated)
      if (rotated.length === 0) return rows
      const now = new Date(this.#clock.now())
      await insertTimeline(
        transaction,
        rotated.map((row) => timelineRow(row, now)),
      )
      const addresses = new Map(round.map((session) => [session.robotId, session.address]))
      await insertAudit(
        transaction,
        rotated.map((row) => {
          const from = { address: addresses.get(row.robotId) ?? null, at: now }
          return ownDeed(row, 'robot.token_rotated', from, requestOf(row))
        }),
      )
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
