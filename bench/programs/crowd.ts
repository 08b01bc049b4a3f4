import { performance } from 'node:perf_hooks'
import { reconnectDelayIn } from '../../src/protocol/close-codes.ts'
import { Histogram } from '../support/histogram.ts'
import { type Dialect, DRAIN, ERROR, GREETING, OLDEST } from './dialects.ts'
import { type Ending, loopbackAddress, RawWebSocket, upgradeRequest } from './raw-websocket.ts'

/** A process may often have 20,000 file descriptors, and needs some itself. */
export const MAX_ROBOTS = 19_500
const ROBOTS_PER_ADDRESS = 2_000
const TICK_MS = 2
const WAIT_BUCKET_MS = 10
/** A handshake that takes longer is given up, as by our agent. */
const HANDSHAKE_PATIENCE_MS = 30_000

/** Robots that lose their session, or are refused one, come back: after what they were told, or with full jitter. */
export interface Persistence {
  /** The longest pause before the first attempt; it doubles with each that fails. */
  readonly jitterMs: number
  readonly maxJitterMs: number
}

export interface CrowdOptions {
  readonly dialect: Dialect
  readonly port: number
  /** Number of the first loopback address that robots come from; processes of one bench have ten to themselves. */
  readonly firstAddress: number
  readonly handshakesAtOnce: number
  /** A robot with so many heartbeats unanswered makes no more of them until there are fewer. */
  readonly maxInFlight: number
  /** Undefined: a lost session is a failure of the bench. */
  readonly persistence: Persistence | undefined
  /** Above all that these robots have sent before: what may have been sent before costs the server a look. */
  readonly firstSeq: number
}

export interface CrowdCounts {
  readonly robots: number
  /** With a session that the server has greeted. */
  readonly here: number
  readonly handshaking: number
  /** For their turn, or until they may come back. */
  readonly waiting: number
  /** Sessions greeted, over all. */
  readonly opened: number
  /** Refused upgrades by HTTP status, sessions closed by code, connections lost by error; over all. */
  readonly refused: Readonly<Record<string, number>>
  readonly closed: Readonly<Record<string, number>>
  readonly lost: Readonly<Record<string, number>>
  readonly sent: number
  readonly answered: number
  /** Unanswered when their session ended, and sent again in the next. */
  readonly resent: number
  /** Due, and not sent for too many were unanswered. */
  readonly heldBack: number
  /** `error` frames. */
  readonly errors: number
}

const STATE = { absent: 0, waiting: 1, handshaking: 2, greeting: 3, here: 4 } as const

/**
 * Up to 19,500 robots in one process. What is known of each stands in arrays of numbers, by the robot's number; one timer
 * serves all.
 */
export class Crowd {
  /** Heartbeat → answer, of heartbeats sent once. */
  readonly latencies = new Histogram()
  /** Session lost → next one greeted; and the same without the pauses that the robot was told or chose to make. */
  readonly back = new Histogram()
  readonly backBeyondPauses = new Histogram()
  /** Upgrade begun → greeted. */
  readonly handshakes = new Histogram()

  /** 1: nobody wants to know how soon this robot's heartbeats are answered. */
  readonly untimed = new Uint8Array(MAX_ROBOTS)

  readonly #options: CrowdOptions
  readonly #sockets: (RawWebSocket | undefined)[] = []
  readonly #tokens: string[] = []
  readonly #state = new Uint8Array(MAX_ROBOTS)
  readonly #nextSeq = new Int32Array(MAX_ROBOTS)
  readonly #answeredSeq = new Int32Array(MAX_ROBOTS)
  /** Up to here heartbeats were sent in an earlier session, too. */
  readonly #resentSeq = new Int32Array(MAX_ROBOTS)
  /** Of the heartbeats on the way: `maxInFlight` places for each robot. */
  readonly #sentAt: Float64Array
  readonly #dialledAt = new Float64Array(MAX_ROBOTS)
  /** When the session was lost; NaN: there was none yet, or it is there. */
  readonly #lostAt = new Float64Array(MAX_ROBOTS).fill(Number.NaN)
  /** The pauses made since, in milliseconds. */
  readonly #paused = new Float64Array(MAX_ROBOTS)
  readonly #attempts = new Uint8Array(MAX_ROBOTS)
  /** What the server said with `drain`; negative: nothing. */
  readonly #toldMs = new Float64Array(MAX_ROBOTS).fill(-1)

