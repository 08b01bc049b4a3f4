import { OFFLINE_AFTER_INTERVALS, OFFLINE_EXTRA_MS } from '../src/protocol/limits.ts'
import type { AgentStatus } from './status.ts'
import { duration, printable } from './text.ts'

export const CHECKS = ['live', 'ready'] as const
export type Check = (typeof CHECKS)[number]

export interface CheckResult {
  readonly check: Check
  readonly passed: boolean
  /** For a person. */
  readonly because: string
}

/**
 * `live`: the agent's process answers. `ready`: it is connected, and its last acknowledgement is so recent that the server
 * cannot have taken the robot for offline since.
 */
export function checked(check: Check, status: AgentStatus): CheckResult {
  const refusal = check === 'live' ? whyNotLive(status) : whyNotReady(status)
  return { check, passed: refusal === undefined, because: refusal ?? whyFine(check, status) }
}

function whyNotLive(status: AgentStatus): string | undefined {
  if (status.running) return undefined
  return status.hint ? `no agent of this user runs; ${status.hint}` : 'no agent runs'
}

function whyNotReady(status: AgentStatus): string | undefined {
  const { link } = status
  const notLive = whyNotLive(status)
  if (notLive) return notLive
  if (!status.enrolled || !link) return 'the robot is not enrolled yet'
  if (link.connection !== 'connected')
    return link.last_error ? `not connected: ${link.last_error}` : `not connected, but ${link.connection}`
  if (link.lifecycle === 'pending') return 'an operator has yet to approve this robot'
  if (link.last_ack_age_ms === null) return 'nothing was acknowledged yet'
  const limit = (link.heartbeat_interval_ms ?? 0) * OFFLINE_AFTER_INTERVALS + OFFLINE_EXTRA_MS
  if (link.last_ack_age_ms > limit)
    return `the last acknowledgement came ${duration(link.last_ack_age_ms)} ago, ${duration(limit)} are allowed`
  return undefined
}

function whyFine(check: Check, { pid, link }: AgentStatus): string {
  if (check === 'live') return `the agent runs, pid ${pid}`
  return `connected, last acknowledgement ${duration(link?.last_ack_age_ms ?? 0)} ago`
}

export function checkLine({ check, passed, because }: CheckResult): string {
  return `${passed ? check : `not ${check}`}: ${printable(because)}`
}
