import { setTimeout as sleep } from 'node:timers/promises'
import type { CrowdCounts, Persistence } from '../programs/crowd.ts'
import type { Absence, FleetCrowdLook, FleetCrowdQuestion, Losses } from '../programs/fleet-crowd.ts'
import { FIRST_SEQ } from '../programs/heartbeat-frames.ts'
import type { Child, StartChild } from './child.ts'
import { Histogram } from './histogram.ts'
import { endFirstWithoutMemory } from './memory.ts'

/** Leaves some of 20,000 file descriptors to the process itself. */
const ROBOTS_PER_CROWD = 18_000
/** So many loopback addresses are one crowd's own. */
const ADDRESSES_PER_CROWD = 16
const FIRST_ADDRESS = 1 << 16
const LOOK_EVERY_MS = 250

export interface FleetCrowdsOptions {
  readonly start: StartChild
  readonly port: number
  readonly seed: string
  /** Of each crowd. */
  readonly handshakesAtOnce: number
  readonly maxInFlight?: number
  /** Above all that robots of this fleet have sent before. */
  readonly firstSeq?: number
  readonly persistence: Persistence
  readonly shortHeartbeats?: boolean
  /** Robots of the same fleet: these begin where those end. */
  readonly after?: FleetCrowds
}

/** All crowds together. */
export interface FleetLook {
  readonly here: number
  readonly sent: number
  readonly answered: number
  readonly opened: number
  readonly resent: number
  readonly heldBack: number
  readonly refused: Readonly<Record<string, number>>
  readonly closed: Readonly<Record<string, number>>
  readonly lost: Readonly<Record<string, number>>
  readonly latencies: Histogram
  readonly handshakes: Histogram
}

interface FleetCrowd {
  readonly child: Child
  readonly robots: number
  /** The question before: a program takes one at a time. */
  asked: Promise<unknown>
}

/** Robots of a GrowingFleet in as many processes as they need. */
export class FleetCrowds {
  readonly #options: FleetCrowdsOptions
  readonly #crowds: FleetCrowd[] = []

  constructor(options: FleetCrowdsOptions) {
    this.#options = options
  }

  /** Of the first robot and of the first crowd. */
  get #from(): { readonly robot: number; readonly crowd: number } {
    const { after } = this.#options
    return after
      ? { robot: after.#from.robot + after.robots, crowd: after.#from.crowd + after.#crowds.length }
      : { robot: 0, crowd: 0 }
  }

  get robots(): number {
    return this.#crowds.reduce((sum, crowd) => sum + crowd.robots, 0)
  }

  get pids(): number[] {
    return this.#crowds.map((crowd) => crowd.child.pid)
  }

