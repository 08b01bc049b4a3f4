import type { Robots } from './robots.ts'

/** What the registry needs of a connection. */
export interface Registered {
  readonly robotId: string
  /** Undefined until its session was opened. */
  readonly sessionNo: number | undefined
}

/** Which connection stands for which robot on this server. The newest wins, always. */
export class Registry<Connection extends Registered> {
  readonly #robots: Robots<Connection>
  #size = 0

  constructor(robots: Robots<Connection>) {
    this.#robots = robots
  }

  /** Connections registered, candidates included. */
  get size(): number {
    return this.#size
  }

  /** Registers a connection that has just been authenticated; answers with the candidate it replaces. */
  arrive(connection: Connection): Connection | undefined {
    const robot = this.#robots.of(connection.robotId)
    const replaced = robot.candidate
    robot.candidate = connection
    if (!replaced) this.#size += 1
    return replaced
  }

  /** The candidate's session was opened: it stands for its robot. Answers with the older session that has to go. */
  opened(connection: Connection): Connection | undefined {
    const robot = this.#robots.get(connection.robotId)
    if (robot?.candidate !== connection) return undefined
    const older = robot.current
    robot.candidate = undefined
    robot.current = connection
    if (older) this.#size -= 1
    return older
  }

  /** Takes the connection out, if it is still the one that stands for its robot. */
  leave(connection: Connection): void {
    const robot = this.#robots.get(connection.robotId)
    if (!robot) return
    if (robot.current === connection) {
      robot.current = undefined
      this.#size -= 1
    }
    if (robot.candidate === connection) {
      robot.candidate = undefined
      this.#size -= 1
    }
    this.#robots.tidy(robot)
  }

  /** Every connection of a robot: the current one first. */
  of(robotId: string): Connection[] {
    const robot = this.#robots.get(robotId)
    return [robot?.current, robot?.candidate].filter((connection) => connection !== undefined)
  }

  current(robotId: string): Connection | undefined {
    return this.#robots.get(robotId)?.current
  }

  *all(): Generator<Connection> {
    for (const robot of this.#robots.all()) {
      if (robot.current) yield robot.current
      if (robot.candidate) yield robot.candidate
    }
  }
}
