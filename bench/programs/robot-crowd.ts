import { performance } from 'node:perf_hooks'
import { answerQuestions } from '../support/answering.ts'
import type { HistogramCounts } from '../support/histogram.ts'
import { Crowd, type CrowdCounts, type CrowdOptions } from './crowd.ts'
import { type DialectName, dialectOf } from './dialects.ts'
import { FIRST_SEQ } from './heartbeat-frames.ts'

// A crowd of robots as a process of its own. Ask one question at a time; what takes long is begun and then looked at.

export type CrowdQuestion =
  /** First of all. */
  | ({ readonly do: 'begin'; readonly port: number; readonly dialect?: DialectName } & Partial<
      Pick<CrowdOptions, 'firstAddress' | 'handshakesAtOnce' | 'persistence' | 'firstSeq'>
    >)
  /**
   * One robot more for each token, so many a second (undefined: as fast as handshakes go), or staying away for now; is
   * answered at once.
   */
  | {
      readonly do: 'add'
      readonly tokens: readonly string[]
      readonly perSecond?: number
      readonly away?: boolean
    }
  /** Is answered when all robots have a session, or fails after a while. */
  | { readonly do: 'all-here'; readonly withinSeconds: number }
  /** Each robot sends one heartbeat; is answered when all are answered. */
  | { readonly do: 'beat-once' }
  /** Each robot sends one at this interval from now on, from a random point of it on; 0: no more. */
  | { readonly do: 'beat-every'; readonly intervalMs: number }
  /** Is answered when no heartbeat is on the way; `false` when some still are after so long. */
  | { readonly do: 'all-answered'; readonly withinSeconds: number }
  /** Each robot keeps so many heartbeats on the way, as fast as answers come. */
  | { readonly do: 'saturate'; readonly seconds: number; readonly inFlight: number }
  /** All robots together send so many heartbeats a second, whatever is answered. */
  | { readonly do: 'pace'; readonly seconds: number; readonly perSecond: number }
  /** What was counted so far, and what was timed since the last look. */
  | { readonly do: 'look' }
  /** The highest acknowledged heartbeat of each robot, in the order of the tokens. */
  | { readonly do: 'answered-seqs' }
  /** All drop their connections and stay away. */
  | { readonly do: 'leave' }
  /** Those who left come again. */
  | { readonly do: 'come-back'; readonly perSecond?: number }
  /** All drop their connections, and come back as a lost network would have them. */
  | { readonly do: 'lose-network' }

/** What became of heartbeats: all were answered. */
export interface Answered {
  readonly count: number
  readonly seconds: number
  readonly latencies: HistogramCounts
  /** Processor seconds of the crowd itself. */
  readonly crowdSeconds: number
}

export interface Look {
  readonly counts: CrowdCounts
  readonly latencies: HistogramCounts
  readonly handshakes: HistogramCounts
  /** Session lost → greeted again; and without the pauses that robots were told or chose to make. */
  readonly back: HistogramCounts
  readonly backBeyondPauses: HistogramCounts
  /** Of this process since it began. */
  readonly crowdSeconds: number
}

const HANDSHAKES_AT_ONCE = 200
const MAX_IN_FLIGHT = 64

let crowd: Crowd | undefined
/** Met while nobody was waiting, and told to whoever waits next. */
let failure: Error | undefined

function theCrowd(): Crowd {
  if (!crowd) throw new Error('begin first')
  return crowd
}

function begin({
  port,
  dialect = 'beacon',
  firstAddress = 0,
  handshakesAtOnce = HANDSHAKES_AT_ONCE,
  persistence,
  firstSeq = FIRST_SEQ,
}: CrowdQuestion & { do: 'begin' }): void {
  if (crowd) throw new Error('a process has one crowd')
  crowd = new Crowd({
    dialect: dialectOf(dialect),
    port,
    firstAddress,
    handshakesAtOnce,
    maxInFlight: MAX_IN_FLIGHT,
    persistence,
    firstSeq,
  })
  crowd.onFailure = (error) => {
    failure ??= error
  }
}

