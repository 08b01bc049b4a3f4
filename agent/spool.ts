import type { Moment, ServerTime, Stamp } from './server-time.ts'
import { datedText, labelOf, readKept, writeKept } from './spool/kept-text.ts'
import type { LossReport, Ring } from './spool/ring.ts'

/** One heartbeat that waits for its acknowledgement. */
export interface SpoolEntry {
  readonly seq: number
  readonly text: string
}

/** Heartbeats that were lost before the server had them. */
export interface DropReport {
  readonly id: string
  readonly count: number
  /** When the first and the last of them were made, where that is known. */
  readonly first: Stamp | undefined
  readonly last: Stamp | undefined
}

/** Heartbeats that the server has not acknowledged, oldest first. */
export interface Spool {
  /**
   * Keeps an entry; `seq` must be above all before it. At the bounds the oldest go. With `moment` its text is dated when it
   * is asked for, each time the same.
   */
  add(entry: SpoolEntry & { readonly moment?: Moment | undefined }): void
  /** Forgets the entries from one `seq` to another, both included. */
  acknowledge(from: number, to: number): void
  /** At most `limit` entries above `seq` and below `below`, oldest first. */
  after(seq: number, limit: number, below?: number): readonly SpoolEntry[]
  /** Forgets everything, for nobody will ever ask for it. */
  clear(): void
  readonly oldestSeq: number | undefined
  readonly size: number
  readonly bytes: number
  /** Entries that were lost, also by processes before this one while nobody was told of it. */
  readonly dropped: number
  /** Of these, those that the server was not told of. */
  readonly unreported: number
  /** What the server is to be told of losses: the same, also after a restart, until it arrived. */
  report(newId: () => string): DropReport | undefined
  /** The report with this id arrived; that of anything else is ignored. */
  reported(id: string): void
}

/** A spool that outlasts the process. */
export class DiskSpool implements Spool {
  readonly #ring: Ring
  readonly #serverTime: Pick<ServerTime, 'date'>

  constructor(ring: Ring, serverTime: Pick<ServerTime, 'date'>) {
    this.#ring = ring
    this.#serverTime = serverTime
  }

  get oldestSeq(): number | undefined {
    return this.#ring.oldest
  }

  get size(): number {
    return this.#ring.size
  }

  get bytes(): number {
    return this.#ring.bytes
  }

  get dropped(): number {
    return this.#ring.dropped
  }

  get unreported(): number {
    return this.#ring.untold
  }

  add({ seq, text, moment }: SpoolEntry & { readonly moment?: Moment | undefined }): void {
    this.#ring.add({ no: seq, text: writeKept(text, moment) })
  }

  acknowledge(from: number, to: number): void {
    this.#ring.acknowledge(from, to)
  }

  after(seq: number, limit: number, below?: number): readonly SpoolEntry[] {
    return this.#ring.after(seq, limit, below).map(({ no, text }) => ({ seq: no, text: this.#dated(text) }))
  }

  clear(): void {
    this.#ring.clear()
  }

  report(newId: () => string): DropReport | undefined {
    const report = this.#ring.report(newId)
    return report && { ...this.#spanOf(report), id: report.id, count: report.count }
  }

  reported(id: string): void {
    this.#ring.tell(id)
  }

  #dated(kept: string): string {
    const { text, moment } = readKept(kept)
    return moment ? datedText(text, this.#serverTime.date(moment)) : text
  }

  #spanOf({ span }: LossReport): Pick<DropReport, 'first' | 'last'> {
    const stampOf = (label: string | undefined) => {
      const at = label === undefined ? undefined : labelOf(label)
      return at && ('boot' in at ? this.#serverTime.date(at) : at)
    }
    return { first: stampOf(span.first), last: stampOf(span.last) }
  }
}
