import type { MetricObject } from 'prom-client'
import type { TlsSettings } from '../config.ts'
import type { AuditEntry } from '../db/audit.ts'
import type { ClonePolicy } from '../db/sessions.ts'

/** Everything that a gateway process is told at its start. It holds passwords: over the channel, never as an argument. */
export interface GatewaySettings {
  /** Stands in its logs and on its series: `gateway-1`. */
  readonly name: string
  /** Of its row in `servers`. */
  readonly serverId: string
  readonly databaseUrl: string
  readonly engine: 'ws' | 'uws'
  readonly host: string
  readonly port: number
  readonly path: string
  readonly tls: TlsSettings | undefined
  readonly publicUrl: string | undefined
  readonly trustedProxies: readonly string[]
  readonly logLevel: string
  readonly heartbeatIntervalMs: number
  readonly clonePolicy: ClonePolicy
  readonly heartbeatLingerMs: number
  /** Its share at first; 0: as many as come. */
  readonly sessionsPerSecond: number
  /** Of the whole server; 0: as many as come. */
  readonly returnsPerSecond: number
  /** What an operator wants; undefined: as the number of robots asks for. */
  readonly reconnectSpreadMs: number | undefined
  /** How many robots may come back at once. */
  readonly expectedRobots: number
  /** Servers that are gone, as their robots still say. */
  readonly goneServers: readonly string[]
}

export type Series = readonly MetricObject[]

/** A refusal as it crosses the channel: times as text. */
export interface ToldRefusal extends Omit<AuditEntry, 'at'> {
  readonly at: string
}

export type ToProcess =
  | { readonly type: 'settings'; readonly settings: GatewaySettings }
  | { readonly type: 'ping' }
  | { readonly type: 'report'; readonly question: number }
  | { readonly type: 'servers_gone'; readonly serverIds: readonly string[] }
  /**
   * Be on the shared port, or leave it to the others; it is there when it is ready. `elsewhere`: whoever it turns away
   * finds room with another process, now or in a moment.
   */
  | { readonly type: 'port'; readonly listen: boolean; readonly elsewhere: boolean }
  /** How many robots may come back at once. */
  | { readonly type: 'expected_robots'; readonly robots: number }
  /** How many sessions it may open in a second from now on; 0: as many as come. */
  | { readonly type: 'rate'; readonly sessionsPerSecond: number }
  /** Send all robots away, store what they sent, and end. */
  | { readonly type: 'drain' }

export type FromProcess =
  /** It listens to the channel and wants its settings. */
  | { readonly type: 'hello' }
  | { readonly type: 'ready' }
  /** It cannot start, and ends. `code` as Node's errors have. */
  | { readonly type: 'failed'; readonly message: string; readonly code?: string }
  | { readonly type: 'pong' }
  /** Whether it could take more robots; it can at the start. */
  | { readonly type: 'room'; readonly hasRoom: boolean }
  /** It has come back to the shared port, or left it. */
  | { readonly type: 'listening'; readonly listening: boolean }
  /** What it has counted. */
  | { readonly type: 'report'; readonly question: number; readonly series: Series }
  /** Robots that were turned away for their tokens. */
  | { readonly type: 'refusals'; readonly entries: readonly ToldRefusal[] }
