import type { Reach } from '../db/reach.ts'
import type { Role } from '../db/tables.ts'
import { ROLE_SCOPES, type Scope } from './scopes.ts'

/** Where something is: in a fleet (with its site), in a site, or in no site but the deployment itself. */
export interface Place {
  readonly siteId: string | null
  readonly fleetId: string | null
}

export const DEPLOYMENT: Place = { siteId: null, fleetId: null }

/** Some scopes at a place, and at everything within it. */
export interface Grant {
  readonly place: Place
  readonly scopes: ReadonlySet<Scope>
}

export type { Reach }

/** A role at a place, as a person holds it. */
export interface RoleAt {
  readonly role: Role
  readonly place: Place
}

function contains(outer: Place, inner: Place): boolean {
  if (outer.fleetId !== null) return outer.fleetId === inner.fleetId
  return outer.siteId === null || outer.siteId === inner.siteId
}

/**
 * What somebody may do and where. Pure and unchanging. A person's is the sum of their roles, cut down by the scopes of
 * the token that speaks for them.
 */
export class Authority {
  readonly grants: readonly Grant[]
  /** Holds the deployment itself: may decide about owners. */
  readonly isOwner: boolean
  readonly #asked: ((scope: Scope) => void) | undefined

  private constructor(grants: readonly Grant[], isOwner: boolean, asked?: (scope: Scope) => void) {
    this.grants = grants.filter((grant) => grant.scopes.size > 0)
    this.isOwner = isOwner
    this.#asked = asked
  }

  static readonly NONE = new Authority([], false)

  /** Of a person's roles; `scopes` null: all that they give. */
  static ofRoles(roles: readonly RoleAt[], scopes: readonly Scope[] | null): Authority {
    const grants = roles.map(({ role, place }) => ({
      place,
      scopes: new Set(ROLE_SCOPES[role].filter((scope) => scopes === null || scopes.includes(scope))),
    }))
    return new Authority(
      grants,
      // A token that may not manage people decides nothing for the deployment, whoever it belongs to.
      (scopes === null || scopes.includes('users:manage')) && roles.some(({ role }) => role === 'owner'),
    )
  }

  /** Of a token that belongs to one place and to nobody. */
  static at(place: Place, scopes: Iterable<Scope>): Authority {
    return new Authority([{ place, scopes: new Set(scopes) }], false)
  }

  /** The same rights; `asked` is told each scope for which somebody asks where it is held. */
  watched(asked: (scope: Scope) => void): Authority {
    return new Authority(this.grants, this.isOwner, asked)
  }

  /** Holds the scope somewhere. */
  holds(scope: Scope): boolean {
    return this.grants.some((grant) => grant.scopes.has(scope))
  }

  /** Holds the scope at this place. */
  covers(scope: Scope, place: Place): boolean {
    this.#asked?.(scope)
    return this.grants.some((grant) => grant.scopes.has(scope) && contains(grant.place, place))
  }

  /** Holds the scope at the site or at a fleet of it: enough to know that the site is there. */
  touches(scope: Scope, siteId: string): boolean {
    this.#asked?.(scope)
    return this.grants.some(
      ({ scopes, place }) => scopes.has(scope) && (place.siteId === null || place.siteId === siteId),
    )
  }

  reach(scope: Scope): Reach {
    this.#asked?.(scope)
    const places = this.grants.filter((grant) => grant.scopes.has(scope)).map((grant) => grant.place)
    if (places.some((place) => place.siteId === null)) return 'everything'
    return {
      siteIds: places.filter((place) => place.fleetId === null).map((place) => place.siteId!),
      fleetIds: places.flatMap((place) => place.fleetId ?? []),
    }
  }

  /** Holds the scope wherever this reach went, so that what was begun with it may go on. */
  stillReaches(scope: Scope, before: Reach): boolean {
    const now = this.reach(scope)
    if (now === 'everything') return true
    if (before === 'everything') return false
    return (
      before.siteIds.every((id) => now.siteIds.includes(id)) &&
      before.fleetIds.every((id) => now.fleetIds.includes(id))
    )
  }

  /** Holds all of these scopes at the place: whoever gives rights may give none that they lack. */
  coversAll(scopes: Iterable<Scope>, place: Place): boolean {
    for (const scope of scopes) if (!this.covers(scope, place)) return false
    return true
  }

  /** May make, change and take away this role at this place. */
  mayGrant({ role, place }: RoleAt): boolean {
    if (role === 'owner' && !this.isOwner) return false
    return this.covers('users:manage', place) && this.coversAll(ROLE_SCOPES[role], place)
  }

  /** Sees somebody who holds these roles: manages people at each of their places, or for all the deployment. */
  seesRolesOf(roles: readonly RoleAt[]): boolean {
    if (roles.length === 0) return this.covers('users:manage', DEPLOYMENT)
    return roles.every(({ place }) => this.covers('users:manage', place))
  }

  /**
   * Manages somebody who holds these roles: at each of their places, an owner only as an owner. Somebody without any is
   * managed from the deployment.
   */
  manages(roles: readonly RoleAt[]): boolean {
    if (roles.length === 0) return this.covers('users:manage', DEPLOYMENT)
    return roles.every(
      ({ role, place }) => (role !== 'owner' || this.isOwner) && this.covers('users:manage', place),
    )
  }
}
