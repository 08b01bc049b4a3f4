import { connect, type Socket } from 'node:net'
import { type Relay, type Relayed, startRelay } from './relay.ts'

/** Which way data goes. */
export type Way = 'to_server' | 'to_client'

const WAYS = ['to_server', 'to_client'] as const
/** What waits on one way of one connection before its sender is made to wait: a socket's buffer, about. */
const MAX_WAITING_BYTES = 64 * 1024
/** How often a throttled way passes some of what waits. */
const THROTTLE_TICK_MS = 20

interface Item {
  /** Undefined: its sender is gone. */
  readonly chunk: Buffer | undefined
  /** Not before this. */
  readonly at: number
}

/** What one way of all connections is like. */
interface Weather {
  delayMs: number
  /** Infinity: as fast as it comes. */
  bytesPerSecond: number
  isHeld: boolean
}

/** One way of one connection: what was sent arrives in order, when the weather allows. */
class Lane {
  readonly #from: Socket
  readonly #to: Socket
  readonly #weather: Weather
  #items: Item[] = []
  #waiting = 0
  #timer: NodeJS.Timeout | undefined
  /** When the way is free again for the next bytes. */
  #freeAt = 0
  /** All that comes from now on is lost, its end included. */
  swallows = false
  /** Called instead of passing the next piece on. */
  onNext: ((chunk: Buffer) => void) | undefined

  constructor(from: Socket, to: Socket, weather: Weather) {
    this.#from = from
    this.#to = to
    this.#weather = weather
  }

