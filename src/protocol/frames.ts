import { z } from 'zod'
import { MAX_CLOCK_OFFSET_MS, MAX_FAULTS, MAX_METRICS, METRIC_NAME } from './limits.ts'
import { freeObject, freeText } from './text.ts'

/**
 * Every frame of the robot session. Unknown fields are dropped and unknown types ignored, so that either
 * side may be newer than the other.
 */

/** What PostgreSQL takes of the offsets and fractions of a second that RFC 3339 allows. */
const STORABLE_INSTANT = /^[^.]*(?:\.\d{1,30})?(?:Z|[+-](?:0\d|1[0-5]):\d\d)$/
const LAST_INSTANT = 253_402_300_799_999

/** RFC 3339 time with an offset, between the years 1970 and 9999. */
export const instant = z.iso
  .datetime({ offset: true })
  .refine((text) => {
    const time = Date.parse(text)
    // PostgreSQL rounds to microseconds, which ends in the year 10000 where more is written in the last millisecond.
    return time >= 0 && (time < LAST_INSTANT || (time === LAST_INSTANT && !/\.\d{7}/.test(text)))
  }, 'must lie between 1970 and 9999')
  .refine(
    (text) => STORABLE_INSTANT.test(text),
    'must be less than 16 hours from UTC, with at most 30 decimals',
  )

const ratio = z.number().min(0).max(1)
const sequence = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)

export const HEALTH = ['ok', 'warn', 'error', 'unknown'] as const
export const healthSchema = z.enum(HEALTH)
export const EVENT_LEVELS = ['debug', 'info', 'warn', 'error', 'fatal'] as const
export const LIFECYCLES = ['pending', 'active', 'maintenance', 'retired'] as const
export const lifecycleSchema = z.enum(LIFECYCLES)
export type Lifecycle = z.infer<typeof lifecycleSchema>

export const faultSchema = z.object({
  code: freeText(64).min(1),
  level: z.enum(EVENT_LEVELS),
  message: freeText(512),
  since: instant,
})

export const poseSchema = z.union([
  z.object({ frame: freeText(64), x: z.number(), y: z.number(), theta: z.number() }),
  z.object({ lat: z.number().min(-90).max(90), lon: z.number().min(-180).max(180) }),
])

export type Pose = z.output<typeof poseSchema>

/** How far `at` is to be believed. */
const clockMarks = {
  /** The robot's clock was this far ahead of the server's, and `at` was corrected by it. Absent: `at` is its own clock. */
  clock_offset_ms: z.number().int().min(-MAX_CLOCK_OFFSET_MS).max(MAX_CLOCK_OFFSET_MS).optional(),
  /** `at` is by a clock that was never compared with the server's. */
  clock_unsure: z.boolean().optional(),
}

/** What a heartbeat says of the robot; every part may be left out. */
export const heartbeatBodySchema = z.object({
  health: healthSchema.optional(),
  mode: freeText(64).optional(),
  activity: freeText(256).optional(),
  battery: z
    .object({ charge: ratio, charging: z.boolean().optional(), voltage: z.number().optional() })
    .optional(),
  pose: poseSchema.optional(),
  system: z
    .object({
      cpu: ratio,
      memory: ratio,
      disk: ratio,
      temperature_c: z.number(),
      load_1m: z.number().min(0),
      uptime_s: z.number().min(0),
    })
    .partial()
    .optional(),
  network: freeObject.optional(),
  estop: z.boolean().optional(),
  faults: z.array(faultSchema).max(MAX_FAULTS).optional(),
  metrics: z
    .record(z.string().regex(METRIC_NAME), z.number())
    .refine((metrics) => Object.keys(metrics).length <= MAX_METRICS, `at most ${MAX_METRICS} metrics`)
    .optional(),
  ...clockMarks,
})
export type HeartbeatBody = z.infer<typeof heartbeatBodySchema>

export const helloSchema = z.object({
  type: z.literal('hello'),
  protocol: z.number().int(),
  agent: z
    .object({
      version: freeText(64),
      hostname: freeText(253),
      os: freeText(128),
      platform: freeText(64),
      arch: freeText(64),
    })
    .partial()
    .default({}),
  machine_id: freeText(256).optional(),
  boot_id: freeText(128).optional(),
  instance_id: freeText(128).optional(),
  resume_seq: sequence.optional(),
  /** `session_no` of the newest welcome that this robot wrote down. */
  last_session_no: sequence.optional(),
})

