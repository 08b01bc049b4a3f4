import { type Authority, DEPLOYMENT, type Place, type RoleAt } from './authority.ts'

const placeKey = ({ siteId, fleetId }: Place) => fleetId ?? siteId ?? 'deployment'
const roleKey = ({ role, place }: RoleAt) => `${role} ${placeKey(place)}`

export interface RoleChange {
  readonly added: readonly RoleAt[]
  readonly removed: readonly RoleAt[]
}

/**
 * What it takes to turn the roles that somebody holds within the caller's sight into the ones that are wanted there.
 * Roles that the caller does not see stay.
 */
export function roleChange(
  authority: Authority,
  held: readonly RoleAt[],
  wanted: readonly RoleAt[],
): RoleChange {
  const seen = held.filter(({ place }) => authority.covers('users:manage', place))
  const wantedKeys = new Set(wanted.map(roleKey))
  const seenKeys = new Set(seen.map(roleKey))
  return {
    added: wanted.filter((role) => !seenKeys.has(roleKey(role))),
    removed: seen.filter((role) => !wantedKeys.has(roleKey(role))),
  }
}

/** May make, change and take away each of these roles: what somebody else's whole account takes. */
export function mayGrantAll(authority: Authority, roles: readonly RoleAt[]): boolean {
  return roles.every((role) => authority.mayGrant(role))
}

/** May decide how somebody signs in who holds these roles; of somebody without any, whoever manages the deployment. */
export function mayAnswerFor(authority: Authority, roles: readonly RoleAt[]): boolean {
  return mayGrantAll(authority, roles) && (roles.length > 0 || authority.covers('users:manage', DEPLOYMENT))
}

/** No two roles at the same place. */
export function firstDoublePlace(roles: readonly RoleAt[]): number {
  return roles.findIndex(
    (role, index) => roles.findIndex((other) => placeKey(other.place) === placeKey(role.place)) < index,
  )
}
