import { BeaconError } from '../errors.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Random, Timer } from '../runtime.ts'
import type { Resources } from './resources.ts'
import { spreadSeconds } from './spread.ts'

/** What may run out. */
export type Scarcity = 'descriptors' | 'memory' | 'event_loop'
export type OverloadReason = Scarcity | 'queue_full' | 'waited_too_long'

const DETAILS: Readonly<Record<OverloadReason, string>> = {
  descriptors: 'the server has no file descriptors left for further robots',
  memory: 'the server has no memory left for further robots',
  event_loop: 'the server is too slow at the moment to take further robots',
  queue_full: 'more robots connect than the server takes in',
  waited_too_long: 'the server could not take this robot in time',
}

/** A robot is turned away with 503, because of this. */
export class Overloaded extends BeaconError {
  readonly reason: OverloadReason

  constructor(reason: OverloadReason, retryAfterSeconds: number) {
    super('overloaded', DETAILS[reason], { retryAfterSeconds })
    this.reason = reason
  }
}

/** Seconds over which those are spread that are turned away: what is short for long is asked for rarely. */
const RETURN_WITHIN: Readonly<Record<Scarcity, readonly [number, number]>> = {
  descriptors: [10, 60],
  memory: [10, 60],
  event_loop: [2, 20],
}

/** The same where another process that shares the port has room, or has it in a moment. */
const FIND_ROOM_WITHIN = [1, 10] as const

export const SAMPLE_EVERY_MS = 500
/**
 * Samples in a row that have to say the same before it counts: no single pause or peak turns robots away. Three, because
 * one pause can stand in two: the first comes late for it, and the turn that it lasted is measured only in the next.
 */
export const SAMPLES_IN_A_ROW = 3
/**
 * Descriptors that are not robots' are counted this rarely where that costs something: connections to the database, files,
 * the server's own, and connections that have asked for nothing yet. Elsewhere with every sample.
 */
export const COUNT_DESCRIPTORS_EVERY_MS = 10_000

/** At `high` and above it is on, from below `low` on off again. */
export interface Bounds {
  readonly high: number
  readonly low: number
}

/** Shares of the limits, and milliseconds for the event loop. */
export const BOUNDS = {
  heap: { high: 0.9, low: 0.8 },
  memory: { high: 0.95, low: 0.92 },
  eventLoopMs: { high: 250, low: 100 },
} as const satisfies Record<string, Bounds>

/**
 * So many robots below the most that there are descriptors for, there is no room any more for whoever could go to another
 * process instead: some more come before this one has left the port. Below twice as much further there is room again.
 */
export function roomMargin(maxSockets: number): number {
  return Math.max(4, Math.ceil(maxSockets * 0.01))
}

/** Kept free for everything but robots. */
export function reservedDescriptors(limit: number): number {
  return Math.max(64, Math.ceil(limit * 0.04))
}

/** Connections that ask for nothing have taken half of the reserve: from there on it is for what is ours alone. */
function isGone(open: number, limit: number, wasGone: boolean): boolean {
  return open >= limit - reservedDescriptors(limit) * (wasGone ? 0.75 : 0.5)
}

/** A value that flaps turns nothing on and off with it: both take several samples in a row, and a distance. */
export class Alarm {
  readonly #bounds: Bounds
  #isOn = false
  #against = 0

  constructor(bounds: Bounds) {
    this.#bounds = bounds
  }

  get isOn(): boolean {
    return this.#isOn
  }

  observe(value: number): void {
    const speaksAgainst = this.#isOn ? value < this.#bounds.low : value >= this.#bounds.high
    this.#against = speaksAgainst ? this.#against + 1 : 0
    if (this.#against < SAMPLES_IN_A_ROW) return
    this.#isOn = !this.#isOn
    this.#against = 0
  }
}

export interface OverloadParts {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Pick<Metrics, 'overloaded'>
  readonly resources: Resources
  /** Robots' sockets at this moment, those that wait included. */
  readonly sockets: () => number
  /**
   * Told when there is no room for more robots, a little before they are turned away, and when there is again. There is
   * at the start. A slow event loop is no lack of room: it passes by itself.
   */
  readonly onRoomChanged?: ((hasRoom: boolean) => void) | undefined
  /**
   * Told, as often as they are counted, whether so few descriptors are left that nobody may connect any more, not even to
   * be turned away.
   */
  readonly onDescriptorsGone?: ((areGone: boolean) => void) | undefined
}

/**
 * Turns new robots away before this process runs out of what it needs for those that it has. Resources are looked at by
 * one timer; an upgrade costs a comparison. Robots that are connected are never dropped for it.
 */
export class OverloadGuard {
  readonly #parts: OverloadParts
  readonly #heap = new Alarm(BOUNDS.heap)
  readonly #memory = new Alarm(BOUNDS.memory)
  readonly #eventLoop = new Alarm(BOUNDS.eventLoopMs)
  readonly #told = new Set<Scarcity>()
  #timer: Timer | undefined
  #sampledAt = 0
  #countedAt = Number.NEGATIVE_INFINITY
  /** Sockets at which no further one is taken; undefined where it cannot be known. */
  #maxSockets: number | undefined
  #lackedDescriptors = false
  #descriptorsGone = false
  #hadRoom = true
  /** Whether whoever has to go finds room at the same address with another process. */
  roomElsewhere = false

