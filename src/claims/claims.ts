import { LruMap } from 'toad-cache'
import type { Audit } from '../audit/audit.ts'
import { type CredentialFacts, findCredentials } from '../db/claims.ts'
import { type Database, isDatabaseUnavailable, sqlState } from '../db/database.ts'
import { BeaconError, ERRORS, type ErrorCode } from '../errors.ts'
import { GroupFullError, Grouping } from '../grouping.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { ClaimRequest, ClaimResponse, CredentialCheck } from '../protocol/enrolment.ts'
import { claimCredentialKind, hashToken } from '../protocol/tokens.ts'
import { KeyedLimiter } from '../rate-limit.ts'
import type { Clock, Random } from '../runtime.ts'
import { auditOfRefusal, credentialActor } from './audit.ts'
import { type CheckCall, checkCredential } from './check.ts'
import type { Claim, GrantedRobot, Outcome } from './decide.ts'
import { grantClaims } from './grant.ts'
import { KeyQueues } from './key-queues.ts'
import { prepareClaim } from './prepare.ts'
import { RefusalLimits } from './refusals.ts'
import { Turns } from './turns.ts'

/** Claims that one transaction decides at the most. */
const MAX_GROUP = 256
/** Claims of one key that may wait: about a second's worth. */
const MAX_WAITING = 10_000
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
  /** Told of robots that another machine claimed to be while they were connected, as often as their timelines are. */
  readonly onClonesSuspected?: (robotIds: readonly string[]) => void
  /** Refusals and repetitions; what claims change is written down together with the change. */
  readonly audit: Pick<Audit, 'refused' | 'used'>
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
}

export interface ClaimAnswer {
  /** 201 for a new robot, 200 for one that was there before. */
  readonly status: 200 | 201
  /** Without the gateway's address: only the caller knows how it was reached. */
  readonly response: Omit<ClaimResponse, 'gateway_url'>
}

export interface Claims {
  /** Claims a robot's identity. Refusals are BeaconErrors. */
  claim(call: ClaimCall): Promise<ClaimAnswer>
  /** Says what a claim credential or robot token is worth now, and changes nothing. Refusals are BeaconErrors. */
  check(call: CheckCall): Promise<CredentialCheck>
  /** Resolves once no claim waits and none is in flight. */
  idle(): Promise<void>
}

/** The way in for robots. */
export function createClaims(options: ClaimsOptions): Claims {
  const desk = new ClaimDesk(options)
  const { metrics, random } = options
  const running = new Set<Promise<ClaimAnswer>>()
  return {
    async claim(call) {
      const work = desk.claim(call)
      running.add(work)
      try {
        return await work
      } catch (thrown) {
        const error = asBeaconError(thrown, random)
        metrics.claims.inc({ outcome: error instanceof BeaconError ? error.code : 'internal_error' })
        throw error
      } finally {
        running.delete(work)
      }
    },
    async check(call) {
      try {
        return await desk.check(call)
      } catch (thrown) {
        throw asBeaconError(thrown, random)
      }
    },
    async idle() {
      while (running.size > 0) await Promise.allSettled(running)
    },
  }
}

const QUERY_CANCELED = '57014'

function asBeaconError(error: unknown, random: Random): unknown {
  if (error instanceof BeaconError) return error
  // Spread, so that those who are turned away do not all come back at once.
  const retryAfterSeconds = 1 + Math.floor(random.fraction() * 5)
  if (error instanceof GroupFullError)
    return new BeaconError('overloaded', 'too many claims are waiting', { retryAfterSeconds })
  if (isDatabaseUnavailable(error))
    return new BeaconError('database_unavailable', undefined, { retryAfterSeconds, cause: error })
  if (sqlState(error) === QUERY_CANCELED)
    return new BeaconError('overloaded', 'the database took too long', { retryAfterSeconds, cause: error })
  return error
}

/** Undefined: the key was deleted while the claim waited. Failed: others of the group were granted before. */
type Granted = Outcome | undefined | { readonly kind: 'failed'; readonly error: unknown }

