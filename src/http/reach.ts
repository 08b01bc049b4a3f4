import type { FastifyRequest } from 'fastify'
import { type Authority, DEPLOYMENT, type Place, type Reach } from '../access/authority.ts'
import type { Scope } from '../access/scopes.ts'
import { BeaconError } from '../errors.ts'
import type { RouteScope } from './parts.ts'

/** What somebody is to a thing: may do with it what is asked, only sees it, or does not learn that it is there. */
export type Standing = 'may' | 'sees' | 'blind'

/** How somebody stands to what is at `place`, where `seenWith` is what has to be held there to see it. */
export function standing(authority: Authority, scope: Scope, place: Place, seenWith: Scope): Standing {
  if (authority.covers(scope, place)) return 'may'
  const { siteId, fleetId } = place
  // A site is seen by whoever sees one of its fleets.
  const sees =
    siteId !== null && fleetId === null
      ? authority.touches(seenWith, siteId)
      : authority.covers(seenWith, place)
  if (!sees) return 'blind'
  return scope === seenWith ? 'may' : 'sees'
}

/** Throws `not_found` for what the caller may not see, `insufficient_scope` for what they see and may not touch. */
export function demandStanding(
  authority: Authority,
  scope: Scope,
  place: Place | undefined,
  seenWith: Scope,
): void {
  const stands = place ? standing(authority, scope, place, seenWith) : 'blind'
  if (stands === 'blind') throw new BeaconError('not_found', 'there is no such thing within your reach')
  if (stands === 'sees') throw new BeaconError('insufficient_scope', `the scope ${scope} is needed there`)
}

/** True for routes that ask for a scope, and so for a place where it is held. */
export function isScoped(scope: RouteScope | undefined): scope is Scope {
  return scope !== undefined && !['public', 'claim', 'person', 'self'].includes(scope)
}

/** Where the caller holds the scope of this route: what a list is cut down to. */
export function reachOf(request: FastifyRequest): Reach {
  const { scope } = request.routeOptions.config
  if (!request.principal || !isScoped(scope)) throw new Error('this route asks for no scope')
  return request.principal.authority.reach(scope)
}

/**
 * From here on, an answer to this request needs that its handler asked where the scope of the route is held. For callers
 * who hold it everywhere there is nothing to ask.
 */
export function watchJudgement(request: FastifyRequest, scope: Scope): void {
  const { principal } = request
  if (!principal || principal.authority.covers(scope, DEPLOYMENT)) return
  const asked = new Set<Scope>()
  request.principal = { ...principal, authority: principal.authority.watched((each) => asked.add(each)) }
  request.isJudged = () => asked.has(scope)
}

/** Throws where a handler forgot to ask whether the caller may have what it is about to do or to answer. */
export function demandJudgement(request: FastifyRequest): void {
  if (request.isJudged?.() !== false) return
  const { method, url } = request.routeOptions
  throw new Error(`${method} ${url} did not ask where its scope is held`)
}
