import pg from 'pg'

/**
 * A statement that begins with this mark is parsed once on each connection and has one plan for all its parameters:
 * to plan it anew costs PostgreSQL more than most statements do. It has to be one that such a plan serves, however many
 * rows it is given, and its text has to be the same every time.
 */
const MARK = /^\s*\/\* prepared: ([a-z_]{1,40}) \*\//

/** Texts that get a name; those that come later are planned every time, as all others. */
const MAX_NAMES = 64
/** So often a connection begins anew when what it has prepared is gone or no longer fits; then it prepares nothing more. */
const MAX_GENERATIONS = 8

/** By text; null for a text without the mark is not kept, for there are many of them. */
const names = new Map<string, string>()

function nameOf(text: string): string | undefined {
  const known = names.get(text)
  if (known !== undefined) return known
  const label = MARK.exec(text)?.[1]
  if (label === undefined || names.size >= MAX_NAMES) return undefined
  const name = `beacon_${label}_${names.size}`
  names.set(text, name)
  return name
}

/** What PostgreSQL says of a statement that it has no longer, has already, or would answer differently since the schema changed. */
function isStalePreparation(error: unknown): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown }
  if (code === '26000' || code === '42P05') return true
  return code === '0A000' && typeof message === 'string' && message.startsWith('cached plan must not change')
}

const IN_FAILED_TRANSACTION = '25P02'

/** A connection that prepares the statements which ask for it. */
export class PreparingClient extends pg.Client {
  #generation = 0

  // biome-ignore lint/suspicious/noExplicitAny: it takes whatever pg's own does, which has eight forms
  override query(...given: any[]): any {
    const [text, values, callback] = given
    const name =
      typeof text === 'string' && Array.isArray(values) && callback === undefined ? nameOf(text) : undefined
    if (name === undefined || this.#generation >= MAX_GENERATIONS)
      return super.query(...(given as Parameters<pg.Client['query']>))
    return this.#queryPrepared(`${name}_${this.#generation}`, text, values)
  }

  async #queryPrepared(name: string, text: string, values: unknown[]): Promise<pg.QueryResult> {
    const generation = this.#generation
    try {
      return await super.query({ name, text, values })
    } catch (error) {
      if (!isStalePreparation(error)) throw error
      // Under other names, all of them are prepared again when they are needed.
      if (this.#generation === generation) this.#generation += 1
      return super.query({ text, values }).catch((again: unknown) => {
        throw (again as { code?: unknown }).code === IN_FAILED_TRANSACTION ? error : again
      })
    }
  }
}
