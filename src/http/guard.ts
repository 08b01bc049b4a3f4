import type { FastifyInstance, FastifyRequest } from 'fastify'
import { DEPLOYMENT } from '../access/authority.ts'
import { type Principal, principalOfSignIn } from '../access/principal.ts'
import type { Scope } from '../access/scopes.ts'
import { type PlacedKind, placeOf } from '../db/place-of.ts'
import { BeaconError } from '../errors.ts'
import { bearerToken } from '../protocol/tokens.ts'
import { foundSession } from './browser-sessions.ts'
import { demandOwnPage } from './own-page.ts'
import type { HttpParts } from './parts.ts'
import { demandJudgement, demandStanding, isScoped, watchJudgement } from './reach.ts'
import { useOf } from './use-of.ts'

/** Fails at the start for a route of `app` that does not say who may call it, and where they have to hold that. */
export function demandScopes(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    const { scope, on } = route.config ?? {}
    if (!scope) throw new Error(`${route.method} ${route.url} does not say which scope it needs`)
    if (isScoped(scope) !== (on !== undefined))
      throw new Error(`${route.method} ${route.url} does not say where its scope is needed`)
  })
}

type GuardParts = Pick<HttpParts, 'config' | 'access' | 'audit' | 'clock' | 'database'>

/**
 * Lets a request through to its route when the route is public or the bearer holds its scope where the route needs it.
 * A route without a scope lets nobody through.
 */
export function guardRoutes(app: FastifyInstance, parts: GuardParts): void {
  app.decorateRequest('principal', undefined)
  app.decorateRequest('isJudged', undefined)
  app.addHook('onRequest', async (request) => {
    const { scope, withoutSecondFactor = false } = request.routeOptions.config
    if (request.is404 || scope === 'public' || scope === 'claim') return
    const principal = await authenticate(parts, request)
    request.principal = principal
    if (principal.barred && !withoutSecondFactor) throw new BeaconError(principal.barred)
    if (scope === 'person') {
      if (principal.userId === null)
        throw new BeaconError('insufficient_scope', 'a person is needed, or a token of one')
      return
    }
    if (scope === 'self') {
      if (principal.kind === 'session') throw new BeaconError('insufficient_scope', 'a token is needed')
      return
    }
    if (scope === undefined || !principal.authority.holds(scope))
      throw new BeaconError('insufficient_scope', `the scope ${scope ?? 'of nobody'} is needed`)
  })
  // After validation, so that `:id` is one.
  app.addHook('preHandler', async (request) => {
    const { scope, on } = request.routeOptions.config
    const { principal } = request
    if (!principal || !isScoped(scope)) return
    if (on === 'listed' || on === 'body') return watchJudgement(request, scope)
    if (principal.authority.covers(scope, DEPLOYMENT)) return
    if (on === undefined || on === 'deployment')
      throw new BeaconError('insufficient_scope', `the scope ${scope} is needed for the whole deployment`)
    const place = await placeOf(parts.database, on, (request.params as { id: string }).id)
    demandStanding(principal.authority, scope, place, SEEN_WITH[on])
  })
  // What a handler judges itself does not go out unjudged.
  app.addHook('onSend', (request, reply, _, done) => {
    try {
      if (reply.statusCode < 400) demandJudgement(request)
      done()
    } catch (error) {
      done(error as Error)
    }
  })
}

async function authenticate(
  { config, access, audit, clock }: GuardParts,
  request: FastifyRequest,
): Promise<Principal> {
  const header = request.headers.authorization
  if (header === undefined) {
    const found = foundSession(request)
    const principal = found && principalOfSignIn(found)
    if (!principal) throw new BeaconError('credentials_required')
    // A browser sends the cookie along with whatever any page makes it send.
    demandOwnPage(config, request, { silent: false })
    return principal
  }
  const token = bearerToken(header)
  if (token === undefined) throw new BeaconError('invalid_token')
  const principal = await access.authenticate(token, request.ip)
  audit.used(useOf(principal, request.ip, clock.now()))
  return principal
}

/** What has to be held where a thing is, for it to be there at all as far as the caller is told. */
const SEEN_WITH: Readonly<Record<PlacedKind, Scope>> = {
  site: 'robots:read',
  fleet: 'robots:read',
  robot: 'robots:read',
  enrollment_key: 'enrollment-keys:read',
  provisioning_token: 'enrollment-keys:read',
}

/** Who asks, on a route that is not public. */
export function principalOf(request: FastifyRequest): Principal {
  if (!request.principal) throw new Error('a public route has no principal')
  return request.principal
}
