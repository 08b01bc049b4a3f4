import { sql } from 'kysely'
import type { Database } from './database.ts'

/** From `from` up to, not including, `to`, on the robot's own clock. */
export interface Range {
  readonly from: Date
  readonly to: Date
}

/** The place of a heartbeat in a robot's history; time in microseconds since 1970. */
export interface HeartbeatPlace {
  readonly at: number
  readonly sessionNo: number
  readonly seq: number
}

/** A robot's heartbeats in the order of its own clock, those behind `after` when given. */
export function listHeartbeats(
  db: Database,
  robotId: string,
  range: Range,
  page: { limit: number; after: HeartbeatPlace | undefined },
) {
  const { after } = page
  return db
    .selectFrom('heartbeats')
    .select(['at', 'received_at', 'session_no', 'seq', 'body'])
    .select(sql<number>`(extract(epoch FROM at) * 1000000)::bigint`.as('place_at'))
    .where('robot_id', '=', robotId)
    .where('at', '>=', range.from)
    .where('at', '<', range.to)
    .$if(after !== undefined, (query) =>
      query.where(
        sql<boolean>`(at, session_no, seq) > (
          timestamptz 'epoch' + ${after?.at}::float8 * interval '1 microsecond',
          ${after?.sessionNo}::bigint, ${after?.seq}::bigint)`,
      ),
    )
    .orderBy('at')
    .orderBy('session_no')
    .orderBy('seq')
    .limit(page.limit)
    .execute()
}

/** Numbers a heartbeat may hold besides its metrics. */
export const NUMERIC_FIELDS = [
  'battery.charge',
  'battery.voltage',
  'pose.x',
  'pose.y',
  'pose.theta',
  'pose.lat',
  'pose.lon',
  'system.cpu',
  'system.memory',
  'system.disk',
  'system.temperature_c',
  'system.load_1m',
  'system.uptime_s',
] as const

export interface HeartbeatSummary {
  readonly bucket: Date
  readonly field: string
  readonly count: number
  readonly min: number
  readonly avg: number
  readonly max: number
}

/**
 * The numbers of a robot's heartbeats, per step of the robot's clock (steps count from 1970) and field. Without
 * `fields`: all of NUMERIC_FIELDS and every metric.
 */
export async function summarizeHeartbeats(
  db: Database,
  robotId: string,
  range: Range,
  options: { stepMs: number; fields: readonly string[] | undefined },
): Promise<HeartbeatSummary[]> {
  const fields = options.fields ?? NUMERIC_FIELDS
  const { rows } = await sql<HeartbeatSummary>`
    SELECT
      date_bin(${options.stepMs} * interval '1 millisecond', at, timestamptz 'epoch') AS bucket,
      numbers.field,
      count(*) AS count,
      min(numbers.value) AS min,
      avg(numbers.value) AS avg,
      max(numbers.value) AS max
    FROM heartbeats
    CROSS JOIN LATERAL (
      SELECT wanted.field, (body #>> string_to_array(wanted.field, '.'))::float8 AS value
      FROM unnest(${fields}::text[]) AS wanted (field)
      WHERE jsonb_typeof(body #> string_to_array(wanted.field, '.')) = 'number'
      UNION ALL
      SELECT 'metrics.' || metric.key, metric.value::text::float8
      FROM jsonb_each(CASE WHEN ${options.fields === undefined} THEN body -> 'metrics' END) AS metric (key, value)
      WHERE jsonb_typeof(metric.value) = 'number'
    ) AS numbers
    WHERE robot_id = ${robotId} AND at >= ${range.from} AND at < ${range.to}
    GROUP BY bucket, numbers.field
    ORDER BY bucket, numbers.field`.execute(db)
  return rows
}
