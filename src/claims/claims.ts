import { LruMap } from 'toad-cache'
import { findCredentials } from '../db/claims.ts'
import { type Database, isDatabaseUnavailable, sqlState } from '../db/database.ts'
import { BeaconError } from '../errors.ts'
import { GroupFullError, Grouping } from '../grouping.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { ClaimRequest, ClaimResponse } from '../protocol/enrolment.ts'
import { hashToken, isEnrollmentKey } from '../protocol/tokens.ts'
import { KeyedLimiter } from '../rate-limit.ts'
import type { Clock, Random } from '../runtime.ts'
import type { Claim, GrantedRobot, Outcome } from './decide.ts'
import { type Grant, grantClaims } from './grant.ts'
import { prepareClaim } from './prepare.ts'
import { RefusalLimits } from './refusals.ts'
import { Turns } from './turns.ts'

/** Claims that one transaction decides at the most. */
const MAX_GROUP = 256
/** Claims of one key that may wait: about a second's worth. */
const MAX_WAITING_PER_KEY = 10_000
/** Keys that may be claimed with at the same time. */
const MAX_BUSY_KEYS = 2_000
/** Transactions at a time, so that claims leave connections for everything else. */
const MAX_TRANSACTIONS = 4
const SECRETS_REMEMBERED = 5_000
/** How often one robot's timeline hears of a suspected clone. */
const CLONE_EVENTS = { burst: 1, perMinute: 1 / 10, maxKeys: 10_000 }

export interface ClaimsOptions {
  readonly database: Database
  readonly clock: Clock
  readonly random: Random
  /** Tells all servers that a robot's old token stands no more. */
  readonly bus?: {
    publish(message: {
      readonly type: 'robots_changed'
      readonly robot_ids: readonly string[]
    }): Promise<void>
  }
  readonly log: Log
  readonly metrics: Metrics
  readonly defaults: { readonly heartbeatIntervalMs: number }
}

export interface ClaimCall {
  /** The bearer token as it came. */
  readonly secret: string
  readonly request: ClaimRequest
  /** The caller's address, as far as proxies are to be believed. */
  readonly address: string
  readonly requestId: string
  /** Where robots connect, as the caller sees this server: ws or wss, ending in /agent/ws. */
  readonly gatewayUrl: string
}

export interface ClaimAnswer {
  /** 201 for a new robot, 200 for one that was there before. */
  readonly status: 200 | 201
  readonly response: ClaimResponse
}

export interface Claims {
  /** Claims a robot's identity. Refusals are BeaconErrors. */
  claim(call: ClaimCall): Promise<ClaimAnswer>
  /** Resolves once no claim waits and none is in flight. */
  idle(): Promise<void>
}

/**
 * The way in for robots. Claims that arrive while others of the same key are in flight are granted together by one
 * transaction: the key is locked once for all of them, which is what keeps its uses exact at any speed.
 */
