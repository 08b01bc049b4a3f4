import { randomBytes } from 'node:crypto'
import type { Database } from '../../src/db/database.ts'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'

export interface TestFleet {
  readonly siteId: string
  readonly fleetId: string
}

export interface TestRobot {
  readonly id: string
  readonly name: string
  readonly token: string
  readonly authorization: string
}

/** A site with one fleet. */
export async function insertFleet(
  database: Database,
  name = `fleet-${randomBytes(4).toString('hex')}`,
): Promise<TestFleet> {
  const siteId = newId()
  const fleetId = newId()
  await database
    .insertInto('sites')
    .values({ id: siteId, name: `site of ${name}` })
    .execute()
  await database
    .insertInto('fleets')
    .values({ id: fleetId, site_id: siteId, name, heartbeat_interval_ms: null })
    .execute()
  return { siteId, fleetId }
}

/** A robot that was enrolled, with its token. */
export async function insertRobot(
  database: Database,
  fleet: TestFleet,
  values: { name?: string; lifecycle?: 'pending' | 'active' | 'maintenance' | 'retired' } = {},
): Promise<TestRobot> {
  const id = newId()
  const token = mintCheckedToken('robot')
  const name = values.name ?? `robot-${id.slice(-8)}`
  await database
    .insertInto('robots')
    .values({
      id,
      site_id: fleet.siteId,
      fleet_id: fleet.fleetId,
      name,
      lifecycle: values.lifecycle ?? 'active',
      credential_id: null,
      claim_id: null,
      token_hash: hashToken(token),
      machine_hash: null,
    })
    .execute()
  await database
    .insertInto('robot_status')
    .values({ robot_id: id, server_id: null, heartbeat_seq: null })
    .execute()
  return { id, name, token, authorization: `Bearer ${token}` }
}
