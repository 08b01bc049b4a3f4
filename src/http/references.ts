import type { Principal } from '../access/principal.ts'
import type { Scope } from '../access/scopes.ts'
import type { Database } from '../db/database.ts'
import { findFleet } from '../db/fleets.ts'
import { findSite } from '../db/sites.ts'
import { BeaconError } from '../errors.ts'
import { standing } from './reach.ts'

/** A refusal of a body whose field names something that does not exist. */
export function unknownReference(pointer: string, what: string, cause?: unknown): BeaconError {
  const detail = `there is no such ${what}`
  return new BeaconError('unknown_reference', detail, { errors: [{ pointer, detail }], cause })
}

/** A refusal of a body whose field names something that the caller sees and may not touch. */
function untouchable(pointer: string, scope: Scope): BeaconError {
  const detail = `the scope ${scope} is needed there`
  return new BeaconError('insufficient_scope', detail, { errors: [{ pointer, detail }] })
}

/** The site that a body names, where the caller holds the scope. One that they do not see is none. */
export async function demandSite(database: Database, { authority }: Principal, scope: Scope, siteId: string) {
  const site = await findSite(database, siteId)
  const place = { siteId, fleetId: null }
  const stands = standing(authority, scope, place, 'robots:read')
  if (!site || stands === 'blind') throw unknownReference('/site_id', 'site')
  if (stands === 'sees') throw untouchable('/site_id', scope)
  return site
}

/** The fleet that a body names, where the caller holds the scope. One that they do not see is none. */
export async function demandFleet(
  database: Database,
  { authority }: Principal,
  scope: Scope,
  fleetId: string,
) {
  const fleet = await findFleet(database, fleetId)
  const stands = fleet
    ? standing(authority, scope, { siteId: fleet.site_id, fleetId }, 'robots:read')
    : 'blind'
  if (!fleet || stands === 'blind') throw unknownReference('/fleet_id', 'fleet')
  if (stands === 'sees') throw untouchable('/fleet_id', scope)
  return fleet
}

/** The fleet that a body names together with its site, where the caller holds the scope. */
export async function demandFleetInSite(
  database: Database,
  principal: Principal,
  scope: Scope,
  { siteId, fleetId }: { siteId: string; fleetId: string },
) {
  const fleet = await demandFleet(database, principal, scope, fleetId)
  if (fleet.site_id === siteId) return fleet
  const site = principal.authority.touches('robots:read', siteId) && (await findSite(database, siteId))
  if (!site) throw unknownReference('/site_id', 'site')
  throw new BeaconError('fleet_not_in_site', undefined, {
    errors: [{ pointer: '/fleet_id', detail: 'this fleet belongs to another site' }],
  })
}