export function createClaims(options: ClaimsOptions): Claims {
  const { database, clock, random, bus, log, metrics, defaults } = options
  const limits = new RefusalLimits(clock)
  const cloneEvents = new KeyedLimiter({ ...CLONE_EVENTS, clock })
  const turns = new Turns(MAX_TRANSACTIONS)
  const running = new Set<Promise<unknown>>()

  // A secret's key never changes. Whether the key still admits anybody is asked within the transaction only.
  const keyIds = new LruMap<string>(SECRETS_REMEMBERED)
  const lookUps = new Grouping<string, string | undefined>({
    maxGroup: MAX_GROUP,
    maxWaiting: MAX_WAITING_PER_KEY,
    run: lookUp,
  })
  const groups = new Map<string, Grouping<Claim, Outcome | undefined>>()

  async function lookUp(secretHashes: readonly string[]): Promise<(string | undefined)[]> {
    const found = await timed('claim_lookup', () => findCredentials(database, [...new Set(secretHashes)]))
    for (const { secretHash, id } of found) keyIds.set(secretHash, id)
    const ids = new Map(found.map(({ secretHash, id }) => [secretHash, id]))
    return secretHashes.map((hash) => ids.get(hash))
  }

  async function timed<Result>(operation: string, call: () => Promise<Result>): Promise<Result> {
    const stop = metrics.databaseSeconds.startTimer({ operation })
    try {
      return await call()
    } catch (error) {
      metrics.databaseErrors.inc({ operation })
      throw error
    } finally {
      stop()
    }
  }

  async function grantGroup(keyId: string, group: readonly Claim[]): Promise<(Outcome | undefined)[]> {
    const outcomes: (Outcome | undefined)[] = []
    while (outcomes.length < group.length) {
      const rest = group.slice(outcomes.length)
      const grant = await turns.run(() =>
        timed('claim', () =>
          grantClaims(
            { database, clock, tellsOfClone: (robotId) => cloneEvents.wait(robotId) === 0 },
            keyId,
            rest,
          ),
        ),
      )
      for (const robotId of grant.clonedIds) cloneEvents.take(robotId)
      await tellOfRebound(grant)
      if (!grant.outcomes) return [...outcomes, ...rest.map(() => undefined)]
      metrics.claimGroupSize.observe(grant.outcomes.length)
      outcomes.push(...grant.outcomes)
    }
    return outcomes
  }

  async function tellOfRebound({ reboundIds }: Grant): Promise<void> {
    if (reboundIds.length === 0) return
    try {
      await bus?.publish({ type: 'robots_changed', robot_ids: reboundIds })
    } catch (error) {
      log.warn({ err: error, robot_ids: reboundIds }, 'could not tell other servers of rebound robots')
    }
  }

  async function grantOne(keyId: string, claim: Claim): Promise<Outcome | undefined> {
    let group = groups.get(keyId)
    if (!group) {
      if (groups.size >= MAX_BUSY_KEYS) throw overloaded()
      group = new Grouping({
        maxGroup: MAX_GROUP,
        maxWaiting: MAX_WAITING_PER_KEY,
        run: (claims) => grantGroup(keyId, claims),
      })
      groups.set(keyId, group)
    }
    metrics.queueDepth.inc({ queue: 'claims' })
    try {
      return await group.add(claim)
    } finally {
      metrics.queueDepth.dec({ queue: 'claims' })
      if (!group.busy && groups.get(keyId) === group) groups.delete(keyId)
    }
  }

  function overloaded(): BeaconError {
    // Spread, so that those who are turned away do not all come back at once.
    return new BeaconError('overloaded', 'too many claims are waiting', {
      retryAfterSeconds: 1 + Math.floor(random.fraction() * 5),
    })
  }

  function asBeaconError(error: unknown): unknown {
    if (error instanceof BeaconError) return error
    if (error instanceof GroupFullError) return overloaded()
    const retryAfterSeconds = 1 + Math.floor(random.fraction() * 5)
    if (isDatabaseUnavailable(error))
      return new BeaconError('database_unavailable', undefined, { retryAfterSeconds, cause: error })
    if (sqlState(error) === QUERY_CANCELED)
      return new BeaconError('overloaded', 'the database took too long', { retryAfterSeconds, cause: error })
    return error
  }

  async function decide(call: ClaimCall): Promise<ClaimAnswer> {
    const { secret, request, address, requestId, gatewayUrl } = call
    const blocked = limits.blocked(address)
    if (blocked) throw blocked

    const unknown = () => refuse(undefined, 'invalid_token', limits.unknownSecret(address))
    const refuse = (
      keyId: string | undefined,
      code: BeaconError['code'],
      limit?: BeaconError,
      detail = '',
    ) => {
      const fields = { key_id: keyId, address, code, request_id: requestId }
      if (limit) log.debug(fields, 'claim refused, and its sender told to wait')
      else log.info(fields, 'claim refused')
      return limit ?? new BeaconError(code, detail || undefined)
    }

    if (!isEnrollmentKey(secret)) throw unknown()
    const secretHash = hashToken(secret).toString('hex')
    const keyId = keyIds.get(secretHash) ?? (await lookUps.add(secretHash))
    if (keyId === undefined) throw unknown()

    const { claim, mintedToken } = prepareClaim(request, address, random)
    const outcome = await grantOne(keyId, claim)
    if (!outcome) {
      keyIds.delete(secretHash)
      throw unknown()
    }
    if (outcome.kind === 'refused')
      throw refuse(keyId, outcome.code, limits.refusedByKey(keyId), outcome.detail)
    metrics.claims.inc({ outcome: outcome.kind })
    log.info(
      { key_id: keyId, robot_id: outcome.robot.id, outcome: outcome.kind, address, request_id: requestId },
      'claim granted',
    )
    return {
      status: outcome.kind === 'admitted' ? 201 : 200,
      response: responseTo(outcome.robot, gatewayUrl, mintedToken),
    }
  }

  function responseTo(robot: GrantedRobot, gatewayUrl: string, token: string | undefined): ClaimResponse {
    return {
      robot_id: robot.id,
      name: robot.name,
      site_id: robot.siteId,
      fleet_id: robot.fleetId,
      gateway_url: gatewayUrl,
      heartbeat_interval_ms: robot.heartbeatIntervalMs ?? defaults.heartbeatIntervalMs,
      ...(token === undefined ? {} : { robot_token: token }),
    }
  }

  return {
    async claim(call) {
      const work = decide(call)
      running.add(work)
      try {
        return await work
      } catch (thrown) {
        const error = asBeaconError(thrown)
        metrics.claims.inc({ outcome: error instanceof BeaconError ? error.code : 'internal_error' })
        throw error
      } finally {
        running.delete(work)
      }
    },
    async idle() {
      while (running.size > 0) await Promise.allSettled(running)
    },
  }
}

/** SQLSTATE of a statement that ran into statement_timeout. */
const QUERY_CANCELED = '57014'
