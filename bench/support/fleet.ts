import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { HEARTBEAT } from '../programs/heartbeat-frames.ts'
import { withConnection } from './database.ts'

export interface EnrolledRobot {
  readonly id: string
  readonly token: string
}

/** Puts robots into the database as if they had been enrolled, all in one fleet. */
export function enrolRobots(databaseUrl: string, count: number): Promise<EnrolledRobot[]> {
  const [siteId, fleetId] = [newId(), newId()]
  const robots = Array.from({ length: count }, () => ({ id: newId(), token: mintCheckedToken('robot') }))
  return withConnection(databaseUrl, async (connection) => {
    await connection.query('INSERT INTO sites (id, name) VALUES ($1, $2)', [siteId, 'site'])
    await connection.query('INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, $3)', [
      fleetId,
      siteId,
      'fleet',
    ])
    await connection.query(
      `WITH enrolled AS (
         INSERT INTO robots (id, site_id, fleet_id, name, labels, token_hash, token_issued_at, enrolled_at, fingerprint)
         SELECT id, $1, $2, 'robot-' || position, '{"model": "r2", "floor": "3"}', token_hash, now(), now(),
           '{"hostname": "robot", "os": "Debian 12", "platform": "linux", "arch": "arm64", "agent_version": "1.0.0"}'
         FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS given (id, token_hash, position)
         RETURNING id
       )
       INSERT INTO robot_status (robot_id) SELECT id FROM enrolled`,
      [siteId, fleetId, robots.map((robot) => robot.id), robots.map((robot) => hashToken(robot.token))],
    )
    await connection.query('ANALYZE robots, robot_status')
    return robots
  })
}

/** Gives robots a status, as if each had connected and sent a heartbeat. */
export async function reportFor(databaseUrl: string, robots: readonly EnrolledRobot[]): Promise<void> {
  const { type: _type, seq, at: _at, ...body } = JSON.parse(HEARTBEAT)
  await withConnection(databaseUrl, async (connection) => {
    await connection.query(
      `UPDATE robot_status SET
         session_no = 1, connection = 'online', connection_reason = 'connected', connection_since = now(),
         last_seen_at = now(), heartbeat_seq = $2, heartbeat_at = now(), heartbeat_received_at = now(),
         health = 'ok', heartbeat = $3, hello = '{"protocol": 1, "agent": {"version": "1.0.0", "platform": "linux"}}'
       WHERE robot_id = ANY ($1::uuid[])`,
      [robots.map((robot) => robot.id), seq, JSON.stringify(body)],
    )
    await connection.query('VACUUM ANALYZE robot_status')
  })
}
