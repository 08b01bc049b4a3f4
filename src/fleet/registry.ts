/** What the registry needs of a connection. */
export interface Registered {
  readonly robotId: string
  /** Undefined until its session was opened. */
  readonly sessionNo: number | undefined
}

interface Entry<Connection> {
  /** The newest session that was opened. */
  current: Connection | undefined
  /** Authenticated, but not opened yet. At most one: a newer one takes its place. */
  candidate: Connection | undefined
}

/** Which connection stands for which robot on this server. The newest wins, always. */
export class Registry<Connection extends Registered> {
  readonly #robots = new Map<string, Entry<Connection>>()
  #size = 0

  /** Connections registered, candidates included. */
  get size(): number {
    return this.#size
  }

  /** Registers a connection that has just been authenticated; answers with the candidate it replaces. */
  arrive(connection: Connection): Connection | undefined {
    let entry = this.#robots.get(connection.robotId)
    if (!entry) {
      entry = { current: undefined, candidate: undefined }
      this.#robots.set(connection.robotId, entry)
    }
    const replaced = entry.candidate
    entry.candidate = connection
    if (!replaced) this.#size += 1
    return replaced
  }

  /** The candidate's session was opened: it stands for its robot. Answers with the older session that has to go. */
  opened(connection: Connection): Connection | undefined {
    const entry = this.#robots.get(connection.robotId)
    if (entry?.candidate !== connection) return undefined
    const older = entry.current
    entry.candidate = undefined
    entry.current = connection
    if (older) this.#size -= 1
    return older
  }

  /** Takes the connection out, if it is still the one that stands for its robot. */
  leave(connection: Connection): void {
    const entry = this.#robots.get(connection.robotId)
    if (!entry) return
    if (entry.current === connection) {
      entry.current = undefined
      this.#size -= 1
    }
    if (entry.candidate === connection) {
      entry.candidate = undefined
      this.#size -= 1
    }
    if (!entry.current && !entry.candidate) this.#robots.delete(connection.robotId)
  }

  /** Every connection of a robot: the current one first. */
  of(robotId: string): Connection[] {
    const entry = this.#robots.get(robotId)
    return [entry?.current, entry?.candidate].filter((connection) => connection !== undefined)
  }

  current(robotId: string): Connection | undefined {
    return this.#robots.get(robotId)?.current
  }

  *all(): Generator<Connection> {
    for (const entry of this.#robots.values()) {
      if (entry.current) yield entry.current
      if (entry.candidate) yield entry.candidate
    }
  }
}
