import { addressRule } from '../addresses.ts'
import { type FoundRole, type FoundToken, findAccessToken } from '../db/access-tokens.ts'
import type { AuditActor } from '../db/audit.ts'
import type { Database } from '../db/database.ts'
import type { FoundSignIn } from '../db/sign-ins.ts'
import { BeaconError, type ErrorCode } from '../errors.ts'
import { hashToken, isCheckedToken } from '../protocol/tokens.ts'
import { Authority, type Place, type RoleAt } from './authority.ts'
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
  /** What its token was given: the bounds of whatever it makes. */
  readonly limits: TokenLimits
  /** Of a session: the row that it hangs on. */
  readonly sessionId?: string
}

/** What a token was given when it was made, whatever its owner may do at the moment. */
export interface TokenLimits {
  /** Null: all that its owner may do. */
  readonly scopes: readonly Scope[] | null
  /** Where it may be used from; none: from anywhere. */
  readonly allowedCidrs: readonly string[]
}

/** Of a person who is signed in: nothing but their roles bounds them. */
export const NO_LIMITS: TokenLimits = { scopes: null, allowedCidrs: [] }

/** The token is one of ours, and is not let in: the audit log can say which it was. */
export class TokenRefused extends BeaconError {
  readonly actor: AuditActor
  /** The person whose it is. */
  readonly user: { readonly id: string; readonly name: string | null } | null

  constructor({ id, kind, name, userId, userName }: FoundToken, code: ErrorCode, detail?: string) {
    super(code, detail)
    this.actor = { kind: kind === 'fleet' ? 'fleet_token' : 'personal_token', id, name }
    this.user = userId === null ? null : { id: userId, name: userName }
  }
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
      const principal = principalOfToken(found)
      if (principal instanceof BeaconError) throw new TokenRefused(found, principal.code)
      if (!addressRule(found.allowedCidrs)(address))
        throw new TokenRefused(found, 'address_not_allowed', 'this token is not to be used from this address')
      return principal
    },
  }
}

/** Whom a token speaks for at this moment, or why it no longer speaks for anybody. */
export function principalOfToken(found: FoundToken): Principal | BeaconError {
  if (found.revoked || found.userRemoved) return new BeaconError('token_revoked')
  if (found.expired) return new BeaconError('token_expired')
  const scopes = found.scopes?.filter(isScope) ?? null
  const { id, name, userId, userName, expiresAt, allowedCidrs } = found
  const common = { id, name, userId, userName, expiresAt, limits: { scopes, allowedCidrs } }
  if (found.kind === 'fleet') {
    const authority = Authority.at({ siteId: found.siteId, fleetId: found.fleetId }, scopes ?? [])
    return { ...common, kind: 'fleet_token', authority, barred: undefined }
  }
  return { ...common, kind: 'personal_token', ...rightsOf(found, scopes) }
}

/** What a person may do at this moment, by themselves or through a token with these scopes. */
export function rightsOf(
  person: Pick<FoundToken, 'hasSecondFactor' | 'secondFactorRequired' | 'roles'>,
  scopes: readonly Scope[] | null,
): Pick<Principal, 'authority' | 'barred'> {
  if (person.secondFactorRequired && !person.hasSecondFactor)
    return { authority: Authority.NONE, barred: 'second_factor_required' }
  return { authority: Authority.ofRoles(rolesAt(person.roles), scopes), barred: undefined }
}

/** Roles as the database tells them, as the authority judges them. */
export function rolesAt(roles: readonly FoundRole[]): RoleAt[] {
  return roles.map(({ role, siteId, fleetId }) => ({ role, place: { siteId, fleetId } }))
}

/** Who is signed in with a session that stands; undefined while the sign-in is not finished. */
export function principalOfSignIn(found: FoundSignIn): Principal | undefined {
  const { userId, userName } = found
  if (found.stage !== 'signed_in' || userId === null) return undefined
  return {
    kind: 'session',
    id: userId,
    name: userName ?? '',
    userId,
    userName,
    expiresAt: found.expiresAt,
    limits: NO_LIMITS,
    sessionId: found.id,
    // The identity provider's counts, too, where the settings say so.
    ...rightsOf({ ...found, hasSecondFactor: found.hasSecondFactor || found.secondFactor }, null),
  }
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
