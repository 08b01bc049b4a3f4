import { v7 } from 'uuid'
import { displayName } from '../src/protocol/text.ts'
import { hashToken, mintCheckedToken } from '../src/protocol/tokens.ts'
import { claimAddressOf } from './addresses.ts'
import { backoffDelay } from './backoff.ts'
import { readClaimAnswer } from './claim-answer.ts'
import { AgentExit } from './exit.ts'
import { postJson } from './http.ts'
import type { Log } from './log.ts'
import { fingerprintOf, type Machine } from './machine.ts'
import type { Clock, Random } from './runtime.ts'
import type { Identity, PendingClaim } from './state.ts'
import { describeError, duration } from './text.ts'

const ANSWER_TIMEOUT_MS = 15_000

export interface EnrolmentParts {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly machine: Machine
  /** Aborted when the process is to end. */
  readonly signal: AbortSignal
  /** Writes the claim down, or its end. Returns only when it is on the disk. */
  readonly keepPending: (pending: PendingClaim | undefined) => void
}

export interface EnrolmentWish {
  readonly server: string
  readonly key: string
  readonly name: string | undefined
  /** A claim that an earlier run may have sent. */
  readonly pending: PendingClaim | undefined
}

/**
 * Claims an identity. The claim, with the token that this robot made for itself, is written down before it is first
 * sent, and sent unchanged until an answer comes, so that a lost answer or a crash never makes two robots.
 */
export async function enrol(wish: EnrolmentWish, parts: EnrolmentParts): Promise<Identity> {
  const { clock, log } = parts
  const claim = claimFor(wish, parts)
  for (let attempt = 0; ; attempt++) {
    const outcome = await ask(wish, claim, parts)
    if (outcome.kind === 'granted') return identityFrom(outcome.response, claim, parts.machine)
    if (outcome.kind === 'refused') {
      if (outcome.claimIsSpent) parts.keepPending(undefined)
      throw new AgentExit(outcome.exitCode, outcome.sentence)
    }
    const delay = (outcome.notBeforeMs ?? 0) + backoffDelay(attempt, parts.random.fraction())
    log.warn(`not enrolled yet: ${outcome.why}; trying again in ${duration(delay)}`)
    await clock.sleep(delay, parts.signal)
  }
}

function claimFor(wish: EnrolmentWish, parts: EnrolmentParts): PendingClaim {
  if (wish.pending?.server === wish.server) {
    parts.log.info(`finishing the enrolment that was begun before with ${wish.server}`)
    return wish.pending
  }
  const claim = {
    server: wish.server,
    claimId: v7(),
    robotToken: mintCheckedToken('robot', parts.random.bytes),
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
  const { clock, signal } = parts
  try {
    const limits = { timeoutMs: ANSWER_TIMEOUT_MS, clock, signal }
    const answer = await postJson(claimAddressOf(wish.server), wish.key, body, limits)
    return readClaimAnswer(answer, clock.now())
  } catch (error) {
    signal.throwIfAborted()
    const why = `${wish.server} cannot be reached: ${describeError(error)}`
    return { kind: 'retry', why, notBeforeMs: undefined } as const
  }
}

function identityFrom(
  response: Extract<ReturnType<typeof readClaimAnswer>, { kind: 'granted' }>['response'],
  claim: PendingClaim,
  machine: Machine,
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
    machineId: machine.machineId,
  }
}
