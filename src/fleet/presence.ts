import { OFFLINE_AFTER_INTERVALS, OFFLINE_EXTRA_MS, STALE_AFTER_INTERVALS } from '../protocol/limits.ts'
import { TimingWheel } from './timing-wheel.ts'

export type Connection = 'online' | 'stale' | 'offline'

/** A robot's connection as this server decided it; `sessionNo` fences it against newer sessions elsewhere. */
export interface PresenceChange {
  readonly robotId: string
  readonly sessionNo: number
  readonly connection: Connection
  readonly reason: string
  /** The server's wall clock, milliseconds since 1970. */
  readonly since: number
}

interface Watched {
  readonly robotId: string
  sessionNo: number
  heartbeatIntervalMs: number
  connection: 'online' | 'stale'
  /** On the listening clock. */
  heardAt: number
  /** Why the socket went away, once it did. */
  lostReason: string | undefined
  /** We ourselves do not read from this robot for now: silence means nothing. */
  deaf: boolean
}

/**
 * No more than this much of the time between two ticks counts as listened to: a server that was stopped, starved or
 * asleep did not hear anybody, so it may not say that anybody was silent.
 */
const MAX_LISTENED_PER_TICK_MS = 1_000
const SLOT_MS = 250

export function staleAfterMs(heartbeatIntervalMs: number): number {
  return heartbeatIntervalMs * STALE_AFTER_INTERVALS
}

export function offlineAfterMs(heartbeatIntervalMs: number): number {
  return heartbeatIntervalMs * OFFLINE_AFTER_INTERVALS + OFFLINE_EXTRA_MS
}

/**
 * Decides who is online, stale or offline among the robots whose newest session was opened by this server. A robot is
 * watched from its welcome until it is offline, whether its socket still stands or not: presence follows what was
 * heard, not what the network claims.
 */
export class Presence {
  readonly #robots = new Map<string, Watched>()
  readonly #wheel: TimingWheel<Watched>
  #tickedAt: number
  /** The listening clock: milliseconds during which this server could hear. */
  #listened = 0

  constructor(now: number) {
    this.#tickedAt = now
    this.#wheel = new TimingWheel(SLOT_MS, 0)
  }

  get watched(): number {
    return this.#robots.size
  }

  /** A session was opened; the database has marked the robot online already. */
  opened(robotId: string, sessionNo: number, heartbeatIntervalMs: number): void {
    const before = this.#robots.get(robotId)
    if (before) this.#wheel.remove(before)
    const robot: Watched = {
      robotId,
      sessionNo,
      heartbeatIntervalMs,
      connection: 'online',
      heardAt: this.#listened,
      lostReason: undefined,
      deaf: false,
    }
    this.#robots.set(robotId, robot)
    this.#schedule(robot)
  }

  /** The robot said something. Answers with a change when it had been stale. */
  heard(robotId: string, sessionNo: number, now: number): PresenceChange | undefined {
    const robot = this.#current(robotId, sessionNo)
    if (!robot) return undefined
    robot.heardAt = this.#listened
    if (robot.connection === 'online') return undefined
    robot.connection = 'online'
    this.#schedule(robot)
    return change(robot, 'online', 'heard_again', now)
  }

  intervalChanged(robotId: string, sessionNo: number, heartbeatIntervalMs: number): void {
    const robot = this.#current(robotId, sessionNo)
    if (!robot) return
    robot.heartbeatIntervalMs = heartbeatIntervalMs
    this.#schedule(robot)
  }

  /** While deaf to a robot (its socket is paused by us), its silence counts for nothing. */
  setDeaf(robotId: string, sessionNo: number, deaf: boolean): void {
    const robot = this.#current(robotId, sessionNo)
    if (!robot) return
    robot.deaf = deaf
    robot.heardAt = this.#listened
  }

  /** The socket is gone, but the robot has not taken its leave: it is offline only after its silence. */
  lost(robotId: string, sessionNo: number, reason: string): void {
    const robot = this.#current(robotId, sessionNo)
    if (!robot) return
    robot.lostReason = reason
    robot.deaf = false
  }

  /** The robot left, or must not come back: offline at once. */
  gone(robotId: string, sessionNo: number, reason: string, now: number): PresenceChange | undefined {
    const robot = this.#current(robotId, sessionNo)
    if (!robot) return undefined
    this.#forget(robot)
    return change(robot, 'offline', reason, now)
  }

  /** A newer session of the robot lives on another server, which watches it from now on. */
  handedOver(robotId: string, newerSessionNo: number): void {
    const robot = this.#robots.get(robotId)
    if (robot && robot.sessionNo < newerSessionNo) this.#forget(robot)
  }

  /** What every watched robot is now, for saying it again after others may have thought this server dead. */
  restate(now: number): PresenceChange[] {
    return [...this.#robots.values()].map((robot) => change(robot, robot.connection, 'restated', now))
  }

  /** Session number under which a robot is watched here, or undefined. */
  sessionNoOf(robotId: string): number | undefined {
    return this.#robots.get(robotId)?.sessionNo
  }

  /** Moves time on and answers with the robots that have become stale or offline by silence. */
  tick(now: number): PresenceChange[] {
    this.#listened += Math.min(Math.max(now - this.#tickedAt, 0), MAX_LISTENED_PER_TICK_MS)
    this.#tickedAt = now
    const changes: PresenceChange[] = []
    for (const robot of this.#wheel.advance(this.#listened)) {
      if (robot.deaf) robot.heardAt = this.#listened
      const silence = this.#listened - robot.heardAt
      if (silence >= offlineAfterMs(robot.heartbeatIntervalMs)) {
        this.#forget(robot)
        changes.push(change(robot, 'offline', robot.lostReason ?? 'heartbeat_timeout', now))
        continue
      }
      if (silence >= staleAfterMs(robot.heartbeatIntervalMs) && robot.connection === 'online') {
        robot.connection = 'stale'
        changes.push(change(robot, 'stale', robot.lostReason ?? 'silent', now))
      }
      this.#schedule(robot)
    }
    return changes
  }

  #schedule(robot: Watched): void {
    const after =
      robot.connection === 'online'
        ? staleAfterMs(robot.heartbeatIntervalMs)
        : offlineAfterMs(robot.heartbeatIntervalMs)
    this.#wheel.schedule(robot, robot.heardAt + after)
  }

  #current(robotId: string, sessionNo: number): Watched | undefined {
    const robot = this.#robots.get(robotId)
    return robot?.sessionNo === sessionNo ? robot : undefined
  }

  #forget(robot: Watched): void {
    this.#wheel.remove(robot)
    this.#robots.delete(robot.robotId)
  }
}

function change(robot: Watched, connection: Connection, reason: string, now: number): PresenceChange {
  return { robotId: robot.robotId, sessionNo: robot.sessionNo, connection, reason, since: now }
}
