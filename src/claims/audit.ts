import { canonicalAddress } from '../addresses.ts'
import type { AuditActor, AuditEntry } from '../db/audit.ts'
import type { ClaimKey, CredentialFacts } from '../db/claims.ts'
import type { ErrorCode } from '../errors.ts'
import { newId } from '../ids.ts'
import type { ClaimRequest } from '../protocol/enrolment.ts'
import type { Claim, Decision, Outcome } from './decide.ts'

/** How the audit log names a claim credential. */
export function credentialActor({ id, name }: Pick<CredentialFacts, 'id' | 'name'>): AuditActor {
  return { kind: 'claim_credential', id, name }
}

/** The audit log's lines for what a group of claims changed: one for each robot that was let in, in their order. */
export function auditOfClaims(
  key: ClaimKey,
  group: readonly Claim[],
  outcomes: readonly Outcome[],
  writes: Pick<Decision['writes'], 'revoke'>,
  now: Date,
): AuditEntry[] {
  const entries = outcomes.flatMap((outcome, index): AuditEntry[] => {
    if (outcome.kind !== 'admitted' && outcome.kind !== 'rebound') return []
    const claim = group[index]!
    const { robot } = outcome
    return [
      {
        ...madeWith(key, claim, now),
        action: outcome.kind === 'admitted' ? 'robot.enrolled' : 'robot.rebound',
        target: { kind: 'robot', id: robot.id, name: robot.name },
        siteId: robot.siteId,
        fleetId: robot.fleetId,
        data: {
          credential_kind: key.kind,
          hostname: claim.fingerprint.hostname,
          agent_version: claim.fingerprint.agent_version,
        },
      },
    ]
  })
  if (!writes.revoke) return entries
  const spentBy = outcomes.findIndex(({ kind }) => kind === 'admitted' || kind === 'rebound')
  return [
    ...entries,
    {
      ...madeWith(key, group[spentBy]!, now),
      action: `${key.kind}.revoked`,
      target: { kind: key.kind, id: key.id, name: key.name },
      siteId: key.siteId,
      fleetId: key.fleetId,
      data: { reason: 'single_use' },
    },
  ]
}

function madeWith(key: ClaimKey, claim: Claim, now: Date) {
  return {
    id: newId(),
    at: now,
    outcome: 'ok' as const,
    actor: credentialActor(key),
    requestId: claim.requestId,
    address: canonicalAddress(claim.address) ?? null,
  }
}

/** The audit log's line for a claim that was refused; without a credential: its secret is none of ours. */
export function auditOfRefusal(
  call: { readonly request: ClaimRequest; readonly address: string; readonly requestId: string },
  credential: CredentialFacts | undefined,
  code: ErrorCode,
  at: Date,
): AuditEntry {
  const { hostname } = call.request.fingerprint
  return {
    id: newId(),
    at,
    action: 'claim.refused',
    outcome: 'refused',
    actor: credential ? credentialActor(credential) : { kind: 'anonymous', id: null, name: null },
    target: null,
    siteId: credential?.siteId ?? null,
    fleetId: credential?.fleetId ?? null,
    requestId: call.requestId,
    address: canonicalAddress(call.address) ?? null,
    data: { code, hostname },
  }
}
