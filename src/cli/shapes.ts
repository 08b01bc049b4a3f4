import type { HeartbeatBody } from '../protocol/frames.ts'

/** What the commands read of the REST interface's answers; servers may send more. */

export interface Site {
  readonly id: string
  readonly name: string
  readonly created_at: string
}

export interface Fleet {
  readonly id: string
  readonly site_id: string
  readonly name: string
  readonly heartbeat_interval_ms: number | null
}

export interface Key {
  readonly id: string
  readonly name: string
  readonly site_id: string
  readonly fleet_id: string
  readonly status: string
  readonly uses: number
  readonly max_uses: number
  readonly expires_at: string | null
  readonly last_used_at: string | null
  /** Null where nobody, or not this caller, may read it. */
  readonly key_value: string | null
  readonly setup_command: string | null
}

export interface RevokedKey extends Key {
  readonly robots_revoked: number
}

export interface Robot {
  readonly id: string
  readonly site_id: string
  readonly fleet_id: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly lifecycle: string
  readonly connection: string
  readonly connection_reason: string
  readonly connection_since: string
  readonly health: string
  readonly last_seen_at: string | null
  readonly heartbeat:
    | (HeartbeatBody & { readonly at: string; readonly received_at: string; readonly age_ms: number })
    | null
}

export interface RobotEvent {
  readonly id: string
  readonly source: string
  readonly at: string
  readonly level: string
  readonly code: string
  readonly message: string
}