  put(chunk: Buffer | undefined): void {
    if (this.swallows) return
    if (chunk && this.onNext) {
      this.onNext(chunk)
      return
    }
    this.#items.push({ chunk, at: performance.now() + this.#weather.delayMs })
    this.#waiting += chunk?.length ?? 0
    if (this.#waiting > MAX_WAITING_BYTES) this.#from.pause()
    this.pump()
  }

  /** Passes on what may pass now, and comes back for the rest. */
  pump(): void {
    clearTimeout(this.#timer)
    if (this.#weather.isHeld) return
    for (;;) {
      const [first] = this.#items
      if (!first) return
      const now = performance.now()
      const wait = Math.max(first.at, this.#freeAt) - now
      if (wait > 0) {
        this.#timer = setTimeout(() => this.pump(), Math.ceil(wait))
        return
      }
      this.#passOn(first, now)
    }
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#items = []
  }

  #passOn({ chunk, at }: Item, now: number): void {
    this.#items.shift()
    if (!chunk) {
      this.#to.end()
      return
    }
    const { bytesPerSecond } = this.#weather
    const some = Math.max(1, Math.floor((bytesPerSecond * THROTTLE_TICK_MS) / 1000))
    const part = chunk.subarray(0, some)
    if (part.length < chunk.length) this.#items.unshift({ chunk: chunk.subarray(some), at })
    this.#freeAt = Math.max(this.#freeAt, now) + (part.length / bytesPerSecond) * 1000
    this.#waiting -= part.length
    if (this.#waiting <= MAX_WAITING_BYTES) this.#from.resume()
    if (this.#to.writable) this.#to.write(part)
  }
}

/**
 * A network between robots and their server that does what networks do. Faults hold until `restore`; what was lost stays
 * lost.
 */
export class FaultyNetwork {
  readonly #relay: Relay
  readonly #lanes: Map<Relayed, Record<Way, Lane>>
  readonly #weather: Record<Way, Weather>
  readonly #doors: { state: 'open' | 'refusing' | 'silent' }
  readonly #target: URL

  private constructor(
    relay: Relay,
    lanes: Map<Relayed, Record<Way, Lane>>,
    weather: Record<Way, Weather>,
    doors: { state: 'open' | 'refusing' | 'silent' },
    target: URL,
  ) {
    this.#relay = relay
    this.#lanes = lanes
    this.#weather = weather
    this.#doors = doors
    this.#target = target
  }

  /** Stands before a server. */
  static async before(serverUrl: string): Promise<FaultyNetwork> {
    const target = new URL(serverUrl)
    const lanes = new Map<Relayed, Record<Way, Lane>>()
    const fair = (): Weather => ({ delayMs: 0, bytesPerSecond: Number.POSITIVE_INFINITY, isHeld: false })
    const weather = { to_server: fair(), to_client: fair() }
    const doors: { state: 'open' | 'refusing' | 'silent' } = { state: 'open' }
    const relay = await startRelay({
      reach: () => connect(Number(target.port), target.hostname),
      takes(client) {
        if (doors.state === 'refusing') client.resetAndDestroy()
        // Taken by the machine and answered by nobody.
        if (doors.state === 'silent') client.pause()
        return doors.state === 'open'
      },
      opened(connection) {
        const { client, upstream } = connection
        lanes.set(connection, {
          to_server: new Lane(client, upstream, weather.to_server),
          to_client: new Lane(upstream, client, weather.to_client),
        })
      },
      fromClient: (connection, chunk) => lanes.get(connection)?.to_server.put(chunk),
      fromUpstream: (connection, chunk) => lanes.get(connection)?.to_client.put(chunk),
      gone(connection, half) {
        lanes.get(connection)?.[half === 'client' ? 'to_server' : 'to_client'].put(undefined)
        if (!connection.client.destroyed || !connection.upstream.destroyed) return
        for (const way of WAYS) lanes.get(connection)?.[way].stop()
        lanes.delete(connection)
      },
    })
    return new FaultyNetwork(relay, lanes, weather, doors, target)
  }

  /** The server's address by way of this network. */
  get url(): string {
    return `${this.#target.protocol}//127.0.0.1:${this.#relay.port}`
  }

  /** Connections that stand at both ends. */
  get connections(): number {
    return [...this.#relay.connections].filter(
      ({ client, upstream }) => !client.destroyed && !upstream.destroyed,
    ).length
  }

  /** Ends every connection: with a reset, or in order (FIN). */
  cut(how: 'reset' | 'fin'): void {
    for (const { client, upstream } of this.#relay.connections)
      for (const socket of [client, upstream])
        if (how === 'reset') socket.resetAndDestroy()
        else socket.end()
  }

  /** Lets half of the next piece that goes this way through, and nothing after it: its sender is reset, the other sees an end. */
  cutInside(way: Way): void {
    for (const [{ client, upstream }, lanes] of this.#lanes)
      lanes[way].onNext = (chunk) => {
        const [from, to] = way === 'to_server' ? [client, upstream] : [upstream, client]
        lanes[way].onNext = () => {}
        to.end(chunk.subarray(0, Math.ceil(chunk.length / 2)))
        from.resetAndDestroy()
      }
  }

  /** Loses all that standing connections send, even that they end. Neither side is told; new connections work. */
  halfOpen(...ways: Way[]): void {
    for (const lanes of this.#lanes.values())
      for (const way of ways.length === 0 ? WAYS : ways) lanes[way].swallows = true
  }

  /** Keeps what is sent until `restore`, as a network does that is gone for a moment. */
  hold(): void {
    for (const way of WAYS) this.#weather[way].isHeld = true
  }

  /** Lets everything arrive later, each way. */
  delay(ms: number): void {
    for (const way of WAYS) this.#weather[way].delayMs = ms
  }

  /** Lets no more pass on each way of a connection. */
  throttle(bytesPerSecond: number): void {
    for (const way of WAYS) this.#weather[way].bytesPerSecond = bytesPerSecond
  }

  /** New connections are reset. */
  refuse(): void {
    this.#doors.state = 'refusing'
  }

  /** New connections come about and are answered by nobody. */
  blackHole(): void {
    this.#doors.state = 'silent'
  }

  restore(): void {
    this.#doors.state = 'open'
    for (const way of WAYS)
      Object.assign(this.#weather[way], {
        delayMs: 0,
        bytesPerSecond: Number.POSITIVE_INFINITY,
        isHeld: false,
      })
    for (const lanes of this.#lanes.values()) for (const way of WAYS) lanes[way].pump()
  }

  async stop(): Promise<void> {
    for (const lanes of this.#lanes.values()) for (const way of WAYS) lanes[way].stop()
    await this.#relay.stop()
  }
}
