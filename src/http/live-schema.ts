import { z } from 'zod'
import { ERRORS, type ErrorCode } from '../errors.ts'
import type { Render } from '../live/robot.ts'
import { EVENT_LEVELS } from '../protocol/frames.ts'
import { robotSchema, toRobot } from './robot-schema.ts'
import { component, id, time } from './schemas.ts'

/** A robot without what every heartbeat changes: said anew only when something about it is otherwise. */
export const robotStatusSchema = component(
  'RobotStatus',
  robotSchema
    .pick({
      id: true,
      name: true,
      site_id: true,
      fleet_id: true,
      labels: true,
      lifecycle: true,
      connection: true,
      connection_reason: true,
      connection_since: true,
      health: true,
      credential_id: true,
      token_credential_id: true,
      pending_since: true,
      created_at: true,
      token_revoked_at: true,
    })
    .extend({
      agent_version: z.string().nullable(),
      mode: z.string().nullable().describe('Of the latest heartbeat'),
      estop: z.boolean().nullable().describe('Of the latest heartbeat'),
      faults: z
        .array(z.object({ code: z.string(), level: z.enum(EVENT_LEVELS) }))
        .describe('Of the latest heartbeat'),
    }),
)

const robots = z.number().int().min(0)

const countsSchema = component(
  'LiveCounts',
  z.object({
    robots,
    connection: z.object({ unseen: robots, online: robots, stale: robots, offline: robots }),
    health: z.object({ ok: robots, warn: robots, error: robots, unknown: robots }),
    lifecycle: z.object({ pending: robots, active: robots, maintenance: robots, retired: robots }),
    faults: robots.describe('Robots whose latest heartbeat names a fault'),
  }),
).describe(
  'All robots that the filter admits, whatever it says of connection, health, lifecycle, faults and id. Those retired count under `lifecycle` alone.',
)

const items = z.array(z.union([robotSchema, robotStatusSchema]))
const now = time.describe('The clock of the server: `age_ms` is as of this moment')

export const liveSnapshotSchema = component(
  'LiveSnapshot',
  z.object({
    time: now,
    first: z.boolean().describe('Forget every robot that was told before'),
    done: z.boolean().describe('Every robot was told now; deltas follow'),
    items: items.describe('Some of the robots, in no order'),
    counts: countsSchema,
  }),
)

export const liveDeltaSchema = component(
  'LiveDelta',
  z.object({
    time: now,
    changed: items.describe('Robots that changed or came in, each as it is now'),
    removed: z.array(id).describe('Robots that are gone, or that the filter admits no longer'),
    counts: countsSchema,
  }),
)

export const liveResetSchema = component(
  'LiveReset',
  z.object({ reason: z.enum(['unknown_id', 'view_changed', 'too_old', 'access_changed']) }),
)

export const liveEndSchema = component(
  'LiveEnd',
  z.object({
    code: z.enum(['slow_reader', 'server_stopping', ...(Object.keys(ERRORS) as ErrorCode[])]),
    message: z.string(),
  }),
)

/** The texts of a robot for live feeds. `full` breaks off where the heartbeat's age belongs. */
export const renderRobot: Render = (row) => {
  const { heartbeat, ...robot } = toRobot(row)
  return {
    status: JSON.stringify(toStatus(robot, row.heartbeat)),
    full: `${JSON.stringify(robot).slice(0, -1)},"heartbeat":${heartbeatText(heartbeat)}`,
  }
}

function heartbeatText(heartbeat: ReturnType<typeof toRobot>['heartbeat']): string {
  if (heartbeat === null) return 'null}'
  const { age_ms: _, ...rest } = heartbeat
  return `${JSON.stringify(rest).slice(0, -1)},"age_ms":`
}

function toStatus(
  robot: Omit<ReturnType<typeof toRobot>, 'heartbeat'>,
  heartbeat: Parameters<Render>[0]['heartbeat'],
): z.input<typeof robotStatusSchema> {
  return {
    id: robot.id,
    name: robot.name,
    site_id: robot.site_id,
    fleet_id: robot.fleet_id,
    labels: robot.labels,
    lifecycle: robot.lifecycle,
    connection: robot.connection,
    connection_reason: robot.connection_reason,
    connection_since: robot.connection_since,
    health: robot.health,
    credential_id: robot.credential_id,
    token_credential_id: robot.token_credential_id,
    pending_since: robot.pending_since,
    created_at: robot.created_at,
    token_revoked_at: robot.token_revoked_at,
    agent_version: robot.agent?.version ?? null,
    mode: heartbeat?.mode ?? null,
    estop: heartbeat?.estop ?? null,
    faults: heartbeat?.faults?.map(({ code, level }) => ({ code, level })) ?? [],
  }
}
