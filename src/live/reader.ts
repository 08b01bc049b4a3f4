import type { Clock } from '../runtime.ts'
import { encode, openStream, type Part, type Stream } from './coding.ts'
import { commentText, type EventId, eventText } from './events.ts'
import type { LiveStore } from './store.ts'
import type { Page, Telling, View } from './view.ts'

/** Where the bytes of one reader go. */
export interface Sink {
  /** Takes bytes; `taken` is called once they have left this process. */
  write(bytes: Buffer, taken: () => void): void
  /** Takes the last bytes, and ends when all have gone. */
  end(bytes: Buffer): void
  /** Ends at once, whatever is on the way. */
  destroy(): void
}

/** Why a reader is told everything from the beginning. */
export type ResetReason =
  /** The id is none of this server's, or of a store that it no longer has. */
  | 'unknown_id'
  /** The id was given with another filter, reach or detail. */
  | 'view_changed'
  /** More has changed since than is kept. */
  | 'too_old'
  /** What may be seen has changed. */
  | 'access_changed'

/** Written at once. Larger events go in pieces, so that it can be seen whether the reader takes anything. */
const PIECE_BYTES = 64 * 1024

interface ReaderParts {
  readonly sink: Sink
  readonly clock: Pick<Clock, 'monotonic'>
  readonly store: LiveStore
  /** Called when the last event has gone. */
  readonly onIdle: (reader: Reader) => void
  /** Called with what an event that is going to be written costs, and with the bytes that were. */
  readonly onEvent: (cost: number) => void
  readonly onWritten: (bytes: number) => void
}

/**
 * One reader, told one thing at a time. While it takes that, whatever changes waits in the store: what it is told next is
 * everything since, each robot once. Always in one of these: a snapshot or delta is on its way (`#telling`), or it has been
 * told everything up to `#told`.
 */
export class Reader {
  view: View
  readonly #parts: ReaderParts
  readonly #stream: Stream
  readonly #ahead: string[] = []
  #telling: Telling | undefined
  #isSnapshot = false
  /** Where it goes on. */
  #at = 0
  #told = 0
  /** Something has to be said even where nothing is new: the reader has just come back. */
  #mustTell = false
  /** Since when bytes are on the way that were not taken. */
  #busySince: number | undefined
  /** What was written ends in the middle of an event. */
  #isMidEvent = false
  #isOver = false

  constructor(view: View, parts: ReaderParts) {
    this.view = view
    this.#parts = parts
    this.#stream = openStream(view.options.coding)
  }

  /** Goes on after this tick; false when that is not possible. */
  resume(tick: number): boolean {
    if (!this.#parts.store.since(tick)) return false
    this.#told = tick
    this.#mustTell = true
    return true
  }

  /** Begins anew; with a reason the reader hears why. */
  restart(reason?: ResetReason): void {
    if (reason) this.#ahead.push(eventText('reset', JSON.stringify({ reason }), ''))
    this.#begin(this.view.snapshot(), true)
  }

  /** Sends this before anything else. */
  sayFirst(text: string): void {
    this.#ahead.push(text)
  }

  get isBusy(): boolean {
    return this.#busySince !== undefined
  }

  get isOver(): boolean {
    return this.#isOver
  }

  /** A snapshot is what comes next, and nothing of it was told. */
  get isBeginning(): boolean {
    return this.#isSnapshot && this.#at === 0 && this.#ahead.length === 0 && this.#telling !== undefined
  }

  /** A part of a snapshot was told, and more is to come. */
  get isMidSnapshot(): boolean {
    return this.#isSnapshot && this.#at > 0 && this.#telling !== undefined
  }

  /** For how long it has taken nothing of what it was sent. */
  stuckMs(): number {
    return this.#busySince === undefined ? 0 : this.#parts.clock.monotonic() - this.#busySince
  }

  /** Sends what is due next, and answers whether anything was; not to be called while it is busy. */
  tellNext(): boolean {
    const due = this.#next()
    if (!due) return false
    this.#parts.onEvent(due.cost)
    this.#send(this.#stream.add(due.event), 0)
    return true
  }

  #next(): Pick<Page, 'event' | 'cost'> | undefined {
    if (this.#ahead.length > 0) {
      const event = this.#encode(this.#ahead.splice(0).join(''))
      return { event, cost: event.textBytes }
    }
    // Whoever had to wait for it is told what is new meanwhile, too.
    if (this.isBeginning) this.#begin(this.view.snapshot(), true)
    if (!this.#telling) {
      const delta = this.view.delta(this.#told)
      if (delta === undefined) {
        this.restart('too_old')
        return this.#next()
      }
      if (delta) this.#begin(delta)
      else {
        this.#told = this.#parts.store.tick
        if (this.#mustTell) this.#begin(this.view.emptyDelta())
      }
      this.#mustTell = false
    }
    return this.#telling && this.#nextPage(this.#telling)
  }

  #begin(telling: Telling, isSnapshot = false): void {
    this.#telling = telling
    this.#isSnapshot = isSnapshot
    this.#at = 0
  }

  #nextPage(telling: Telling): Page {
    const page = telling.page(this.#at)
    if (page.next === undefined) {
      this.#telling = undefined
      this.#told = telling.tick
    } else this.#at = page.next
    return page
  }

  #encode(text: string): Part {
    return encode(this.view.options.coding, text)
  }

  /** So that whatever stands between knows that the connection is used, and the reader's place is a late one. */
  comment(): void {
    if (this.#isOver || this.#busySince !== undefined) return
    const { epoch, tick } = this.#parts.store
    const isUpToDate = !this.#telling && this.#ahead.length === 0 && this.#told === tick
    const id: EventId | undefined = isUpToDate ? { epoch, tick, view: this.view.name } : undefined
    this.#send(this.#stream.add(this.#encode(commentText(id))), 0)
  }

  #send(bytes: Buffer, from: number): void {
    const { clock, onIdle, onWritten, sink } = this.#parts
    const to = Math.min(from + PIECE_BYTES, bytes.length)
    this.#busySince = clock.monotonic()
    this.#isMidEvent = to < bytes.length
    onWritten(to - from)
    sink.write(bytes.subarray(from, to), () => {
      if (this.#isOver) return
      this.#busySince = undefined
      if (to < bytes.length) this.#send(bytes, to)
      else onIdle(this)
    })
  }

  /** Sends nothing more, but where it still can be said, why. Answers whether it could. */
  end(why?: { readonly code: string; readonly message: string }): boolean {
    if (this.#isOver) return true
    this.#isOver = true
    const { sink } = this.#parts
    if (!why || this.#isMidEvent) {
      sink.destroy()
      return false
    }
    const last = this.#stream.add(this.#encode(eventText('end', JSON.stringify(why))))
    sink.end(Buffer.concat([last, this.#stream.end()]))
    return true
  }
}
