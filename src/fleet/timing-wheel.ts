/**
 * Deadlines of very many items at the cost of one timer: items lie in slots of `slotMs`, and `advance` hands out those
 * whose slot has passed. Moving a deadline back is left to the owner: it looks at an item when it is handed out and
 * puts it in again.
 */
export class TimingWheel<Item> {
  readonly #slotMs: number
  readonly #slots = new Map<number, Set<Item>>()
  readonly #slotOf = new Map<Item, number>()
  #passed: number

  constructor(slotMs: number, now: number) {
    this.#slotMs = slotMs
    this.#passed = Math.floor(now / slotMs)
  }

  get size(): number {
    return this.#slotOf.size
  }

  /** Puts an item in, or moves it: it is handed out by the first `advance` after `deadline`, up to one slot late. */
  schedule(item: Item, deadline: number): void {
    const slot = Math.max(Math.floor(deadline / this.#slotMs), this.#passed) + 1
    const before = this.#slotOf.get(item)
    if (before === slot) return
    if (before !== undefined) this.#take(item, before)
    let items = this.#slots.get(slot)
    if (!items) {
      items = new Set()
      this.#slots.set(slot, items)
    }
    items.add(item)
    this.#slotOf.set(item, slot)
  }

  remove(item: Item): void {
    const slot = this.#slotOf.get(item)
    if (slot !== undefined) this.#take(item, slot)
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
      for (const item of items) {
        this.#slotOf.delete(item)
        due.push(item)
      }
    }
    return due
  }

  #take(item: Item, slot: number): void {
    const items = this.#slots.get(slot)
    items?.delete(item)
    if (items?.size === 0) this.#slots.delete(slot)
    this.#slotOf.delete(item)
  }
}
