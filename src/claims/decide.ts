import { addressRule } from '../addresses.ts'
import {
  type ClaimEvent,
  type ClaimKey,
  type ClaimWrites,
  type KnownRobot,
  storedClaimId,
} from '../db/claims.ts'
import type { ErrorCode } from '../errors.ts'
import type { Fingerprint } from '../protocol/enrolment.ts'
import { CLONE_SUSPECTED, claimEvent } from './events.ts'
import { otherNames } from './names.ts'
import { decideRedemptions } from './redeem.ts'

/** Robots of one credential that may wait for approval, so that one that leaked cannot fill the database. */
export const MAX_PENDING = 1_000

/** One claim, ready to be decided: everything random is drawn already. Digests are hex. */
export interface Claim {
  /** The id that a new robot gets. */
  readonly robotId: string
  readonly name: string
  readonly claimId: string | undefined
  readonly tokenHash: string
  /** The robot left the token to us, so it can never show it again. */
  readonly minted: boolean
  readonly machineHash: string | undefined
  readonly address: string
  readonly requestId: string
  readonly fingerprint: Fingerprint
}

/** What is there before a group. `robots`: all that bear on its claims; `takenNames`: of all that may come up. */
export interface Known {
  readonly robots: readonly KnownRobot[]
  readonly takenNames: Iterable<string>
  /** Robots that the key admitted and that wait for approval, counted up to MAX_PENDING. */
  readonly pending: number
}

/** A claim's robot as the claimant is told of it. */
export type GrantedRobot = Pick<KnownRobot, 'id' | 'siteId' | 'fleetId' | 'heartbeatIntervalMs' | 'name'>

export type Outcome =
  | { readonly kind: 'admitted' | 'repeated' | 'rebound'; readonly robot: GrantedRobot }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly detail: string | undefined }

export interface Decision {
  /**
   * In the order of the claims, and at least one. Fewer than there are claims when one wants what an earlier claim of
   * the same group let go of: that one and those after it have to be decided after this decision is written.
   */
  readonly outcomes: readonly Outcome[]
  readonly writes: Omit<ClaimWrites, 'events'> & { readonly events: readonly Omit<ClaimEvent, 'id'>[] }
}

/** A robot as the claims of the group so far left it. */
interface Standing extends GrantedRobot {
  lifecycle: KnownRobot['lifecycle']
  lifecycleBefore: KnownRobot['lifecycleBefore']
  readonly credentialId: string | null
  tokenCredentialId: string | null
  claimId: string | null
  tokenHash: string | null
  nextTokenHash: string | null
  tokenRevokedAt: Date | null
  readonly machineHash: string | null
  readonly connected: boolean
  fingerprint: Fingerprint
}

/** The state between two claims of a group. Every robot stands in each index by what it has now. */
interface Book {
  readonly key: ClaimKey
  readonly expired: boolean
  readonly admits: (address: string) => boolean
  uses: number
  pending: number
  revoked: boolean
  readonly byClaim: Map<string, Standing>
  readonly byToken: Map<string, Standing>
  readonly byMachine: Map<string, Standing[]>
  readonly names: Set<string>
  /** Token hashes and places of claim ids that robots gave up in this group. */
  readonly released: Set<string>
  readonly admitted: Map<string, Standing>
  readonly rebound: Map<string, Standing>
  readonly suspected: Set<string>
  readonly events: Omit<ClaimEvent, 'id'>[]
}

/**
 * Decides claims of one credential in the order given, exactly as if each were decided and written alone. Pure: what it
 * answers has to be written while the key and its fleet are still locked.
 */
export function decideClaims(key: ClaimKey, known: Known, group: readonly Claim[], now: Date): Decision {
  if (key.kind === 'setup_token') return decideRedemptions(key, known, group, now)
  const book = openBook(key, known, now)
  const outcomes: Outcome[] = []
  for (const claim of group) {
    if (wantsReleased(book, claim)) break
    outcomes.push(decideClaim(book, claim))
  }
  return {
    outcomes,
    writes: {
      admitted: [...book.admitted.values()].map((robot) => claimedRobot(robot)),
      rebound: [...book.rebound.values()].map((robot) => claimedRobot(robot)),
      events: book.events,
      uses: book.admitted.size,
      revoke: book.revoked && key.revokedAt === null,
    },
  }
}

function openBook(key: ClaimKey, known: Known, now: Date): Book {
  const book: Book = {
    key,
    expired: key.expiresAt !== null && key.expiresAt <= now,
    admits: addressRule(key.allowedCidrs),
    uses: key.uses,
    pending: known.pending,
    revoked: key.revokedAt !== null,
    byClaim: new Map(),
    byToken: new Map(),
    byMachine: new Map(),
    names: new Set(known.takenNames),
    released: new Set(),
    admitted: new Map(),
    rebound: new Map(),
    suspected: new Set(),
    events: [],
  }
  for (const robot of known.robots) enter(book, { ...robot, fingerprint: {} })
  return book
}

