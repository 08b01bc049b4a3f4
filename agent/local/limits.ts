import { MAX_FAULTS, MAX_METRICS } from '../../src/protocol/limits.ts'

/** What the robot's own software may ask of the agent, so that one bad script floods neither it nor the fleet. */
export interface LocalLimits {
  /** One request, without its line break. */
  readonly lineBytes: number
  readonly connections: number
  /** A full house lets the connection go that was silent the longest, if it was for so long. */
  readonly idleMs: number
  readonly connectionLines: Rate
  /** Over all connections and programs. */
  readonly allLines: Rate
  readonly events: Rate
  readonly metrics: number
  readonly faults: number
  /** Refused lines in a row, after which a connection is closed. */
  readonly refusedInARow: number
  /** What may wait for a program that does not read its answers. */
  readonly unreadBytes: number
}

export interface Rate {
  readonly perSecond: number
  readonly burst: number
}

export const LOCAL_LIMITS: LocalLimits = {
  lineBytes: 8 * 1024,
  connections: 16,
  idleMs: 60_000,
  connectionLines: { perSecond: 50, burst: 100 },
  allLines: { perSecond: 100, burst: 300 },
  events: { perSecond: 1, burst: 60 },
  metrics: MAX_METRICS,
  // The others are for what the agent finds by itself.
  faults: MAX_FAULTS - 8,
  refusedInARow: 1_000,
  unreadBytes: 64 * 1024,
}

/** How long a value stands that its writer does not renew. */
export const DEFAULT_TTL_S = 300
export const MAX_TTL_S = 604_800

/** Names of the agent's own metrics begin so; the robot's software cannot set them. */
export const OWN_METRICS = 'beacon_'
