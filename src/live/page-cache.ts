/** What is kept for others who are to be told the same, of all views together; the oldest goes first. */
export class PageCache {
  readonly #maxBytes: number
  readonly #kept = new Set<{ readonly buffer: ArrayBufferLike; readonly drop: () => void }>()
  #bytes = 0

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Keeps the page until there is no room for it: then `drop` is called. */
  keep({ buffer }: Buffer, drop: () => void): void {
    // All of it stays for as long as a page does that is a piece of it: of a small one, 16 KiB that zlib took.
    this.#kept.add({ buffer, drop })
    this.#bytes += buffer.byteLength
    for (const oldest of this.#kept) {
      if (this.#bytes <= this.#maxBytes) return
      this.#kept.delete(oldest)
      this.#bytes -= oldest.buffer.byteLength
      oldest.drop()
    }
  }
}