const cpuSeconds = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** Waits for what is looked at every few milliseconds; fails when the crowd does. `false`: it took too long. */
function until(holds: () => boolean, withinSeconds = Number.POSITIVE_INFINITY): Promise<boolean> {
  const end = performance.now() + withinSeconds * 1000
  return new Promise((resolve, reject) => {
    const look = () => {
      if (failure) reject(failure)
      else if (holds()) resolve(true)
      else if (performance.now() > end) resolve(false)
      else setTimeout(look, 1)
    }
    look()
  })
}

async function allHere(withinSeconds: number): Promise<void> {
  const of = theCrowd()
  if (!(await until(() => of.here === of.size, withinSeconds)))
    throw new Error(`after ${withinSeconds} s robots are missing: ${JSON.stringify(of.counts())}`)
}

/** Measures from `start` until every heartbeat is answered and none is to come. */
async function measure(start: () => void, mayEnd: () => boolean): Promise<Answered> {
  const of = theCrowd()
  of.latencies.clear()
  const [begun, cpu] = [performance.now(), cpuSeconds()]
  start()
  await until(() => of.outstanding === 0 && mayEnd())
  of.onAnswered = undefined
  const { heldBack } = of.counts()
  if (heldBack > 0) throw new Error(`robots held ${heldBack} heartbeats back, for too many were unanswered`)
  return {
    count: of.latencies.count,
    seconds: (performance.now() - begun) / 1000,
    latencies: of.latencies.counts(),
    crowdSeconds: cpuSeconds() - cpu,
  }
}

function beatAll(): void {
  const of = theCrowd()
  for (let robot = 0; robot < of.size; robot++) of.beat(robot)
}

function saturate(seconds: number, inFlight: number): Promise<Answered> {
  const of = theCrowd()
  const end = performance.now() + seconds * 1000
  const goOn = (robot: number) => {
    while (of.inFlight(robot) < inFlight && performance.now() < end) of.beat(robot)
  }
  return measure(
    () => {
      of.onAnswered = goOn
      for (let robot = 0; robot < of.size; robot++) goOn(robot)
    },
    () => performance.now() >= end,
  )
}

function pace(seconds: number, perSecond: number): Promise<Answered> {
  const of = theCrowd()
  const total = Math.round(seconds * perSecond)
  const begun = performance.now()
  let sent = 0
  const sendDue = () => {
    const due = Math.min(total, ((performance.now() - begun) * perSecond) / 1000)
    while (sent < due) of.beat(sent++ % of.size)
    if (sent < total) setTimeout(sendDue, 1)
  }
  return measure(sendDue, () => sent === total)
}

function look(): Look {
  const of = theCrowd()
  const timed = {
    latencies: of.latencies,
    handshakes: of.handshakes,
    back: of.back,
    backBeyondPauses: of.backBeyondPauses,
  }
  const taken = Object.fromEntries(
    Object.entries(timed).map(([name, histogram]) => [name, histogram.counts()]),
  ) as Record<keyof typeof timed, HistogramCounts>
  for (const histogram of Object.values(timed)) histogram.clear()
  return { counts: of.counts(), ...taken, crowdSeconds: cpuSeconds() }
}

answerQuestions(async (question: CrowdQuestion) => {
  switch (question.do) {
    case 'begin':
      return begin(question)
    case 'add':
      return question.away
        ? theCrowd().addAway(question.tokens)
        : theCrowd().add(question.tokens, question.perSecond)
    case 'all-here':
      return allHere(question.withinSeconds)
    case 'beat-once':
      return measure(beatAll, () => true)
    case 'beat-every':
      return question.intervalMs > 0 ? theCrowd().beatEvery(question.intervalMs) : theCrowd().hush()
    case 'all-answered':
      return until(() => theCrowd().outstanding === 0, question.withinSeconds)
    case 'saturate':
      return saturate(question.seconds, question.inFlight)
    case 'pace':
      return pace(question.seconds, question.perSecond)
    case 'look':
      return look()
    case 'answered-seqs':
      return theCrowd().answeredSeqs()
    case 'leave':
      return theCrowd().leave()
    case 'come-back':
      return theCrowd().comeBack(question.perSecond)
    case 'lose-network':
      return theCrowd().loseNetwork()
  }
})
