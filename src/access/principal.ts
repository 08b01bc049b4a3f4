import { addressRule } from '../addresses.ts'
import { type FoundToken, findAccessToken } from '../db/access-tokens.ts'
import type { AuditActor } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import { BeaconError, type ErrorCode } from '../errors.ts'
import { hashToken, isCheckedToken } from '../protocol/tokens.ts'
import { Authority, type Place } from './authority.ts'
import { isScope, type Scope } from './scopes.ts'

/** Whoever asks, and what they may do at this moment. */
export interface Principal {
  readonly kind: 'personal_token' | 'fleet_token' | 'session'
  /** The token's id; of a session the person's. */
  readonly id: string
  readonly name: string
  /** The person who asks or whose token asks; null: a fleet's own token. */
  readonly userId: string | null
  readonly userName: string | null
  readonly authority: Authority
  /** Why it may do nothing although it is who it says. */
  readonly barred: Extract<ErrorCode, 'second_factor_required'> | undefined
  /** When it ends by itself. */
  readonly expiresAt: Date | null
}

export interface Access {
  /**
   * Who holds this bearer token, asked from this address; throws a BeaconError with status 401 when nobody does, and 403
   * when the token is not to be used from there.
   */
  authenticate(token: string, address: string): Promise<Principal>
}

/**
 * Looks bearers up among the tokens of people and fleets. A text whose form or checksum is wrong costs no database work.
 * Nothing is cached, so that a token revoked, or an owner demoted, counts with the next request on every server.
 */
export function createAccess(database: Database): Access {
  return {
    async authenticate(token, address) {
      if (!isCheckedToken('personal', token) && !isCheckedToken('fleet', token))
        throw new BeaconError('invalid_token')
      const found = await findAccessToken(database, hashToken(token))
      if (!found) throw new BeaconError('invalid_token')
      if (found.revoked || found.userRemoved) throw new BeaconError('token_revoked')
      if (found.expired) throw new BeaconError('token_expired')
      if (!addressRule(found.allowedCidrs)(address))
        throw new BeaconError('address_not_allowed', 'this token is not to be used from this address')
      return principalOfToken(found)
    },
  }
}

function principalOfToken(found: FoundToken): Principal {
  const { id, name, userId, userName, expiresAt } = found
  const scopes = found.scopes?.filter(isScope) ?? null
  if (found.kind === 'fleet') {
    const authority = Authority.at({ siteId: found.siteId, fleetId: found.fleetId }, scopes ?? [])
    return { kind: 'fleet_token', id, name, userId, userName, authority, barred: undefined, expiresAt }
  }
  const barred =
    found.secondFactorRequired && !found.hasSecondFactor ? ('second_factor_required' as const) : undefined
  const roles = found.roles.map(({ role, siteId, fleetId }) => ({ role, place: { siteId, fleetId } }))
  const authority = barred ? Authority.NONE : Authority.ofRoles(roles, scopes)
  return { kind: 'personal_token', id, name, userId, userName, authority, barred, expiresAt }
}

/** How the audit log names a principal. */
export function actorOfPrincipal({ kind, id, name }: Principal): AuditActor {
  return { kind: kind === 'session' ? 'user' : kind, id, name }
}

/** Throws unless the principal holds the scope at the place. */
export function demandScope({ authority }: Principal, scope: Scope, place: Place): void {
  if (authority.covers(scope, place)) return
  throw new BeaconError('insufficient_scope', `the scope ${scope} is needed there`)
}
