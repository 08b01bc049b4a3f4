import { type RawBuilder, sql } from 'kysely'

/** Where somebody's scope reaches: everywhere, or these sites whole and these fleets besides. */
export type Reach =
  | 'everything'
  | { readonly siteIds: readonly string[]; readonly fleetIds: readonly string[] }

/**
 * True for rows within reach, of a table that names the fleet of each row in `fleet`. The fleets of whole sites are looked
 * up first, so that an index on the fleet finds the rows however many lie out of reach.
 */
export function inReach(reach: Reach, fleet: string): RawBuilder<boolean> {
  if (reach === 'everything') return sql`true`
  const { siteIds, fleetIds } = reach
  if (siteIds.length === 0) return sql`${sql.ref(fleet)} = ANY (${fleetIds}::uuid[])`
  return sql`${sql.ref(fleet)} = ANY (ARRAY(
    SELECT id FROM fleets WHERE site_id = ANY (${siteIds}::uuid[]) OR id = ANY (${fleetIds}::uuid[])))`
}

/** True for sites that are in reach, or that hold a fleet which is. */
export function touchedByReach(reach: Reach): RawBuilder<boolean> {
  if (reach === 'everything') return sql`true`
  return sql`(sites.id = ANY (${reach.siteIds}::uuid[])
    OR sites.id IN (SELECT site_id FROM fleets WHERE id = ANY (${reach.fleetIds}::uuid[])))`
}
