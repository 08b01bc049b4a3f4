import { sql } from 'kysely'
import type { Pose } from '../protocol/frames.ts'
import type { Database } from './database.ts'
import { DROPPED_AFTER_MS } from './heartbeat-partitions.ts'
import { inReach, type Reach } from './reach.ts'

/** Where a robot said that it was. */
export interface Step {
  readonly at: Date
  readonly pose: Pose
}

export interface Trail {
  readonly robotId: string
  /** Oldest first. */
  readonly steps: readonly Step[]
}

/** Whatever came within this time is a row: a packed partition stays so long. */
export const TRAIL_MOST_MS = DROPPED_AFTER_MS

/** Of a robot; one that tells more in the time has told the rest of it in its newest. */
const STEPS = 120

/**
 * Where these robots were since `from`, at most TRAIL_MOST_MS ago, by their own clocks; those out of reach, and those that
 * did not say, are left out.
 */
export async function readTrails(
  db: Database,
  { reach, ids, from }: { reach: Reach; ids: readonly string[]; from: Date },
): Promise<Trail[]> {
  const { rows } = await sql<{ robot_id: string; at: Date; pose: Pose }>`
    SELECT robots.id AS robot_id, step.at, step.pose
    FROM robots CROSS JOIN LATERAL (
      SELECT at, body -> 'pose' AS pose FROM heartbeats
      WHERE robot_id = robots.id AND at >= ${from} AND received_at >= ${from} AND body ? 'pose'
      ORDER BY at DESC LIMIT ${STEPS}
    ) AS step
    WHERE robots.id = ANY (${ids}::uuid[]) AND ${inReach(reach, 'robots.fleet_id')}
    ORDER BY robots.id, step.at
  `.execute(db)
  const trails = new Map<string, Step[]>()
  for (const { robot_id, at, pose } of rows) {
    const steps = trails.get(robot_id)
    if (steps) steps.push({ at, pose })
    else trails.set(robot_id, [{ at, pose }])
  }
  return [...trails].map(([robotId, steps]) => ({ robotId, steps }))
}
