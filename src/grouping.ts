/** Thrown to a caller whose item found the queue full. */
export class GroupFullError extends Error {
  constructor(limit: number) {
    super(`more than ${limit} items are waiting`)
    this.name = 'GroupFullError'
  }
}

interface Waiting<Item, Result> {
  readonly item: Item
  /** Undefined where nobody waits for the answer. */
  readonly resolve: ((result: Result) => void) | undefined
  readonly reject: ((error: unknown) => void) | undefined
}

export interface GroupingOptions<Item, Result> {
  /** Handles items together, in order of arrival; answers in the same order. A rejection goes to all of them. */
  readonly run: (items: readonly Item[]) => Promise<readonly Result[]>
  /** Items one run takes at the most. */
  readonly maxGroup: number
  /** Items that may wait, besides those in flight. */
  readonly maxWaiting: number
}

/**
 * Groups work: an item that comes while nothing is in flight goes out at the end of this turn of the event loop,
 * together with all others of the turn; those that come while a group is in flight go out together after it. At any
 * time at most one group is in flight.
 */
export class Grouping<Item, Result> {
  readonly #options: GroupingOptions<Item, Result>
  #waiting: Waiting<Item, Result>[] = []
  #running = false
  #idle: (() => void)[] = []

  constructor(options: GroupingOptions<Item, Result>) {
    this.#options = options
  }

  /** Items waiting or in flight mean work is left. */
  get busy(): boolean {
    return this.#running || this.#waiting.length > 0
  }

  get waiting(): number {
    return this.#waiting.length
  }

  /** Queues one item; rejects with GroupFullError when too many wait. */
  add(item: Item): Promise<Result> {
    if (this.#waiting.length >= this.#options.maxWaiting)
      return Promise.reject(new GroupFullError(this.#options.maxWaiting))
    return new Promise((resolve, reject) => {
      this.#push({ item, resolve, reject })
    })
  }

  /** Queues one item whose answer nobody waits for, not even when `run` rejects; false when too many wait. */
  offer(item: Item): boolean {
    if (this.#waiting.length >= this.#options.maxWaiting) return false
    this.#push({ item, resolve: undefined, reject: undefined })
    return true
  }

  /** Resolves once nothing waits and nothing is in flight. */
  idle(): Promise<void> {
    return this.busy ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve()
  }

  #push(entry: Waiting<Item, Result>): void {
    this.#waiting.push(entry)
    if (this.#running) return
    this.#running = true
    setImmediate(() => void this.#work())
  }

  async #work(): Promise<void> {
    while (this.#waiting.length > 0) {
      const group = this.#waiting.splice(0, this.#options.maxGroup)
      try {
        const results = await this.#options.run(group.map((entry) => entry.item))
        if (results.length !== group.length) throw new Error('a group was answered in part')
        for (let index = 0; index < group.length; index++) group[index]!.resolve?.(results[index]!)
      } catch (error) {
        for (const entry of group) entry.reject?.(error)
      }
    }
    this.#running = false
    for (const resolve of this.#idle.splice(0)) resolve()
  }
}
