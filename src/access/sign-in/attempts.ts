import { createHash } from 'node:crypto'
import { LruMap } from 'toad-cache'
import { addressGroup } from '../../addresses.ts'
import { BeaconError } from '../../errors.ts'
import { KeyedLimiter } from '../../rate-limit.ts'
import type { Clock } from '../../runtime.ts'

/** Attempts of one address, whoever they are for. */
const PER_ADDRESS = { burst: 30, perMinute: 20 }
/** How many may fail at once before the next has to wait, and how long it waits at the most. */
const PER_ACCOUNT_AND_ADDRESS = { free: 5, firstMs: 2_000, longestMs: 15 * 60_000 }
/** The same from all addresses that the account has never signed in from. */
const PER_ACCOUNT = { free: 20, firstMs: 2_000, longestMs: 15 * 60_000 }
/** Failures are forgotten when there were none for so long. */
const FORGOTTEN_MS = 60 * 60_000
const REMEMBERED = 20_000

interface Failures {
  readonly count: number
  readonly lastMs: number
}

type Rule = typeof PER_ACCOUNT

/** Failed attempts in a row for each key, and the wait that follows from them: twice as long after each. */
class Delays {
  readonly #rule: Rule
  readonly #clock: Pick<Clock, 'monotonic'>
  readonly #failures = new LruMap<Failures>(REMEMBERED)

  constructor(rule: Rule, clock: Pick<Clock, 'monotonic'>) {
    this.#rule = rule
    this.#clock = clock
  }

  waitMs(key: string): number {
    const failures = this.#of(key)
    const beyond = failures.count - this.#rule.free
    if (beyond < 0) return 0
    const delay = Math.min(this.#rule.longestMs, this.#rule.firstMs * 2 ** Math.min(beyond, 30))
    return Math.max(0, failures.lastMs + delay - this.#clock.monotonic())
  }

  add(key: string): void {
    this.#failures.set(key, { count: this.#of(key).count + 1, lastMs: this.#clock.monotonic() })
  }

  forgive(key: string): void {
    const { count, lastMs } = this.#of(key)
    if (count <= 1) this.#failures.delete(key)
    else this.#failures.set(key, { count: count - 1, lastMs })
  }

  clear(key: string): void {
    this.#failures.delete(key)
  }

  #of(key: string): Failures {
    const known = this.#failures.get(key)
    return known && this.#clock.monotonic() - known.lastMs < FORGOTTEN_MS ? known : { count: 0, lastMs: 0 }
  }
}

/** One attempt, counted as failed from its beginning, so that many at once are not one. */
export interface Attempt {
  /** It was right: what failed before from this address counts no more. */
  succeeded(): void
  /** It was neither: something else kept it from being judged. */
  withdrawn(): void
}

/**
 * What guessing costs. Kept by each server for itself, in memory. Nobody is locked out for good: somebody who guesses
 * makes only themselves wait, and, from twenty wrong ones on, those who come from an address that the account has never
 * signed in from.
 */
export class Attempts {
  readonly #addresses: KeyedLimiter
  readonly #pairs: Delays
  readonly #accounts: Delays

  constructor(clock: Clock) {
    this.#addresses = new KeyedLimiter({ ...PER_ADDRESS, clock, maxKeys: REMEMBERED })
    this.#pairs = new Delays(PER_ACCOUNT_AND_ADDRESS, clock)
    this.#accounts = new Delays(PER_ACCOUNT, clock)
  }

  /** Takes one attempt of an address; throws `rate_limited` when it has made too many. */
  address(address: string): void {
    refuse(this.#addresses.take(addressGroup(address)))
  }

  /**
   * Begins an attempt on an account, which need not be there. `knownFrom`: the addresses it has signed in from. Throws
   * `rate_limited` when it has to wait.
   */
  begin(account: string, address: string, knownFrom: readonly string[]): Attempt {
    const accountKey = createHash('sha256').update(account).digest('base64')
    const group = addressGroup(address)
    const pairKey = `${accountKey} ${group}`
    const known = knownFrom.some((one) => addressGroup(one) === group)
    refuse(Math.max(this.#pairs.waitMs(pairKey), known ? 0 : this.#accounts.waitMs(accountKey)))
    this.#pairs.add(pairKey)
    if (!known) this.#accounts.add(accountKey)
    return {
      succeeded: () => {
        this.#pairs.clear(pairKey)
        if (!known) this.#accounts.forgive(accountKey)
      },
      withdrawn: () => {
        this.#pairs.forgive(pairKey)
        if (!known) this.#accounts.forgive(accountKey)
      },
    }
  }
}

function refuse(waitMs: number): void {
  if (waitMs <= 0) return
  throw new BeaconError('rate_limited', 'too many attempts: wait before the next one', {
    retryAfterSeconds: Math.ceil(waitMs / 1000),
  })
}
