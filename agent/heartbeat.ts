import { type HeartbeatBody, heartbeatBodySchema } from '../src/protocol/frames.ts'
import { MAX_FAULTS, MAX_FRAME_BYTES, MAX_METRICS } from '../src/protocol/limits.ts'
import type { SoftwareReading } from './local/software.ts'
import type { Reading } from './sensors/board.ts'
import type { Judgement } from './sensors/judgement.ts'

type Fault = NonNullable<HeartbeatBody['faults']>[number]
type Health = NonNullable<HeartbeatBody['health']>

/** All that one heartbeat is made of. */
export interface HeartbeatSources {
  /** The computer's own. */
  readonly reading: Reading
  readonly judgement: Judgement
  /** From the robot's software: it knows the robot better than its computer's kernel does. */
  readonly software: SoftwareReading
  /** What the agent finds wrong with what runs beside it. */
  readonly agentFaults: readonly Fault[]
  /** What the agent counts. */
  readonly agentMetrics: Readonly<Record<string, number>>
  readonly roundTripMs: number | undefined
}

const GRAVITY = { fatal: 4, error: 3, warn: 2, info: 1, debug: 0 } as const
const SHORT_MESSAGE = 100
const FEW_FAULTS = 8

/**
 * One body of all sources. Where two tell of the same thing, the robot's software wins; where there is no room for all
 * metrics, its own stay. Of faults the gravest stay.
 */
export function mergeSources(sources: HeartbeatSources): HeartbeatBody {
  const { reading, judgement, software, agentFaults, agentMetrics, roundTripMs } = sources
  const { metrics: sensorMetrics, ...sensed } = reading
  const { metrics: softwareMetrics, faults: softwareFaults = [], ...told } = software
  const faults = distinctFaults([...softwareFaults, ...judgement.faults, ...agentFaults])
  const metrics = firstMetrics(softwareMetrics, agentMetrics, sensorMetrics)
  const network = roundTripMs === undefined ? sensed.network : { ...sensed.network, rtt_ms: roundTripMs }
  return {
    health: healthOf(judgement.health, faults),
    ...sensed,
    ...(network ? { network } : {}),
    ...told,
    ...(faults.length > 0 ? { faults } : {}),
    ...(Object.keys(metrics).length > 0 ? { metrics } : {}),
  }
}

/** The battery that counts for what is wrong with the robot. */
export function readingToJudge(reading: Reading, software: SoftwareReading): Reading {
  return software.battery ? { ...reading, battery: software.battery } : reading
}

function distinctFaults(all: readonly Fault[]): Fault[] {
  const byCode = new Map<string, Fault>()
  for (const fault of all) if (!byCode.has(fault.code)) byCode.set(fault.code, fault)
  return gravest([...byCode.values()], MAX_FAULTS)
}

/** At most `count`, the gravest; among equals those that have stood the longest. Their order stays. */
function gravest(faults: readonly Fault[], count: number): Fault[] {
  if (faults.length <= count) return [...faults]
  const ranked = [...faults].sort(
    (one, other) =>
      GRAVITY[other.level] - GRAVITY[one.level] || Date.parse(one.since) - Date.parse(other.since),
  )
  const kept = new Set(ranked.slice(0, count))
  return faults.filter((fault) => kept.has(fault))
}

function healthOf(judged: Health, faults: readonly Fault[]): Health {
  const worst = Math.max(-1, ...faults.map((fault) => GRAVITY[fault.level]))
  if (worst >= GRAVITY.error) return 'error'
  return worst === GRAVITY.warn ? 'warn' : judged
}

function firstMetrics(
  ...groups: readonly (Readonly<Record<string, number>> | undefined)[]
): Record<string, number> {
  const metrics = new Map<string, number>()
  for (const group of groups)
    for (const [name, value] of Object.entries(group ?? {}))
      if (metrics.size < MAX_METRICS && !metrics.has(name)) metrics.set(name, value)
  return Object.fromEntries(metrics)
}

/** What is taken away, one after the other, from a heartbeat that is too long for a frame. */
const CUTS: readonly ((body: HeartbeatBody) => HeartbeatBody)[] = [
  ({ faults, ...rest }) => ({ ...rest, ...(faults ? { faults: faults.map(shortened) } : {}) }),
  ({ faults, ...rest }) => ({
    ...rest,
    ...(faults ? { faults: faults.map((fault) => ({ ...fault, message: '' })) } : {}),
  }),
  ({ faults, ...rest }) => ({ ...rest, ...(faults ? { faults: gravest(faults, FEW_FAULTS) } : {}) }),
  ({ activity: _, ...rest }) => rest,
  ({ metrics: _, ...rest }) => rest,
  ({ health, clock_offset_ms }) => ({
    ...(health ? { health } : {}),
    ...(clock_offset_ms === undefined ? {} : { clock_offset_ms }),
  }),
]

function shortened(fault: Fault): Fault {
  return fault.message.length <= SHORT_MESSAGE
    ? fault
    : { ...fault, message: `${fault.message.slice(0, SHORT_MESSAGE).toWellFormed()}…` }
}

export interface HeartbeatText {
  readonly text: string
  /** Something was taken away for want of room. */
  readonly isCut: boolean
}

/**
 * The frame as it is sent, never longer than a frame may be less `roomBytes`. A source that says something impossible costs
 * what it says, not the heartbeat.
 */
export function heartbeatText(seq: number, at: string, body: HeartbeatBody, roomBytes = 0): HeartbeatText {
  let cut = possible(body)
  const write = () => JSON.stringify({ type: 'heartbeat', seq, at, ...cut })
  let text = write()
  let isCut = false
  for (const shorten of CUTS) {
    if (Buffer.byteLength(text) <= MAX_FRAME_BYTES - roomBytes) break
    cut = shorten(cut)
    text = write()
    isCut = true
  }
  return { text, isCut }
}

/** The body without the sections that no server would take. */
function possible(body: HeartbeatBody): HeartbeatBody {
  const { shape } = heartbeatBodySchema
  return Object.fromEntries(
    Object.entries(body).filter(
      ([name, value]) =>
        !Object.hasOwn(shape, name) || shape[name as keyof typeof shape].safeParse(value).success,
    ),
  )
}
