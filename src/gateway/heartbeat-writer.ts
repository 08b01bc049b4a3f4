import { type Database, isBadData } from '../db/database.ts'
import { closedThrough } from '../db/heartbeat-packing.ts'
import { findStored } from '../db/heartbeat-packs.ts'
import {
  type HeartbeatRow,
  lockHeartbeats,
  writeHeartbeats,
  writeLatestHeartbeats,
} from '../db/heartbeat-writes.ts'
import { inTransaction } from '../db/transaction.ts'
import type { Timer } from '../runtime.ts'
import { type PersistParts, untilStored } from './persist.ts'

/** Whoever sent a heartbeat: told what became of it. */
export interface HeartbeatSender {
  /** The writer's own note: the last group that one of its heartbeats was in. Begins at 0. */
  heartbeatGroup: number
  /** Every heartbeat that this sender handed in up to `seq` is in the database. */
  heartbeatsStored(seq: number): void
  heartbeatRejected(seq: number): void
  /** A newer session of the robot exists: nothing of this one is stored any more. */
  fenced(): void
}

/** A heartbeat, and whom to tell of it. Of one session there is one sender. */
export interface PendingHeartbeat extends HeartbeatRow {
  readonly sender: HeartbeatSender
}
type Group = readonly PendingHeartbeat[]

interface Outcome {
  /** Those that are in the database. */
  readonly stored: readonly HeartbeatRow[]
  /** No sender has more than one in the group. */
  readonly one: boolean
}

const MAX_GROUP = 1_000
/** What waits for the database at the most; beyond it the senders are asked to pause. */
const MAX_WAITING = 50_000
const MAX_WAITING_BYTES = 64 * 1024 * 1024
/**
 * How long the first heartbeat of a group waits for company, whether the one before is still being written or not: a
 * statement costs as much as dozens of heartbeats do, and without this, the quicker the database, the more of them.
 */
const LINGER_MS = 5
const LONGEST_LINGER_MS = 50

/**
 * The same, in milliseconds, for one of so many gateway processes: where they share processors, the statements of each
 * keep the others waiting, so that fewer of them are answered sooner than many.
 */
export function lingerFor(processes: number, processors: number): number {
  return Math.min(Math.max(LINGER_MS, Math.ceil((LINGER_MS * processes) / processors)), LONGEST_LINGER_MS)
}

/**
 * Writes heartbeats to the database, all that wait together and one group at a time, so that they are stored in the
 * order in which they came. Never drops one: while it is full, `full` is true and senders have to stop reading.
 */
export class HeartbeatWriter {
  readonly #database: Database
  readonly #parts: PersistParts
  readonly #onDrained: () => void
  readonly #lingerMs: number
  #waiting: PendingHeartbeat[] = []
  #waitingBytes = 0
  #working = false
  /** Runs while heartbeats wait that are not due. */
  #linger: Timer | undefined
  /** The first of those that wait has waited for company long enough. */
  #due = false
  #wasFull = false
  /** Milliseconds since 1970: what comes before is closed, as was last seen. Past, unless our clock is behind by hours. */
  #openFrom = 0
  /** Heartbeats handed in and heartbeats settled, ever: what `flush` waits by. */
  #added = 0
  #groups = 0
  #settled = 0
  #flushes: { readonly settled: number; readonly resolve: () => void }[] = []

  constructor(database: Database, parts: PersistParts, onDrained: () => void, lingerMs = LINGER_MS) {
    this.#database = database
    this.#parts = parts
    this.#onDrained = onDrained
    this.#lingerMs = lingerMs
  }

  get waiting(): number {
    return this.#waiting.length
  }

  get full(): boolean {
    const full = this.#waiting.length >= MAX_WAITING || this.#waitingBytes >= MAX_WAITING_BYTES
    if (full) this.#wasFull = true
    return full
  }

