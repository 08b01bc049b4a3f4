/** What is kept for others who are to be told the same, of all views together; the oldest goes first. */
export class PageCache {
  readonly #maxBytes: number
  readonly #kept = new Set<{ readonly page: Buffer; readonly drop: () => void }>()
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Keeps the page until there is no room for it: then `drop` is called. */
  keep(page: Buffer, drop: () => void): void {
    this.#kept.add({ page, drop })
    this.#bytes += page.length
    for (const oldest of this.#kept) {
      if (this.#bytes <= this.#maxBytes) return
      this.#kept.delete(oldest)
      this.#bytes -= oldest.page.length
      oldest.drop()
    }
  }
}
