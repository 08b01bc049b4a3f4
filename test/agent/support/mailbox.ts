/** Things that arrive, in order, and those who wait for one of them. */
export class Mailbox<Item> {
  readonly all: Item[] = []
  readonly #waiting = new Set<() => void>()

  put(item: Item): void {
    this.all.push(item)
    for (const look of [...this.#waiting]) look()
  }

  /** The first item, from index `from` on, that `isWanted`; waits for it to come. */
  next(isWanted: (item: Item) => boolean = () => true, from = 0): Promise<Item> {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.all.slice(from).find(isWanted)
        if (found === undefined) return
        this.#waiting.delete(look)
        resolve(found)
      }
      this.#waiting.add(look)
      look()
    })
  }

  /** The first `count` items; waits until there are as many. */
  async first(count: number): Promise<Item[]> {
    await this.next((item) => this.all.indexOf(item) === count - 1)
    return this.all.slice(0, count)
  }
}
