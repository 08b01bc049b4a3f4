import { isDeepStrictEqual } from 'node:util'
import type { HeartbeatBody, RobotEventFrame } from '../../src/protocol/frames.ts'
import { MAX_FRAME_BYTES } from '../../src/protocol/limits.ts'
import { type EventKeeper, marked } from '../events.ts'
import type { Clock, Random } from '../runtime.ts'
import type { ServerTime } from '../server-time.ts'
import { MARK_BYTES } from '../spool/kept-text.ts'
import type { FaultStore, KeptFault } from './fault-store.ts'
import { DEFAULT_TTL_S, LOCAL_LIMITS, type LocalLimits } from './limits.ts'
import { type LocalRequest, parseRequest } from './requests.ts'
import { TokenBucket } from './token-bucket.ts'

export type Fault = NonNullable<HeartbeatBody['faults']>[number]

/** What the robot's own software says of the robot, as far as it still holds. */
export type SoftwareReading = Pick<
  HeartbeatBody,
  'mode' | 'activity' | 'pose' | 'battery' | 'estop' | 'metrics' | 'faults'
>

/** One line back for each line. */
export type LocalAnswer =
  | { readonly ok: true; readonly faults?: readonly Fault[]; readonly values?: SoftwareReading }
  | { readonly ok: false; readonly error: string }

/** Lines and events that were not taken since the start, by why. */
export interface Refusals {
  /** Not a request. */
  readonly malformed: number
  /** Too many lines. */
  readonly lines: number
  readonly metrics: number
  readonly faults: number
  /** Too many in a minute, or no room. */
  readonly events: number
  readonly connections: number
}

const STATES = ['mode', 'activity', 'pose', 'battery', 'estop'] as const
type StateName = (typeof STATES)[number]

interface Held<Value> {
  readonly value: Value
  /** On the monotonic clock. */
  readonly endsAt: number
}

export interface SoftwareParts {
  readonly clock: Clock
  readonly random: Random
  readonly serverTime: Pick<ServerTime, 'stamp' | 'timeOf'>
  readonly events: EventKeeper
  readonly faultStore: FaultStore
  readonly limits?: LocalLimits
}

/**
 * Holds what the robot's own software told: values until their time is up or they are taken back, faults until they are
 * cleared. A line is taken whole or not at all. What it holds is bounded, whatever it is told.
 */
export class RobotSoftware {
  readonly #parts: SoftwareParts
  readonly #limits: LocalLimits
  readonly #lines: TokenBucket
  readonly #eventRate: TokenBucket
  readonly #states = new Map<StateName, Held<unknown>>()
  readonly #metrics = new Map<string, Held<number>>()
  readonly #faults: Map<string, Held<KeptFault>>
  readonly #refused = { malformed: 0, lines: 0, metrics: 0, faults: 0, events: 0, connections: 0 }

