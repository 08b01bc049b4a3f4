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

export interface KeyCount {
  readonly site: string
  readonly fleet: string
  readonly keys: number
}

/** Enrollment keys that still admit robots and have no more than a tenth of their uses left, by site and fleet; zeros included. */
export async function countKeysNearlyUsedUp(db: Database): Promise<KeyCount[]> {
  const { rows } = await sql<KeyCount>`
    SELECT sites.name AS site, fleets.name AS fleet, count(keys.id) AS keys
    FROM fleets
    JOIN sites ON sites.id = fleets.site_id
    LEFT JOIN claim_credentials AS keys ON keys.fleet_id = fleets.id AND keys.kind = 'enrollment_key'
      AND keys.revoked_at IS NULL AND (keys.expires_at IS NULL OR keys.expires_at > now())
      AND keys.uses < keys.max_uses AND keys.uses >= 0.9 * keys.max_uses
    GROUP BY sites.name, fleets.name
    ORDER BY sites.name, fleets.name`.execute(db)
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
  /** Without what makes no series. */
  readonly heartbeat: Omit<HeartbeatBody, 'pose' | 'network' | 'mode' | 'activity'> | null
}

/** One of several parts of all robots. */
export interface Shard {
  /** From 0 up to, not including, `shards`. */
  readonly shard: number
  readonly shards: number
}

/**
 * True for the robots of a shard: each is in exactly one, and in the same one at every server and at all times, whatever
 * else there is. Goes by the end of the id, which is random.
 */
function inShard(shard: Shard | undefined) {
  if (shard === undefined || shard.shards === 1) return sql<boolean>`true`
  const tail = sql`(get_byte(uuid_send(robots.id), 13) << 16) + (get_byte(uuid_send(robots.id), 14) << 8)
    + get_byte(uuid_send(robots.id), 15)`
  return sql<boolean>`(${tail}) % ${shard.shards} = ${shard.shard}`
}

/** How many robots in reach are not retired. */
export async function countRobotsWithin(db: Database, reach: Reach): Promise<number> {
  const { rows } = await sql<{ robots: number }>`
    SELECT count(*) AS robots FROM robots
    WHERE lifecycle <> 'retired' AND ${inReach(reach, 'robots.fleet_id')}`.execute(db)
  return rows[0]!.robots
}

/** The ids of robots in reach that are not retired, of one shard or of all. */
export async function listRobotIds(db: Database, reach: Reach, shard: Shard | undefined): Promise<string[]> {
  const { rows } = await sql<{ ids: string | null }>`
    SELECT string_agg(robots.id::text, ',' ORDER BY robots.id) AS ids FROM robots
    WHERE robots.lifecycle <> 'retired' AND ${inReach(reach, 'robots.fleet_id')} AND ${inShard(shard)}`.execute(
    db,
  )
  return rows[0]!.ids?.split(',') ?? []
}

/** What the series of those of these robots are made of that are in reach and not retired. */
export async function listRobotSeries(
  db: Database,
  reach: Reach,
  ids: readonly string[],
): Promise<RobotSeries[]> {
  const { rows } = await sql<RobotSeries>`
    SELECT robots.id, robots.name, sites.name AS site, fleets.name AS fleet, robots.lifecycle, robots.fingerprint,
      status.hello -> 'agent' AS agent,
      coalesce(status.connection, 'unseen') AS connection,
      coalesce(status.health, 'unknown') AS health,
      status.last_seen_at, status.heartbeat_at,
      status.heartbeat - '{pose,network,mode,activity}'::text[] AS heartbeat
    FROM robots
    JOIN fleets ON fleets.id = robots.fleet_id
    JOIN sites ON sites.id = robots.site_id
    LEFT JOIN robot_status AS status ON status.robot_id = robots.id
    WHERE robots.id = ANY (${`{${ids.join(',')}}`}::uuid[])
      AND robots.lifecycle <> 'retired' AND ${inReach(reach, 'robots.fleet_id')}
    ORDER BY robots.id`.execute(db)
  return rows
}
