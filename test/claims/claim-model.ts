import type { Claim } from '../../src/claims/decide.ts'

/** Enrolment told the slow way: one claim after the other, by looking through everything there is. */

export interface ModelKey {
  readonly id: string
  readonly fleet: string
  readonly maxUses: number
  readonly onExisting: 'rebind' | 'approve' | 'reject'
  readonly requireApproval: boolean
  readonly createdAt: number
  readonly expiresAt: number
  revoked: boolean
  uses: number
}

export interface ModelRobot {
  readonly id: string
  fleet: string
  name: string
  lifecycle: 'pending' | 'active' | 'retired'
  /** The key that admitted it. */
  admittedBy: string
  /** The key of its last claim, and the id of that claim. */
  claimedWith: string
  claimId: string | undefined
  token: string
  tokenRevokedAt: number | undefined
  readonly machine: string | undefined
  connected: boolean
}

export function modelClaim(robots: ModelRobot[], key: ModelKey, claim: Claim, now: number): string {
  if (key.revoked) return 'key_revoked'

  const sameMachine = robots.filter((robot) => claim.machineHash && robot.machine === claim.machineHash)
  // Robots that other keys admitted are remembered by this key's claim ids only next to their own kin.
  const kin = new Set([key.id, ...sameMachine.map((robot) => robot.admittedBy)])
  const asClaimed = robots
    .filter((robot) => claim.claimId && robot.claimedWith === key.id && robot.claimId === claim.claimId)
    .filter((robot) => kin.has(robot.admittedBy))
    .sort((a, b) => Number(b.admittedBy === key.id) - Number(a.admittedBy === key.id))
  const again = asClaimed[0]
  if (again) {
    if (claim.minted || again.token !== claim.tokenHash) return 'claim_conflict'
    return repeat(again)
  }
  const holder = robots.find((robot) => robot.token === claim.tokenHash)
  if (holder && !claim.claimId) {
    const own = holder.fleet === key.fleet && sameMachine.includes(holder)
    if (holder.admittedBy === key.id || own) return repeat(holder)
  }

  if (now >= key.expiresAt) return 'key_expired'
  if (key.uses >= key.maxUses) return 'key_exhausted'

  const living = sameMachine.filter((robot) => robot.lifecycle !== 'retired')
  const before = living.find((robot) => robot.fleet === key.fleet)
  if (holder && holder !== before) return 'token_hash_taken'
  if (holder?.tokenRevokedAt !== undefined) return 'token_hash_taken'
  if (before?.tokenRevokedAt !== undefined && before.tokenRevokedAt >= key.createdAt) return 'robot_revoked'
  if (living.some((robot) => robot.connected)) return 'robot_online'

  if (before) {
    if (key.onExisting === 'reject') return 'machine_known'
    before.token = claim.tokenHash
    before.claimId = claim.claimId
    before.claimedWith = key.id
    before.tokenRevokedAt = undefined
    if (key.onExisting === 'approve' || key.requireApproval) before.lifecycle = 'pending'
    return `rebound ${before.id}`
  }

  const taken = (name: string) => robots.some((robot) => robot.fleet === key.fleet && robot.name === name)
  let name = claim.name
  for (let n = 2; taken(name) && n <= 9; n++) name = `${claim.name}-${n}`
  if (taken(name)) name = `${claim.name}-${claim.robotId.slice(-6)}`
  robots.push({
    id: claim.robotId,
    fleet: key.fleet,
    name,
    lifecycle: key.requireApproval ? 'pending' : 'active',
    admittedBy: key.id,
    claimedWith: key.id,
    claimId: claim.claimId,
    token: claim.tokenHash,
    tokenRevokedAt: undefined,
    machine: claim.machineHash,
    connected: false,
  })
  key.uses += 1
  return `admitted ${claim.robotId} as ${name}`
}

function repeat(robot: ModelRobot): string {
  if (robot.lifecycle === 'retired') return 'robot_retired'
  return robot.tokenRevokedAt === undefined ? `repeated ${robot.id}` : 'robot_revoked'
}