  constructor(parts: SoftwareParts) {
    this.#parts = parts
    this.#limits = parts.limits ?? LOCAL_LIMITS
    this.#lines = new TokenBucket(this.#limits.allLines, parts.clock)
    this.#eventRate = new TokenBucket(this.#limits.events, parts.clock)
    const kept = parts.faultStore.read().slice(0, this.#limits.faults)
    this.#faults = new Map(kept.map((fault) => [fault.code, this.#held(fault)]))
  }

  get refusals(): Refusals {
    return { ...this.#refused }
  }

  get limits(): LocalLimits {
    return this.#limits
  }

  /** Answers one line, and does what it says when nothing is wrong with it. Never throws. */
  accept(line: string): LocalAnswer {
    if (!this.#lines.take()) return this.tooManyLines()
    const parsed = parseRequest(line)
    if (!parsed.ok) {
      this.#refused.malformed++
      return parsed
    }
    this.#dropOld()
    return this.#refusalOf(parsed.request) ?? this.#carryOut(parsed.request)
  }

  tooManyLines(): LocalAnswer {
    this.#refused.lines++
    return { ok: false, error: 'too many lines: wait before the next' }
  }

  /** A line that is too long to be looked at. */
  tooLong(): LocalAnswer {
    this.#refused.malformed++
    return { ok: false, error: `a line holds at most ${this.#limits.lineBytes} bytes` }
  }

  tooManyConnections(): LocalAnswer {
    this.#refused.connections++
    return { ok: false, error: `too many connections: at most ${this.#limits.connections}` }
  }

  /** What holds now. */
  read(): SoftwareReading {
    this.#dropOld()
    const metrics = Object.fromEntries([...this.#metrics].map(([name, { value }]) => [name, value]))
    const states = Object.fromEntries([...this.#states].map(([name, { value }]) => [name, value]))
    return {
      ...states,
      ...(this.#metrics.size > 0 ? { metrics } : {}),
      ...(this.#faults.size > 0 ? { faults: this.#listFaults() } : {}),
    }
  }

  /** Why a request cannot be taken; what may be refused for its rate alone comes last. */
  #refusalOf(request: LocalRequest): LocalAnswer | undefined {
    const { metrics, faults } = this.#limits
    const names = Object.entries(request.metric ?? {})
    const isHeld = (name: string) => this.#metrics.has(name)
    const added = names.filter(([name, value]) => value !== null && !isHeld(name)).length
    const removed = names.filter(([name, value]) => value === null && isHeld(name)).length
    if (added > 0 && this.#metrics.size + added - removed > metrics) {
      this.#refused.metrics++
      return { ok: false, error: `a robot has at most ${metrics} metrics: unset some, or let them end` }
    }
    const raised = request.fault && 'raise' in request.fault ? request.fault.raise : undefined
    if (raised && !this.#faults.has(raised.code) && this.#faults.size >= faults) {
      this.#refused.faults++
      return { ok: false, error: `at most ${faults} faults can stand at once: clear some` }
    }
    return request.event ? this.#refusalOfEvent(request.event) : undefined
  }

  /** Keeps the event when it can. */
  #refusalOfEvent(given: NonNullable<LocalRequest['event']>): LocalAnswer | undefined {
    const { serverTime, random, events } = this.#parts
    const { level, code, message, data } = given
    const { moment, ...stamp } = serverTime.stamp()
    const event: RobotEventFrame = {
      type: 'event',
      id: random.bytes(16).toString('hex'),
      ...marked(stamp),
      level,
      code,
      message,
      ...(data ? { data } : {}),
    }
    // Numbers such as 1e20 take more room as they are written than as they were read.
    const maxBytes = MAX_FRAME_BYTES - MARK_BYTES
    if (Buffer.byteLength(JSON.stringify(event)) > maxBytes)
      return { ok: false, error: `an event holds at most ${maxBytes} bytes` }
    if (!this.#eventRate.take()) {
      this.#refused.events++
      return { ok: false, error: `too many events: ${this.#limits.events.perSecond * 60} a minute` }
    }
    if (events.keepEvent(event, moment)) return undefined
    this.#refused.events++
    return { ok: false, error: 'no room for more events until the server has taken those that wait' }
  }

  #carryOut(request: LocalRequest): LocalAnswer {
    const endsAt = this.#parts.clock.monotonic() + (request.ttl_s ?? DEFAULT_TTL_S) * 1_000
    // First those that go, for the bound holds at every moment.
    for (const [name, value] of Object.entries(request.metric ?? {}))
      if (value === null) this.#metrics.delete(name)
    for (const [name, value] of Object.entries(request.metric ?? {}))
      if (value !== null) this.#metrics.set(name, { value, endsAt })
    for (const name of STATES) {
      const value = request[name]
      if (value === null) this.#states.delete(name)
      else if (value !== undefined) this.#states.set(name, { value, endsAt })
    }
    if (request.fault) this.#changeFault(request.fault)
    if (request.get === 'faults') return { ok: true, faults: this.#listFaults() }
    if (request.get === 'values') return { ok: true, values: this.read() }
    return { ok: true }
  }

  #changeFault(change: NonNullable<LocalRequest['fault']>): void {
    if ('clear' in change) {
      if (!this.#faults.delete(change.clear)) return
    } else {
      const { code, level, message, ttl_s } = change.raise
      const before = this.#faults.get(code)?.value
      const { at: since, moment } = before
        ? { at: before.since, moment: before.moment }
        : this.#parts.serverTime.stamp()
      const fault = {
        ...{ code, level, message, since },
        ...(ttl_s === undefined ? {} : { ttl_s }),
        ...(moment ? { moment } : {}),
      }
      this.#faults.set(code, this.#held(fault))
      // Raised again and again in the same words: nothing new to write down.
      if (isDeepStrictEqual(before, fault)) return
    }
    this.#keepFaults()
  }

  #held(fault: KeptFault): Held<KeptFault> {
    const { ttl_s } = fault
    return {
      value: fault,
      endsAt: ttl_s === undefined ? Infinity : this.#parts.clock.monotonic() + ttl_s * 1_000,
    }
  }

  #listFaults(): Fault[] {
    const { serverTime } = this.#parts
    return [...this.#faults.values()].map(({ value: { code, level, message, since, moment } }) => ({
      code,
      level,
      message,
      since: serverTime.timeOf({ at: since, ...(moment ? { moment } : {}) }),
    }))
  }

  #keepFaults(): void {
    this.#parts.faultStore.write([...this.#faults.values()].map(({ value }) => value))
  }

  #dropOld(): void {
    const now = this.#parts.clock.monotonic()
    const before = this.#faults.size
    for (const held of [this.#metrics, this.#states, this.#faults] as Map<string, Held<unknown>>[])
      for (const [name, { endsAt }] of held) if (endsAt <= now) held.delete(name)
    if (this.#faults.size < before) this.#keepFaults()
  }
}
