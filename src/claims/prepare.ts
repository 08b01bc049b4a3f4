import { canonicalAddress } from '../addresses.ts'
import { newId } from '../ids.ts'
import { machineHash } from '../machine-hash.ts'
import type { ClaimRequest } from '../protocol/enrolment.ts'
import { hashToken, mintCheckedToken } from '../protocol/tokens.ts'
import type { Random } from '../runtime.ts'
import type { Claim } from './decide.ts'
import { keptFingerprint } from './machine.ts'
import { defaultName } from './names.ts'

export interface PreparedClaim {
  readonly claim: Claim
  /** The token that we made for a robot that brought none: to be shown once, and nowhere else. */
  readonly mintedToken: string | undefined
}

/** Draws all that a claim needs at random, so that deciding it is a function of what it is given. */
export function prepareClaim(
  request: ClaimRequest,
  from: { readonly address: string; readonly requestId: string },
  random: Random,
): PreparedClaim {
  const { fingerprint } = request
  const robotId = newId()
  const mintedToken =
    request.token_hash === undefined ? mintCheckedToken('robot', (count) => random.bytes(count)) : undefined
  const claim: Claim = {
    robotId,
    name: request.name ?? defaultName(fingerprint.hostname, robotId),
    claimId: request.claim_id,
    tokenHash: request.token_hash ?? hashToken(mintedToken!).toString('hex'),
    minted: mintedToken !== undefined,
    machineHash: machineHash(fingerprint.machine_id),
    address: canonicalAddress(from.address) ?? 'unknown',
    requestId: from.requestId,
    fingerprint: keptFingerprint(fingerprint),
  }
  return { claim, mintedToken }
}
