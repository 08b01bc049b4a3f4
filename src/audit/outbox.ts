import { type AuditEntry, insertAudit } from '../db/audit.ts'
import { type Database, sqlState } from '../db/database.ts'
import type { Log } from '../observe/log.ts'

const MAX_WAITING = 10_000
const MAX_BATCH = 500
/** What PostgreSQL says of a line that it will not take however often it is asked: data exception, constraint. */
const UNFIT = /^2[23]/

/** Lines on their way into the log. Bounded; what cannot be written is kept until it can. */
export class Outbox {
  readonly #database: Database
  readonly #log: Log
  readonly #waiting: AuditEntry[] = []
  #missed = 0
  #failing = false

  constructor(database: Database, log: Log) {
    this.#database = database
    this.#log = log
  }

  get isEmpty(): boolean {
    return this.#waiting.length === 0
  }

  get waiting(): number {
    return this.#waiting.length
  }

  add(entry: AuditEntry): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(entry)
    else this.#missed += 1
  }

  /** Lines that did not fit since the last time this was asked. */
  takeMissed(): number {
    const missed = this.#missed
    this.#missed = 0
    return missed
  }

  /** Writes all that waits; answers whether it could. Not to be called again before it is done. */
  async write(): Promise<boolean> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting.slice(0, MAX_BATCH)
      try {
        await this.#insert(batch)
      } catch (err) {
        if (!this.#failing) this.#log.warn({ err }, 'the audit log cannot be written; it is tried again')
        this.#failing = true
        return false
      }
      // Those that came meanwhile stand behind.
      this.#waiting.splice(0, batch.length)
      if (this.#failing) this.#log.info('the audit log can be written again')
      this.#failing = false
    }
    return true
  }

  /** One line that the database will not take must not keep the others out. */
  async #insert(batch: readonly AuditEntry[]): Promise<void> {
    try {
      await insertAudit(this.#database, batch)
    } catch (err) {
      if (!UNFIT.test(sqlState(err) ?? '')) throw err
      if (batch.length === 1) {
        this.#missed += 1
        this.#log.error({ err, action: batch[0]?.action }, 'a line does not fit into the audit log')
        return
      }
      for (const entry of batch) await this.#insert([entry])
    }
  }
}
