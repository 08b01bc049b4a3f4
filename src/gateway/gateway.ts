import type { Bus } from '../bus/bus.ts'
import { type Database, isDatabaseUnavailable } from '../db/database.ts'
import { BeaconError } from '../errors.ts'
import { Registry } from '../fleet/registry.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import { CLOSE } from '../protocol/close-codes.ts'
import { SUBPROTOCOL } from '../protocol/limits.ts'
import { Releases } from '../releases.ts'
import type { Clock, Random } from '../runtime.ts'
import type { Admission, UpgradeRequest } from '../transport/transport.ts'
import { Authenticator } from './authenticator.ts'
import type { Connection } from './connection.ts'
import { News } from './news.ts'
import type { PersistParts } from './persist.ts'
import { PresenceKeeper } from './presence-keeper.ts'
import { ServerWatch } from './server-watch.ts'
import { Sessions } from './sessions.ts'
import { spreadSeconds } from './spread.ts'
import { TimelineWriter } from './timeline-writer.ts'

export interface GatewayParts {
  readonly database: Database
  readonly bus: Bus
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
  readonly server: { readonly id: string; readonly hostname: string; readonly processId: number }
  readonly defaultIntervalMs: number
}

const TICK_MS = 250
/** Sockets that may wait for their hello or for the database, before further ones are sent away. */
const MAX_HANDSHAKES = 5_000
/** Robots are sent away over a span that grows by this much for each, within these bounds. */
const DRAIN_MS_PER_ROBOT = 2
const SHORTEST_DRAIN_SPAN_MS = 2_000
const LONGEST_DRAIN_SPAN_MS = 30_000
/** What stopping waits for writes, and then for sockets to close. */
const FLUSH_DEADLINE_MS = 8_000
const CLOSE_DEADLINE_MS = 2_000

/** Where this server's robots are: admits sockets, keeps time for their sessions and lets them go. */
export class Gateway {
  readonly #parts: GatewayParts
  readonly #registry = new Registry<Connection>()
  readonly #authenticator: Authenticator
  readonly #timeline: TimelineWriter
  readonly #presence: PresenceKeeper
  readonly #watch: ServerWatch
  readonly #news: News
  readonly #sessions: Sessions
  readonly #givingUp = new AbortController()
  readonly #releases: Releases
  #draining = false

