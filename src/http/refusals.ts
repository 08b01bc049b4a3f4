import type { FastifyRequest } from 'fastify'
import { DEPLOYMENT } from '../access/authority.ts'
import { actorOfPrincipal, TokenRefused } from '../access/principal.ts'
import type { BeaconError } from '../errors.ts'
import { newId } from '../ids.ts'
import type { HttpParts } from './parts.ts'

/** Refusals that say something about who asked; all others are about what was asked. */
const TOLD = new Set([401, 403, 429])

const told = new WeakSet<FastifyRequest>()

/** Whoever tells the audit log of a refusal in words of its own says so here. */
export function markTold(request: FastifyRequest): void {
  told.add(request)
}

/** Tells the audit log of a request that was refused for who made it, unless that has been told by now. */
export function tellRefusal(
  { audit, clock }: Pick<HttpParts, 'audit' | 'clock'>,
  request: FastifyRequest,
  refusal: BeaconError,
): void {
  const { url, config } = request.routeOptions
  if (!TOLD.has(refusal.status) || url === undefined || config.scope === 'claim' || told.has(request)) return
  const { principal } = request
  const known = refusal instanceof TokenRefused ? refusal : undefined
  const user = principal?.userId ? { id: principal.userId, name: principal.userName } : known?.user
  audit.refused({
    id: newId(),
    at: new Date(clock.now()),
    action: 'request.refused',
    outcome: 'refused',
    actor: principal
      ? actorOfPrincipal(principal)
      : (known?.actor ?? { kind: 'anonymous', id: null, name: null }),
    // The route's pattern: what stands in its place may be anything.
    target: { kind: 'route', id: `${request.method} ${url}`, name: null },
    siteId: DEPLOYMENT.siteId,
    fleetId: DEPLOYMENT.fleetId,
    requestId: request.id,
    address: request.ip,
    data: {
      code: refusal.code,
      ...(user ? { user_id: user.id, user_name: user.name } : {}),
    },
  })
}
