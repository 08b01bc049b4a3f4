import { createHash } from 'node:crypto'

/** What is sent to readers, in the form of Server-Sent Events. Documented in docs/contract.md and http/live-schema.ts. */

export interface EventId {
  /** Of the store. */
  readonly epoch: string
  readonly tick: number
  /** Of the filter, reach and detail: what one reader was told is not to be gone on with by another. */
  readonly view: string
}

export function formatId({ epoch, tick, view }: EventId): string {
  return `${epoch}-${tick}-${view}`
}

/** Undefined for whatever is none of ours. */
export function parseId(text: string): EventId | undefined {
  const [, epoch, tick, view] = /^([0-9a-f]{12})-(\d{1,15})-([0-9a-f]{12})$/.exec(text) ?? []
  return epoch && tick && view ? { epoch, tick: Number(tick), view } : undefined
}

export const EPOCH_BYTES = 6

/** A short name of a view, from the text that tells it from others. */
export function viewName(key: string): string {
  return createHash('sha256').update(key).digest('hex').slice(0, 12)
}

/** One event. `id` empty: what was noted before is no longer to be gone on from. `data` is JSON, and so of one line. */
export function eventText(event: string, data: string, id?: EventId | ''): string {
  const idLine = id === undefined ? '' : id === '' ? 'id:\n' : `id: ${formatId(id)}\n`
  return `event: ${event}\n${idLine}data: ${data}\n\n`
}

/** A comment, which readers do not see; with an id, their place is a newer one from now on. */
export function commentText(id?: EventId): string {
  return id ? `: still here\nid: ${formatId(id)}\n\n` : ': still here\n\n'
}

/** How long a browser waits before it connects again. */
export function retryText(ms: number): string {
  return `retry: ${ms}\n\n`
}
