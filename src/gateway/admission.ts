import { type Bucket, fullBucket, type Rate, refill, take, waitMs } from '../rate-limit.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import { Overloaded } from './overload.ts'
import { ReturnTimes } from './return-times.ts'

export interface AdmissionParts {
  readonly clock: Clock
  readonly random: Random
  /** Upgrades let through in a second by this process; 0: as many as come. */
  readonly perSecond: number
  /** How many more may be on their way from the upgrade to the open session at this moment. */
  readonly room: () => number
}

/** `gone`: its client did not wait for it. */
export type Passage = 'admitted' | 'gone'

interface Client {
  /** It does not wait any more. */
  isGone?(): boolean
}

interface Waiting {
  readonly since: number
  readonly client: Client
  readonly pass: (passage: Passage) => void
  readonly refuse: (error: Error) => void
}

/** What waits is served within this time when nothing stands in the way. */
const QUEUE_MS = 2_500
/** How often a queue is looked at: so much passes in one turn of the event loop, and robots' frames in between. */
export const ADMISSION_TICK_MS = 10
/** After a rest, or when the event loop was held up, as much passes at once as otherwise in this time, and no more. */
const BURST_MS = 50
/** Longest wait when PostgreSQL lets nobody through, and shorter than robots wait for an answer. */
const LONGEST_WAIT_MS = 8_000
/** How long a queue sleeps at the most, however low the rate: clients go away meanwhile. */
const LONGEST_SLEEP_MS = 1_000
/** For the size of the queue and the times of return where no rate is set: what one core opens in any case. */
const PER_SECOND_WITHOUT_RATE = 1_000

function knownRate(perSecond: number): number {
  return perSecond > 0 ? perSecond : PER_SECOND_WITHOUT_RATE
}

function rateOf(perSecond: number): Rate {
  return perSecond > 0
    ? { burst: Math.max(1, (perSecond * BURST_MS) / 1000), perMinute: perSecond * 60 }
    : { burst: Number.POSITIVE_INFINITY, perMinute: Number.POSITIVE_INFINITY }
}

function capacityOf(perSecond: number): number {
  return Math.max(1, Math.floor((knownRate(perSecond) * QUEUE_MS) / 1000))
}

/**
 * Lets upgrades through at a known rate, in the order in which they came. Those above it wait in a queue, each costing
 * its entry alone; one timer serves them all. Whoever finds the queue full is turned away at once, and told when there
 * will be a place. The queue also stands still while too many are on their way to an open session.
 */
export class AdmissionQueue {
  readonly #parts: AdmissionParts
  readonly #returns: ReturnTimes
  #rate: Rate
  #capacity: number
  /** Entries before #head are gone; they are cut off now and then, not one by one. */
  #entries: (Waiting | undefined)[] = []
  #head = 0
  #bucket: Bucket
  #timer: Timer | undefined

  constructor(parts: AdmissionParts) {
    this.#parts = parts
    this.#rate = rateOf(parts.perSecond)
    this.#capacity = capacityOf(parts.perSecond)
    this.#returns = new ReturnTimes(knownRate(parts.perSecond))
    this.#bucket = fullBucket(this.#rate, parts.clock.monotonic())
  }

  /** Changes the rate from now on; 0: as many as come. Those that wait stay, also where fewer may. */
  setRate(perSecond: number): void {
    const now = this.#parts.clock.monotonic()
    const { permits } = refill(this.#rate, this.#bucket, now)
    this.#rate = rateOf(perSecond)
    const full = fullBucket(this.#rate, now)
    this.#bucket = perSecond === 0 ? full : { ...full, permits: Math.min(permits, full.permits) }
    this.#capacity = capacityOf(perSecond)
    this.#returns.setRate(knownRate(perSecond))
  }

  get waiting(): number {
    return this.#entries.length - this.#head
  }

  get capacity(): number {
    return this.#capacity
  }

  /** Undefined: it may pass at once. Otherwise how it ends; throws, or rejects with, Overloaded when it may not pass. */
  enter(client: Client): Promise<Passage> | undefined {
    const { clock, room } = this.#parts
    if (this.waiting === 0 && room() > 0 && this.#takePermit()) return undefined
    if (this.waiting >= this.#capacity) throw this.#refusal('queue_full')
    return new Promise((pass, refuse) => {
      this.#entries.push({ since: clock.monotonic(), client, pass, refuse })
      this.#timer ??= clock.after(this.#sleepMs(), () => this.#serve())
    })
  }

  /** Seconds after which one that is turned away now is to come back. */
  retryAfterSeconds(): number {
    const { clock, random } = this.#parts
    return this.#returns.next(clock.monotonic(), this.waiting, random.fraction())
  }

  /** Turns away all that wait, each with an error of its own. */
  clear(error: () => Error): void {
    this.#timer?.cancel()
    this.#timer = undefined
    const waiting = this.#entries.slice(this.#head)
    this.#entries = []
    this.#head = 0
    for (const entry of waiting) entry!.refuse(error())
  }

  #serve(): void {
    this.#timer = undefined
    const { clock } = this.#parts
    const now = clock.monotonic()
    // Those let through are counted by their owner only after this turn.
    let room = this.#parts.room()
    for (;;) {
      const first = this.#entries[this.#head]
      if (!first) break
      if (first.client.isGone?.()) {
        this.#leave().pass('gone')
      } else if (now - first.since >= LONGEST_WAIT_MS) {
        this.#leave()
        first.refuse(this.#refusal('waited_too_long'))
      } else if (room > 0 && this.#takePermit()) {
        room -= 1
        this.#leave().pass('admitted')
      } else break
    }
    this.#tidy()
    if (this.waiting > 0) this.#timer = clock.after(this.#sleepMs(), () => this.#serve())
  }

  #takePermit(): boolean {
    const bucket = refill(this.#rate, this.#bucket, this.#parts.clock.monotonic())
    const left = take(bucket)
    this.#bucket = left ?? bucket
    return left !== undefined
  }

  #sleepMs(): number {
    this.#bucket = refill(this.#rate, this.#bucket, this.#parts.clock.monotonic())
    const untilPermit = waitMs(this.#rate, this.#bucket)
    return Math.min(Math.max(untilPermit, ADMISSION_TICK_MS), LONGEST_SLEEP_MS)
  }

  #leave(): Waiting {
    const first = this.#entries[this.#head]!
    this.#entries[this.#head] = undefined
    this.#head += 1
    return first
  }

  #tidy(): void {
    if (this.#head < 64 || this.#head * 2 < this.#entries.length) return
    this.#entries = this.#entries.slice(this.#head)
    this.#head = 0
  }

  #refusal(reason: 'queue_full' | 'waited_too_long'): Overloaded {
    return new Overloaded(reason, this.retryAfterSeconds())
  }
}
