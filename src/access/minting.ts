import type { Database } from '../db/database.ts'
import { holdToken, lockMinting } from '../db/token-changes.ts'
import { BeaconError } from '../errors.ts'
import type { Place } from './authority.ts'
import type { Principal, TokenLimits } from './principal.ts'
import { rangesWithin } from './ranges.ts'
import { FLEET_TOKEN_SCOPES, SCOPES, type Scope } from './scopes.ts'
import { principalsNow } from './standing.ts'

/**
 * Who the caller is at this moment, for the start of a transaction that makes something which gives access. Throws when
 * they no longer stand. Whoever revokes everything afterwards finds what is made here; whoever did so before has ended the
 * caller, too.
 */
export async function standingToMint(transaction: Database, principal: Principal): Promise<Principal> {
  await lockMinting(transaction)
  if (principal.kind !== 'session') await holdToken(transaction, principal.id)
  return demandStillThere(transaction, principal)
}

/** Who the caller is at this moment; throws when they no longer stand. */
export async function demandStillThere(database: Database, principal: Principal): Promise<Principal> {
  const [now] = await principalsNow(database, [principal])
  if (now instanceof BeaconError) throw now
  if (now!.barred) throw new BeaconError(now!.barred)
  return now!
}

/** All scopes that the caller holds somewhere: what a token of theirs may be given. */
export function scopesOf({ authority }: Principal): Scope[] {
  return SCOPES.filter((scope) => authority.holds(scope))
}

/** All scopes that the caller holds at a fleet and that a token of the fleet may be given. */
export function fleetScopesOf({ authority }: Principal, fleet: Place): Scope[] {
  return FLEET_TOKEN_SCOPES.filter((scope) => authority.covers(scope, fleet))
}

/** Throws unless a token with these bounds gives its person no more than the caller holds. */
export function demandOwnRights(principal: Principal, token: TokenLimits): void {
  const { scopes, allowedCidrs } = token
  if (scopes === null) {
    // All that the person may do, also what there will be to do some day: a list of all scopes there are is less.
    if (principal.limits.scopes !== null)
      throw new BeaconError('exceeds_own_rights', 'the token is good for whatever its owner may do')
  } else {
    const beyond = scopes.filter((scope) => !principal.authority.holds(scope))
    if (beyond.length > 0) throw exceeding(beyond)
  }
  demandOwnRanges(principal, allowedCidrs)
}

/** Throws unless a fleet's token with these bounds can do no more than the caller can at that fleet. */
export function demandRightsAt(
  principal: Principal,
  token: TokenLimits & { readonly scopes: readonly Scope[] },
  fleet: Place,
): void {
  const beyond = token.scopes.filter((scope) => !principal.authority.covers(scope, fleet))
  if (beyond.length > 0) throw exceeding(beyond, ' there')
  demandOwnRanges(principal, token.allowedCidrs)
}

/** A token that is bound to some addresses makes none that is not. */
function demandOwnRanges({ limits }: Principal, ranges: readonly string[]): void {
  if (rangesWithin(ranges, limits.allowedCidrs)) return
  throw new BeaconError(
    'exceeds_own_rights',
    'it would be of use from addresses that the caller is not let in from',
    {
      errors: [{ pointer: '/allowed_cidrs', detail: 'has to lie within the ranges of the token that asks' }],
    },
  )
}

function exceeding(scopes: readonly Scope[], where = ''): BeaconError {
  return new BeaconError('exceeds_own_rights', `the caller does not hold ${scopes.join(', ')}${where}`)
}
