import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import type { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { expect } from 'vitest'

// biome-ignore lint/suspicious/noExplicitAny: what was told is asserted by the test
type Json = any

export interface LiveEvent {
  readonly event: string
  readonly data: Json
}

/** As WHATWG's HTML says that event streams are read. Fields that it does not know and comments are told apart, too. */
class Parser {
  lastEventId = ''
  retryMs: number | undefined
  comments = 0
  #buffer = ''
  #id: string | undefined
  #event = ''
  #data: string[] = []

  feed(text: string): LiveEvent[] {
    this.#buffer += text
    const lines = this.#buffer.split('\n')
    this.#buffer = lines.pop()!
    return lines.flatMap((line) => this.#take(line))
  }

  get isMidEvent(): boolean {
    return this.#buffer !== '' || this.#event !== '' || this.#data.length > 0
  }

  #take(line: string): LiveEvent[] {
    if (line === '') return this.#dispatch()
    if (line.startsWith(':')) this.comments += 1
    else {
      const [, field, value] = /^([a-z]+):? ?(.*)$/.exec(line) ?? []
      if (field === 'event') this.#event = value!
      else if (field === 'data') this.#data.push(value!)
      else if (field === 'id') this.#id = value!
      else if (field === 'retry') this.retryMs = Number(value)
      else throw new Error(`a line that is none: ${line}`)
    }
    return []
  }

  #dispatch(): LiveEvent[] {
    if (this.#id !== undefined) this.lastEventId = this.#id
    const found =
      this.#data.length > 0 ? [{ event: this.#event, data: JSON.parse(this.#data.join('\n')) }] : []
    this.#id = undefined
    this.#event = ''
    this.#data = []
    return found
  }
}

export interface LiveReaderOptions {
  readonly token?: string
  /** Such as `?detail=status`. */
  readonly query?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Somebody who reads a live feed over a socket of their own, and knows what they were told. */
export class LiveReader {
  /** What is known of the robots. */
  readonly robots = new Map<string, Json>()
  readonly events: LiveEvent[] = []
  counts: Json
  /** The whole beginning was told. */
  isWhole = false
  isClosed = false
  /** Of the text. */
  bytes = 0
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly closed: Promise<number>
  readonly #parser = new Parser()
  readonly #request: ClientRequest
  readonly #text: Readable
  #isTorn = false

  private constructor(request: ClientRequest, answer: IncomingMessage) {
    this.#request = request
    this.#text = answer.headers['content-encoding'] === 'gzip' ? answer.pipe(createGunzip()) : answer
    this.status = answer.statusCode!
    this.headers = answer.headers
    this.closed = new Promise((resolve) => {
      this.#text.on('close', () => {
        this.isClosed = true
        resolve(performance.now())
      })
    })
    for (const stream of [answer, this.#text])
      stream.on('error', () => {
        this.#isTorn = true
      })
    this.#text.setEncoding('utf8').on('data', (text: string) => {
      this.bytes += Buffer.byteLength(text)
      for (const event of this.#parser.feed(text)) this.#take(event)
    })
  }

  /** Resolves once the answer has begun. */
  static open(url: string, { token, query = '', headers = {} }: LiveReaderOptions): Promise<LiveReader> {
    return new Promise((resolve, reject) => {
      const asked = request(
        `${url}/api/live${query}`,
        {
          agent: false,
          headers: { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...headers },
        },
        (answer) => resolve(new LiveReader(asked, answer)),
      )
      asked.on('error', reject)
      asked.end()
    })
  }

  get lastEventId(): string {
    return this.#parser.lastEventId
  }

  get retryMs(): number | undefined {
    return this.#parser.retryMs
  }

  get comments(): number {
    return this.#parser.comments
  }

  /** Whether the text ended between events, and what it came in was whole, too. */
  get endedWhole(): boolean {
    return !this.#parser.isMidEvent && !this.#isTorn
  }

  all(event: string): Json[] {
    return this.events.filter((one) => one.event === event).map(({ data }) => data)
  }

  /** Takes nothing more until it is asked to. */
  pause(): void {
    this.#text.pause()
  }

  resume(): void {
    this.#text.resume()
  }

  close(): void {
    this.#request.destroy()
  }

  #take(event: LiveEvent): void {
    this.events.push(event)
    const { data } = event
    if (event.event === 'snapshot') {
      if (data.first) this.robots.clear()
      for (const robot of data.items) this.robots.set(robot.id, robot)
      this.isWhole = data.done
    } else if (event.event === 'delta') {
      // Whoever comes back is told what they missed, and knows the rest.
      if (this.events.length === 1) this.isWhole = true
      expect(this.isWhole, 'deltas come after a whole snapshot').toBe(true)
      for (const robot of data.changed) this.robots.set(robot.id, robot)
      for (const id of data.removed) this.robots.delete(id)
    } else this.isWhole = false
    this.counts = data.counts ?? this.counts
  }
}
