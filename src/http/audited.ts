import type { FastifyRequest } from 'fastify'
import { DEPLOYMENT, type Place } from '../access/authority.ts'
import { actorOfPrincipal } from '../access/principal.ts'
import type { AuditEntry } from '../db/audit.ts'
import { newId } from '../ids.ts'
import { principalOf } from './guard.ts'
import type { HttpParts } from './parts.ts'

/** What a change was, for the audit log. */
export interface Deed {
  /** `thing.verb`, the verb in the past: `robot.retired`. */
  readonly action: string
  readonly target: NonNullable<AuditEntry['target']>
  /** Where the target is; the whole deployment unless told. */
  readonly place?: Place
  /** What changed. Never a secret. */
  readonly data?: Readonly<Record<string, unknown>>
}

/** The audit log's line for something that this request does. */
export function audited(
  request: FastifyRequest,
  { clock }: Pick<HttpParts, 'clock'>,
  deed: Deed,
): AuditEntry {
  const principal = principalOf(request)
  const { siteId, fleetId } = deed.place ?? DEPLOYMENT
  const person = principal.userId === null ? {} : { user_id: principal.userId, user_name: principal.userName }
  return {
    id: newId(),
    at: new Date(clock.now()),
    action: deed.action,
    outcome: 'ok',
    actor: actorOfPrincipal(principal),
    target: deed.target,
    siteId,
    fleetId,
    requestId: request.id,
    address: request.ip,
    data: { ...deed.data, ...(principal.kind === 'session' ? {} : person) },
  }
}
