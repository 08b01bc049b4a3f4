const MAX_STRINGS = 10_000

/**
 * One copy of each string that very many keep, such as the fleet's id of every robot in it: the database's answers bring a
 * new one with each row. Bounded by starting over, which costs copies and nothing else.
 */
export class SharedStrings {
  readonly #strings = new Map<string, string>()

  /** The string itself, or an equal one from before. */
  share<Text extends string>(text: Text): Text {
    const known = this.#strings.get(text)
    if (known !== undefined) return known as Text
    if (this.#strings.size >= MAX_STRINGS) this.#strings.clear()
    this.#strings.set(text, text)
    return text
  }
}
