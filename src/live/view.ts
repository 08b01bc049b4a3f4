import type { Reach } from '../db/reach.ts'
import { type Counts, count, noCounts } from './counts.ts'
import { eventText, viewName } from './events.ts'
import { type Admits, judgeOf, keyOf, type LiveFilter } from './filter.ts'
import { type Entry, type Facts, fullText } from './robot.ts'
import type { LiveStore, Tick } from './store.ts'

/** `status`: without what every heartbeat changes. */
export type Detail = 'full' | 'status'

export interface ViewOptions {
  readonly filter: LiveFilter
  readonly reach: Reach
  readonly detail: Detail
}

/** What tells a view from others. */
export function viewKey({ filter, reach, detail }: ViewOptions): string {
  return `${detail}${keyOf(filter, reach)}`
}

/** Robots in one event of a snapshot. */
const PAGE = 200
/** A snapshot that was begun so few ticks ago does for the next reader, too. */
const SHARED_TICKS = 10
/** Rounds without anybody who reads of a shared snapshot, after which it is made anew for the next. */
const RESTED_ROUNDS = 10
/** Pages that are kept for others, in bytes, of one view. */
const SHARED_BYTES = 16 * 1024 * 1024

/**
 * All robots of a view, in events. Each is written when it is due, so that it may tell more than the tick says: readers
 * are told everything after that tick again.
 */
export interface Snapshot {
  readonly tick: number
  readonly pages: number
  page(index: number): Buffer
}

/** What readers with the same filter, reach and detail are sent; whatever they have in common is made once. */
export class View {
  readonly key: string
  readonly name: string
  readonly detail: Detail
  /** Readers that hang on it. */
  readers = 0
  readonly #store: LiveStore
  readonly #admits: Admits
  readonly #counted: Admits
  readonly #counts: Counts = noCounts()
  /** The newest tick that changed the counts. */
  #countedTick: number
  #snapshot: Snapshot | undefined
  #snapshotRested = 0
  /** Of the newest tick: what is sent to whoever was told everything up to the one named; null: nothing. */
  readonly #deltas = new Map<number, Buffer | null>()

  constructor(store: LiveStore, options: ViewOptions) {
    this.key = viewKey(options)
    this.name = viewName(this.key)
    this.detail = options.detail
    this.#store = store
    const { admits, counted } = judgeOf(options.filter, options.reach)
    this.#admits = admits
    this.#counted = counted
    for (const { facts } of store.all()) if (counted(facts)) count(this.#counts, facts, 1)
    this.#countedTick = store.tick
  }

  /** Has to be told of every tick. */
  take({ number, turned }: Tick): void {
    this.#deltas.clear()
    if (this.#snapshot && this.#snapshot.tick < number - SHARED_TICKS) this.#snapshot = undefined
    for (const { id, before } of turned) {
      const now = this.#store.get(id)?.facts
      const was = before !== undefined && this.#counted(before)
      const is = now !== undefined && this.#counted(now)
      if (was) count(this.#counts, before, -1)
      if (is) count(this.#counts, now, 1)
      if (was || is) this.#countedTick = number
    }
  }

  /**
   * The event for whoever was told everything up to this tick; null: nothing in the view changed; undefined: the log does
   * not reach back so far.
   */
  delta(from: number): Buffer | null | undefined {
    const made = this.#deltas.get(from)
    if (made !== undefined) return made
    const ticks = this.#store.since(from)
    if (!ticks) return undefined
    const delta = this.#makeDelta(ticks)
    const isEmpty = delta.changed.length + delta.removed.length === 0 && this.#countedTick <= from
    const event = isEmpty ? null : this.deltaEvent(delta)
    this.#deltas.set(from, event)
    return event
  }

  /** The event that tells these changes, or none. */
  deltaEvent({ changed, removed }: { changed: readonly Entry[]; removed: readonly string[] }): Buffer {
    const data =
      `{"time":${this.#time()},"changed":[${this.#texts(changed)}],` +
      `"removed":${JSON.stringify(removed)},"counts":${JSON.stringify(this.#counts)}}`
    return Buffer.from(eventText('delta', data, this.#id(this.#store.tick)))
  }

  #makeDelta(ticks: readonly Tick[]): { changed: Entry[]; removed: string[] } {
    const before = new Map<string, Facts | undefined>()
    for (const { turned } of ticks)
      for (const turn of turned) if (!before.has(turn.id)) before.set(turn.id, turn.before)
    const removed: string[] = []
    for (const [id, facts] of before)
      if (facts && this.#admits(facts) && !this.#holds(this.#store.get(id))) removed.push(id)
    const ids =
      this.detail === 'status' ? before.keys() : new Set(ticks.flatMap(({ changed }) => changed as string[]))
    const changed: Entry[] = []
    for (const id of ids) {
      const entry = this.#store.get(id)
      if (this.#holds(entry)) changed.push(entry)
    }
    return { changed, removed }
  }

  /** A snapshot to be read from its first page on; shared among those who come at about the same time. */
  snapshot(): Snapshot {
    if (this.#snapshot && !this.#store.since(this.#snapshot.tick)) this.#snapshot = undefined
    this.#snapshotRested = 0
    this.#snapshot ??= this.#makeSnapshot()
    return this.#snapshot
  }

  /** Called every second: lets go of what nobody reads any more. */
  rest(): void {
    this.#snapshotRested += 1
    if (this.#snapshotRested > RESTED_ROUNDS) this.#snapshot = undefined
  }

  #makeSnapshot(): Snapshot {
    const { tick } = this.#store
    const ids: string[] = []
    for (const entry of this.#store.all()) if (this.#admits(entry.facts)) ids.push(entry.facts.id)
    const pages = Math.max(1, Math.ceil(ids.length / PAGE))
    const kept: Buffer[] = []
    let keptBytes = 0
    return {
      tick,
      pages,
      page: (index) => {
        this.#snapshotRested = 0
        const made = kept[index]
        if (made) return made
        const entries = ids
          .slice(index * PAGE, (index + 1) * PAGE)
          .map((id) => this.#store.get(id))
          .filter((entry) => this.#holds(entry))
        const done = index === pages - 1
        const data =
          `{"time":${this.#time()},"first":${index === 0},"done":${done},` +
          `"items":[${this.#texts(entries)}],"counts":${JSON.stringify(this.#counts)}}`
        // Who was told a part of it can only begin anew.
        const page = Buffer.from(eventText('snapshot', data, done ? this.#id(tick) : ''))
        if (this.readers > 1 && keptBytes + page.length <= SHARED_BYTES) {
          kept[index] = page
          keptBytes += page.length
        }
        return page
      },
    }
  }

  #holds(entry: Entry | undefined): entry is Entry {
    return entry !== undefined && this.#admits(entry.facts)
  }

  #texts(entries: readonly Entry[]): string {
    const { time } = this.#store
    if (this.detail === 'status') return entries.map(({ status }) => status).join(',')
    return entries.map((entry) => fullText(entry, time)).join(',')
  }

  #time(): string {
    return `"${new Date(this.#store.time).toISOString()}"`
  }

  #id(tick: number) {
    return { epoch: this.#store.epoch, tick, view: this.name }
  }
}
