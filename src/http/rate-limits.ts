import { createHash } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { addressGroup } from '../addresses.ts'
import { BeaconError } from '../errors.ts'
import { bearerToken } from '../protocol/tokens.ts'
import { KeyedLimiter, type Rate } from '../rate-limit.ts'
import { sessionSecret } from './browser-sessions.ts'
import type { HttpParts } from './parts.ts'

/** How often what may be done; kept by each server for itself, in memory. Enrolment and sign-in have limits of their own. */
export interface RateLimits {
  /** Credentials of one address that nobody issued, or that no longer count. */
  readonly refusedCredentials: Rate
  /** Requests with one token, or in one session. */
  readonly requests: Rate
  /** Secrets that one person, or one fleet's token, has made. */
  readonly issued: Rate
}

export const RATE_LIMITS: RateLimits = {
  refusedCredentials: { burst: 300, perMinute: 300 },
  requests: ratePerSecond(300),
  issued: { burst: 300, perMinute: 120 },
}

const UNLIMITED: Rate = { burst: Number.POSITIVE_INFINITY, perMinute: Number.POSITIVE_INFINITY }
export const NO_RATE_LIMITS: RateLimits = {
  refusedCredentials: UNLIMITED,
  requests: UNLIMITED,
  issued: UNLIMITED,
}

/** So many a second over time, and those of ten seconds at once; 0: as many as come. */
export function ratePerSecond(perSecond: number): Rate {
  return perSecond === 0 ? UNLIMITED : { burst: perSecond * 10, perMinute: perSecond * 60 }
}

/** Routes that hand out a secret, or have everything sealed anew. */
export const ISSUING_ROUTES: readonly string[] = [
  'POST /api/enrollment-keys',
  'POST /api/provisioning-tokens',
  'POST /api/tokens',
  'POST /api/tokens/:id/rotate',
  'POST /api/tokens/self/rotate',
  'POST /api/fleets/:id/tokens',
  'POST /api/fleets/:id/tokens/:token_id/rotate',
  'POST /api/robots/:id/setup-token',
  'POST /api/users',
  'POST /api/users/:id/invite',
  'POST /api/session/second-factor',
  'POST /api/session/second-factor/confirm',
  'POST /api/session/second-factor/backup-codes',
  'POST /api/secrets/rotate',
]

/** Routes that refuse by limits of their own, with what these are called. */
const OWN_LIMITS: Readonly<Record<string, string>> = { '/api/live': 'live_feeds' }

const ADDRESSES_REMEMBERED = 20_000
const CREDENTIALS_REMEMBERED = 20_000

/** The token or session of a request, as a name that is no secret; undefined: nothing that would be looked up. */
function credentialOf(config: HttpParts['config'], request: FastifyRequest): string | undefined {
  const { authorization } = request.headers
  const secret = authorization === undefined ? sessionSecret(config, request) : bearerToken(authorization)
  return secret && createHash('sha256').update(secret).digest('base64url')
}

/**
 * Holds off whoever asks too often, before it costs any work of the database. A credential that was good a short while
 * ago goes on working from an address that sends many bad ones, so that nobody is shut out by a neighbour behind the
 * same address. Has to be there before what looks credentials up.
 */
export function limitRequests(
  app: FastifyInstance,
  { clock, config, metrics, rateLimits }: Pick<HttpParts, 'clock' | 'config' | 'metrics' | 'rateLimits'>,
): void {
  const refused = new KeyedLimiter({ ...rateLimits.refusedCredentials, clock, maxKeys: ADDRESSES_REMEMBERED })
  // Holds those credentials alone that were good when they were used last.
  const requests = new KeyedLimiter({ ...rateLimits.requests, clock, maxKeys: CREDENTIALS_REMEMBERED })
  const issued = new KeyedLimiter({ ...rateLimits.issued, clock, maxKeys: CREDENTIALS_REMEMBERED })

  /** Which limit a request ran into. */
  const reached = new WeakMap<FastifyRequest, string>()
  const demand = (request: FastifyRequest, limit: string, waitMs: number, detail: string) => {
    if (waitMs <= 0) return
    reached.set(request, limit)
    throw new BeaconError('rate_limited', detail, { retryAfterSeconds: waitMs / 1000 })
  }
  const isGuarded = (request: FastifyRequest) => {
    const { scope } = request.routeOptions.config
    return !request.is404 && scope !== 'public' && scope !== 'claim'
  }

  app.addHook('onRequest', async (request) => {
    const credential = isGuarded(request) ? credentialOf(config, request) : undefined
    if (credential === undefined) return
    if (requests.knows(credential))
      demand(request, 'requests', requests.take(credential), 'too many requests with this token')
    else
      demand(
        request,
        'refused_credentials',
        refused.wait(addressGroup(request.ip)),
        'too many bad credentials came from this address',
      )
  })

  // Behind all that judge the credential, and before the body is read.
  app.addHook('preParsing', async (request) => {
    const { method, principal, routeOptions } = request
    if (!principal || !ISSUING_ROUTES.includes(`${method} ${routeOptions.url}`)) return
    const wait = issued.take(principal.userId ?? principal.id)
    demand(request, 'issued', wait, 'too many secrets were made in a short time')
  })

  app.addHook('onResponse', async (request, reply) => {
    const { config: settings, url = '' } = request.routeOptions
    const own = OWN_LIMITS[url] ?? (settings.scope === 'claim' ? 'claims' : 'sign_in')
    if (reply.statusCode === 429) metrics.rateLimited.inc({ limit: reached.get(request) ?? own })
    const credential = isGuarded(request) ? credentialOf(config, request) : undefined
    if (credential === undefined) return
    if (request.principal) {
      if (!requests.knows(credential)) requests.take(credential)
    } else if (reply.statusCode === 401) {
      requests.forget(credential)
      refused.take(addressGroup(request.ip))
    }
  })
}