function enter(book: Book, robot: Standing): void {
  if (robot.claimId !== null) book.byClaim.set(claimPlace(robot, robot.claimId), robot)
  for (const token of [robot.tokenHash, robot.nextTokenHash])
    if (token !== null) book.byToken.set(token, robot)
  if (robot.machineHash !== null) {
    const sameMachine = book.byMachine.get(robot.machineHash)
    if (sameMachine) sameMachine.push(robot)
    else book.byMachine.set(robot.machineHash, [robot])
  }
  if (robot.fleetId === book.key.fleetId) book.names.add(robot.name)
}

/** Where a stored claim id is unique: among the robots that one credential admitted. */
function claimPlace(robot: Pick<Standing, 'id' | 'credentialId'>, stored: string): string {
  return `${robot.credentialId ?? robot.id} ${stored}`
}

/** Every place where this claim would be found, had it been made before. */
function placesOf(book: Book, claim: Claim): string[] {
  const { claimId } = claim
  if (claimId === undefined) return []
  const { key } = book
  const places = new Set([`${key.id} ${claimId}`])
  for (const robot of machineRobots(book, claim))
    places.add(claimPlace(robot, storedClaimId(robot.credentialId, key.id, claimId)))
  return [...places]
}

function machineRobots(book: Book, claim: Claim): readonly Standing[] {
  return claim.machineHash === undefined ? [] : (book.byMachine.get(claim.machineHash) ?? [])
}

function claimedRobot(robot: Standing): ClaimWrites['admitted'][number] {
  return {
    id: robot.id,
    name: robot.name,
    lifecycle: robot.lifecycle,
    lifecycleBefore: robot.lifecycleBefore,
    claimId: robot.claimId,
    tokenHash: robot.tokenHash!,
    machineHash: robot.machineHash,
    fingerprint: robot.fingerprint,
  }
}

/** One statement writes a group, and within one statement nothing can be freed by one row and taken by another. */
function wantsReleased(book: Book, claim: Claim): boolean {
  return (
    book.released.size > 0 &&
    (book.released.has(claim.tokenHash) || placesOf(book, claim).some((place) => book.released.has(place)))
  )
}

function decideClaim(book: Book, claim: Claim): Outcome {
  const { key } = book
  // A token that revoked itself has admitted somebody, who may ask again for an answer that was lost.
  if (book.revoked && !key.singleUse) return refused('key_revoked')
  if (!book.admits(claim.address)) return refused('address_not_allowed')

  for (const place of placesOf(book, claim)) {
    const robot = book.byClaim.get(place)
    if (robot) return claimAgain(robot, claim)
  }
  const holder = book.byToken.get(claim.tokenHash)
  if (holder && claim.claimId === undefined && isOwn(book, holder, claim)) return repeated(holder)

  if (book.revoked) return refused('key_revoked')
  if (book.expired) return refused('key_expired')
  if (key.maxUses !== null && book.uses >= key.maxUses) return refused('key_exhausted')

  const sameMachine = machineRobots(book, claim)
  const before = sameMachine.find((robot) => robot.fleetId === key.fleetId && robot.lifecycle !== 'retired')
  if (holder && (holder !== before || holder.tokenRevokedAt !== null))
    return refused('token_hash_taken', 'this token was in use before: make a new one')
  if ((before ? [before] : sameMachine).some((robot) => isShutOut(key, robot)))
    return refused('robot_revoked')
  const connected = before?.connected
    ? before
    : sameMachine.find((robot) => robot.connected && robot.lifecycle !== 'retired')
  if (connected) return suspectClone(book, connected, claim)
  const outcome = before ? bindAnew(book, before, claim) : admit(book, claim)
  if (key.singleUse && outcome.kind !== 'refused') book.revoked = true
  return outcome
}

function refused(code: ErrorCode, detail?: string): Outcome {
  return { kind: 'refused', code, detail }
}

function claimAgain(robot: Standing, claim: Claim): Outcome {
  if (claim.minted)
    return refused(
      'claim_conflict',
      'this claim_id was granted before and its token was shown once: send token_hash to make claims repeatable',
    )
  return robot.tokenHash === claim.tokenHash ? repeated(robot) : refused('claim_conflict')
}

/** The token was claimed under this key, or its robot is this machine's own. */
function isOwn(book: Book, holder: Standing, claim: Claim): boolean {
  if (book.revoked) return holder.tokenCredentialId === book.key.id
  return (
    holder.credentialId === book.key.id ||
    (holder.fleetId === book.key.fleetId &&
      holder.machineHash !== null &&
      holder.machineHash === claim.machineHash)
  )
}