/**
 * Claims that arrive while others of the same key are in flight are granted together by one transaction: the key is
 * locked once for all of them, which is what keeps its uses exact at any speed.
 */
class ClaimDesk {
  readonly #options: ClaimsOptions
  readonly #limits: RefusalLimits
  readonly #cloneEvents: KeyedLimiter
  /** By the secret's digest. Whether the credential still admits anybody is asked within the transaction only. */
  readonly #credentials = new LruMap<CredentialFacts>(SECRETS_REMEMBERED)
  readonly #lookUps: Grouping<string, CredentialFacts | undefined>
  readonly #queues: KeyQueues<Claim, Granted>
  readonly #turns = new Turns(MAX_TRANSACTIONS)

  constructor(options: ClaimsOptions) {
    this.#options = options
    this.#limits = new RefusalLimits(options.clock)
    this.#cloneEvents = new KeyedLimiter({ ...CLONE_EVENTS, clock: options.clock })
    this.#lookUps = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      run: (secretHashes) => this.#lookUp(secretHashes),
    })
    this.#queues = new KeyQueues({
      maxGroup: MAX_GROUP,
      maxWaitingPerKey: MAX_WAITING,
      maxKeys: MAX_BUSY_KEYS,
      run: (keyId, claims) => this.#grant(keyId, claims),
    })
  }

  async claim(call: ClaimCall): Promise<ClaimAnswer> {
    const { secret, request, address, requestId } = call
    const blocked = this.#limits.blocked(address)
    if (blocked) throw blocked

    if (claimCredentialKind(secret) === undefined) throw this.#unknownSecret(call)
    const secretHash = hashToken(secret).toString('hex')
    const credential = this.#credentials.get(secretHash) ?? (await this.#lookUps.add(secretHash))
    if (credential === undefined) throw this.#unknownSecret(call)

    const { claim, mintedToken } = prepareClaim(request, { address, requestId }, this.#options.random)
    const outcome = await this.#queue(credential.id, claim)
    if (!outcome) {
      this.#credentials.delete(secretHash)
      throw this.#unknownSecret(call)
    }
    if (outcome.kind === 'failed') throw outcome.error
    if (outcome.kind === 'refused') throw this.#refusal(call, credential, outcome.code, outcome.detail)

    const { kind, robot } = outcome
    this.#options.metrics.claims.inc({ outcome: kind })
    if (kind === 'repeated')
      this.#options.audit.used({
        actor: credentialActor(credential),
        address,
        at: this.#options.clock.now(),
        siteId: credential.siteId,
        fleetId: credential.fleetId,
      })
    this.#options.log.info(
      { key_id: credential.id, robot_id: robot.id, outcome: kind, address, request_id: requestId },
      'claim granted',
    )
    return { status: kind === 'admitted' ? 201 : 200, response: this.#response(robot, mintedToken) }
  }

  async check(call: CheckCall): Promise<CredentialCheck> {
    const { database, clock, audit } = this.#options
    // Whoever guesses is stopped by the same counters, whichever door is tried.
    const blocked = this.#limits.blocked(call.address)
    if (blocked) throw blocked
    const found = await this.#timed('credential_check', () =>
      checkCredential({ database, audit, now: clock.now() }, call),
    )
    if (!found) throw this.#unknownSecret({ ...call, request: { fingerprint: {} } })
    return found
  }

  #response(robot: GrantedRobot, mintedToken: string | undefined): ClaimAnswer['response'] {
    return {
      robot_id: robot.id,
      name: robot.name,
      site_id: robot.siteId,
      fleet_id: robot.fleetId,
      heartbeat_interval_ms: robot.heartbeatIntervalMs ?? this.#options.defaults.heartbeatIntervalMs,
      ...(mintedToken === undefined ? {} : { robot_token: mintedToken }),
    }
  }

  #unknownSecret(call: ClaimCall): BeaconError {
    const error = new BeaconError('invalid_token')
    return this.#counted(call, undefined, error, this.#limits.unknownSecret(call.address))
  }

  #refusal(
    call: ClaimCall,
    credential: CredentialFacts,
    code: ErrorCode,
    detail: string | undefined,
  ): BeaconError {
    // Whoever waits for a place in the queue does nothing wrong.
    const retryAfterSeconds = 30 + Math.floor(this.#options.random.fraction() * 60)
    const error = new BeaconError(code, detail, ERRORS[code].retry ? { retryAfterSeconds } : {})
    return this.#counted(call, credential, error, this.#limits.refusedByKey(credential.id))
  }

  /** The refusal, or the order to wait that takes its place; only the first is worth a line in the log each time. */
  #counted(
    call: ClaimCall,
    credential: CredentialFacts | undefined,
    refusal: BeaconError,
    limit: BeaconError | undefined,
  ): BeaconError {
    const { address, requestId } = call
    this.#options.audit.refused(
      auditOfRefusal(call, credential, refusal.code, new Date(this.#options.clock.now())),
    )
    const fields = { key_id: credential?.id, address, code: refusal.code, request_id: requestId }
    if (limit) this.#options.log.debug(fields, 'claim refused, and its sender told to wait')
    else this.#options.log.info(fields, 'claim refused')
    return limit ?? refusal
  }

  async #queue(keyId: string, claim: Claim): Promise<Granted> {
    const { queueDepth } = this.#options.metrics
    queueDepth.inc({ queue: 'claims' })
    try {
      return await this.#queues.add(keyId, claim)
    } finally {
      queueDepth.dec({ queue: 'claims' })
    }
  }

  async #lookUp(secretHashes: readonly string[]): Promise<(CredentialFacts | undefined)[]> {
    const found = await this.#timed('claim_lookup', () =>
      findCredentials(this.#options.database, [...new Set(secretHashes)]),
    )
    const known = new Map(found.map(({ secretHash, ...facts }) => [secretHash, facts]))
    for (const [secretHash, facts] of known)
      if (facts.kind !== 'setup_token') this.#credentials.set(secretHash, facts)
    return secretHashes.map((secretHash) => known.get(secretHash))
  }

  async #grant(keyId: string, claims: readonly Claim[]): Promise<Granted[]> {
    const granted: Granted[] = []
    while (granted.length < claims.length) {
      const rest = claims.slice(granted.length)
      try {
        granted.push(...(await this.#grantSome(keyId, rest)))
      } catch (error) {
        // What stands before is committed: its claimants have to hear of it.
        granted.push(...rest.map(() => ({ kind: 'failed' as const, error })))
      }
    }
    return granted
  }

  async #grantSome(keyId: string, claims: readonly Claim[]): Promise<readonly Granted[]> {
    const granting = {
      database: this.#options.database,
      tellsOfClone: (robotId: string) => this.#cloneEvents.wait(robotId) === 0,
    }
    const grant = await this.#turns.run(() =>
      this.#timed('claim', () => grantClaims(granting, keyId, claims)),
    )
    this.#options.metrics.claimGroupSize.observe(grant.outcomes?.length ?? claims.length)
    for (const robotId of grant.clonedIds) this.#cloneEvents.take(robotId)
    if (grant.clonedIds.length > 0) this.#options.onClonesSuspected?.(grant.clonedIds)
    if (grant.reboundIds.length > 0) await this.#tellOfRebound(grant.reboundIds)
    return grant.outcomes ?? claims.map(() => undefined)
  }

  async #tellOfRebound(robotIds: readonly string[]): Promise<void> {
    try {
      await this.#options.bus?.publish({ type: 'robots_changed', robot_ids: robotIds })
    } catch (error) {
      this.#options.log.warn(
        { err: error, robot_ids: robotIds },
        'could not tell other servers of rebound robots',
      )
    }
  }

  async #timed<Result>(operation: string, call: () => Promise<Result>): Promise<Result> {
    const { databaseSeconds, databaseErrors } = this.#options.metrics
    const stop = databaseSeconds.startTimer({ operation })
    try {
      return await call()
    } catch (error) {
      databaseErrors.inc({ operation })
      throw error
    } finally {
      stop()
    }
  }
}