  /** Robots that may dial, first come first served. */
  #queue: number[] = []
  #queueHead = 0
  readonly #pauses = new Map<number, number[]>()
  #pauseBucket = 0
  #handshaking = 0
  #perSecond = 0
  #paceFrom = 0
  #paceDialled = 0

  #phases: { order: Int32Array; points: Float64Array } | undefined
  #beatEveryMs = 0
  #beatsFrom = 0
  #cursor = 0
  #cycle = 0

  #nextLookAtHandshakes = 0
  #here = 0
  #waiting = 0
  #opened = 0
  #sent = 0
  #answered = 0
  #resent = 0
  #heldBack = 0
  #errors = 0
  #outstanding = 0
  readonly #refused: Record<string, number> = {}
  readonly #closed: Record<string, number> = {}
  readonly #lost: Record<string, number> = {}

  /** Called when a bench cannot go on. */
  onFailure: (error: Error) => void = (error) => {
    throw error
  }
  /** Called when a robot's heartbeats are answered. */
  onAnswered: ((robot: number) => void) | undefined
  /** Called when a robot has lost its session, and when it has one again. */
  onLost: ((robot: number) => void) | undefined
  onBack: ((robot: number) => void) | undefined

  constructor(options: CrowdOptions) {
    this.#options = options
    this.#sentAt = new Float64Array(MAX_ROBOTS * options.maxInFlight)
    this.#pauseBucket = Math.floor(performance.now() / WAIT_BUCKET_MS)
    setInterval(() => this.#tick(), TICK_MS).unref()
  }

  get size(): number {
    return this.#tokens.length
  }

  get here(): number {
    return this.#here
  }

  /** Heartbeats that are sent and not answered. */
  get outstanding(): number {
    return this.#outstanding
  }

  /** Adds a robot for each token and has them connect, so many a second; 0: as fast as handshakes go. */
  add(tokens: readonly string[], perSecond = 0): void {
    const first = this.size
    this.addAway(tokens)
    for (let robot = first; robot < this.size; robot++) this.#enqueue(robot)
    this.#setPace(perSecond)
    this.#dial()
  }

  /** Adds a robot for each token; they stay away until `comeBack`. */
  addAway(tokens: readonly string[]): void {
    if (this.size + tokens.length > MAX_ROBOTS) throw new Error(`${MAX_ROBOTS} robots in a process at most`)
    for (const token of tokens) {
      const robot = this.#tokens.push(token) - 1
      this.#nextSeq[robot] = this.#options.firstSeq
      this.#answeredSeq[robot] = this.#options.firstSeq - 1
      this.#resentSeq[robot] = this.#options.firstSeq - 1
    }
    this.#phases = undefined
    if (this.#beatEveryMs > 0) this.beatEvery(this.#beatEveryMs)
  }

  /** Drops all sessions without a word; robots stay away until `comeBack`. */
  leave(): void {
    for (let robot = 0; robot < this.size; robot++) this.#drop(robot, STATE.absent)
    this.#queue = []
    this.#queueHead = 0
    this.#pauses.clear()
    this.#waiting = 0
  }

  /** Robots without a session stay away until `comeBack`. */
  stayAway(): void {
    for (let robot = 0; robot < this.size; robot++)
      if (this.#state[robot] !== STATE.here) this.#drop(robot, STATE.absent)
    this.#queue = []
    this.#queueHead = 0
    this.#pauses.clear()
    this.#waiting = 0
  }

  /** Has robots that are away connect again, so many a second; 0: as fast as handshakes go. */
  comeBack(perSecond = 0): void {
    for (let robot = 0; robot < this.size; robot++)
      if (this.#state[robot] === STATE.absent) {
        this.#lostAt[robot] = Number.NaN
        this.#enqueue(robot)
      }
    this.#setPace(perSecond)
    this.#dial()
  }

  /** The network is gone for these robots, and each comes back as its persistence says. */
  loseNetwork(robots: Iterable<number> = this.#tokens.keys()): void {
    for (const robot of robots) {
      if (this.#state[robot] !== STATE.here) continue
      this.#drop(robot, STATE.absent)
      this.#lostSession(robot)
      this.#pauseFor(robot, this.#jitter(robot))
    }
  }

  /** Each robot sends a heartbeat this often, from a random point of the interval on. */
  beatEvery(intervalMs: number): void {
    this.#beatEveryMs = intervalMs
    this.#beatsFrom = performance.now()
    this.#cursor = 0
    this.#cycle = 0
  }

  /** No more heartbeats of themselves. */
  hush(): void {
    this.#beatEveryMs = 0
  }

  /** How many heartbeats of a robot are on the way. */
  inFlight(robot: number): number {
    return this.#nextSeq[robot]! - 1 - this.#answeredSeq[robot]!
  }

  /** Sends a robot's next heartbeat; a robot without a session stays silent. */
  beat(robot: number): void {
    if (this.#state[robot] !== STATE.here) return
    if (this.inFlight(robot) >= this.#options.maxInFlight) {
      this.#heldBack += 1
      return
    }
    const seq = this.#nextSeq[robot]!
    this.#nextSeq[robot] = seq + 1
    this.#sent += 1
    this.#outstanding += 1
    this.#send(robot, seq, performance.now())
  }

  counts(): CrowdCounts {
    return {
      robots: this.size,
      here: this.#here,
      handshaking: this.#handshaking,
      waiting: this.#waiting,
      opened: this.#opened,
      refused: { ...this.#refused },
      closed: { ...this.#closed },
      lost: { ...this.#lost },
      sent: this.#sent,
      answered: this.#answered,
      resent: this.#resent,
      heldBack: this.#heldBack,
      errors: this.#errors,
    }
  }

  /** The highest heartbeat of each robot that is answered, in the order of their tokens; `firstSeq - 1`: none. */
  answeredSeqs(): number[] {
    return [...this.#answeredSeq.subarray(0, this.size)]
  }

  /** The upgrade is done. */
  opened(robot: number): void {
    const { hello } = this.#options.dialect
    if (hello === undefined) this.#greeted(robot)
    else {
      this.#state[robot] = STATE.greeting
      this.#sockets[robot]!.write(hello(this.#tokens[robot]!))
    }
  }

  message(robot: number, payload: Buffer): void {
    const meaning = this.#options.dialect.meaningOf(payload)
    if (meaning >= 0) this.#answeredUpTo(robot, meaning)
    else
      switch (meaning) {
        case GREETING:
          if (this.#state[robot] === STATE.greeting) this.#greeted(robot)
          break
        case OLDEST:
          for (let left = this.#options.dialect.answersIn?.(payload) ?? 1; left > 0; left--)
            if (this.inFlight(robot) > 0) this.#answeredUpTo(robot, this.#answeredSeq[robot]! + 1)
          break
        case DRAIN:
          this.#toldMs[robot] = JSON.parse(payload.toString('utf8')).reconnect_in_ms
          break
        case ERROR:
          this.#errors += 1
          if (!this.#options.persistence) this.onFailure(new Error(`a robot was told: ${payload}`))
      }
  }

  ended(robot: number, { kind, code, reason, retryAfterSeconds }: Ending): void {
    const [counts, name] =
      kind === 'refused'
        ? [this.#refused, code]
        : kind === 'closed'
          ? [this.#closed, code]
          : [this.#lost, reason]
    counts[name] = (counts[name] ?? 0) + 1
    const state = this.#state[robot]
    const wasHere = state === STATE.here
    this.#drop(robot, STATE.absent)
    if (!this.#options.persistence) {
      const when = wasHere
        ? 'in its session'
        : state === STATE.greeting
          ? 'before it was greeted'
          : 'in the upgrade'
      const afterMs = Math.round(performance.now() - this.#dialledAt[robot]!)
      this.onFailure(
        new Error(
          `robot ${robot} was ${kind} ${when}, ${afterMs} ms after dialling: ${code || ''} ${reason}`,
        ),
      )
      return
    }
    if (wasHere) this.#lostSession(robot)
    const told = this.#toldMs[robot]!
    this.#toldMs[robot] = -1
    this.#pauseFor(
      robot,
      retryAfterSeconds !== undefined
        ? retryAfterSeconds * 1000
        : told >= 0
          ? told
          : (reconnectDelayIn(reason) ?? this.#jitter(robot)),
    )
    this.#dial()
  }

  #send(robot: number, seq: number, at: number): void {
    this.#sentAt[this.#placeOf(robot, seq)] = at
    const time = Math.floor(performance.timeOrigin + at)
    this.#sockets[robot]!.write(this.#options.dialect.heartbeat(seq, time))
  }

  #placeOf(robot: number, seq: number): number {
    const { maxInFlight } = this.#options
    return robot * maxInFlight + (seq % maxInFlight)
  }

  #answeredUpTo(robot: number, seq: number): void {
    const now = performance.now()
    const last = Math.min(seq, this.#nextSeq[robot]! - 1)
    for (let next = this.#answeredSeq[robot]! + 1; next <= last; next++) {
      this.#answeredSeq[robot] = next
      this.#answered += 1
      this.#outstanding -= 1
      if (next > this.#resentSeq[robot]! && this.untimed[robot] === 0)
        this.latencies.recordMs(now - this.#sentAt[this.#placeOf(robot, next)]!)
    }
    this.onAnswered?.(robot)
  }

  #greeted(robot: number): void {
    const now = performance.now()
    this.#state[robot] = STATE.here
    this.#here += 1
    this.#opened += 1
    this.#handshaking -= 1
    this.#attempts[robot] = 0
    this.handshakes.recordMs(now - this.#dialledAt[robot]!)
    if (!Number.isNaN(this.#lostAt[robot]!)) {
      const away = now - this.#lostAt[robot]!
      this.back.recordMs(away)
      this.backBeyondPauses.recordMs(away - this.#paused[robot]!)
      this.#lostAt[robot] = Number.NaN
      this.onBack?.(robot)
    }
    this.#paused[robot] = 0
    // As our agent does: what was not acknowledged goes first, with its own number and time.
    const last = this.#nextSeq[robot]! - 1
    for (let seq = this.#answeredSeq[robot]! + 1; seq <= last; seq++) {
      this.#resent += 1
      this.#send(robot, seq, this.#sentAt[this.#placeOf(robot, seq)]!)
    }
    this.#resentSeq[robot] = last
    this.#dial()
  }

  #drop(robot: number, state: number): void {
    const was = this.#state[robot]!
    if (was === STATE.here) this.#here -= 1
    else if (was === STATE.handshaking || was === STATE.greeting) this.#handshaking -= 1
    this.#state[robot] = state
    this.#sockets[robot]?.abandon()
    this.#sockets[robot] = undefined
  }

  #lostSession(robot: number): void {
    this.#lostAt[robot] = performance.now()
    this.#paused[robot] = 0
    this.onLost?.(robot)
  }

  #jitter(robot: number): number {
    const { jitterMs, maxJitterMs } = this.#options.persistence ?? { jitterMs: 1_000, maxJitterMs: 60_000 }
    const attempt = Math.min(this.#attempts[robot]!, 30)
    this.#attempts[robot] = attempt + 1
    return Math.random() * Math.min(maxJitterMs, jitterMs * 2 ** attempt)
  }

  #pauseFor(robot: number, ms: number): void {
    this.#state[robot] = STATE.waiting
    this.#waiting += 1
    this.#paused[robot]! += ms
    const bucket = Math.max(Math.ceil((performance.now() + ms) / WAIT_BUCKET_MS), this.#pauseBucket + 1)
    const there = this.#pauses.get(bucket)
    if (there) there.push(robot)
    else this.#pauses.set(bucket, [robot])
  }

  #enqueue(robot: number): void {
    this.#state[robot] = STATE.waiting
    this.#waiting += 1
    this.#queue.push(robot)
  }

  #setPace(perSecond: number): void {
    this.#perSecond = perSecond
    this.#paceFrom = performance.now()
    this.#paceDialled = 0
  }

  /** Lets those dial whose turn it is. */
  #dial(): void {
    while (this.#queueHead < this.#queue.length && this.#handshaking < this.#options.handshakesAtOnce) {
      const now = performance.now()
      if (this.#perSecond > 0 && this.#paceDialled >= ((now - this.#paceFrom) * this.#perSecond) / 1000)
        return
      this.#paceDialled += 1
      const robot = this.#queue[this.#queueHead++]!
      this.#waiting -= 1
      this.#handshaking += 1
      this.#state[robot] = STATE.handshaking
      this.#dialledAt[robot] = now
      const { port, dialect, firstAddress } = this.#options
      this.#sockets[robot] = new RawWebSocket(robot, this, {
        port,
        localAddress: loopbackAddress(firstAddress + Math.floor(robot / ROBOTS_PER_ADDRESS)),
        request: upgradeRequest(port, dialect.path, dialect.headers(this.#tokens[robot]!)),
      })
    }
    if (this.#queueHead === this.#queue.length) {
      this.#queue = []
      this.#queueHead = 0
    }
  }

  #tick(): void {
    const now = performance.now()
    const bucket = Math.floor(now / WAIT_BUCKET_MS)
    for (; this.#pauseBucket < bucket; ) {
      this.#pauseBucket += 1
      const due = this.#pauses.get(this.#pauseBucket)
      if (!due) continue
      this.#pauses.delete(this.#pauseBucket)
      for (const robot of due) {
        this.#waiting -= 1
        this.#enqueue(robot)
      }
    }
    if (now >= this.#nextLookAtHandshakes) {
      this.#nextLookAtHandshakes = now + 1_000
      if (this.#handshaking > 0) this.#giveUpHandshakes(now)
    }
    this.#dial()
    if (this.#beatEveryMs > 0) this.#beatDue(now)
  }

  #giveUpHandshakes(now: number): void {
    for (let robot = 0; robot < this.size; robot++) {
      const state = this.#state[robot]
      if (state !== STATE.handshaking && state !== STATE.greeting) continue
      if (now - this.#dialledAt[robot]! > HANDSHAKE_PATIENCE_MS)
        this.#sockets[robot]!.over('lost', 0, 'handshake took too long')
    }
  }

  #beatDue(now: number): void {
    this.#phases ??= this.#drawPhases()
    const { order, points } = this.#phases
    for (;;) {
      if (this.#cursor >= order.length) {
        this.#cursor = 0
        this.#cycle += 1
      }
      const at = this.#beatsFrom + (this.#cycle + points[this.#cursor]!) * this.#beatEveryMs
      if (at > now || order.length === 0) return
      this.beat(order[this.#cursor]!)
      this.#cursor += 1
    }
  }

  /** A random point of the interval (0 to 1) for each robot, and the robots in that order. */
  #drawPhases(): { order: Int32Array; points: Float64Array } {
    const drawn = Float64Array.from({ length: this.size }, () => Math.random())
    const order = Int32Array.from(drawn.keys()).sort((a, b) => drawn[a]! - drawn[b]!)
    return { order, points: Float64Array.from(order, (robot) => drawn[robot]!) }
  }
}
