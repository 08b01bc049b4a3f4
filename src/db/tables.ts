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
  personal_tokens: {
    id: string
    name: string
    token_hash: Buffer
    last_four: string
    created_at: DefaultedInstant
    expires_at: OptionalInstant
    revoked_at: OptionalInstant
  }
  claim_credentials: {
    id: string
    kind: 'enrollment_key'
    secret_hash: Buffer
    secret_sealed: Buffer | null
    last_four: string
    name: string
    site_id: string
    fleet_id: string
    max_uses: number
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
  }
  servers: {
    id: string
    started_at: DefaultedInstant
    beat: Generated<number>
    beat_at: DefaultedInstant
    hostname: string
    process_id: number
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
  }
  heartbeats: {
    robot_id: string
    received_at: Instant
    at: Instant
    session_no: number
    seq: number
    body: Json<HeartbeatBody>
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
