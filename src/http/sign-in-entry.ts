import type { FastifyRequest } from 'fastify'
import type { AuditEntry } from '../db/audit.ts'
import { newId } from '../ids.ts'
import type { HttpParts } from './parts.ts'
import { markTold } from './refusals.ts'

interface Happening {
  readonly action: string
  readonly outcome?: AuditEntry['outcome']
  /** Who it was, as far as that is known. */
  readonly user: { readonly id: string; readonly name: string } | undefined
  /** Never what was typed: people type passwords where the email belongs. */
  readonly data?: Readonly<Record<string, unknown>>
}

/** The audit log's line for a step of a sign-in: nobody is signed in yet who could be its actor, unless it was right. */
export function signInEntry(
  request: FastifyRequest,
  { clock }: Pick<HttpParts, 'clock'>,
  { action, outcome = 'ok', user, data = {} }: Happening,
): AuditEntry {
  if (outcome === 'refused') markTold(request)
  return {
    id: newId(),
    at: new Date(clock.now()),
    action,
    outcome,
    actor:
      user && outcome === 'ok'
        ? { kind: 'user', id: user.id, name: user.name }
        : { kind: 'anonymous', id: null, name: null },
    target: user ? { kind: 'user', id: user.id, name: user.name } : null,
    siteId: null,
    fleetId: null,
    requestId: request.id,
    address: request.ip,
    data,
  }
}