  constructor(parts: OverloadParts) {
    this.#parts = parts
  }

  start(): void {
    const { clock } = this.#parts
    this.#sampledAt = clock.monotonic()
    this.#countDescriptors(this.#sampledAt)
    this.#timer = clock.every(SAMPLE_EVERY_MS, () => this.#sample())
    this.#tell()
  }

  stop(): void {
    this.#timer?.cancel()
    this.#parts.resources.stop()
  }

  /** What there is too little of for one robot more. */
  get lacks(): Scarcity | undefined {
    if (this.#lacksDescriptors()) return 'descriptors'
    if (this.#heap.isOn || this.#memory.isOn) return 'memory'
    return this.#eventLoop.isOn ? 'event_loop' : undefined
  }

  /** The refusal of a new robot, or undefined when it can be taken. `soonest`: seconds in which there is no place anyway. */
  refusal(soonest: () => number): Overloaded | undefined {
    this.#tellRoom()
    const lacks = this.lacks
    if (lacks === undefined) return undefined
    const [from, to] = this.roomElsewhere && lacks !== 'event_loop' ? FIND_ROOM_WITHIN : RETURN_WITHIN[lacks]
    return new Overloaded(lacks, Math.max(spreadSeconds(this.#parts.random, from, to), soonest()))
  }

  #sample(): void {
    const { clock, resources } = this.#parts
    const now = clock.monotonic()
    // A loop that was blocked throughout may have measured nothing, but comes late to this.
    const lateMs = now - this.#sampledAt - SAMPLE_EVERY_MS
    this.#sampledAt = now
    this.#eventLoop.observe(Math.max(resources.eventLoopDelayMs(), lateMs))
    this.#heap.observe(resources.heapShare())
    this.#memory.observe(resources.memoryShare())
    if (resources.countsCheaply || now - this.#countedAt >= COUNT_DESCRIPTORS_EVERY_MS)
      this.#countDescriptors(now)
    this.#tell()
  }

  #countDescriptors(now: number): void {
    const { resources, sockets } = this.#parts
    this.#countedAt = now
    const limit = resources.descriptorLimit
    const open = limit === undefined ? undefined : resources.openDescriptors()
    if (limit === undefined || open === undefined) return
    const others = Math.max(open - sockets(), 0)
    this.#maxSockets = limit - reservedDescriptors(limit) - others
    this.#descriptorsGone = isGone(open, limit, this.#descriptorsGone)
    this.#parts.onDescriptorsGone?.(this.#descriptorsGone)
  }

  #lacksDescriptors(): boolean {
    if (this.#maxSockets === undefined) return false
    const { resources, sockets } = this.#parts
    // Once full, some have to leave first: as many as an eighth of the reserve.
    const distance = this.#lackedDescriptors ? reservedDescriptors(resources.descriptorLimit!) / 8 : 0
    this.#lackedDescriptors = sockets() >= this.#maxSockets - distance
    return this.#lackedDescriptors
  }

  get #hasRoom(): boolean {
    if (this.#heap.isOn || this.#memory.isOn) return false
    if (this.#maxSockets === undefined) return true
    const margins = this.#hadRoom ? 1 : 3
    return this.#parts.sockets() < this.#maxSockets - margins * roomMargin(this.#maxSockets)
  }

  #tellRoom(): void {
    const hasRoom = this.#hasRoom
    if (hasRoom === this.#hadRoom) return
    this.#hadRoom = hasRoom
    this.#parts.onRoomChanged?.(hasRoom)
  }

  #tell(): void {
    this.#tellRoom()
    const { log, metrics } = this.#parts
    const lacking: Record<Scarcity, boolean> = {
      descriptors: this.#lacksDescriptors(),
      memory: this.#heap.isOn || this.#memory.isOn,
      event_loop: this.#eventLoop.isOn,
    }
    for (const [reason, isLacking] of Object.entries(lacking) as [Scarcity, boolean][]) {
      metrics.overloaded.set({ reason }, isLacking ? 1 : 0)
      if (isLacking === this.#told.has(reason)) continue
      if (isLacking) {
        this.#told.add(reason)
        log.warn({ reason }, `new robots are turned away: ${DETAILS[reason]}`)
      } else {
        this.#told.delete(reason)
        log.info({ reason }, 'new robots are taken again')
      }
    }
  }
}
