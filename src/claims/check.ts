import { addressRule } from '../addresses.ts'
import type { Audit } from '../audit/audit.ts'
import { findCredentialStanding } from '../db/claim-credentials.ts'
import type { Database } from '../db/database.ts'
import { findTokenHolders } from '../db/sessions.ts'
import type { CredentialCheck } from '../protocol/enrolment.ts'
import { claimCredentialKind, hashToken, isCheckedToken } from '../protocol/tokens.ts'
import { credentialActor } from './audit.ts'

export interface CheckCall {
  /** The bearer token as it came. */
  readonly secret: string
  /** The caller's address, as far as proxies are to be believed. */
  readonly address: string
  readonly requestId: string
}

interface CheckParts {
  readonly database: Database
  readonly audit: Pick<Audit, 'used'>
  /** Milliseconds since 1970. */
  readonly now: number
}

/**
 * What a claim credential or a robot token is worth now; undefined for a secret that nobody issued. Burns no use, opens
 * no session, and answers with nothing but the credential's own state.
 */
export async function checkCredential(
  { database, audit, now }: CheckParts,
  { secret, address }: CheckCall,
): Promise<CredentialCheck | undefined> {
  const server_time = new Date(now).toISOString()
  if (isCheckedToken('robot', secret)) {
    const [holder] = await findTokenHolders(database, [hashToken(secret).toString('hex')])
    if (!holder) return undefined
    const robot = { kind: 'robot' as const, id: holder.robotId, name: null }
    audit.used({ actor: robot, address, at: now, deed: { action: 'robot_token.checked', target: robot } })
    const status = holder.retired ? 'retired' : holder.revoked ? 'revoked' : 'active'
    return { kind: 'robot_token', status, server_time }
  }
  if (claimCredentialKind(secret) === undefined) return undefined
  const found = await findCredentialStanding(database, hashToken(secret))
  if (!found) return undefined
  const { id, kind, name, siteId, fleetId } = found
  audit.used({
    actor: credentialActor(found),
    address,
    at: now,
    siteId,
    fleetId,
    deed: { action: 'claim_credential.checked', target: { kind, id, name } },
  })
  return {
    kind,
    // A setup token is for one claim: its uses are no number that anybody raises.
    status: kind === 'setup_token' && found.status === 'exhausted' ? 'consumed' : found.status,
    expires_at: found.expiresAt?.toISOString() ?? null,
    uses_left: found.maxUses === null ? null : Math.max(0, found.maxUses - found.uses),
    address_allowed: addressRule(found.allowedCidrs)(address),
    server_time,
  }
}
