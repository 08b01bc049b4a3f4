import type { ClaimEvent, ClaimKey } from '../db/claims.ts'
import type { Claim } from './decide.ts'

type Told = Pick<ClaimEvent, 'level' | 'code' | 'message'>

/** What a robot's timeline says of a claim. */
export function claimEvent(key: ClaimKey, robotId: string, claim: Claim, told: Told): Omit<ClaimEvent, 'id'> {
  const { hostname, agent_version } = claim.fingerprint
  const data = { credential_id: key.id, address: claim.address, hostname, agent_version }
  return { robotId, ...told, data }
}

/** Two machines with one id, as a copied disk makes them. */
export const CLONE_SUSPECTED: Told = {
  level: 'warn',
  code: 'clone_suspected',
  message: 'a machine with the same machine_id tried to enroll while this robot was connected',
}
