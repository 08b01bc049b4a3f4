import { z } from 'zod'
import type { RobotRow } from '../db/robots.ts'
import { fingerprintSchema } from '../protocol/enrolment.ts'
import { HEALTH, heartbeatBodySchema, helloSchema, LIFECYCLES } from '../protocol/frames.ts'
import { component, id, labels, name, time } from './schemas.ts'

export const CONNECTIONS = ['unseen', 'online', 'stale', 'offline'] as const

const count = z.number().int().min(0)

/** One stored heartbeat, as the robot told it. */
export const heartbeatSchema = component(
  'Heartbeat',
  z.looseObject({
    seq: count,
    at: time.describe("On the robot's clock, put right by `clock_offset_ms` where that is given"),
    received_at: time,
    ...heartbeatBodySchema.shape,
  }),
)

export const robotSchema = component(
  'Robot',
  z.object({
    id,
    name,
    site_id: id,
    fleet_id: id,
    labels,
    lifecycle: z.enum(LIFECYCLES),
    connection: z.enum(CONNECTIONS),
    connection_reason: z.string(),
    connection_since: time,
    last_seen_at: time.nullable(),
    session_no: count,
    health: z.enum(HEALTH),
    heartbeat: heartbeatSchema
      .extend({ age_ms: count.describe('How long ago it was received') })
      .nullable()
      .describe('The latest one'),
    agent: z
      .looseObject(helloSchema.shape.agent.unwrap().shape)
      .nullable()
      .describe('What the agent last said of itself'),
    fingerprint: z
      .looseObject(fingerprintSchema.omit({ machine_id: true }).shape)
      .describe('What the machine said of itself when it enrolled'),
    credential_id: id.nullable().describe('The enrollment key or provisioning token that admitted it'),
    token_credential_id: id.nullable().describe('The claim credential that its token came with'),
    pending_since: time.nullable().describe('Since when it waits for approval'),
    created_at: time,
    updated_at: time,
    enrolled_at: time.nullable(),
    retired_at: time.nullable(),
    token_issued_at: time.nullable(),
    token_revoked_at: time.nullable(),
    rotation: z
      .object({ requested_at: time, reason: z.enum(['operator', 'age', 'suspicion']) })
      .nullable()
      .describe('It was asked for a new token and has not come with one yet'),
  }),
)

/** A robot as it is shown to operators. */
export function toRobot(row: RobotRow): z.input<typeof robotSchema> {
  // Whoever holds an enrollment key and the machine's id could take the robot's place.
  const { machine_id: _, ...fingerprint } = row.fingerprint
  return {
    id: row.id,
    name: row.name,
    site_id: row.site_id,
    fleet_id: row.fleet_id,
    labels: row.labels,
    lifecycle: row.lifecycle,
    connection: row.connection,
    connection_reason: row.connection_reason,
    connection_since: row.connection_since.toISOString(),
    last_seen_at: row.last_seen_at?.toISOString() ?? null,
    session_no: row.session_no,
    health: row.health,
    heartbeat: toLatestHeartbeat(row),
    agent: row.hello?.agent ?? null,
    fingerprint,
    credential_id: row.credential_id,
    token_credential_id: row.token_credential_id,
    pending_since: row.pending_since?.toISOString() ?? null,
    created_at: row.created_at.toISOString(),
    updated_at: row.updated_at.toISOString(),
    enrolled_at: row.enrolled_at?.toISOString() ?? null,
    retired_at: row.retired_at?.toISOString() ?? null,
    token_issued_at: row.token_issued_at?.toISOString() ?? null,
    token_revoked_at: row.token_revoked_at?.toISOString() ?? null,
    rotation: row.rotation_requested_at
      ? { requested_at: row.rotation_requested_at.toISOString(), reason: row.rotation_reason ?? 'operator' }
      : null,
  }
}

function toLatestHeartbeat(row: RobotRow) {
  if (row.heartbeat_at === null || row.heartbeat_received_at === null) return null
  return {
    ...row.heartbeat,
    seq: row.heartbeat_seq ?? 0,
    at: row.heartbeat_at.toISOString(),
    received_at: row.heartbeat_received_at.toISOString(),
    age_ms: Math.max(0, row.heartbeat_age_ms ?? 0),
  }
}
