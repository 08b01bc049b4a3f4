import type { Reach } from '../db/reach.ts'
import { type Coding, encode, type Part } from './coding.ts'
import type { Tally } from './counts.ts'
import { eventText, viewName } from './events.ts'
import { type Admits, judgeOf, keyOf, type LiveFilter } from './filter.ts'
import type { PageCache } from './page-cache.ts'
import { type Entry, type Facts, fullText } from './robot.ts'
import type { LiveStore, Tick } from './store.ts'

/** `status`: without what every heartbeat changes. */
export type Detail = 'full' | 'status'

export interface ViewOptions {
  readonly filter: LiveFilter
  readonly reach: Reach
  readonly detail: Detail
  readonly coding: Coding
}

/** What tells a view from others. */
export function viewKey(options: ViewOptions): string {
  return `${options.coding} ${contentKey(options)}`
}

/** Where it is the same, the same is said, whatever the coding: a reader may come back with another. */
function contentKey({ filter, reach, detail }: ViewOptions): string {
  return `${detail}${keyOf(filter, reach)}`
}

/** What one event tells at the most; robots may say much of themselves. */
const PAGE = { robots: 200, characters: 256 * 1024 }
/** A snapshot that was begun so few ticks ago does for the next reader, too. */
const SHARED_TICKS = 10

/**
 * What brings a reader to a tick, in one event or more. Each is made when it is due, and tells robots as they are then, so
 * that no more than one is held for a reader: whoever was told all of it is told everything after that tick again.
 */
export interface Telling {
  readonly tick: number
  /** What begins at a place, 0 at first, and the next one; undefined after the last. */
  page(at: number): Page
}

export interface Page {
  readonly event: Part
  /** In bytes: as many as it has, but for the first who is told it as many as were to be encoded. */
  readonly cost: number
  readonly next: number | undefined
}

/** What readers with the same filter, reach, detail and coding are sent; whatever they have in common is made once. */
export class View {
  readonly key: string
  readonly name: string
  readonly detail: Detail
  readonly options: ViewOptions
  /** Readers that hang on it. */
  readers = 0
  readonly #store: LiveStore
  readonly #cache: PageCache
  readonly #admits: Admits
  readonly #tally: Tally
  #snapshot: Telling | undefined
  /** Of the newest tick: what is told to whoever was told everything up to the one named; null: nothing. */
  readonly #deltas = new Map<number, Telling | null>()

  constructor(store: LiveStore, tally: Tally, cache: PageCache, options: ViewOptions) {
    this.key = viewKey(options)
    this.name = viewName(contentKey(options))
    this.detail = options.detail
    this.options = options
    this.#store = store
    this.#tally = tally
    this.#cache = cache
    this.#admits = judgeOf(options.filter, options.reach).admits
  }

  /** Has to be told that there is another tick. */
  take(tick: number): void {
    this.#deltas.clear()
    if (this.#snapshot && this.#snapshot.tick < tick - SHARED_TICKS) this.#snapshot = undefined
  }

  /**
   * For whoever was told everything up to this tick; null: nothing in the view changed; undefined: the log does not reach
   * back so far.
   */
  delta(from: number): Telling | null | undefined {
    const made = this.#deltas.get(from)
    if (made !== undefined) return made
    const ticks = this.#store.since(from)
    if (!ticks) return undefined
    const { changed, removed } = this.#changesOf(ticks)
    const isEmpty = changed.length + removed.length === 0 && this.#tally.changedTick <= from
    const delta = isEmpty ? null : this.#makeDelta(changed, removed)
    this.#deltas.set(from, delta)
    return delta
  }

  /** A delta that says nothing but how many robots there are. */
  emptyDelta(): Telling {
    return this.#makeDelta([], [])
  }

  #changesOf(ticks: readonly Tick[]): { changed: string[]; removed: string[] } {
    const before = new Map<string, Facts | undefined>()
    for (const { turned } of ticks)
      for (const turn of turned) if (!before.has(turn.id)) before.set(turn.id, turn.before)
    const removed: string[] = []
    for (const [id, facts] of before)
      if (facts && this.#admits(facts) && !this.#holds(this.#store.get(id))) removed.push(id)
    const ids = this.detail === 'status' ? before.keys() : idsOf(ticks)
    const changed: string[] = []
    for (const id of ids) if (this.#holds(this.#store.get(id))) changed.push(id)
    return { changed, removed }
  }

  #makeDelta(changed: readonly string[], removed: readonly string[]): Telling {
    return this.#inPages(changed, (items, { first, last, tick }) =>
      eventText(
        'delta',
        `{"time":${this.#time()},"changed":[${items}],"removed":${JSON.stringify(first ? removed : [])},` +
          `"counts":${JSON.stringify(this.#tally.counts)}}`,
        // Who comes back after a part of it is told all of it again.
        last ? this.#id(tick) : undefined,
      ),
    )
  }

  /** All robots of the view, from the first page on; shared among those who come at about the same time. */
  snapshot(): Telling {
    if (this.#snapshot && !this.#store.since(this.#snapshot.tick)) this.#snapshot = undefined
    this.#snapshot ??= this.#makeSnapshot()
    return this.#snapshot
  }

  #makeSnapshot(): Telling {
    const ids: string[] = []
    for (const { facts } of this.#store.all()) if (this.#admits(facts)) ids.push(facts.id)
    return this.#inPages(ids, (items, { first, last, tick }) =>
      eventText(
        'snapshot',
        `{"time":${this.#time()},"first":${first},"done":${last},"items":[${items}],` +
          `"counts":${JSON.stringify(this.#tally.counts)}}`,
        // Who was told a part of it can only begin anew.
        last ? this.#id(tick) : '',
      ),
    )
  }

  #inPages(
    ids: readonly string[],
    text: (items: string, page: { first: boolean; last: boolean; tick: number }) => string,
  ): Telling {
    const { tick } = this.#store
    const kept = new Map<number, Page>()
    return {
      tick,
      page: (at) => {
        const made = kept.get(at)
        if (made) return made
        const { items, next } = this.#items(ids, at)
        const event = encode(
          this.options.coding,
          text(items, { first: at === 0, last: next === undefined, tick }),
        )
        if (this.readers > 1) {
          kept.set(at, { event, next, cost: event.bytes.length })
          this.#cache.keep(event.bytes, () => kept.delete(at))
        }
        return { event, next, cost: event.textBytes }
      },
    }
  }

  /** Those of the robots from a place on that are in the view, as far as one event goes. */
  #items(ids: readonly string[], from: number): { items: string; next: number | undefined } {
    const items: string[] = []
    let at = from
    for (let characters = 0; at < ids.length; at += 1) {
      if (items.length === PAGE.robots || characters > PAGE.characters) break
      const entry = this.#store.get(ids[at]!)
      if (!this.#holds(entry)) continue
      const item = this.detail === 'status' ? entry.status : fullText(entry, this.#store.time)
      items.push(item)
      characters += item.length
    }
    return { items: items.join(','), next: at < ids.length ? at : undefined }
  }

  #holds(entry: Entry | undefined): entry is Entry {
    return entry !== undefined && this.#admits(entry.facts)
  }

  #time(): string {
    return `"${new Date(this.#store.time).toISOString()}"`
  }

  #id(tick: number) {
    return { epoch: this.#store.epoch, tick, view: this.name }
  }
}

function idsOf(ticks: readonly Tick[]): Iterable<string> {
  if (ticks.length === 1) return ticks[0]!.changed
  const ids = new Set<string>()
  for (const { changed } of ticks) for (const id of changed) ids.add(id)
  return ids
}
