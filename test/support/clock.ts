import type { Clock, Timer } from '../../src/runtime.ts'

interface Due {
  at: number
  readonly order: number
  readonly everyMs: number | undefined
  readonly call: () => void
}

/** A Clock that stands still until it is moved. */
export class ManualClock implements Clock {
  readonly #begun: number
  readonly #timers = new Set<Due>()
  #now: number
  #order = 0

  constructor(now: number | string = '2026-01-01T00:00:00Z') {
    this.#now = typeof now === 'number' ? now : Date.parse(now)
    this.#begun = this.#now
  }

  /** Timers that wait, sleepers included. */
  get pending(): number {
    return this.#timers.size
  }

  now(): number {
    return this.#now
  }

  monotonic(): number {
    return this.#now - this.#begun
  }

  after(delayMs: number, call: () => void): Timer {
    return this.#add(delayMs, undefined, call)
  }

  every(intervalMs: number, call: () => void): Timer {
    return this.#add(intervalMs, intervalMs, call)
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(new DOMException('The sleep was aborted', 'AbortError'))
        return
      }
      const abort = () => {
        timer.cancel()
        reject(new DOMException('The sleep was aborted', 'AbortError'))
      }
      const timer = this.after(delayMs, () => {
        signal?.removeEventListener('abort', abort)
        resolve()
      })
      signal?.addEventListener('abort', abort, { once: true })
    })
  }

  /** Moves time, calling every timer that comes due at its own time and in order, those set meanwhile included. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (let due = this.#next(end); due; due = this.#next(end)) {
      this.#now = Math.max(this.#now, due.at)
      if (due.everyMs === undefined) this.#timers.delete(due)
      else due.at += due.everyMs
      due.call()
    }
    this.#now = end
  }

  /** As `advance`, in steps, letting promises settle after each, for code that awaits between its timers. */
  async pass(ms: number, stepMs = ms): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.advance(Math.min(stepMs, left))
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #add(delayMs: number, everyMs: number | undefined, call: () => void): Timer {
    const due: Due = { at: this.#now + Math.max(0, delayMs), order: this.#order++, everyMs, call }
    this.#timers.add(due)
    return { cancel: () => void this.#timers.delete(due) }
  }

  #next(end: number): Due | undefined {
    let next: Due | undefined
    for (const due of this.#timers) {
      if (due.at > end) continue
      if (!next || due.at < next.at || (due.at === next.at && due.order < next.order)) next = due
    }
    return next
  }
}
