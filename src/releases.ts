/** Things to let go of, in the reverse order of taking them. */
export class Releases {
  readonly #entries: { name: string; release: () => Promise<void> | void }[] = []
  readonly #onError: (name: string, error: unknown) => void

  constructor(onError: (name: string, error: unknown) => void) {
    this.#onError = onError
  }

  add(name: string, release: () => Promise<void> | void): void {
    this.#entries.push({ name, release })
  }

  /** Runs every release, last in first out; one that fails is reported and does not stop the others. */
  async run(): Promise<void> {
    for (let entry = this.#entries.pop(); entry; entry = this.#entries.pop()) {
      try {
        await entry.release()
      } catch (error) {
        this.#onError(entry.name, error)
      }
    }
  }
}
