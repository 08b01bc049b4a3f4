import { insertAudit } from '../db/audit.ts'
import { type Database, violatedUnique } from '../db/database.ts'
import { type ClonePolicy, type OpenedSession, openSessions, type SessionToOpen } from '../db/sessions.ts'
import { insertTimeline, type TimelineRow } from '../db/timeline.ts'
import { againAfterDeadlock, inTransaction } from '../db/transaction.ts'
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
  readonly #policy: ClonePolicy

  constructor(database: Database, serverId: string, policy: ClonePolicy, clock: Clock, metrics: Metrics) {
    this.#database = database
    this.#serverId = serverId
    this.#policy = policy
    this.#clock = clock
    this.#metrics = metrics
    this.#plain = this.#groupingOf((round) => againAfterDeadlock(() => this.#open(this.#database, round)))
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

  /** Answers with the session, opened or in quarantine, or undefined when the robot's token no longer stands. */
  open(session: AskedSession): Promise<OpenedSession | undefined> {
    return (session.withNextToken ? this.#rotating : this.#plain).add(session)
  }

  /** Resolves once none is being opened. */
  async idle(): Promise<void> {
    await Promise.all([this.#plain.idle(), this.#rotating.idle()])
  }

  #groupingOf(
    open: (round: readonly AskedSession[]) => Promise<(OpenedSession | undefined)[]>,
  ): Grouping<AskedSession, OpenedSession | undefined> {
    const openRound = async (round: readonly AskedSession[]) => {
      const startedAt = this.#clock.monotonic()
      const opened = await open(round)
      const seconds = (this.#clock.monotonic() - startedAt) / 1000
      this.#metrics.databaseSeconds.observe({ operation: 'open_sessions' }, seconds)
      return opened
    }
    return new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      // A robot that asks twice in one group gets two sessions, one after the other, as if it had asked later.
      run: (sessions) => inRounds(sessions, (session) => session.robotId, openRound),
    })
  }

  #open(database: Database, round: readonly AskedSession[]): Promise<(OpenedSession | undefined)[]> {
    return openSessions(database, this.#serverId, new Date(this.#clock.now()), round, this.#policy)
  }

  #openRotating(round: readonly AskedSession[]): Promise<(OpenedSession | undefined)[]> {
    return inTransaction(this.#database, async (transaction) => {
      const opened = await this.#open(transaction, round)
      const rotated = round.flatMap(({ robotId, address }, place) => {
        const row = opened[place]
        return row?.rotated ? [{ ...row, robotId, address }] : []
      })
      if (rotated.length === 0) return opened
      const now = new Date(this.#clock.now())
      await insertTimeline(
        transaction,
        rotated.map((row) => timelineRow(row, now)),
      )
      await insertAudit(
        transaction,
        rotated.map((row) => {
          const from = { address: row.address, at: now }
          return ownDeed(row, 'robot.token_rotated', from, requestOf(row))
        }),
      )
      return opened
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

function timelineRow(row: OpenedSession & { readonly robotId: string }, now: Date): TimelineRow {
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
