import type { Claim } from '../../src/claims/decide.ts'

/** Enrolment told the slow way: one claim after the other, by looking through everything there is. */

export interface ModelKey {
  readonly id: string
  readonly kind: 'enrollment_key' | 'provisioning_token' | 'setup_token'
  /** Stops with the first success. */
  readonly once: boolean
  /** A setup token's own robot. */
  readonly robot?: string
  readonly fleet: string
  readonly maxUses: number
  readonly onExisting: 'rebind' | 'approve' | 'reject'
  readonly requireApproval: boolean
  readonly createdAt: number
  readonly expiresAt: number
  revoked: boolean
  /** How often it let somebody in, as a new robot or as one that was there. */
  successes: number
  uses: number
}

export interface ModelRobot {
  readonly id: string
  fleet: string
  name: string
  lifecycle: 'pending' | 'active' | 'maintenance' | 'retired'
  /** What it is again if nobody approves it. */
  lifecycleBefore: 'active' | 'maintenance' | undefined
  /** The key that admitted it; none: an operator made it by hand. */
  admittedBy: string | undefined
  /** The key of its last claim, and the id of that claim. */
  claimedWith: string | undefined
  claimId: string | undefined
  token: string | undefined
  tokenRevokedAt: number | undefined
  machine: string | undefined
  connected: boolean
}

export function modelClaim(robots: ModelRobot[], key: ModelKey, claim: Claim, now: number): string {
  if (key.kind === 'setup_token') return modelRedemption(robots, key, claim, now)
  const outcome = modelEnrolment(robots, key, claim, now)
  if (/^(admitted|rebound)/.test(outcome)) key.successes += 1
  return outcome
}

function modelEnrolment(robots: ModelRobot[], key: ModelKey, claim: Claim, now: number): string {
  if (key.revoked && !key.once) return 'key_revoked'
  const spent = key.revoked || (key.once && key.successes > 0)

  const sameMachine = robots.filter((robot) => claim.machineHash && robot.machine === claim.machineHash)
  // Robots that other keys admitted are remembered by this key's claim ids only next to their own kin.
  // One made by hand is nobody's kin but its own.
  const kinOf = (robot: ModelRobot) => robot.admittedBy ?? robot.id
  const kin = new Set([key.id, ...sameMachine.map(kinOf)])
  const asClaimed = robots
    .filter((robot) => claim.claimId && robot.claimedWith === key.id && robot.claimId === claim.claimId)
    .filter((robot) => kin.has(kinOf(robot)))
    .sort((a, b) => Number(b.admittedBy === key.id) - Number(a.admittedBy === key.id))
  const again = asClaimed[0]
  if (again) {
    if (claim.minted || again.token !== claim.tokenHash) return 'claim_conflict'
    return repeat(again)
  }
  const holder = robots.find((robot) => robot.token === claim.tokenHash)
  if (holder && !claim.claimId && spent) {
    if (holder.claimedWith === key.id) return repeat(holder)
  } else if (holder && !claim.claimId) {
    const own = holder.fleet === key.fleet && sameMachine.includes(holder)
    if (holder.admittedBy === key.id || own) return repeat(holder)
  }

  if (spent) return 'key_revoked'
  if (now >= key.expiresAt) return 'key_expired'
  if (key.uses >= key.maxUses) return 'key_exhausted'

  const living = sameMachine.filter((robot) => robot.lifecycle !== 'retired')
  const before = living.find((robot) => robot.fleet === key.fleet)
  if (holder && holder !== before) return 'token_hash_taken'
  if (holder?.tokenRevokedAt !== undefined) return 'token_hash_taken'
  // Without a robot to bind anew, those count that were in the fleet, or that this very key let in.
  const concerned = sameMachine.filter(
    (robot) => robot.fleet === key.fleet || robot.admittedBy === key.id || robot.claimedWith === key.id,
  )
  for (const robot of before ? [before] : concerned)
    if (robot.tokenRevokedAt !== undefined && robot.tokenRevokedAt >= key.createdAt) return 'robot_revoked'
  if (living.some((robot) => robot.connected)) return 'robot_online'

  if (before) {
    if (key.onExisting === 'reject') return 'machine_known'
    before.token = claim.tokenHash
    before.claimId = claim.claimId
    before.claimedWith = key.id
    before.tokenRevokedAt = undefined
    if (key.onExisting === 'approve' || key.requireApproval) {
      if (before.lifecycle === 'active' || before.lifecycle === 'maintenance')
        before.lifecycleBefore = before.lifecycle
      before.lifecycle = 'pending'
    }
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
    lifecycleBefore: undefined,
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

function modelRedemption(robots: ModelRobot[], key: ModelKey, claim: Claim, now: number): string {
  const robot = robots.find((other) => other.id === key.robot)!
  if (robot.lifecycle === 'retired') return 'robot_retired'
  if (key.successes > 0) {
    const same = robot.claimedWith === key.id && robot.claimId === claim.claimId && !claim.minted
    return same && robot.token === claim.tokenHash ? repeat(robot) : 'setup_token_consumed'
  }
  if (key.revoked) return 'key_revoked'
  if (now >= key.expiresAt) return 'setup_token_expired'
  if (robots.some((other) => other.token === claim.tokenHash)) return 'token_hash_taken'
  if (robot.tokenRevokedAt !== undefined && robot.tokenRevokedAt >= key.createdAt) return 'robot_revoked'
  const twins = robots.filter(
    (other) =>
      other !== robot &&
      other.lifecycle !== 'retired' &&
      claim.machineHash &&
      other.machine === claim.machineHash,
  )
  if (twins.some((other) => other.connected)) return 'robot_online'
  if (twins.some((other) => other.fleet === robot.fleet)) return 'machine_known'
  const outcome = robot.token === undefined ? `admitted ${robot.id} as ${robot.name}` : `rebound ${robot.id}`
  robot.token = claim.tokenHash
  robot.tokenRevokedAt = undefined
  robot.claimedWith = key.id
  robot.claimId = claim.claimId
  robot.machine = claim.machineHash
  key.successes += 1
  return outcome
}

function repeat(robot: ModelRobot): string {
  if (robot.lifecycle === 'retired') return 'robot_retired'
  return robot.tokenRevokedAt === undefined ? `repeated ${robot.id}` : 'robot_revoked'
}
