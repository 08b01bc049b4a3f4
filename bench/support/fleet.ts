import { randomUUID } from 'node:crypto'
import type pg from 'pg'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { HEARTBEAT } from '../programs/heartbeat-frames.ts'
import { crowdToken } from './crowd-token.ts'
import { withConnection } from './database.ts'

export interface EnrolledRobot {
  readonly id: string
  readonly token: string
}

/** Puts robots into the database as if they had been enrolled, all in one fleet. */
export function enrolRobots(databaseUrl: string, count: number): Promise<EnrolledRobot[]> {
  const robots = Array.from({ length: count }, () => ({ id: newId(), token: mintCheckedToken('robot') }))
  return withConnection(databaseUrl, async (connection) => {
    await insertRobots(connection, await makeFleet(connection), robots, 1)
    await connection.query('ANALYZE robots, robot_status')
    return robots
  })
}

interface Place {
  readonly siteId: string
  readonly fleetId: string
}

async function makeFleet(connection: pg.Client): Promise<Place> {
  const [siteId, fleetId] = [newId(), newId()]
  await connection.query('INSERT INTO sites (id, name) VALUES ($1, $2)', [siteId, 'site'])
  await connection.query('INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, $3)', [
    fleetId,
    siteId,
    'fleet',
  ])
  return { siteId, fleetId }
}

/** Their names are `robot-` and a number, which counts from `firstNumber` on. */
async function insertRobots(
  connection: pg.Client,
  { siteId, fleetId }: Place,
  robots: readonly EnrolledRobot[],
  firstNumber: number,
): Promise<void> {
  await connection.query(
    `WITH enrolled AS (
       INSERT INTO robots (id, site_id, fleet_id, name, labels, token_hash, token_issued_at, enrolled_at, fingerprint)
       SELECT id, $1, $2, 'robot-' || position + $5 - 1, '{"model": "r2", "floor": "3"}', token_hash, now(), now(),
         '{"hostname": "robot", "os": "Debian 12", "platform": "linux", "arch": "arm64", "agent_version": "1.0.0"}'
       FROM unnest($3::uuid[], $4::bytea[]) WITH ORDINALITY AS given (id, token_hash, position)
       RETURNING id
     )
     INSERT INTO robot_status (robot_id) SELECT id FROM enrolled`,
    [
      siteId,
      fleetId,
      robots.map((robot) => robot.id),
      robots.map((robot) => hashToken(robot.token)),
      firstNumber,
    ],
  )
}

const ENROLLED_AT_ONCE = 10_000

/** A fleet that grows, whose robots go by number from 0 on: `robot-7` has the token that `crowdToken` says. */
export class GrowingFleet {
  readonly seed = randomUUID()
  readonly #databaseUrl: string
  #place: Place | undefined
  #robots = 0

  constructor(databaseUrl: string) {
    this.#databaseUrl = databaseUrl
  }

  /** Enrols as many as are missing to `count`. */
  growTo(count: number): Promise<void> {
    return withConnection(this.#databaseUrl, async (connection) => {
      this.#place ??= await makeFleet(connection)
      while (this.#robots < count) {
        const first = this.#robots
        const robots = Array.from({ length: Math.min(count - first, ENROLLED_AT_ONCE) }, (_, index) => ({
          id: newId(),
          token: crowdToken(this.seed, first + index),
        }))
        await insertRobots(connection, this.#place, robots, first)
        this.#robots += robots.length
      }
      await connection.query('VACUUM ANALYZE robots, robot_status')
    })
  }
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
