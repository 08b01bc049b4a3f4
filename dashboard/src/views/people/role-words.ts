import type { RoleAt } from '../../../../src/access/authority.ts'
import type { WhoAmI } from '../../api/types.ts'
import type { Places } from '../../ui/places.ts'

export type Role = WhoAmI['roles'][number]

/** What each role lets one do. */
export const ROLE_SAYS: Readonly<Record<Role['role'], string>> = {
  viewer: 'Sees robots, keys and metrics',
  operator: 'Sees and changes robots, commands them, and makes keys',
  admin: 'Does all that operators do, manages people and tokens, and reads the audit log',
  owner: 'Does all that there is to do, and alone decides about owners and what holds for everybody',
}

/** How a place stands in a choice: `deployment`, `site:<id>` or `fleet:<id>`. */
export const placeKey = ({ site_id, fleet_id }: Omit<Role, 'role'>): string =>
  fleet_id !== null ? `fleet:${fleet_id}` : site_id !== null ? `site:${site_id}` : 'deployment'

export function placeOfKey(key: string): Omit<Role, 'role'> {
  const [kind, id = null] = key.split(':', 2)
  return { site_id: kind === 'site' ? id : null, fleet_id: kind === 'fleet' ? id : null }
}

/** A role with its place as rights are decided by: a fleet has its site. */
export function roleAt({ role, site_id, fleet_id }: Role, { fleets }: Pick<Places, 'fleets'>): RoleAt {
  const siteId = fleet_id === null ? site_id : (fleets.find(({ id }) => id === fleet_id)?.site_id ?? null)
  return { role, place: { siteId, fleetId: fleet_id } }
}

/** The same roles at the same places, in whatever order. */
export function sameRoles(left: readonly Role[], right: readonly Role[]): boolean {
  const keys = (roles: readonly Role[]) =>
    roles
      .map((role) => `${role.role} ${placeKey(role)}`)
      .sort()
      .join('\n')
  return keys(left) === keys(right)
}

/** The first place that is chosen twice. */
export function doublePlace(roles: readonly Role[]): number {
  const keys = roles.map(placeKey)
  return keys.findIndex((key, index) => keys.indexOf(key) < index)
}
