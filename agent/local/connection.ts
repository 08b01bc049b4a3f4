import { connect, type Socket } from 'node:net'
import { objectIn } from '../http.ts'
import type { Clock, Timer } from '../runtime.ts'
import { whyNoAgent } from './client.ts'

const ANSWER_TIMEOUT_MS = 5_000
const ANSWER_LIMIT = 256 * 1024

interface Asked {
  readonly resolve: (answer: Readonly<Record<string, unknown>>) => void
  readonly reject: (error: Error) => void
  readonly timer: Timer
}

/** A connection to the running agent that stays, for a program of ours that has much to tell it: one line after the other. */
export class AgentConnection {
  readonly #socket: Socket
  readonly #path: string
  readonly #clock: Clock
  #text = ''
  #asked: Asked | undefined
  #lost: Error | undefined

  private constructor(path: string, clock: Clock) {
    this.#path = path
    this.#clock = clock
    this.#socket = connect(path)
    this.#socket.setEncoding('utf8')
    this.#socket.on('error', (error) => this.#fail(new Error(whyNoAgent(path, error))))
    this.#socket.on('data', (part) => this.#received(String(part)))
    this.#socket.on('close', () => this.#fail(new Error(`the agent on ${path} ended the connection`)))
  }

  /** Rejects with a sentence when no agent can be reached. */
  static open(path: string, clock: Clock): Promise<AgentConnection> {
    return new Promise((resolve, reject) => {
      const connection = new AgentConnection(path, clock)
      connection.#asked = connection.#waiting(() => resolve(connection), reject)
      connection.#socket.once('connect', () => connection.#answered({}))
    })
  }

  /** The agent's answer to one line. Rejects when the connection is lost: it cannot be used again then. */
  ask(request: object): Promise<Readonly<Record<string, unknown>>> {
    return new Promise((resolve, reject) => {
      if (this.#lost) {
        reject(this.#lost)
        return
      }
      if (this.#asked) throw new Error('one line after the other')
      this.#asked = this.#waiting(resolve, reject)
      this.#socket.write(`${JSON.stringify(request)}\n`)
    })
  }

  close(): void {
    this.#fail(new Error('closed'))
  }

  #waiting(resolve: Asked['resolve'], reject: Asked['reject']): Asked {
    const timer = this.#clock.after(ANSWER_TIMEOUT_MS, () =>
      this.#fail(new Error(`the agent on ${this.#path} does not answer`)),
    )
    return { resolve, reject, timer }
  }

  #received(part: string): void {
    this.#text += part
    if (this.#text.length > ANSWER_LIMIT) {
      this.#fail(new Error(`the answer from ${this.#path} is too long`))
      return
    }
    const end = this.#text.indexOf('\n')
    if (end < 0) return
    const answer = objectIn(this.#text.slice(0, end))
    this.#text = this.#text.slice(end + 1)
    if (answer) this.#answered(answer)
    else this.#fail(new Error(`what listens on ${this.#path} is no agent`))
  }

  #answered(answer: Readonly<Record<string, unknown>>): void {
    const asked = this.#asked
    this.#asked = undefined
    asked?.timer.cancel()
    asked?.resolve(answer)
  }

  #fail(error: Error): void {
    if (this.#lost) return
    this.#lost = error
    this.#socket.destroy()
    const asked = this.#asked
    this.#asked = undefined
    asked?.timer.cancel()
    asked?.reject(error)
  }
}
