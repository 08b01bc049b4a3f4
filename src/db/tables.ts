import type { ColumnType, Generated } from 'kysely'
import type { Fingerprint } from '../protocol/enrolment.ts'
import type { HeartbeatBody, HelloFrame, Lifecycle } from '../protocol/frames.ts'

/** The tables as migrations/schema.sql has them. bigint columns are read as numbers: none nears 2^53. */

type Instant = ColumnType<Date, Date | string, Date | string>
type DefaultedInstant = ColumnType<Date, Date | string | undefined, Date | string>
type OptionalInstant = ColumnType<Date | null, Date | string | null | undefined, Date | string | null>
/** Written as JSON text, read as a value. */
type Json<Value> = ColumnType<Value, string | undefined, string>
type OptionalJson<Value> = ColumnType<Value | null, string | null | undefined, string | null>

export type Connection = 'unseen' | 'online' | 'stale' | 'offline'
export type Health = 'ok' | 'warn' | 'error' | 'unknown'
export type EventLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal'
export type OnExisting = 'rebind' | 'approve' | 'reject'
export type CredentialKind = 'enrollment_key' | 'provisioning_token' | 'setup_token'
export type RotationReason = 'operator' | 'age' | 'suspicion'
export type Role = 'owner' | 'admin' | 'operator' | 'viewer'
export type SignInStage = 'oidc' | 'second_factor' | 'signed_in'
export type Labels = Record<string, string>

