import { LruObject } from 'toad-cache'
import type { Database } from '../db/database.ts'
import { findTokenHolders, type TokenHolder } from '../db/sessions.ts'
import { BeaconError } from '../errors.ts'
import { Grouping } from '../grouping.ts'
import { bearerToken, hashToken, isCheckedToken } from '../protocol/tokens.ts'
import type { Clock } from '../runtime.ts'

/** Who a socket belongs to. */
export interface AuthenticatedRobot {
  readonly robotId: string
  /** SHA-256 of the token in hex. */
  readonly tokenHash: string
  /** It is the next token: a session opened with it ends the one before. */
  readonly isNext: boolean
}

const CACHED_TOKENS = 100_000
/** Bounds how long a missed message from another server can matter. */
const CACHED_FOR_MS = 30_000
const MAX_GROUP = 500
const MAX_WAITING = 5_000

interface Cached {
  readonly robotId: string
  readonly isNext: boolean
  readonly until: number
}

/** The robot token in an `Authorization` header; throws a BeaconError when there is none, or noise, or one mistyped. */
export function robotToken(authorization: string | undefined): string {
  const token = bearerToken(authorization)
  if (token === undefined)
    throw new BeaconError('credentials_required', 'a robot token is needed: Authorization: Bearer rf_robot_…')
  // Form and checksum cost no database work.
  if (!isCheckedToken('robot', token)) throw new BeaconError('invalid_token', 'this is not a robot token')
  return token
}

/**
 * Tells robots by their tokens. Look-ups of the same moment share a statement; answers are kept for a short while and
 * forgotten at once when told that a robot changed.
 */
export class Authenticator {
  readonly #clock: Clock
  readonly #cache = new LruObject<Cached>(CACHED_TOKENS)
  /** A robot that changes its token has two. */
  readonly #hashesOf = new Map<string, readonly string[]>()
  readonly #lookUp: Grouping<string, TokenHolder | undefined>
  /** Counts forgetting, so that an answer that was on its way meanwhile is not kept. */
  #forgotten = 0

  constructor(database: Database, clock: Clock) {
    this.#clock = clock
    this.#lookUp = new Grouping({
      maxGroup: MAX_GROUP,
      maxWaiting: MAX_WAITING,
      run: async (hashes) => {
        const found = new Map<string, TokenHolder>()
        for (const holder of await findTokenHolders(database, [...new Set(hashes)]))
          if (!holder.isNext || !found.has(holder.tokenHash)) found.set(holder.tokenHash, holder)
        return hashes.map((hash) => found.get(hash))
      },
    })
  }

  get waiting(): number {
    return this.#lookUp.waiting
  }

  /** Takes a token as `robotToken` gives it; throws a BeaconError that says why it does not open a session. */
  async authenticate(token: string): Promise<AuthenticatedRobot> {
    const tokenHash = hashToken(token).toString('hex')
    const cached = this.#cache.get(tokenHash)
    if (cached && cached.until > this.#clock.now())
      return { robotId: cached.robotId, tokenHash, isNext: cached.isNext }
    const forgottenBefore = this.#forgotten
    const holder = await this.#lookUp.add(tokenHash)
    if (!holder) throw new BeaconError('invalid_token', 'no robot has this token')
    if (holder.revoked)
      throw new BeaconError('token_revoked', 'this robot token was revoked; enrol the robot again')
    if (holder.retired) throw new BeaconError('robot_retired', 'this robot was retired')
    const { robotId, isNext } = holder
    if (forgottenBefore === this.#forgotten) this.#keep({ robotId, tokenHash, isNext })
    return { robotId, tokenHash, isNext }
  }

  /** Forgets what is known of the robots' tokens. */
  forget(robotIds: readonly string[]): void {
    this.#forgotten += 1
    for (const robotId of robotIds) {
      for (const tokenHash of this.#hashesOf.get(robotId) ?? []) this.#cache.delete(tokenHash)
      this.#hashesOf.delete(robotId)
    }
  }

  forgetAll(): void {
    this.#forgotten += 1
    this.#cache.clear()
    this.#hashesOf.clear()
  }

  #keep({ robotId, tokenHash, isNext }: AuthenticatedRobot): void {
    // The index by robot is dropped whole, together with the cache, when it outgrows it.
    if (this.#hashesOf.size >= CACHED_TOKENS) this.forgetAll()
    const others = (this.#hashesOf.get(robotId) ?? []).filter((hash) => hash !== tokenHash)
    // Of three, the one kept first is long gone.
    const kept = others.slice(-1)
    for (const hash of others.slice(0, -1)) this.#cache.delete(hash)
    this.#cache.set(tokenHash, { robotId, isNext, until: this.#clock.now() + CACHED_FOR_MS })
    this.#hashesOf.set(robotId, [...kept, tokenHash])
  }
}
