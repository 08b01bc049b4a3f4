import { NOT_SCHEDULED, type Scheduled } from './timing-wheel.ts'

/**
 * What this server has to do with one robot: one record in one map, of which Registry, Presence and its TimingWheel each
 * write their own part and no other.
 */
export class Robot<Connection = unknown> implements Scheduled {
  readonly robotId: string

  // Registry's part

  /** Its newest session that was opened here. */
  current: Connection | undefined = undefined
  /** Authenticated, but not opened yet. At most one: a newer one takes its place. */
  candidate: Connection | undefined = undefined

  // Presence's part

  /** The session under which it is watched; 0 while it is not, for sessions count from 1. */
  watchedSessionNo = 0
  heartbeatIntervalMs = 0
  connection: 'online' | 'stale' = 'online'
  /** On the listening clock. */
  heardAt = 0
  /** Why the socket went away, once it did. */
  lostReason: string | undefined = undefined
  /** We ourselves do not read from this robot for now: silence means nothing. */
  deaf = false

  // The timing wheel's part

  slot = NOT_SCHEDULED
  place = 0

  constructor(robotId: string) {
    this.robotId = robotId
  }
}

/** The robots that this server has a connection of, or watches. Bounded by the connections that were let in. */
export class Robots<Connection = unknown> {
  readonly #robots = new Map<string, Robot<Connection>>()

  get size(): number {
    return this.#robots.size
  }

  get(robotId: string): Robot<Connection> | undefined {
    return this.#robots.get(robotId)
  }

  /** The robot's record, made when there is none. */
  of(robotId: string): Robot<Connection> {
    let robot = this.#robots.get(robotId)
    if (!robot) {
      robot = new Robot(robotId)
      this.#robots.set(robotId, robot)
    }
    return robot
  }

  all(): Iterable<Robot<Connection>> {
    return this.#robots.values()
  }

  /** Drops the record when nobody has a part in it any more. */
  tidy(robot: Robot<Connection>): void {
    if (robot.current === undefined && robot.candidate === undefined && robot.watchedSessionNo === 0)
      this.#robots.delete(robot.robotId)
  }
}
