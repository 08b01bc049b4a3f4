import { v7 } from 'uuid'
import { displayName } from '../src/protocol/text.ts'
import { hashToken, mintCheckedToken } from '../src/protocol/tokens.ts'
import { claimAddressOf } from './addresses.ts'
import { backoffDelay, timeOfAnswer } from './backoff.ts'
import { readClaimAnswer } from './claim-answer.ts'
import type { Credential } from './credential.ts'
import { ClaimRefused, EXIT } from './exit.ts'
import { postJson } from './http.ts'
import type { Log } from './log.ts'
import { fingerprintOf, type Machine } from './machine.ts'
import type { Network } from './network/dial.ts'
import type { Clock, Random } from './runtime.ts'
import type { Identity, PendingClaim } from './state.ts'
import { describeError, duration } from './text.ts'

const ANSWER_TIMEOUT_MS = 15_000
/** As long as the server of a session that broke may take to notice: 3 intervals of 10 s and 5 s, and as much again. */
const ONLINE_GRACE_MS = 70_000

export interface EnrolmentParts {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly machine: Machine
  readonly network: Network
  /** Aborted when the process is to end. */
  readonly signal: AbortSignal
  /** Writes the claim down, or its end. Returns only when it is on the disk. */
  readonly keepPending: (pending: PendingClaim | undefined) => void
}

export interface EnrolmentWish {
  readonly server: string
  readonly credential: Credential
  readonly name: string | undefined
  /** A claim that an earlier run may have sent. */
  readonly pending: PendingClaim | undefined
  /** This machine was the robot a moment ago, and may still count as connected. */
  readonly wasConnected?: boolean
  /** How often to ask before giving up for now; undefined: until there is an answer. */
  readonly attempts?: number
}

/**
 * Claims an identity. The claim, with the token that this robot made for itself, is written down before it is first
 * sent, and sent unchanged until an answer comes, so that a lost answer or a crash never makes two robots.
 */
export async function enrol(wish: EnrolmentWish, parts: EnrolmentParts): Promise<Identity> {
  const { clock, log } = parts
  const claim = claimFor(wish, parts)
  const startedAt = clock.monotonic()
  for (let attempt = 0; ; attempt++) {
    const outcome = await ask(wish, claim, parts)
    if (outcome.kind === 'granted') return identityFrom(outcome, wish, claim, parts)
    if (outcome.kind === 'refused' && !mayStillPass(outcome, wish, clock.monotonic() - startedAt)) {
      if (outcome.claimIsSpent) parts.keepPending(undefined)
      throw new ClaimRefused(outcome.exitCode, outcome.sentence)
    }
    const { why, notBeforeMs = 0 } =
      outcome.kind === 'retry' ? outcome : { why: 'the server still counts this robot as connected' }
    if (attempt + 1 === wish.attempts) throw new ClaimRefused(EXIT.error, `not enrolled: ${why}`)
    const delay = notBeforeMs + backoffDelay(attempt, parts.random.fraction())
    log.warn(`not enrolled yet: ${why}; trying again in ${duration(delay)}`)
    await clock.sleep(delay, parts.signal)
  }
}

function mayStillPass(outcome: { readonly code: string | undefined }, wish: EnrolmentWish, forMs: number) {
  return wish.wasConnected === true && outcome.code === 'robot_online' && forMs < ONLINE_GRACE_MS
}

function claimFor(wish: EnrolmentWish, parts: EnrolmentParts): PendingClaim {
  const { pending, credential } = wish
  // A claim belongs to the credential that it was made with.
  const fits = pending?.credentialHash === undefined || pending.credentialHash === credential.hash
  if (pending?.server === wish.server && fits) {
    parts.log.info(`finishing the enrolment that was begun before with ${wish.server}`)
    return pending
  }
  const claim = {
    server: wish.server,
    claimId: v7(),
    robotToken: mintCheckedToken('robot', parts.random.bytes),
    credentialHash: credential.hash,
  }
  parts.keepPending(claim)
  parts.log.info(`enrolling with ${wish.server}`)
  return claim
}

async function ask(wish: EnrolmentWish, claim: PendingClaim, parts: EnrolmentParts) {
  const body = {
    claim_id: claim.claimId,
    token_hash: hashToken(claim.robotToken).toString('hex'),
    fingerprint: fingerprintOf(parts.machine),
    ...(wish.name ? { name: wish.name } : {}),
  }
  const { clock, signal, network } = parts
  try {
    const limits = { timeoutMs: ANSWER_TIMEOUT_MS, network, signal }
    const answer = await postJson(claimAddressOf(wish.server), wish.credential.secret, body, limits)
    const answeredAt = timeOfAnswer(answer.date, clock.now())
    return { ...readClaimAnswer(answer, wish.credential.isSetupToken, answeredAt), answeredAt }
  } catch (error) {
    signal.throwIfAborted()
    const why = `${wish.server} cannot be reached: ${describeError(error)}`
    return { kind: 'retry', why, notBeforeMs: undefined } as const
  }
}

function identityFrom(
  { response, answeredAt }: Extract<Awaited<ReturnType<typeof ask>>, { kind: 'granted' }>,
  { credential }: EnrolmentWish,
  claim: PendingClaim,
  { machine }: EnrolmentParts,
): Identity {
  return {
    server: claim.server,
    robotId: response.robot_id,
    name: displayName(256).safeParse(response.name).success ? response.name : response.robot_id,
    siteId: response.site_id,
    fleetId: response.fleet_id,
    gatewayUrl: response.gateway_url,
    heartbeatIntervalMs: response.heartbeat_interval_ms,
    robotToken: claim.robotToken,
    tokenMadeAt: new Date(answeredAt).toISOString(),
    machineId: machine.machineId,
    boundTo: machine.boardId,
    credentialHash: credential.hash,
  }
}
