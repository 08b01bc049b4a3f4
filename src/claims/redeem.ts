import { addressRule } from '../addresses.ts'
import { type ClaimEvent, type ClaimKey, type KnownRobot, storedClaimId } from '../db/claims.ts'
import type { ErrorCode } from '../errors.ts'
import type { Claim, Decision, Known, Outcome } from './decide.ts'
import { CLONE_SUSPECTED, claimEvent } from './events.ts'

/** The setup token's robot and what the claims of the group so far made of it. */
interface Redemption {
  readonly key: ClaimKey
  readonly others: readonly KnownRobot[]
  readonly expired: boolean
  readonly admits: (address: string) => boolean
  robot: KnownRobot
  consumed: boolean
  redeemedBy: Claim | undefined
  readonly suspected: Set<string>
  readonly events: Omit<ClaimEvent, 'id'>[]
}

/**
 * Decides claims with a setup token in the order given: the first good one binds the token's own robot to its machine,
 * whatever that robot was bound to before. An operator asked for exactly this robot, so neither its being connected nor
 * `on_existing` stands in the way. Pure.
 */
export function decideRedemptions(key: ClaimKey, known: Known, group: readonly Claim[], now: Date): Decision {
  const robot = known.robots.find(({ id }) => id === key.robotId)
  if (!robot) throw new Error('a setup token goes with its robot')
  const state: Redemption = {
    key,
    others: known.robots.filter((other) => other !== robot),
    expired: key.expiresAt !== null && key.expiresAt <= now,
    admits: addressRule(key.allowedCidrs),
    robot,
    consumed: key.uses > 0,
    redeemedBy: undefined,
    suspected: new Set(),
    events: [],
  }
  const outcomes = group.map((claim) => redeem(state, claim))
  const { redeemedBy } = state
  const bound = redeemedBy && {
    id: robot.id,
    name: robot.name,
    lifecycle: robot.lifecycle,
    lifecycleBefore: robot.lifecycleBefore,
    claimId: state.robot.claimId,
    tokenHash: redeemedBy.tokenHash,
    machineHash: state.robot.machineHash,
    fingerprint: redeemedBy.fingerprint,
  }
  return {
    outcomes,
    writes: {
      admitted: [],
      rebound: bound ? [bound] : [],
      events: state.events,
      uses: bound ? 1 : 0,
      revoke: false,
    },
  }
}

function redeem(state: Redemption, claim: Claim): Outcome {
  const { key, robot } = state
  if (!state.admits(claim.address)) return refused('address_not_allowed')
  if (robot.lifecycle === 'retired') return refused('robot_retired')
  if (state.consumed) {
    if (!isSameClaim(state, claim)) return refused('setup_token_consumed', hinted(key, 'was used already'))
    return robot.tokenRevokedAt === null
      ? { kind: 'repeated', robot }
      : refused('robot_revoked', 'the token that this claim was made with was revoked')
  }
  if (key.revokedAt !== null)
    return refused('key_revoked', hinted(key, 'was revoked, as happens when a newer one is made'))
  if (state.expired) return refused('setup_token_expired', hinted(key, 'has expired'))
  if (isTaken(state, claim))
    return refused('token_hash_taken', 'this token was in use before: make a new one')
  if (robot.tokenRevokedAt !== null && key.createdAt <= robot.tokenRevokedAt)
    return refused('robot_revoked', hinted(key, 'is older than the revocation of its robot'))
  return standsAside(state, claim) ?? bind(state, claim)
}

function refused(code: ErrorCode, detail?: string): Outcome {
  return { kind: 'refused', code, detail }
}

/** Tells whoever holds a setup token that is of no use how to get one that is. */
function hinted({ robotId }: ClaimKey, what: string): string {
  return `this setup token ${what}: get a new one with POST /api/robots/${robotId}/setup-token or "beacon robots setup-token ${robotId}"`
}

function isSameClaim({ key, robot }: Redemption, claim: Claim): boolean {
  const claimId =
    claim.claimId === undefined ? null : storedClaimId(robot.credentialId, key.id, claim.claimId)
  return (
    !claim.minted &&
    robot.tokenCredentialId === key.id &&
    robot.tokenHash === claim.tokenHash &&
    robot.claimId === claimId
  )
}

/** Also by the robot itself: its old token has to stop. */
function isTaken({ robot, others }: Redemption, claim: Claim): boolean {
  return [robot, ...others].some(
    ({ tokenHash, nextTokenHash }) => tokenHash === claim.tokenHash || nextTokenHash === claim.tokenHash,
  )
}

/** A machine that is another robot already is refused: which of the two it should be is for an operator to say. */
function standsAside(state: Redemption, claim: Claim): Outcome | undefined {
  if (claim.machineHash === undefined) return undefined
  const same = state.others.filter(
    (other) => other.machineHash === claim.machineHash && other.lifecycle !== 'retired',
  )
  const connected = same.find((other) => other.connected)
  if (connected) {
    if (!state.suspected.has(connected.id)) {
      state.suspected.add(connected.id)
      state.events.push(claimEvent(state.key, connected.id, claim, CLONE_SUSPECTED))
    }
    return refused('robot_online')
  }
  if (!same.some((other) => other.fleetId === state.robot.fleetId)) return undefined
  return refused('machine_known', 'this machine is another robot of the fleet: retire that one first')
}

function bind(state: Redemption, claim: Claim): Outcome {
  const { key, robot } = state
  const isFirst = robot.tokenHash === null
  state.robot = {
    ...robot,
    claimId: claim.claimId === undefined ? null : storedClaimId(robot.credentialId, key.id, claim.claimId),
    tokenHash: claim.tokenHash,
    nextTokenHash: null,
    tokenCredentialId: key.id,
    tokenRevokedAt: null,
    machineHash: claim.machineHash ?? null,
  }
  state.consumed = true
  state.redeemedBy = claim
  state.events.push(
    claimEvent(key, robot.id, claim, {
      level: 'info',
      code: isFirst ? 'enrolled' : 'rebound',
      message: isFirst
        ? 'enrolled with its setup token'
        : 'its setup token was redeemed: it has a new token, and the old one stands no more',
    }),
  )
  return { kind: isFirst ? 'admitted' : 'rebound', robot: state.robot }
}