export const heartbeatSchema = heartbeatBodySchema.extend({
  type: z.literal('heartbeat'),
  seq: sequence,
  at: instant,
})

export const robotEventSchema = z.object({
  type: z.literal('event'),
  id: freeText(128).min(1),
  at: instant,
  level: z.enum(EVENT_LEVELS),
  code: freeText(64).min(1),
  message: freeText(1024),
  data: freeObject.optional(),
  ...clockMarks,
})

export const byeSchema = z.object({ type: z.literal('bye'), reason: freeText(120).default('') })

const tokenHash = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 in lower-case hex')

/** SHA-256 of the next token, which the robot has made for itself and written down. */
export const tokenRotatedSchema = z.object({ type: z.literal('token_rotated'), token_hash: tokenHash })

export const robotFrameSchemas = {
  hello: helloSchema,
  heartbeat: heartbeatSchema,
  event: robotEventSchema,
  token_rotated: tokenRotatedSchema,
  bye: byeSchema,
} as const

export type HelloFrame = z.infer<typeof helloSchema>
export type HeartbeatFrame = z.infer<typeof heartbeatSchema>
export type RobotEventFrame = z.infer<typeof robotEventSchema>
export type ByeFrame = z.infer<typeof byeSchema>
export type TokenRotatedFrame = z.infer<typeof tokenRotatedSchema>
export type RobotFrame = HelloFrame | HeartbeatFrame | RobotEventFrame | TokenRotatedFrame | ByeFrame

export const welcomeSchema = z.object({
  type: z.literal('welcome'),
  robot_id: z.string(),
  name: z.string(),
  session_no: z.number().int(),
  heartbeat_interval_ms: z.number().int().positive(),
  server_time: z.string(),
  lifecycle: lifecycleSchema,
  /** MAX_RECONNECT_SPREAD_MS at most; a robot takes more for that. */
  reconnect_spread_ms: z.number().int().min(0).optional(),
})
/** Every heartbeat up to `seq` is in PostgreSQL. */
export const ackSchema = z.object({ type: z.literal('ack'), seq: sequence })
/** The events with these ids are in PostgreSQL. */
export const eventAckSchema = z.object({ type: z.literal('event_ack'), ids: z.array(z.string()) })
export const settingsSchema = z.object({
  type: z.literal('settings'),
  heartbeat_interval_ms: z.number().int().positive(),
})
/** The robot is to make a new token. `reason` is a word for its log: of those that are not known here, too. */
export const rotateTokenSchema = z.object({
  type: z.literal('rotate_token'),
  reason: freeText(64).default(''),
})
/** The next token with this hash is in PostgreSQL: it opens sessions, and the first that it opens ends the old one. */
export const tokenRotationAckSchema = z.object({
  type: z.literal('token_rotation_ack'),
  token_hash: tokenHash,
})
export const drainSchema = z.object({ type: z.literal('drain'), reconnect_in_ms: z.number().int().min(0) })
export const errorSchema = z.object({ type: z.literal('error'), code: z.string(), message: z.string() })

export const serverFrameSchemas = {
  welcome: welcomeSchema,
  ack: ackSchema,
  event_ack: eventAckSchema,
  settings: settingsSchema,
  rotate_token: rotateTokenSchema,
  token_rotation_ack: tokenRotationAckSchema,
  drain: drainSchema,
  error: errorSchema,
} as const

export type WelcomeFrame = z.infer<typeof welcomeSchema>
export type AckFrame = z.infer<typeof ackSchema>
export type EventAckFrame = z.infer<typeof eventAckSchema>
export type SettingsFrame = z.infer<typeof settingsSchema>
export type RotateTokenFrame = z.infer<typeof rotateTokenSchema>
export type TokenRotationAckFrame = z.infer<typeof tokenRotationAckSchema>
export type DrainFrame = z.infer<typeof drainSchema>
export type ErrorFrame = z.infer<typeof errorSchema>
export type ServerFrame =
  | WelcomeFrame
  | AckFrame
  | EventAckFrame
  | SettingsFrame
  | RotateTokenFrame
  | TokenRotationAckFrame
  | DrainFrame
  | ErrorFrame
