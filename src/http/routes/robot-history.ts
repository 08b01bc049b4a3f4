import { z } from 'zod'
import {
  type HeartbeatSummaries,
  listHeartbeats,
  NUMERIC_FIELDS,
  type Range,
  type StoredHeartbeat,
  summarizeHeartbeats,
  wholeSteps,
} from '../../db/heartbeat-history.ts'
import { listRobotEvents } from '../../db/robot-events.ts'
import { EVENT_LEVELS, type HeartbeatBody, healthSchema, instant } from '../../protocol/frames.ts'
import { freeText } from '../../protocol/text.ts'
import { decodeCursor, microseconds, pageOf } from '../cursors.ts'
import type { App, HttpParts } from '../parts.ts'
import { heartbeatSchema } from '../robot-schema.ts'
import { byId, component, cursor, id, limit, listOf, repeated, time } from '../schemas.ts'
import { invalidRequest } from '../validation.ts'
import { showRobot } from './robots.ts'

const HOUR_MS = 3_600_000
const MAX_STEPS = 1_500
const MAX_FIELDS = 32
const UNIT_MS = { s: 1_000, m: 60_000, h: HOUR_MS, d: 24 * HOUR_MS } as const

const stepMs = z
  .string()
  .regex(/^[1-9]\d{0,8}[smhd]?$/, 'must be seconds, or a number with s, m, h or d')
  .transform((text) => {
    const unit = text.at(-1) as keyof typeof UNIT_MS
    return unit in UNIT_MS ? Number(text.slice(0, -1)) * UNIT_MS[unit] : Number(text) * 1_000
  })
  .refine((ms) => ms <= 366 * 24 * HOUR_MS, 'must be a year at the most')

const field = z
  .string()
  .regex(/^[A-Za-z0-9_][\w-]{0,62}(\.[A-Za-z0-9_][\w-]{0,62}){0,4}$/, 'must be a dotted path')

/** Repeated, or separated by commas. */
const fields = z.preprocess(
  (given) => [given].flat().flatMap((item) => (typeof item === 'string' ? item.split(',') : [item])),
  z.array(field).min(1).max(MAX_FIELDS),
)

const heartbeatQuery = z.strictObject({
  from: instant.optional().describe('Default: an hour before `to`'),
  to: instant.optional().describe('Default: now. Not included'),
  step: stepMs.optional().describe('Summarize per step instead: `30`, `30s`, `5m`, `1h`, `1d`'),
  fields: fields
    .optional()
    .describe('Dotted paths, such as battery.charge or metrics.speed; separated by commas or repeated'),
  limit: limit(1_000, 200),
  cursor,
})

const numbersSchema = component(
  'Numbers',
  z.object({ count: z.number().int(), min: z.number(), avg: z.number(), max: z.number() }),
)

export const summarySchema = component(
  'HeartbeatSummary',
  z.object({
    at: time.describe('Where the step begins; steps are counted from 1970'),
    heartbeats: z.number().int().describe('How many there were in it; steps without are left out'),
    health: z
      .partialRecord(healthSchema, z.number().int())
      .describe('How many of them told of which health; `unknown` where they said nothing'),
    values: z.record(z.string(), numbersSchema),
  }),
)

const pickedSchema = component(
  'PickedHeartbeat',
  z.object({
    seq: z.number().int(),
    at: time,
    received_at: time,
    session_no: z.number().int(),
    values: z.record(z.string(), z.unknown()).describe('By path; null where the heartbeat does not say'),
  }),
)

export const storedSchema = component(
  'StoredHeartbeat',
  heartbeatSchema.extend({ session_no: z.number().int() }),
)

const heartbeatPlace = z.strictObject({
  list: z.literal('heartbeats'),
  at: microseconds,
  sessionNo: z.number().int().min(0),
  seq: z.number().int().min(0),
})

export const eventSchema = component(
  'RobotEvent',
  z.object({
    id,
    source: z.enum(['server', 'robot']).describe('Who says so'),
    event_id: z.string().nullable().describe("The robot's own id of it"),
    at: time.describe('On the clock of its source'),
    received_at: time,
    level: z.enum(EVENT_LEVELS),
    code: z.string(),
    message: z.string(),
    data: z.record(z.string(), z.unknown()),
  }),
)

const eventPlace = z.strictObject({ list: z.literal('robot_events'), id })

function rangeOf(query: { from?: string | undefined; to?: string | undefined }, now: number): Range {
  const to = query.to === undefined ? now : Date.parse(query.to)
  const from = query.from === undefined ? to - HOUR_MS : Date.parse(query.from)
  if (from >= to) throw invalidRequest([{ pointer: '?from', detail: 'must lie before `to`' }])
  return { from: new Date(Math.max(0, from)), to: new Date(to) }
}

