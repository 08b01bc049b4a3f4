import { insertAudit } from '../db/audit.ts'
import { type Database, isRetryable, violatedUnique } from '../db/database.ts'
import { type NextToken, type StoredNextToken, storeNextTokens } from '../db/robot-rotation.ts'
import { inTransaction } from '../db/transaction.ts'
import { Grouping } from '../grouping.ts'
import { ownDeed } from './own-deeds.ts'
import { type PersistParts, untilStored } from './persist.ts'
import { inRounds } from './rounds.ts'

const MAX_GROUP = 500
const MAX_WAITING = 10_000
/** A robot needs one next token, and one more when it lost that. What comes faster is not a robot's need. */
const PACE = { betweenNextMs: 10_000, unaskedMs: 60_000 }

export interface NamedToken extends NextToken {
  readonly address: string
}

/** Writes robots' next tokens beside the ones that stand, all that wait in one statement. */
export class NextTokenWriter {
  readonly #grouping: Grouping<NamedToken, StoredNextToken | undefined>

  constructor(database: Database, persist: PersistParts) {
    this.#grouping = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      run: (tokens) =>
        inRounds(
          tokens,
          (token) => token.robotId,
          (round) => writeRound(database, persist, round),
        ),
    })
  }

  get waiting(): number {
    return this.#grouping.waiting
  }

  /** Answers with what became of it, once that is certain; undefined when the robot is gone. */
  write(token: NamedToken): Promise<StoredNextToken | undefined> {
    return this.#grouping.add(token)
  }

  idle(): Promise<void> {
    return this.#grouping.idle()
  }
}

async function writeRound(
  database: Database,
  persist: PersistParts,
  round: readonly NamedToken[],
): Promise<(StoredNextToken | undefined)[]> {
  // Another robot named the same token in this very moment: asked again, it is seen to be taken.
  const again = (error: unknown) => violatedUnique(error) !== undefined || isRetryable(error)
  const store = () => writeOnce(database, new Date(persist.clock.now()), round)
  const rows = await untilStored(persist, 'store_next_tokens', () =>
    store().catch((error: unknown) => (again(error) ? store() : Promise.reject(error))),
  )
  const stored = new Map(rows.map((row) => [row.robotId, row]))
  return round.map((token) => stored.get(token.robotId))
}

function writeOnce(
  database: Database,
  now: Date,
  round: readonly NamedToken[],
): Promise<readonly StoredNextToken[]> {
  return inTransaction(database, async (transaction) => {
    const rows = await storeNextTokens(transaction, now, PACE, round)
    const addresses = new Map(round.map((token) => [token.robotId, token.address]))
    await insertAudit(
      transaction,
      rows
        .filter((row) => row.outcome === 'stored')
        .map((row) =>
          ownDeed(row, 'robot.next_token_stored', { address: addresses.get(row.robotId) ?? null, at: now }),
        ),
    )
    return rows
  })
}
