import { answerQuestions } from '../support/answering.ts'
import { crowdToken } from '../support/crowd-token.ts'
import type { HistogramCounts } from '../support/histogram.ts'
import { Crowd, type CrowdCounts, type Persistence } from './crowd.ts'
import { dialectOf } from './dialects.ts'

// One of many crowds that together are a fleet, whose robots go by number (see GrowingFleet). Nothing here takes long:
// what does is begun, and the bench looks at how it goes on.

export type FleetCrowdQuestion =
  /** First of all. Robots that lose their session, or are refused one, come back. */
  | {
      readonly do: 'begin'
      readonly port: number
      readonly seed: string
      /** The first of this crowd. */
      readonly firstRobot: number
      readonly firstAddress: number
      readonly handshakesAtOnce: number
      readonly maxInFlight: number
      /** Above all that these robots have sent before. */
      readonly firstSeq: number
      readonly persistence: Persistence
      readonly shortHeartbeats: boolean
    }
  /** So many robots more connect. */
  | { readonly do: 'add'; readonly robots: number }
  /** Each robot sends one heartbeat. */
  | { readonly do: 'beat' }
  | { readonly do: 'beat-every'; readonly intervalMs: number }
  | { readonly do: 'hush' }
  | { readonly do: 'counts' }
  /** What was timed since the last look. */
  | { readonly do: 'look' }
  /** From now on, heartbeats of robots that lose their session are not timed, and those robots are listed. */
  | { readonly do: 'watch' }
  /** Those that have lost their session since. */
  | { readonly do: 'losses' }
  /** So many robots, drawn at random, lose their network for a moment. */
  | { readonly do: 'lose-some'; readonly robots: number }
  /** Those without a session no longer try to get one. */
  | { readonly do: 'stay-away' }
  /** All drop their connections and stay away. */
  | { readonly do: 'leave' }
  | { readonly do: 'come-back' }
  /** The highest acknowledged heartbeat of each robot: 32-bit numbers in base64. */
  | { readonly do: 'acknowledged' }
  /** Each stretch of time without a session that was longer than this. */
  | { readonly do: 'absences'; readonly longerThanMs: number }

export interface FleetCrowdLook {
  readonly counts: CrowdCounts
  readonly latencies: HistogramCounts
  readonly handshakes: HistogramCounts
}

export interface Losses {
  readonly robots: readonly number[]
  /** Of them, how many have a session again. */
  readonly back: number
  /** Milliseconds since 1970; undefined: nobody yet. */
  readonly firstBackAt: number | undefined
  readonly lastBackAt: number | undefined
}

export interface Absence {
  readonly robot: number
  /** Milliseconds since 1970. */
  readonly from: number
  /** Undefined: it is still away. */
  readonly to: number | undefined
}

/** Shorter absences nobody asks for. */
const KEPT_ABSENCE_MS = 5_000

let crowd: Crowd | undefined
let failure: Error | undefined
let seed = ''
let firstRobot = 0
let watching = false
const lost = new Set<number>()
let back = 0
let firstBackAt: number | undefined
let lastBackAt: number | undefined
const awaySince = new Map<number, number>()
const absences: Absence[] = []

function theCrowd(): Crowd {
  if (!crowd) throw new Error('begin first')
  if (failure) throw failure
  return crowd
}

function begin(question: FleetCrowdQuestion & { do: 'begin' }): void {
  seed = question.seed
  firstRobot = question.firstRobot
  crowd = new Crowd({
    dialect: dialectOf('beacon', question.shortHeartbeats),
    port: question.port,
    firstAddress: question.firstAddress,
    handshakesAtOnce: question.handshakesAtOnce,
    maxInFlight: question.maxInFlight,
    persistence: question.persistence,
    firstSeq: question.firstSeq,
  })
  crowd.onFailure = (error) => {
    failure ??= error
  }
  crowd.onLost = (robot) => {
    awaySince.set(robot, Date.now())
    if (!watching) return
    lost.add(robot)
    crowd!.untimed[robot] = 1
  }
  crowd.onBack = (robot) => {
    const now = Date.now()
    const from = awaySince.get(robot)
    if (from === undefined) return
    awaySince.delete(robot)
    if (now - from > KEPT_ABSENCE_MS) absences.push({ robot: firstRobot + robot, from, to: now })
    if (!lost.has(robot)) return
    back += 1
    firstBackAt ??= now
    lastBackAt = now
  }
}

function watch(): void {
  watching = true
  lost.clear()
  crowd!.untimed.fill(0)
  crowd!.latencies.clear()
  back = 0
  firstBackAt = lastBackAt = undefined
}

function look(): FleetCrowdLook {
  const { latencies, handshakes } = theCrowd()
  const taken = { latencies: latencies.counts(), handshakes: handshakes.counts() }
  latencies.clear()
  handshakes.clear()
  return { counts: theCrowd().counts(), ...taken }
}

function loseSome(robots: number): void {
  const of = theCrowd()
  of.loseNetwork(Array.from({ length: robots }, () => Math.floor(Math.random() * of.size)))
}

function absencesLongerThan(ms: number): Absence[] {
  const now = Date.now()
  const still = [...awaySince].map(([robot, from]) => ({ robot: firstRobot + robot, from, to: undefined }))
  return [...absences, ...still].filter(({ from, to }) => (to ?? now) - from > ms)
}

answerQuestions(async (question: FleetCrowdQuestion) => {
  switch (question.do) {
    case 'begin':
      return begin(question)
    case 'add': {
      const from = firstRobot + theCrowd().size
      return theCrowd().add(
        Array.from({ length: question.robots }, (_, index) => crowdToken(seed, from + index)),
      )
    }
    case 'beat':
      for (let robot = 0; robot < theCrowd().size; robot++) theCrowd().beat(robot)
      return
    case 'beat-every':
      return theCrowd().beatEvery(question.intervalMs)
    case 'hush':
      return theCrowd().hush()
    case 'counts':
      return theCrowd().counts()
    case 'look':
      return look()
    case 'watch':
      return watch()
    case 'losses':
      return {
        robots: [...lost].map((robot) => firstRobot + robot),
        back,
        firstBackAt,
        lastBackAt,
      } satisfies Losses
    case 'lose-some':
      return loseSome(question.robots)
    case 'stay-away':
      return theCrowd().stayAway()
    case 'leave':
      return theCrowd().leave()
    case 'come-back':
      return theCrowd().comeBack()
    case 'acknowledged':
      return Buffer.from(Int32Array.from(theCrowd().answeredSeqs()).buffer).toString('base64')
    case 'absences':
      return absencesLongerThan(question.longerThanMs)
  }
})
