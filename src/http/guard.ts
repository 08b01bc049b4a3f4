import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Access, Principal } from '../access/principal.ts'
import { BeaconError } from '../errors.ts'
import { bearerToken } from '../protocol/tokens.ts'

/** Fails at the start for a route of `app` that does not say who may call it. */
export function demandScopes(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (!route.config?.scope)
      throw new Error(`${route.method} ${route.url} does not say which scope it needs`)
  })
}

/**
 * Lets a request through to its route when the route is public or the bearer holds its scope. A route without a
 * scope lets nobody through.
 */
export function guardRoutes(app: FastifyInstance, access: Access): void {
  app.decorateRequest('principal', undefined)
  app.addHook('onRequest', async (request) => {
    const { scope } = request.routeOptions.config
    if (request.is404 || scope === 'public' || scope === 'claim') return
    const header = request.headers.authorization
    if (header === undefined) throw new BeaconError('credentials_required')
    const token = bearerToken(header)
    if (token === undefined) throw new BeaconError('invalid_token')
    const principal = await access.authenticate(token)
    request.principal = principal
    if (scope === undefined || !principal.scopes.has(scope))
      throw new BeaconError('insufficient_scope', `the scope ${scope ?? 'of nobody'} is needed`)
  })
}

/** Who asks, on a route that is not public. */
export function principalOf(request: FastifyRequest): Principal {
  if (!request.principal) throw new Error('a public route has no principal')
  return request.principal
}
