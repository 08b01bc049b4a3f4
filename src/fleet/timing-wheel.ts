/** What the wheel writes into an item, so that it finds it again without a map. Starts as `NOT_SCHEDULED`. */
export interface Scheduled {
  slot: number
  /** Index in its slot. */
  place: number
}

export const NOT_SCHEDULED = -1

/**
 * Deadlines of very many items at the cost of one timer: items lie in slots of `slotMs`, and `advance` hands out those
 * whose slot has passed. Moving a deadline back is left to the owner: it looks at an item when it is handed out and
 * puts it in again. An item is in one wheel at the most.
 */
export class TimingWheel<Item extends Scheduled> {
  readonly #slotMs: number
  /** Slots that are not empty. Within one, items have no order. */
  readonly #slots = new Map<number, Item[]>()
  #passed: number
  #size = 0

  constructor(slotMs: number, now: number) {
    this.#slotMs = slotMs
    this.#passed = Math.floor(now / slotMs)
  }

  get size(): number {
    return this.#size
  }

  /** Puts an item in, or moves it: it is handed out by the first `advance` after `deadline`, up to one slot late. */
  schedule(item: Item, deadline: number): void {
    const slot = Math.max(Math.floor(deadline / this.#slotMs), this.#passed) + 1
    if (item.slot === slot) return
    this.remove(item)
    let items = this.#slots.get(slot)
    if (!items) {
      items = []
      this.#slots.set(slot, items)
    }
    item.slot = slot
    item.place = items.length
    items.push(item)
    this.#size += 1
  }

  remove(item: Item): void {
    if (item.slot === NOT_SCHEDULED) return
    const items = this.#slots.get(item.slot)!
    const last = items.pop()!
    if (last !== item) {
      items[item.place] = last
      last.place = item.place
    }
    if (items.length === 0) this.#slots.delete(item.slot)
    item.slot = NOT_SCHEDULED
    this.#size -= 1
  }

  /** Takes out and returns the items whose deadline is over at `now`. */
  advance(now: number): Item[] {
    const current = Math.floor(now / this.#slotMs)
    const due: Item[] = []
    while (this.#passed < current) {
      this.#passed += 1
      const items = this.#slots.get(this.#passed)
      if (!items) continue
      this.#slots.delete(this.#passed)
      this.#size -= items.length
      for (const item of items) {
        item.slot = NOT_SCHEDULED
        due.push(item)
      }
    }
    return due
  }
}
