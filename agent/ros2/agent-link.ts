import { AgentConnection } from '../local/connection.ts'
import type { Log } from '../log.ts'
import type { Clock } from '../runtime.ts'
import { describeError, printable } from '../text.ts'
import type { Line, Teller } from './teller.ts'

export interface AgentLinkParts {
  /** Looked up for each connection: the socket may come to lie elsewhere when the agent is installed. */
  readonly socket: () => string
  readonly teller: Teller
  /** Lines in a second. */
  readonly rate: number
  /** A line was not taken. */
  readonly refused: () => void
  readonly clock: Clock
  readonly log: Log
}

const PAUSE_MS = 2_000
/** How long the end may take; what is not taken back then ends by itself. */
const FAREWELL_MS = 2_000

/** Keeps the running agent told of what the teller has, through every restart of the agent. */
export class AgentLink {
  readonly #parts: AgentLinkParts
  /** The trouble that the log knows of. */
  #trouble: string | undefined
  readonly #refusals = new Set<string>()

  constructor(parts: AgentLinkParts) {
    this.#parts = parts
  }

  /** Works until the signal; then takes back what it told. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log, socket, teller } = this.#parts
    while (!signal.aborted) {
      try {
        const path = socket()
        const connection = await AgentConnection.open(path, clock)
        this.#trouble = undefined
        log.info(`tells the agent on ${path}`)
        teller.startAnew()
        await this.#tell(connection, signal)
      } catch (error) {
        const trouble = describeError(error)
        if (trouble !== this.#trouble) log.warn(`${trouble}; it is tried again until it answers`)
        this.#trouble = trouble
      }
      await clock.sleep(PAUSE_MS, signal).catch(() => {})
    }
  }

  async #tell(connection: AgentConnection, signal: AbortSignal): Promise<void> {
    const { clock, teller, rate } = this.#parts
    try {
      while (!signal.aborted) {
        const line = teller.next()
        if (line) teller.answered(await this.#isTaken(connection, line))
        await clock.sleep(1_000 / rate, signal).catch(() => {})
      }
      await this.#takeBack(connection)
    } finally {
      connection.close()
    }
  }

  async #isTaken(connection: AgentConnection, line: Line): Promise<boolean> {
    const answer = await connection.ask(line)
    if (answer.ok === true) return true
    this.#parts.refused()
    const reason = printable(String(answer.error ?? 'no reason given'))
    // Each reason once: what is refused is tried again and again.
    if (!this.#refusals.has(reason) && this.#refusals.size < 100) {
      this.#refusals.add(reason)
      this.#parts.log.warn(`the agent refuses ${printable(JSON.stringify(line), 200)}: ${reason}`)
    }
    return false
  }

  async #takeBack(connection: AgentConnection): Promise<void> {
    const { clock, teller } = this.#parts
    const timer = clock.after(FAREWELL_MS, () => connection.close())
    try {
      for (const line of teller.undoAll()) await connection.ask(line)
    } catch {
      // It ends by itself.
    } finally {
      timer.cancel()
    }
  }
}