export interface Tables {
  sites: { id: string; name: string; created_at: DefaultedInstant; updated_at: DefaultedInstant }
  fleets: {
    id: string
    site_id: string
    name: string
    heartbeat_interval_ms: number | null
    created_at: DefaultedInstant
    updated_at: DefaultedInstant
  }
  users: {
    id: string
    name: string
    email: string | null
    two_factor_enabled: Generated<boolean>
    created_at: DefaultedInstant
    updated_at: DefaultedInstant
    last_signed_in_at: OptionalInstant
    removed_at: OptionalInstant
  }
  memberships: {
    id: string
    user_id: string
    role: Role
    site_id: string | null
    fleet_id: string | null
    created_at: DefaultedInstant
  }
  security_settings: {
    only_row: Generated<boolean>
    require_second_factor: Generated<boolean>
    robot_token_max_age_days: number | null
    rotate_on_suspicion: Generated<boolean>
    updated_at: DefaultedInstant
    rotation_pass_at: OptionalInstant
  }
  access_tokens: {
    id: string
    kind: 'personal' | 'fleet'
    user_id: string | null
    fleet_id: string | null
    name: string
    token_hash: Buffer
    last_four: string
    scopes: string[] | null
    allowed_cidrs: ColumnType<string[], string[] | undefined, string[]>
    created_at: DefaultedInstant
    created_by: string | null
    expires_at: OptionalInstant
    revoked_at: OptionalInstant
    last_used_at: OptionalInstant
    last_used_ip: string | null
    replaces: string | null
  }
  invitations: {
    id: string
    user_id: string
    token_hash: Buffer
    created_by: string | null
    created_at: DefaultedInstant
    expires_at: Instant
    accepted_at: OptionalInstant
    revoked_at: OptionalInstant
  }
  passwords: { user_id: string; hash: string; updated_at: DefaultedInstant }
  second_factors: {
    user_id: string
    secret_sealed: Buffer
    created_at: DefaultedInstant
    confirmed_at: OptionalInstant
    last_period: number | null
  }
  backup_codes: { user_id: string; code_hash: Buffer; used_at: OptionalInstant }
  identities: { issuer: string; subject: string; user_id: string; created_at: DefaultedInstant }
  sign_ins: {
    id: string
    secret_hash: Buffer
    stage: SignInStage
    user_id: string | null
    method: 'password' | 'oidc' | null
    second_factor: Generated<boolean>
    failures: Generated<number>
    flow_sealed: Buffer | null
    address: string | null
    user_agent: string | null
    created_at: DefaultedInstant
    last_seen_at: DefaultedInstant
    expires_at: Instant
    ended_at: OptionalInstant
  }
  audit_log: {
    seq: number
    id: string
    at: Instant
    action: string
    outcome: 'ok' | 'refused'
    actor_kind: string
    actor_id: string | null
    actor_name: string | null
    target_kind: string | null
    target_id: string | null
    target_name: string | null
    site_id: string | null
    fleet_id: string | null
    request_id: string | null
    address: string | null
    data: Json<Record<string, unknown>>
    previous_hash: Buffer
    hash: Buffer
  }
  audit_head: { only_row: boolean; seq: number; hash: Buffer }
  claim_credentials: {
    id: string
    kind: CredentialKind
    secret_hash: Buffer
    secret_sealed: Buffer | null
    last_four: string
    name: string
    site_id: string
    fleet_id: string
    max_uses: number | null
    uses: Generated<number>
    labels: Json<Labels>
    allowed_cidrs: ColumnType<string[], string[] | undefined, string[]>
    require_approval: Generated<boolean>
    on_existing: Generated<OnExisting>
    created_at: DefaultedInstant
    created_by: string | null
    expires_at: OptionalInstant
    revoked_at: OptionalInstant
    last_used_at: OptionalInstant
    single_use: Generated<boolean>
    robot_id: string | null
  }
  robots: {
    id: string
    site_id: string
    fleet_id: string
    name: string
    labels: Json<Labels>
    lifecycle: Generated<Lifecycle>
    credential_id: string | null
    claim_id: string | null
    token_hash: Buffer | null
    token_issued_at: OptionalInstant
    token_revoked_at: OptionalInstant
    machine_hash: Buffer | null
    fingerprint: Json<Fingerprint>
    created_at: DefaultedInstant
    updated_at: DefaultedInstant
    enrolled_at: OptionalInstant
    retired_at: OptionalInstant
    token_credential_id: string | null
    pending_since: OptionalInstant
    lifecycle_before: 'active' | 'maintenance' | null
    next_token_hash: Buffer | null
    next_token_at: OptionalInstant
    previous_token_hash: Buffer | null
    rotation_requested_at: OptionalInstant
    rotation_reason: RotationReason | null
  }
  servers: {
    id: string
    started_at: DefaultedInstant
    beat: Generated<number>
    beat_at: DefaultedInstant
    hostname: string
    process_id: number
    secret_key_ids: string[] | null
  }
  robot_status: {
    robot_id: string
    session_no: Generated<number>
    server_id: string | null
    connection: Generated<Connection>
    connection_reason: Generated<string>
    connection_since: DefaultedInstant
    last_seen_at: OptionalInstant
    hello: OptionalJson<Omit<HelloFrame, 'type'>>
    heartbeat_seq: number | null
    heartbeat_at: OptionalInstant
    heartbeat_received_at: OptionalInstant
    health: Generated<Health>
    heartbeat: OptionalJson<HeartbeatBody>
    session_opened_at: OptionalInstant
    used_session_no: Generated<number>
    sessions_forgotten: Generated<number>
  }
  heartbeats: {
    robot_id: string
    received_at: Instant
    at: Instant
    session_no: number
    seq: number
    body: Json<HeartbeatBody>
  }
  heartbeats_set_aside: {
    robot_id: string
    received_at: Instant
    at: Instant
    session_no: number
    seq: number
    body: Json<HeartbeatBody>
  }
  heartbeats_unreadable: { begins: Instant }
  heartbeat_packs: {
    robot_id: string
    hour: Instant
    received_at: Instant
    first_at: Instant
    last_at: Instant
    lowest_seq: number
    highest_seq: number
    heartbeats: number
    data: Buffer
  }
  heartbeat_minutes: { robot_id: string; begins: Instant; data: Buffer }
  heartbeat_hours: { robot_id: string; begins: Instant; data: Buffer }
  heartbeat_packing: {
    begins: Instant
    ends: Instant
    packed_through: string | null
    packed_at: OptionalInstant
  }
  robot_events: {
    id: string
    robot_id: string
    source: 'server' | 'robot'
    event_id: string | null
    received_at: DefaultedInstant
    at: Instant
    level: EventLevel
    code: string
    message: string
    data: Json<Record<string, unknown>>
  }
  idempotent_requests: {
    principal_id: string
    key: string
    request_hash: Buffer
    status: number
    body_sealed: Buffer
    created_at: DefaultedInstant
  }
}