  /** Begins to connect as many robots as are missing to `count`, spread over new crowds; those full before stay so. */
  async growTo(count: number): Promise<void> {
    const missing = count - this.robots
    const crowds = Math.ceil(missing / ROBOTS_PER_CROWD)
    const { start, port, seed, handshakesAtOnce, persistence } = this.#options
    for (let left = crowds; left > 0; left--) {
      const robots = Math.ceil((count - this.robots) / left)
      const firstRobot = this.#from.robot + this.robots
      // Little space for young objects: it would be most of what so small a program takes.
      const child = start(new URL('../programs/fleet-crowd.js', import.meta.url), {
        node: ['--max-semi-space-size=1', '--single-threaded-gc'],
      })
      endFirstWithoutMemory(child.pid)
      const crowd = { child, robots, asked: Promise.resolve() }
      this.#crowds.push(crowd)
      await this.#askOne(crowd, {
        do: 'begin',
        port,
        seed,
        firstRobot,
        firstAddress: FIRST_ADDRESS + (this.#from.crowd + this.#crowds.length) * ADDRESSES_PER_CROWD,
        handshakesAtOnce,
        maxInFlight: this.#options.maxInFlight ?? 64,
        firstSeq: this.#options.firstSeq ?? FIRST_SEQ,
        persistence,
        shortHeartbeats: this.#options.shortHeartbeats ?? false,
      })
    }
    await Promise.all(
      this.#crowds.slice(-crowds).map((crowd) => this.#askOne(crowd, { do: 'add', robots: crowd.robots })),
    )
  }

  /** Answers true when all robots have a session; false when `mayGoOn` says no, or when none came for so long. */
  async allHere(patienceSeconds: number, mayGoOn: () => boolean = () => true): Promise<boolean> {
    let best = -1
    for (let since = performance.now(); ; ) {
      const { here } = await this.counts()
      if (here === this.robots) return true
      const now = performance.now()
      if (here > best) [best, since] = [here, now]
      if (!mayGoOn() || now - since > patienceSeconds * 1000) return false
      await sleep(LOOK_EVERY_MS)
    }
  }

  /** Every robot sends one heartbeat, and all are answered. */
  async beatOnce(): Promise<void> {
    await this.#ask({ do: 'beat' })
    if (!(await this.allAnswered(60))) throw new Error('heartbeats stay unanswered')
  }

  /** Answers true when no heartbeat is on the way; false when some still are after so long. */
  async allAnswered(patienceSeconds: number): Promise<boolean> {
    const end = performance.now() + patienceSeconds * 1000
    for (;;) {
      const { sent, answered } = await this.counts()
      if (sent === answered) return true
      if (performance.now() > end) return false
      await sleep(LOOK_EVERY_MS)
    }
  }

  /** Every robot sends a heartbeat this often, each from a random point of the interval on. */
  async beatEvery(intervalMs: number): Promise<void> {
    await this.#ask({ do: 'beat-every', intervalMs })
  }

  async hush(): Promise<void> {
    await this.#ask({ do: 'hush' })
  }

  async counts(): Promise<Omit<FleetLook, 'latencies' | 'handshakes'>> {
    return sumOf(await this.#ask<CrowdCounts>({ do: 'counts' }))
  }

  /** What was timed since the last look. */
  async look(): Promise<FleetLook> {
    const looks = await this.#ask<FleetCrowdLook>({ do: 'look' })
    return {
      ...sumOf(looks.map((look) => look.counts)),
      latencies: Histogram.of(looks.map((look) => look.latencies)),
      handshakes: Histogram.of(looks.map((look) => look.handshakes)),
    }
  }

  /** From now on only heartbeats of robots that keep their session are timed, and those that lose it are listed. */
  async watch(): Promise<void> {
    await this.#ask({ do: 'watch' })
  }

  async losses(): Promise<Losses> {
    const losses = await this.#ask<Losses>({ do: 'losses' })
    const first = losses.flatMap((loss) => loss.firstBackAt ?? [])
    const last = losses.flatMap((loss) => loss.lastBackAt ?? [])
    return {
      robots: losses.flatMap((loss) => loss.robots),
      back: losses.reduce((sum, loss) => sum + loss.back, 0),
      firstBackAt: first.length === 0 ? undefined : Math.min(...first),
      lastBackAt: last.length === 0 ? undefined : Math.max(...last),
    }
  }

  /** So many robots of all lose their network for a moment. */
  async loseSome(robots: number): Promise<void> {
    const share = robots / this.robots
    await Promise.all(
      this.#crowds.map((crowd) => {
        const expected = crowd.robots * share
        const drawn = Math.floor(expected) + (Math.random() < expected % 1 ? 1 : 0)
        return drawn > 0 ? this.#askOne(crowd, { do: 'lose-some', robots: drawn }) : undefined
      }),
    )
  }

  /** Robots without a session no longer try to get one. */
  async stayAway(): Promise<void> {
    await this.#ask({ do: 'stay-away' })
  }

  /** All robots drop their connections and come back at once. */
  async reconnect(): Promise<void> {
    await this.#ask({ do: 'leave' })
    await this.#ask({ do: 'come-back' })
  }

  /** The highest acknowledged heartbeat of each robot, by the robot's number. */
  async acknowledged(): Promise<number[]> {
    const answers = await this.#ask<string>({ do: 'acknowledged' })
    return answers.flatMap((text) => {
      const bytes = Buffer.from(text, 'base64')
      return Array.from({ length: bytes.length / 4 }, (_, index) => bytes.readInt32LE(index * 4))
    })
  }

  async absencesLongerThan(longerThanMs: number): Promise<Absence[]> {
    return (await this.#ask<Absence[]>({ do: 'absences', longerThanMs })).flat()
  }

  #ask<Answer>(question: FleetCrowdQuestion): Promise<Answer[]> {
    return Promise.all(this.#crowds.map((crowd) => this.#askOne<Answer>(crowd, question)))
  }

  #askOne<Answer>(crowd: FleetCrowd, question: FleetCrowdQuestion): Promise<Answer> {
    const answered = crowd.asked.then(() => crowd.child.ask<Answer>(question))
    // Whoever asked hears of a failure; the next question finds out for itself.
    crowd.asked = answered.catch(() => {})
    return answered
  }
}

type Tally = Readonly<Record<string, number>>

function sumOf(counts: readonly CrowdCounts[]) {
  const sum = (of: (each: CrowdCounts) => number) => counts.reduce((total, each) => total + of(each), 0)
  const tally = (of: (each: CrowdCounts) => Tally) => {
    const total: Record<string, number> = {}
    for (const each of counts)
      for (const [name, count] of Object.entries(of(each))) total[name] = (total[name] ?? 0) + count
    return total
  }
  return {
    here: sum((each) => each.here),
    sent: sum((each) => each.sent),
    answered: sum((each) => each.answered),
    opened: sum((each) => each.opened),
    resent: sum((each) => each.resent),
    heldBack: sum((each) => each.heldBack),
    refused: tally((each) => each.refused),
    closed: tally((each) => each.closed),
    lost: tally((each) => each.lost),
  }
}
