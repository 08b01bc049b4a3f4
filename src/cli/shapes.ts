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

/** What enrollment keys and provisioning tokens have in common. */
export interface Credential {
  readonly id: string
  readonly name: string
  readonly site_id: string
  readonly fleet_id: string
  readonly status: string
  readonly uses: number
  readonly expires_at: string | null
  readonly last_used_at: string | null
}

export interface Key extends Credential {
  readonly max_uses: number
  /** Null where nobody, or not this caller, may read it. */
  readonly key_value: string | null
  readonly setup_command: string | null
}

export interface ProvisioningToken extends Credential {
  readonly single_use: boolean
  /** Only in the answer that made it, and only once. */
  readonly token?: string | null
  readonly setup_command?: string | null
}

export interface RevokedCredential extends Credential {
  readonly robots_revoked: number
  readonly robots_out_of_reach: number
}

export interface SetupToken {
  readonly id: string
  readonly robot_id: string
  /** Null when the request is repeated. */
  readonly setup_token: string | null
  readonly setup_command: string | null
  readonly expires_at: string
}

/** A robot that waits for approval. */
export interface WaitingRobot {
  readonly id: string
  readonly name: string
  readonly site_id: string
  readonly fleet_id: string
  readonly is_new: boolean
  readonly fingerprint: { readonly hostname?: string }
  readonly address: string | null
  readonly credential: { readonly id: string; readonly kind: string; readonly name: string | null } | null
  readonly pending_since: string
  readonly expires_at: string
}

/** What was decided about robots that wait, or would be. */
export interface Decisions {
  readonly robots: readonly { readonly id: string; readonly name: string; readonly outcome: string }[]
  readonly skipped: readonly { readonly id: string; readonly why: string }[]
  readonly more: boolean
}

/** Robots that were asked for new tokens, or would be. */
export interface RotationRequests {
  readonly dry_run: boolean
  readonly matched: number
  readonly requested: number
  /** At most the first hundred. */
  readonly robots: readonly { readonly id: string; readonly name: string }[]
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
  readonly token_issued_at: string | null
  readonly token_revoked_at: string | null
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
