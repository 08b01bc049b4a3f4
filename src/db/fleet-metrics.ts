import { sql } from 'kysely'
import type { Fingerprint } from '../protocol/enrolment.ts'
import type { HeartbeatBody, HelloFrame } from '../protocol/frames.ts'
import type { Database } from './database.ts'
import { inReach, type Reach } from './reach.ts'
import type { Connection, Health } from './tables.ts'

export interface RobotCount {
  readonly site: string
  readonly fleet: string
  readonly connection: Connection
  readonly robots: number
}

/** Robots that are not retired by site, fleet and connection; zeros included, so that no series comes and goes. */
export async function countRobots(db: Database): Promise<RobotCount[]> {
  const { rows } = await sql<RobotCount>`
    SELECT sites.name AS site, fleets.name AS fleet, states.connection, coalesce(counted.robots, 0) AS robots
    FROM fleets
    JOIN sites ON sites.id = fleets.site_id
    CROSS JOIN unnest(ARRAY['unseen', 'online', 'stale', 'offline']) AS states (connection)
    LEFT JOIN (
      SELECT robots.fleet_id, coalesce(status.connection, 'unseen') AS connection, count(*) AS robots
      FROM robots
      LEFT JOIN robot_status AS status ON status.robot_id = robots.id
      WHERE robots.lifecycle <> 'retired'
      GROUP BY 1, 2
    ) AS counted ON counted.fleet_id = fleets.id AND counted.connection = states.connection
    ORDER BY sites.name, fleets.name, states.connection`.execute(db)
  return rows
}

export interface RobotSeries {
  readonly id: string
  readonly name: string
  readonly site: string
  readonly fleet: string
  readonly lifecycle: string
  readonly fingerprint: Fingerprint
  readonly agent: HelloFrame['agent'] | null
  readonly connection: Connection
  readonly health: Health
  readonly last_seen_at: Date | null
  readonly heartbeat_at: Date | null
  readonly heartbeat: HeartbeatBody | null
}

/** What the series of every robot in reach that is not retired are made of. */
export async function listRobotSeries(db: Database, reach: Reach): Promise<RobotSeries[]> {
  const { rows } = await sql<RobotSeries>`
    SELECT robots.id, robots.name, sites.name AS site, fleets.name AS fleet, robots.lifecycle, robots.fingerprint,
      status.hello -> 'agent' AS agent,
      coalesce(status.connection, 'unseen') AS connection,
      coalesce(status.health, 'unknown') AS health,
      status.last_seen_at, status.heartbeat_at, status.heartbeat
    FROM robots
    JOIN fleets ON fleets.id = robots.fleet_id
    JOIN sites ON sites.id = robots.site_id
    LEFT JOIN robot_status AS status ON status.robot_id = robots.id
    WHERE robots.lifecycle <> 'retired' AND ${inReach(reach, 'robots.fleet_id')}
    ORDER BY robots.id`.execute(db)
  return rows
}
