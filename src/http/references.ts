import type { Database } from '../db/database.ts'
import { findFleet } from '../db/fleets.ts'
import { findSite } from '../db/sites.ts'
import { BeaconError } from '../errors.ts'

/** A refusal of a body whose field names something that does not exist. */
export function unknownReference(pointer: string, what: string, cause?: unknown): BeaconError {
  const detail = `there is no such ${what}`
  return new BeaconError('unknown_reference', detail, { errors: [{ pointer, detail }], cause })
}

/** The fleet that a body names. */
export async function demandFleet(database: Database, fleetId: string) {
  const fleet = await findFleet(database, fleetId)
  if (!fleet) throw unknownReference('/fleet_id', 'fleet')
  return fleet
}

/** Refuses a body whose fleet does not belong to its site. */
export async function demandFleetInSite(database: Database, siteId: string, fleetId: string): Promise<void> {
  const fleet = await demandFleet(database, fleetId)
  if (fleet.site_id === siteId) return
  if (!(await findSite(database, siteId))) throw unknownReference('/site_id', 'site')
  throw new BeaconError('fleet_not_in_site', undefined, {
    errors: [{ pointer: '/fleet_id', detail: 'this fleet belongs to another site' }],
  })
}
