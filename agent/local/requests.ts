import { z } from 'zod'
import { faultSchema, heartbeatBodySchema, robotEventSchema } from '../../src/protocol/frames.ts'
import { METRIC_NAME } from '../../src/protocol/limits.ts'
import { printable } from '../text.ts'
import { MAX_TTL_S, OWN_METRICS } from './limits.ts'

const body = heartbeatBodySchema.shape
const ttl = z.number().min(1).max(MAX_TTL_S)

const metricName = z
  .string()
  .regex(
    METRIC_NAME,
    'a name is lower-case letters, digits and _, begins with a letter, at most 63 characters',
  )
  .refine((name) => !name.startsWith(OWN_METRICS), `names that begin with ${OWN_METRICS} are the agent's own`)

/** Only what was asked for, so that a slip of the pen is told and not passed over. */
const requestSchema = z
  .strictObject({
    metric: z.record(metricName, z.number().nullable()).optional(),
    event: z
      .strictObject({
        level: robotEventSchema.shape.level.default('info'),
        code: robotEventSchema.shape.code,
        message: robotEventSchema.shape.message.default(''),
        data: robotEventSchema.shape.data,
      })
      .optional(),
    fault: z
      .union([
        z.strictObject({
          raise: z.strictObject({
            code: faultSchema.shape.code,
            level: faultSchema.shape.level.default('error'),
            message: faultSchema.shape.message.default(''),
            ttl_s: ttl.optional(),
          }),
        }),
        z.strictObject({ clear: faultSchema.shape.code }),
      ])
      .optional(),
    mode: body.mode.unwrap().nullable().optional(),
    activity: body.activity.unwrap().nullable().optional(),
    pose: body.pose.unwrap().nullable().optional(),
    battery: body.battery.unwrap().strict().nullable().optional(),
    estop: body.estop.unwrap().nullable().optional(),
    /** For the values of this line. */
    ttl_s: ttl.optional(),
    get: z.enum(['faults', 'values']).optional(),
  })
  .refine((request) => Object.keys(request).some((key) => key !== 'ttl_s'), 'the line asks for nothing')

/** One line of the robot's own software. Values that are null are taken back. */
export type LocalRequest = z.infer<typeof requestSchema>

export type ParsedLine =
  | { readonly ok: true; readonly request: LocalRequest }
  | { readonly ok: false; readonly error: string }

/** Reads one line. Never throws. */
export function parseRequest(line: string): ParsedLine {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return { ok: false, error: 'not JSON: one object is wanted on one line' }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { ok: false, error: 'one JSON object is wanted on each line' }
  const parsed = requestSchema.safeParse(value)
  if (parsed.success) return { ok: true, request: parsed.data }
  const issue = deepest(parsed.error.issues[0]!)
  const where = issue.path.join('.')
  return { ok: false, error: printable(where ? `${where}: ${issue.message}` : issue.message) }
}

/** Of a union, what is wrong with the member that came closest. */
function deepest(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code === 'invalid_key')
    return { path: issue.path, message: issue.issues[0]?.message ?? issue.message }
  if (issue.code !== 'invalid_union') return issue
  const candidates = issue.errors.flatMap((issues) => (issues[0] ? [issues] : []))
  const closest = candidates.sort((one, other) => one.length - other.length)[0]?.[0]
  return closest ? { path: [...issue.path, ...closest.path], message: closest.message } : issue
}
