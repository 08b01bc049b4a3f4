import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../runtime.ts'

/** One line for the agent's socket. */
export type Line = Readonly<Record<string, unknown>>

/** One thing that the agent ought to hold. */
export interface Item {
  readonly id: string
  readonly line: Line
  /** Takes it back. */
  readonly undo: Line
  /** When this changes, the item is told at once; when only the line does, once what was told has stood for `calmMs`. */
  readonly urgency: string
  readonly calmMs: number
}

interface Told {
  /** What the agent took last; undefined when that is not known. */
  readonly item: Item | undefined
  readonly undo: Line
  /** When it was told last, on the monotonic clock. */
  readonly at: number
  /** When it was told first in these words. */
  readonly wordedAt: number
  readonly notBefore: number
}

/** Each item is told again before the agent drops it. */
export const RENEW_MS = 40_000
export const TTL_S = 120
/** What was refused is tried again after this. */
const RETRY_MS = 10_000

/** Decides what to tell next, so that the agent comes to hold what is wanted, whatever it held before. */
export class Teller {
  readonly #clock: Clock
  readonly #wanted: () => readonly Item[]
  readonly #told = new Map<string, Told>()
  #asked: { readonly id: string; readonly item: Item | undefined; readonly undo: Line } | undefined

  constructor(clock: Clock, wanted: () => readonly Item[]) {
    this.#clock = clock
    this.#wanted = wanted
  }

  /** The next line, what was told the longest ago first; undefined when there is nothing to tell. */
  next(): Line | undefined {
    const now = this.#clock.monotonic()
    const wanted = new Map(this.#wanted().map((item) => [item.id, item]))
    let oldest: { at: number; id: string; item: Item | undefined; undo: Line } | undefined
    const offer = (id: string, at: number, item: Item | undefined, undo: Line) => {
      if (!oldest || at < oldest.at) oldest = { at, id, item, undo }
    }
    for (const [id, { undo, at, notBefore }] of this.#told)
      if (!wanted.has(id) && notBefore <= now) offer(id, at, undefined, undo)
    for (const item of wanted.values()) {
      const told = this.#told.get(item.id)
      const due = dueNow(item, told, now)
      if (due) offer(item.id, told?.at ?? -Infinity, due, due.undo)
    }
    this.#asked = oldest
    return oldest && (oldest.item?.line ?? oldest.undo)
  }

  /** What the agent said to the line that `next` gave. */
  answered(isTaken: boolean): void {
    if (!this.#asked) return
    const { id, item, undo } = this.#asked
    this.#asked = undefined
    const at = this.#clock.monotonic()
    const before = this.#told.get(id)
    const wordedAt = before && (before.item === item || !isTaken) ? before.wordedAt : at
    if (isTaken && !item) this.#told.delete(id)
    else if (isTaken) this.#told.set(id, { item, undo, at, wordedAt, notBefore: at })
    else this.#told.set(id, { item: before?.item, undo, at, wordedAt, notBefore: at + RETRY_MS })
  }

  /** Another agent may listen now, or the same one after a restart: all is told anew. */
  startAnew(): void {
    // Whether a line was taken of which the answer was lost, nobody knows.
    const undos = new Map([...this.#told].map(([id, { undo }]) => [id, undo]))
    if (this.#asked) undos.set(this.#asked.id, this.#asked.undo)
    this.#asked = undefined
    for (const [id, undo] of undos)
      this.#told.set(id, { item: undefined, undo, at: -Infinity, wordedAt: -Infinity, notBefore: -Infinity })
  }

  /** Lines that take back all that the agent may hold. */
  undoAll(): Line[] {
    return [...this.#told.values()].map(({ undo }) => undo)
  }
}

/** What is to be told of an item now: it as it is, or what was told of it before, so that it does not end. */
function dueNow(item: Item, told: Told | undefined, now: number): Item | undefined {
  if (!told) return item
  if (told.notBefore > now) return undefined
  if (!told.item || told.item.urgency !== item.urgency) return item
  const isSame = isDeepStrictEqual(told.item.line, item.line)
  if (!isSame && now - told.wordedAt >= item.calmMs) return item
  return now - told.at >= RENEW_MS ? told.item : undefined
}