/** A value in a heartbeat by its dotted path, or null. */
function valueAt(body: HeartbeatBody, path: string): unknown {
  let value: unknown = body
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return null
    value = (value as Record<string, unknown>)[name]
  }
  return value
}

function toHeartbeat(row: StoredHeartbeat, fields: readonly string[] | undefined) {
  const frame = {
    seq: row.seq,
    at: row.at.toISOString(),
    received_at: row.received_at.toISOString(),
    session_no: row.session_no,
  }
  if (fields === undefined) return { ...row.body, ...frame }
  return { ...frame, values: Object.fromEntries(fields.map((path) => [path, valueAt(row.body, path)])) }
}

function toSummaries({ steps, numbers }: HeartbeatSummaries): z.infer<typeof summarySchema>[] {
  const items = new Map(
    steps.map(({ bucket, heartbeats, health }): [number, z.infer<typeof summarySchema>] => [
      bucket.getTime(),
      { at: bucket.toISOString(), heartbeats, health, values: {} },
    ]),
  )
  for (const { bucket, field, ...values } of numbers) items.get(bucket.getTime())!.values[field] = values
  return [...items.values()]
}

export function robotHistoryRoutes(app: App, parts: HttpParts): void {
  const { clock, config, database } = parts

  app.route({
    method: 'GET',
    url: '/api/robots/:id/heartbeats',
    config: { scope: 'robots:read', on: 'robot' },
    schema: {
      operationId: 'listHeartbeats',
      summary: "Read a robot's heartbeats, or their minimum, average and maximum per step",
      description: `Oldest first, by the robot's own clock. With \`step\` there is one page: whole steps, from the one that \`from\` lies in to the one before \`to\`, at most ${MAX_STEPS} of them, and without \`fields\` the numbers ${NUMERIC_FIELDS.join(', ')} and every metric.`,
      tags: ['Robots'],
      params: byId,
      querystring: heartbeatQuery,
      response: {
        200: z.object({
          items: z.union([z.array(storedSchema), z.array(pickedSchema), z.array(summarySchema)]),
          next_cursor: z.string().nullable(),
        }),
      },
    },
    handler: async ({ params, query }) => {
      const robot = await showRobot(database, params.id)
      const range = rangeOf(query, clock.now())
      const { step, fields, limit } = query
      if (step !== undefined) {
        const { from, to } = wholeSteps(range, step)
        if ((to.getTime() - from.getTime()) / step > MAX_STEPS)
          throw invalidRequest([
            { pointer: '?step', detail: `makes more than ${MAX_STEPS} steps of this range` },
          ])
        const summaries = await summarizeHeartbeats(database, robot.id, range, {
          stepMs: step,
          fields,
          retention: config.history,
          now: clock.now(),
        })
        return { items: toSummaries(summaries), next_cursor: null }
      }
      const after = decodeCursor(query.cursor, heartbeatPlace)
      const rows = await listHeartbeats(database, robot.id, range, { limit: limit + 1, after })
      return pageOf(
        rows,
        limit,
        (row) => toHeartbeat(row, fields),
        (row) => ({ list: 'heartbeats', at: row.place_at, sessionNo: row.session_no, seq: row.seq }),
      ) as { items: z.infer<typeof storedSchema>[]; next_cursor: string | null }
    },
  })

  app.route({
    method: 'GET',
    url: '/api/robots/:id/events',
    config: { scope: 'robots:read', on: 'robot' },
    schema: {
      operationId: 'listRobotEvents',
      summary: "Read a robot's timeline, newest first",
      tags: ['Robots'],
      params: byId,
      querystring: z.strictObject({
        level: repeated(z.enum(EVENT_LEVELS)).optional(),
        code: repeated(freeText(64).min(1)).optional(),
        limit: limit(),
        cursor,
      }),
      response: { 200: listOf(eventSchema) },
    },
    handler: async ({ params, query }) => {
      const robot = await showRobot(database, params.id)
      const before = decodeCursor(query.cursor, eventPlace)?.id
      const filter = { levels: query.level, codes: query.code }
      const rows = await listRobotEvents(database, robot.id, filter, { limit: query.limit + 1, before })
      return pageOf(
        rows,
        query.limit,
        (row) => ({ ...row, at: row.at.toISOString(), received_at: row.received_at.toISOString() }),
        (row) => ({ list: 'robot_events', id: row.id }),
      )
    },
  })
}
