import { canonicalAddress } from '../addresses.ts'
import type { AuditEntry } from '../db/audit.ts'
import { type LastUse, writeLastUses } from '../db/audit-uses.ts'
import type { Database } from '../db/database.ts'
import { newId } from '../ids.ts'
import type { Log } from '../observe/log.ts'
import type { Clock } from '../runtime.ts'
import type { Audit, TokenUse } from './audit.ts'
import { Outbox } from './outbox.ts'
import { Refusals } from './refusals.ts'
import { Uses } from './uses.ts'

export interface AuditDeskOptions {
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
}

const WRITE_EVERY_MS = 1_000
const LAST_USES_EVERY_MS = 5_000
const MAX_LAST_USES = 20_000
/** At stop, with the database away: as long as a restart of it takes, and no longer than a supervisor waits. */
const STOP_ATTEMPTS = 5
const STOP_PAUSE_MS = 1_000

/** Gathers uses and refusals and writes them, once a second those that are due. */
export function createAudit(options: AuditDeskOptions): Audit {
  const desk = new AuditDesk(options)
  return {
    refused: (entry) => desk.refused(entry),
    used: (use) => desk.used(use),
    stop: () => desk.stop(),
  }
}

class AuditDesk {
  readonly #options: AuditDeskOptions
  readonly #uses = new Uses()
  readonly #refusals = new Refusals()
  readonly #outbox: Outbox
  /** The latest use of each token that its record does not tell yet. */
  #lastUses = new Map<string, LastUse>()
  #writing: Promise<boolean> | undefined
  #touching: Promise<boolean> | undefined
  readonly #timers

  constructor(options: AuditDeskOptions) {
    this.#options = options
    this.#outbox = new Outbox(options.database, options.log)
    this.#timers = [
      options.clock.every(WRITE_EVERY_MS, () => this.#write(options.clock.now())),
      options.clock.every(LAST_USES_EVERY_MS, () => this.#touch()),
    ]
  }

  refused(entry: AuditEntry): void {
    const first = this.#refusals.add(entry)
    if (first) this.#outbox.add(first)
  }

  used(use: TokenUse): void {
    this.#uses.add(use)
    const { actor, address, at } = use
    if (actor.id !== null && (actor.kind === 'personal_token' || actor.kind === 'fleet_token'))
      this.#keepLastUse({ id: actor.id, at: new Date(at), address: canonicalAddress(address) ?? null })
  }

  async stop(): Promise<void> {
    const { clock, log } = this.#options
    for (const timer of this.#timers) timer.cancel()
    await Promise.all([this.#writing, this.#touching])
    for (let attempt = 1; !(await this.#writeAll()); attempt++) {
      if (attempt === STOP_ATTEMPTS) {
        log.error({ lines: this.#outbox.waiting }, 'the last lines of the audit log could not be written')
        return
      }
      await clock.sleep(STOP_PAUSE_MS)
    }
  }

  /** Writes everything, minutes that are not over included; answers whether it could. */
  async #writeAll(): Promise<boolean> {
    const [written, touched] = await Promise.all([this.#write(Number.POSITIVE_INFINITY), this.#touch()])
    if (!written || !touched) return false
    this.#tellMissed()
    return this.#outbox.write()
  }

  /** Writes what is due at `now`: first refusals, and the sums of the minutes that are over. */
  #write(now: number): Promise<boolean> {
    for (const entry of this.#refusals.takeEnded(now)) this.#outbox.add(entry)
    for (const entry of this.#uses.takeEnded(now)) this.#outbox.add(entry)
    this.#tellMissed()
    this.#writing ??= this.#outbox.write().finally(() => {
      this.#writing = undefined
    })
    return this.#writing
  }

  /** What did not fit is said as soon as there is room to say it. */
  #tellMissed(): void {
    if (!this.#outbox.isEmpty) return
    const missed = {
      refusals: this.#refusals.takeMissed(),
      uses: this.#uses.takeMissed(),
      lines: this.#outbox.takeMissed(),
    }
    if (missed.refusals + missed.uses + missed.lines === 0) return
    this.#outbox.add({
      id: newId(),
      at: new Date(this.#options.clock.now()),
      action: 'audit.overflowed',
      outcome: 'ok',
      actor: { kind: 'server', id: null, name: null },
      target: null,
      siteId: null,
      fleetId: null,
      requestId: null,
      address: null,
      data: missed,
    })
  }

  #keepLastUse(use: LastUse): void {
    const known = this.#lastUses.get(use.id)
    if (known ? known.at > use.at : this.#lastUses.size >= MAX_LAST_USES) return
    this.#lastUses.set(use.id, use)
  }

  #touch(): Promise<boolean> {
    this.#touching ??= this.#writeLastUses().finally(() => {
      this.#touching = undefined
    })
    return this.#touching
  }

  async #writeLastUses(): Promise<boolean> {
    const uses = [...this.#lastUses.values()]
    if (uses.length === 0) return true
    this.#lastUses = new Map()
    try {
      await writeLastUses(this.#options.database, uses)
      return true
    } catch (err) {
      this.#options.log.warn({ err }, 'when tokens were last used cannot be written; it is tried again')
      for (const use of uses) this.#keepLastUse(use)
      return false
    }
  }
}