  add(row: PendingHeartbeat): void {
    this.#waiting.push(row)
    this.#waitingBytes += row.body.length
    this.#added += 1
    if (this.#waiting.length >= MAX_GROUP) this.#start()
    else if (!this.#due) this.#linger ??= this.#parts.clock.after(this.#lingerMs, () => this.#start())
  }

  /** Resolves once every heartbeat handed in so far is stored, or given up. */
  async flush(): Promise<void> {
    if (this.#settled === this.#added) return
    const stored = new Promise<void>((resolve) => this.#flushes.push({ settled: this.#added, resolve }))
    this.#start()
    await stored
  }

  #start(): void {
    this.#linger?.cancel()
    this.#linger = undefined
    this.#due = true
    if (this.#working) return
    this.#working = true
    void this.#work()
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0 && (this.#due || this.#flushes.length > 0)) {
      const group = this.#take()
      try {
        await this.#store(group)
      } catch (error) {
        // Only when the process gives up: what is not stored is not acknowledged, and its robot still has it.
        this.#parts.log.warn({ err: error, heartbeats: group.length }, 'gave up storing heartbeats')
      }
      this.#settle(group)
    }
    // Nothing waits, or what waits has its linger.
    this.#due = false
    this.#working = false
  }

  #take(): Group {
    // What is left has waited as long.
    if (this.#waiting.length > MAX_GROUP) return this.#waiting.splice(0, MAX_GROUP)
    this.#linger?.cancel()
    this.#linger = undefined
    this.#due = false
    const group = this.#waiting
    this.#waiting = []
    return group
  }

  #settle(group: Group): void {
    for (const row of group) this.#waitingBytes -= row.body.length
    this.#settled += group.length
    if (this.#flushes.length > 0)
      this.#flushes = this.#flushes.filter((flush) => {
        if (flush.settled > this.#settled) return true
        flush.resolve()
        return false
      })
    const relieved = this.#waiting.length < MAX_WAITING / 2 && this.#waitingBytes < MAX_WAITING_BYTES / 2
    if (!this.#wasFull || !relieved) return
    this.#wasFull = false
    this.#onDrained()
  }

  async #store(group: Group): Promise<void> {
    const { metrics, log } = this.#parts
    try {
      const outcome = await untilStored(
        this.#parts,
        'write_heartbeats',
        (attempt) => (attempt === 1 ? this.#write(group) : this.#writeAgain(group)),
        isBadData,
      )
      const { stored } = outcome
      metrics.heartbeatGroupSize.observe(group.length)
      metrics.heartbeatsStored.inc(stored.length)
      if (stored.length < group.length)
        metrics.heartbeatsRefused.inc({ reason: 'fenced' }, group.length - stored.length)
      if (outcome.one && stored.length === group.length)
        for (const row of group) row.sender.heartbeatsStored(row.seq)
      else this.#tell(group, new Set(stored))
    } catch (error) {
      if (!isBadData(error)) throw error
      if (group.length === 1) {
        const row = group[0]!
        log.error({ err: error, robot_id: row.robotId, seq: row.seq }, 'the database refuses a heartbeat')
        metrics.heartbeatsRefused.inc({ reason: 'bad_data' })
        row.sender.heartbeatRejected(row.seq)
        return
      }
      // One bad row must not take the others with it.
      const middle = group.length >> 1
      await this.#store(group.slice(0, middle))
      await this.#store(group.slice(middle))
    }
  }

  async #write(group: Group): Promise<Outcome> {
    if (!this.#isUsual(group)) {
      const stored = await findStored(
        this.#database,
        group.filter((row) => row.recheck),
      )
      const receivedFrom = this.#openFrom
      return { stored: await writeHeartbeats(this.#database, group, { stored, receivedFrom }), one: false }
    }
    const places = await writeLatestHeartbeats(this.#database, group, this.#openFrom)
    return { stored: places ? places.map((place) => group[place - 1]!) : group, one: true }
  }

  /** Each sender has one heartbeat in the group, which is new in every way: as it is as long as the database keeps up. */
  #isUsual(group: Group): boolean {
    this.#groups += 1
    let usual = true
    for (const { sender, recheck, latest } of group) {
      if (recheck || !latest || sender.heartbeatGroup === this.#groups) usual = false
      sender.heartbeatGroup = this.#groups
    }
    return usual
  }

  /**
   * An attempt whose outcome we do not know may have stored them, or be about to. And where they belong by the time they
   * came may be closed meanwhile: then they come now.
   */
  async #writeAgain(group: Group): Promise<Outcome> {
    for (const row of group) row.recheck = true
    const stored = await inTransaction(this.#database, async (transaction) => {
      await lockHeartbeats(transaction, group)
      this.#openFrom = await closedThrough(transaction)
      return writeHeartbeats(transaction, group, {
        stored: await findStored(transaction, group),
        receivedFrom: this.#openFrom,
      })
    })
    return { stored, one: false }
  }

  /** One word for each sender: the highest seq stored, or that it is fenced. */
  #tell(group: Group, stored: ReadonlySet<HeartbeatRow>): void {
    const highest = new Map<HeartbeatSender, number>()
    const fenced = new Set<HeartbeatSender>()
    for (const row of group) {
      if (stored.has(row)) highest.set(row.sender, Math.max(highest.get(row.sender) ?? -1, row.seq))
      else fenced.add(row.sender)
    }
    for (const [sender, seq] of highest) sender.heartbeatsStored(seq)
    for (const sender of fenced) sender.fenced()
  }
}
