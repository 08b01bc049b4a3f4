import type { IncomingMessage, ServerResponse } from 'node:http'
import type { FastifyBaseLogger, FastifyInstance, FastifyRequest, RawServerDefault } from 'fastify'
import type { ZodTypeProvider } from 'fastify-type-provider-zod'
import type { Access, Principal } from '../access/principal.ts'
import type { Scope } from '../access/scopes.ts'
import type { Seal } from '../access/seal.ts'
import type { SecretRotation } from '../access/secret-rotation.ts'
import type { SignInDesk } from '../access/sign-in/desk.ts'
import type { Standing } from '../access/standing.ts'
import type { Audit } from '../audit/audit.ts'
import type { Bus } from '../bus/bus.ts'
import type { Config } from '../config.ts'
import type { Database } from '../db/database.ts'
import type { PlacedKind } from '../db/place-of.ts'
import type { ErrorCode } from '../errors.ts'
import type { Handouts } from '../install/handouts.ts'
import type { LiveFeeds } from '../live/feed.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { ClaimRequest, ClaimResponse, CredentialCheck } from '../protocol/enrolment.ts'
import type { Clock, Random } from '../runtime.ts'
import type { Health } from './health.ts'
import type { RateLimits } from './rate-limits.ts'

/** What a robot's claim is decided by. Refusals are BeaconErrors. */
interface ClaimDesk {
  claim(input: {
    /** The bearer secret as it came. */
    readonly secret: string
    readonly request: ClaimRequest
    /** The address of the peer, seen through trusted proxies alone. */
    readonly address: string
    readonly requestId: string
  }): Promise<{
    /** 201 for a new grant, 200 for one made before. */
    readonly status: 200 | 201
    readonly response: Omit<ClaimResponse, 'gateway_url'>
  }>
  /** What a claim credential or robot token is worth now; changes nothing. */
  check(input: {
    readonly secret: string
    readonly address: string
    readonly requestId: string
  }): Promise<CredentialCheck>
}

/** How a request reached us; forwarded values count from trusted proxies alone. */
export type Origin = Pick<FastifyRequest, 'protocol' | 'host'>

/** Everything the REST edge is made of. */
export interface HttpParts {
  readonly config: Pick<Config, 'publicUrl' | 'trustedProxies' | 'heartbeatIntervalMs' | 'history'> &
    Partial<Pick<Config, 'tls'>>
  readonly database: Database
  readonly claims: ClaimDesk
  readonly bus: Pick<Bus, 'publish'>
  readonly access: Access
  /** Ends what goes on for long when whoever asked for it may no longer. */
  readonly standing: Pick<Standing, 'watch'>
  readonly audit: Pick<Audit, 'refused' | 'used'>
  readonly live: Pick<LiveFeeds, 'take'>
  readonly seal: Seal
  readonly signIn: SignInDesk
  /** What robots install themselves with. */
  readonly handouts: Handouts
  readonly secrets: Omit<SecretRotation, 'stop' | 'announce'>
  readonly log: Log
  readonly metrics: Metrics
  readonly clock: Clock
  readonly random: Random
  readonly health: Health
  readonly rateLimits: RateLimits
  /** Which offers of another protocol are taken up; all other requests that make one are ordinary ones. */
  readonly takesUpgrade: (request: IncomingMessage) => boolean
  /** Path of the robots' WebSocket below the public address. */
  readonly gatewayPath: string
  /** Where it is when it has a port of its own; undefined: where REST is. */
  readonly gatewayPort: () => number | undefined
  /** What the server's processes have counted, in the text format. */
  readonly processSeries: () => Promise<string>
}

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse<IncomingMessage>,
  FastifyBaseLogger,
  ZodTypeProvider
>

/**
 * A scope that the principal has to hold; `person`: somebody who acts for a person, about what is their own; `self`:
 * any token, about itself; `public`: everybody; `claim`: the handler itself judges the claim credential.
 */
export type RouteScope = Scope | 'person' | 'self' | 'public' | 'claim'

/**
 * Where the scope has to be held. `deployment`: everywhere. One of the kinds in db/place-of.ts: where the thing named
 * by `:id` is. `listed`: anywhere, and the handler answers with no more than what is in reach. `body`: where the body
 * says, judged by the handler.
 */
export type RouteReach = 'deployment' | 'listed' | 'body' | PlacedKind

declare module 'fastify' {
  interface FastifyContextConfig {
    scope?: RouteScope
    on?: RouteReach
    /** What the route writes into the audit log; every route that changes something says it. */
    audit?: readonly string[]
    /** Open to people who have no second factor although they should: to set one up, and to go. */
    withoutSecondFactor?: boolean
    /** Its answers go on for as long as somebody reads them: how long that is says nothing of the server. */
    lasts?: boolean
    /** A public route that looks at the session's cookie. */
    withCookie?: boolean
    /** Refusals of this route besides those that follow from its scope, body, query and path. */
    problems?: readonly ErrorCode[]
  }
  interface FastifyRequest {
    /** Who asks; undefined on public routes. */
    principal: Principal | undefined
    /** Of a caller who holds the route's scope in some places only: whether the handler asked where. */
    isJudged: (() => boolean) | undefined
  }
}
