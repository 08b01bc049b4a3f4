import { sql } from 'kysely'
import type { Database } from './database.ts'
import { selectRobots } from './robots.ts'

/** Names the states of a robot: another one, another version. Kept by nobody but the rows themselves. */
const VERSION = sql<string>`robots.xmin::text || '/' || coalesce(status.xmin::text, '')`

/** What a look at all robots finds. */
export interface RobotsLook {
  /** To be given to the next look. */
  readonly horizon: string
  /** On the database's clock, milliseconds since 1970. */
  readonly now: number
  /** How many robots there are. */
  readonly robots: number
  /** Those that changed, with the version that each has now; some may not have. */
  readonly changed: readonly { readonly id: string; readonly version: string }[]
}

/**
 * Finds the robots that changed since another look, whose `horizon` is given; without one, all robots. What was not to be
 * seen then was written by transactions that still ran, or had not begun: their numbers are not below the lowest that ran.
 * Subtransactions have higher ones than their own. Ages are compared, for the numbers themselves begin anew at 2^32; of rows
 * that nobody wrote for half as long, they are negative.
 */
export async function lookAtRobots(db: Database, horizon: string | undefined): Promise<RobotsLook> {
  const since = sql`age(${horizon}::xid8::xid)`
  const isChanged =
    horizon === undefined
      ? sql`true`
      : sql`(age(robots.xmin) BETWEEN 0 AND ${since} OR age(status.xmin) BETWEEN 0 AND ${since})`
  const { rows } = await sql<{ horizon: string; now: number; robots: number; changed: string | null }>`
    SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS horizon,
      (extract(epoch FROM now()) * 1000)::bigint AS now,
      count(*) AS robots,
      string_agg(robots.id::text || ' ' || ${VERSION}, ',') FILTER (WHERE ${isChanged}) AS changed
    FROM robots LEFT JOIN robot_status AS status ON status.robot_id = robots.id
  `.execute(db)
  const { changed, ...look } = rows[0]!
  return {
    ...look,
    changed: (changed?.split(',') ?? []).map((text) => ({ id: text.slice(0, 36), version: text.slice(37) })),
  }
}

/** These robots as they are listed, each with its version; those that are gone are left out. */
export function readRobots(db: Database, ids: readonly string[]) {
  return selectRobots(db)
    .select([VERSION.as('version'), sql<string>`lower(robots.name)`.as('folded_name')])
    .where(sql<boolean>`robots.id = ANY (${`{${ids.join(',')}}`}::uuid[])`)
    .execute()
}

export type LiveRobotRow = Awaited<ReturnType<typeof readRobots>>[number]

/** The text in the lower case of this database, which is how its ILIKE compares. */
export async function foldText(db: Database, text: string): Promise<string> {
  const { rows } = await sql<{ folded: string }>`SELECT lower(${text}::text) AS folded`.execute(db)
  return rows[0]!.folded
}
