import { OFFLINE_AFTER_INTERVALS, OFFLINE_EXTRA_MS, STALE_AFTER_INTERVALS } from '../protocol/limits.ts'
import type { Robot, Robots } from './robots.ts'
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
  readonly #robots: Robots
  readonly #wheel: TimingWheel<Robot>
  #tickedAt: number
  /** The listening clock: milliseconds during which this server could hear. */
  #listened = 0

  constructor(robots: Robots, now: number) {
    this.#robots = robots
    this.#tickedAt = now
    this.#wheel = new TimingWheel(SLOT_MS, 0)
  }

  get watched(): number {
    // Whoever is watched has a deadline.
    return this.#wheel.size
  }

  /** A session was opened; the database has marked the robot online already. */
  opened(robotId: string, sessionNo: number, heartbeatIntervalMs: number): void {
    const robot = this.#robots.of(robotId)
    robot.watchedSessionNo = sessionNo
    robot.heartbeatIntervalMs = heartbeatIntervalMs
    robot.connection = 'online'
    robot.heardAt = this.#listened
    robot.lostReason = undefined
    robot.deaf = false
    this.#schedule(robot)
  }

  /**
   * The robot said something. Answers with a change when it had been stale. Called with every frame, it takes the robot's
   * record itself; one that was dropped meanwhile is not watched.
   */
  heard(robot: Robot, sessionNo: number, now: number): PresenceChange | undefined {
    if (robot.watchedSessionNo !== sessionNo) return undefined
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
    const offline = change(robot, 'offline', reason, now)
    this.#forget(robot)
    return offline
  }

  /** A newer session of the robot lives on another server, which watches it from now on. */
  handedOver(robotId: string, newerSessionNo: number): void {
    const robot = this.#robots.get(robotId)
    if (robot && robot.watchedSessionNo !== 0 && robot.watchedSessionNo < newerSessionNo) this.#forget(robot)
  }

  /** What every watched robot is now, for saying it again after others may have thought this server dead. */
  restate(now: number): PresenceChange[] {
    const changes: PresenceChange[] = []
    for (const robot of this.#robots.all())
      if (robot.watchedSessionNo !== 0) changes.push(change(robot, robot.connection, 'restated', now))
    return changes
  }

  /** Session number under which a robot is watched here, or undefined. */
  sessionNoOf(robotId: string): number | undefined {
    return this.#robots.get(robotId)?.watchedSessionNo || undefined
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
        changes.push(change(robot, 'offline', robot.lostReason ?? 'heartbeat_timeout', now))
        this.#forget(robot)
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

  #schedule(robot: Robot): void {
    const after =
      robot.connection === 'online'
        ? staleAfterMs(robot.heartbeatIntervalMs)
        : offlineAfterMs(robot.heartbeatIntervalMs)
    this.#wheel.schedule(robot, robot.heardAt + after)
  }

  #current(robotId: string, sessionNo: number): Robot | undefined {
    const robot = this.#robots.get(robotId)
    return robot?.watchedSessionNo === sessionNo ? robot : undefined
  }

  #forget(robot: Robot): void {
    this.#wheel.remove(robot)
    robot.watchedSessionNo = 0
    this.#robots.tidy(robot)
  }
}

function change(robot: Robot, connection: Connection, reason: string, now: number): PresenceChange {
  return { robotId: robot.robotId, sessionNo: robot.watchedSessionNo, connection, reason, since: now }
}