  constructor(parts: GatewayParts) {
    const { database, clock, log, metrics } = parts
    const persist: PersistParts = { clock, log, metrics, signal: this.#givingUp.signal }
    this.#parts = parts
    this.#releases = new Releases((name, error) =>
      log.error({ err: error, part: name }, 'could not stop a part'),
    )
    this.#authenticator = new Authenticator(database, clock)
    this.#timeline = new TimelineWriter(database, persist)
    this.#presence = new PresenceKeeper(database, persist, this.#timeline)
    this.#watch = new ServerWatch({
      ...parts,
      timeline: this.#timeline,
      onThoughtDead: () => this.#restatePresence(),
    })
    this.#news = new News({
      ...parts,
      persist,
      registry: this.#registry,
      authenticator: this.#authenticator,
      presence: this.#presence,
    })
    this.#sessions = new Sessions({
      ...parts,
      persist,
      registry: this.#registry,
      timeline: this.#timeline,
      presence: this.#presence,
      watch: this.#watch,
      news: this.#news,
    })
  }

  /** Begins to watch and to listen. Rejects when the database cannot be reached. */
  async start(): Promise<void> {
    const { clock, metrics } = this.#parts
    await this.#watch.start()
    this.#releases.add('server watch', () => this.#watch.stop())
    this.#news.start()
    const tick = clock.every(TICK_MS, () => this.#tick())
    this.#releases.add('tick', () => tick.cancel())
    metrics.sessions.set(0)
  }

  get sessions(): number {
    return this.#sessions.size
  }

  get draining(): boolean {
    return this.#draining
  }

  /**
   * Refuses new sockets, stores what robots have sent, tells them when to come back, closes their sessions and waits,
   * for a bounded time, until all is written. Robots are not offline by this: they are given time to return.
   */
  async stop(): Promise<void> {
    const { clock, log } = this.#parts
    this.#draining = true
    const giveUp = clock.after(FLUSH_DEADLINE_MS, () => {
      log.warn('the database does not take what is left; giving up on it')
      this.#givingUp.abort()
    })
    await this.#sessions.flushHeartbeats()
    const spanMs = Math.min(
      Math.max(this.#registry.size * DRAIN_MS_PER_ROBOT, SHORTEST_DRAIN_SPAN_MS),
      LONGEST_DRAIN_SPAN_MS,
    )
    this.#sessions.drain(spanMs)
    await this.#allClosed()
    this.#sessions.terminateAll()
    await this.#sessions.flushHeartbeats()
    await this.#presence.idle()
    await this.#timeline.idle()
    await this.#sessions.idle()
    giveUp.cancel()
    await this.#releases.run()
    this.#givingUp.abort()
  }

  /** Decides about an upgrade request. */
  async admit(request: UpgradeRequest): Promise<Admission> {
    const { metrics, log, random } = this.#parts
    try {
      if (this.#draining)
        throw new BeaconError('draining', undefined, { retryAfterSeconds: spreadSeconds(random, 1, 5) })
      if (!request.subprotocols.includes(SUBPROTOCOL))
        throw new BeaconError('subprotocol_required', `Sec-WebSocket-Protocol has to offer ${SUBPROTOCOL}`)
      const handshakes = this.#sessions.handshakes + this.#authenticator.waiting
      if (handshakes >= MAX_HANDSHAKES)
        throw new BeaconError('overloaded', undefined, { retryAfterSeconds: spreadSeconds(random, 1, 15) })
      const robot = await this.#authenticator.authenticate(request.authorization)
      if (this.#draining)
        throw new BeaconError('draining', undefined, { retryAfterSeconds: spreadSeconds(random, 1, 5) })
      metrics.upgrades.inc({ outcome: 'accepted' })
      return { kind: 'accept', open: (socket) => this.#sessions.accept(socket, robot) }
    } catch (thrown) {
      let error = thrown
      if (!(error instanceof BeaconError)) {
        const away = isDatabaseUnavailable(error)
        if (!away) log.error({ err: error }, 'an upgrade failed')
        error = new BeaconError(away ? 'database_unavailable' : 'internal_error', undefined, {
          retryAfterSeconds: spreadSeconds(random, 2, 10),
          cause: thrown,
        })
      }
      metrics.upgrades.inc({ outcome: (error as BeaconError).code })
      return { kind: 'refuse', error: error as BeaconError }
    }
  }

  // What time and others bring

  #tick(): void {
    const now = this.#parts.clock.now()
    this.#sessions.tick(now)
    this.#measure()
    // A server that sends its robots away hears them no longer: whoever comes after it judges them.
    if (this.#draining) return
    for (const change of this.#presence.presence.tick(now)) {
      this.#presence.write(change)
      if (change.connection !== 'offline') continue
      const connection = this.#registry.current(change.robotId)
      if (connection?.sessionNo === change.sessionNo) connection.end(CLOSE.silent)
    }
  }

  #measure(): void {
    const { queueDepth } = this.#parts.metrics
    queueDepth.set({ queue: 'timeline' }, this.#timeline.waiting)
    queueDepth.set({ queue: 'presence' }, this.#presence.waiting)
    queueDepth.set({ queue: 'authentication' }, this.#authenticator.waiting)
  }

  #restatePresence(): void {
    this.#parts.log.warn('the other servers had taken this one for dead; saying again who is here')
    for (const change of this.#presence.presence.restate(this.#parts.clock.now()))
      this.#presence.write(change)
    this.#news.lookAgain([...this.#registry.all()])
  }

  async #allClosed(): Promise<void> {
    const { clock } = this.#parts
    const deadline = clock.now() + CLOSE_DEADLINE_MS
    while (this.#sessions.sockets > 0 && clock.now() < deadline) await clock.sleep(20)
  }
}
