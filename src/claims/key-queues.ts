import { GroupFullError, Grouping } from '../grouping.ts'

export interface KeyQueuesOptions<Item, Result> {
  /** Handles items of one key together, in order of arrival. */
  readonly run: (key: string, items: readonly Item[]) => Promise<readonly Result[]>
  readonly maxGroup: number
  readonly maxWaitingPerKey: number
  readonly maxKeys: number
}

/** One grouping for each key that has work, and none for the others. */
export class KeyQueues<Item, Result> {
  readonly #options: KeyQueuesOptions<Item, Result>
  readonly #queues = new Map<string, Grouping<Item, Result>>()

  constructor(options: KeyQueuesOptions<Item, Result>) {
    this.#options = options
  }

  /** Queues one item; rejects with GroupFullError when too many wait. */
  async add(key: string, item: Item): Promise<Result> {
    const queue = this.#queues.get(key) ?? this.#open(key)
    try {
      return await queue.add(item)
    } finally {
      if (!queue.busy && this.#queues.get(key) === queue) this.#queues.delete(key)
    }
  }

  #open(key: string): Grouping<Item, Result> {
    const { run, maxGroup, maxWaitingPerKey, maxKeys } = this.#options
    if (this.#queues.size >= maxKeys) throw new GroupFullError(maxKeys)
    const queue = new Grouping<Item, Result>({
      maxGroup,
      maxWaiting: maxWaitingPerKey,
      run: (items) => run(key, items),
    })
    this.#queues.set(key, queue)
    return queue
  }
}
