import type { Database } from '../db/database.ts'
import { type OpenedSession, openSessions, type SessionToOpen } from '../db/sessions.ts'
import { Grouping } from '../grouping.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock } from '../runtime.ts'

const MAX_GROUP = 500
const MAX_WAITING = 20_000

/** Opens sessions in the database, all that wait in one statement. */
export class SessionOpener {
  readonly #grouping: Grouping<SessionToOpen, OpenedSession | undefined>

  constructor(database: Database, serverId: string, clock: Clock, metrics: Metrics) {
    this.#grouping = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      run: async (sessions) => {
        const opened: (OpenedSession | undefined)[] = new Array(sessions.length)
        // A robot that asks twice in one group gets two sessions, one after the other, as if it had asked later.
        for (let round = sessions.map((_, index) => index); round.length > 0; ) {
          const firstOf = new Map<string, number>()
          for (const index of round)
            if (!firstOf.has(sessions[index]!.robotId)) firstOf.set(sessions[index]!.robotId, index)
          const startedAt = clock.monotonic()
          const rows = await openSessions(
            database,
            serverId,
            new Date(clock.now()),
            [...firstOf.values()].map((index) => sessions[index]!),
          )
          metrics.databaseSeconds.observe(
            { operation: 'open_sessions' },
            (clock.monotonic() - startedAt) / 1000,
          )
          for (const row of rows) opened[firstOf.get(row.robotId)!] = row
          round = round.filter((index) => firstOf.get(sessions[index]!.robotId) !== index)
        }
        return opened
      },
    })
  }

  get waiting(): number {
    return this.#grouping.waiting
  }

  /** Answers with the opened session, or undefined when the robot's token no longer stands. */
  open(session: SessionToOpen): Promise<OpenedSession | undefined> {
    return this.#grouping.add(session)
  }
}
