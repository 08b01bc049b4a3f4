/** What opens a robot's sessions. */
export interface Tokens {
  readonly current: string
  /** Made to take the place of `current`, and written down; whether the server knows it shows when it is used. */
  readonly next: string | undefined
}

/**
 * A robot's tokens while one takes the place of the other. Invariant: of every token that may open a session, a copy is on
 * the disk. So the next one is written down before the server hears of it, the old one stays until a session was opened
 * with the next, and the next one stays until a session was opened with the old after the next was refused: only then is
 * it certain that the server has not put it in the old one's place.
 */
export class TokenKeeper {
  readonly #keep: (tokens: Tokens) => void
  /** Refused since a session was last opened. */
  readonly #refused = new Set<string>()
  #tokens: Tokens

  /** `keep` writes tokens down, and throws when they are not on the disk. */
  constructor(tokens: Tokens, keep: (tokens: Tokens) => void) {
    this.#tokens = tokens
    this.#keep = keep
  }

  get tokens(): Tokens {
    return this.#tokens
  }

  /** The token to connect with: the next one first, for it may be the only one that still stands. */
  get toUse(): string {
    const { current, next } = this.#tokens
    return next !== undefined && !this.#refused.has(next) ? next : current
  }

  /** The next token, made now unless there is one; on the disk when this returns, and nowhere when it throws. */
  prepareNext(mint: () => string): string {
    const { current, next = mint() } = this.#tokens
    if (this.#tokens.next === undefined) {
      this.#keep({ current, next })
      this.#tokens = { current, next }
    }
    return next
  }

  /** A session was opened with this token; answers true when it took the place of the one before by that. */
  opened(token: string): boolean {
    const { current, next } = this.#tokens
    const rotated = token === next
    const nextIsUnknown = token === current && next !== undefined && this.#refused.has(next)
    this.#refused.clear()
    if (!rotated && !nextIsUnknown) return false
    // What is in memory counts from now on; a disk that does not take it holds both, which is as good.
    this.#tokens = { current: token, next: undefined }
    this.#keep(this.#tokens)
    return rotated
  }

  /** The server refused this token for good; answers true when there is another to try. */
  refused(token: string): boolean {
    this.#refused.add(token)
    return !this.#refused.has(this.toUse)
  }
}