/**
 * The machine's robot was revoked after the key was made. Retiring it then, or moving it away from the fleet of the key
 * that it came with, must not be the way back.
 */
function isShutOut(key: ClaimKey, robot: Standing): boolean {
  return (
    robot.tokenRevokedAt !== null &&
    key.createdAt <= robot.tokenRevokedAt &&
    (robot.fleetId === key.fleetId || robot.credentialId === key.id || robot.tokenCredentialId === key.id)
  )
}

/** A claim made again after its answer was lost. It must not say yes to a token that no longer opens anything. */
function repeated(robot: Standing): Outcome {
  if (robot.lifecycle === 'retired') return refused('robot_retired')
  if (robot.tokenRevokedAt !== null)
    return refused('robot_revoked', 'the token that this claim was made with was revoked')
  return { kind: 'repeated', robot }
}

function admit(book: Book, claim: Claim): Outcome {
  const { key } = book
  if (key.requireApproval && book.pending >= MAX_PENDING) return refused('approval_queue_full')
  const name = freeName(book, claim)
  if (name === undefined) return refused('name_taken')
  const robot: Standing = {
    id: claim.robotId,
    siteId: key.siteId,
    fleetId: key.fleetId,
    heartbeatIntervalMs: key.heartbeatIntervalMs,
    name,
    lifecycle: key.requireApproval ? 'pending' : 'active',
    lifecycleBefore: null,
    credentialId: key.id,
    tokenCredentialId: key.id,
    claimId: claim.claimId ?? null,
    tokenHash: claim.tokenHash,
    nextTokenHash: null,
    tokenRevokedAt: null,
    machineHash: claim.machineHash ?? null,
    connected: false,
    fingerprint: claim.fingerprint,
  }
  book.uses += 1
  if (robot.lifecycle === 'pending') book.pending += 1
  book.admitted.set(robot.id, robot)
  enter(book, robot)
  tell(book, robot, claim, 'enrolled', `enrolled as ${name}`)
  if (robot.lifecycle === 'pending') askApproval(book, robot, claim)
  return { kind: 'admitted', robot }
}

function freeName(book: Book, claim: Claim): string | undefined {
  if (!book.names.has(claim.name)) return claim.name
  return otherNames(claim.name, claim.robotId).find((name) => !book.names.has(name))
}

function bindAnew(book: Book, robot: Standing, claim: Claim): Outcome {
  const { key } = book
  if (key.onExisting === 'reject') return refused('machine_known')
  const claimId =
    claim.claimId === undefined ? null : storedClaimId(robot.credentialId, key.id, claim.claimId)
  if (robot.claimId !== null && robot.claimId !== claimId)
    release(book, book.byClaim, claimPlace(robot, robot.claimId))
  for (const token of [robot.tokenHash, robot.nextTokenHash])
    if (token !== null && token !== claim.tokenHash) release(book, book.byToken, token)
  robot.claimId = claimId
  robot.tokenHash = claim.tokenHash
  robot.nextTokenHash = null
  robot.tokenCredentialId = key.id
  robot.tokenRevokedAt = null
  robot.fingerprint = claim.fingerprint
  if (claimId !== null) book.byClaim.set(claimPlace(robot, claimId), robot)
  book.byToken.set(claim.tokenHash, robot)
  if (!book.admitted.has(robot.id)) book.rebound.set(robot.id, robot)
  tell(book, robot, claim, 'rebound', 'the same machine enrolled again: it has a new token')
  // A key whose robots need approval must not be the way around it for a machine that is known.
  if (key.onExisting === 'approve' || key.requireApproval) {
    if (robot.lifecycle === 'active' || robot.lifecycle === 'maintenance')
      robot.lifecycleBefore = robot.lifecycle
    robot.lifecycle = 'pending'
    askApproval(book, robot, claim)
  }
  return { kind: 'rebound', robot }
}

function release(book: Book, index: Map<string, Standing>, value: string): void {
  index.delete(value)
  book.released.add(value)
}

/** The one that is connected stays what it is. */
function suspectClone(book: Book, robot: Standing, claim: Claim): Outcome {
  if (!book.suspected.has(robot.id)) {
    book.suspected.add(robot.id)
    book.events.push(claimEvent(book.key, robot.id, claim, CLONE_SUSPECTED))
  }
  return refused('robot_online')
}

function askApproval(book: Book, robot: Standing, claim: Claim): void {
  tell(book, robot, claim, 'approval_requested', 'waits for an operator to approve it')
}

function tell(book: Book, robot: Standing, claim: Claim, code: string, message: string): void {
  book.events.push(claimEvent(book.key, robot.id, claim, { level: 'info', code, message }))
}
