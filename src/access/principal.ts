import type { Database } from '../db/database.ts'
import { findPersonalToken } from '../db/personal-tokens.ts'
import { BeaconError } from '../errors.ts'
import { hashToken, isCheckedToken } from '../protocol/tokens.ts'
import { ALL_SCOPES, type Scope } from './scopes.ts'

/** Whoever asks: the token's id and name, and what it may do. */
export interface Principal {
  readonly id: string
  readonly name: string
  readonly scopes: ReadonlySet<Scope>
}

export interface Access {
  /** Who holds this bearer token; throws a BeaconError with status 401 when nobody does. */
  authenticate(token: string): Promise<Principal>
}

/**
 * Looks bearers up among the personal tokens. A text whose form or checksum is wrong costs no database work. Nothing
 * is cached, so that a revoked token fails with its next request on every server.
 */
export function createAccess(database: Database): Access {
  return {
    async authenticate(token) {
      if (!isCheckedToken('personal', token)) throw new BeaconError('invalid_token')
      const found = await findPersonalToken(database, hashToken(token))
      if (!found) throw new BeaconError('invalid_token')
      if (found.revoked) throw new BeaconError('token_revoked')
      if (found.expired) throw new BeaconError('token_expired')
      return { id: found.id, name: found.name, scopes: ALL_SCOPES }
    },
  }
}
