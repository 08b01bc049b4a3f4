import { addressGroup } from '../addresses.ts'
import { BeaconError } from '../errors.ts'
import { KeyedLimiter } from '../rate-limit.ts'
import type { Clock } from '../runtime.ts'

/** Unknown secrets of one address that are told so; beyond, they are told to wait. */
const UNKNOWN_SECRETS = { burst: 60, perMinute: 60 }
/** Beyond this an address is not listened to at all, so that guessing costs us no look-up. */
const UNKNOWN_SECRETS_HARD = { burst: 600, perMinute: 600 }
/** Refusals of one known key. */
const KEY_REFUSALS = { burst: 1_000, perMinute: 600 }

const ADDRESSES_REMEMBERED = 20_000
const KEYS_REMEMBERED = 5_000

/**
 * What refused attempts cost. Only refusals are counted, so robots with a good key behind the same address or on the
 * same key never wait for those without.
 */
export class RefusalLimits {
  readonly #unknown: KeyedLimiter
  readonly #unknownHard: KeyedLimiter
  readonly #keys: KeyedLimiter

  constructor(clock: Clock) {
    this.#unknown = new KeyedLimiter({ ...UNKNOWN_SECRETS, clock, maxKeys: ADDRESSES_REMEMBERED })
    this.#unknownHard = new KeyedLimiter({ ...UNKNOWN_SECRETS_HARD, clock, maxKeys: ADDRESSES_REMEMBERED })
    this.#keys = new KeyedLimiter({ ...KEY_REFUSALS, clock, maxKeys: KEYS_REMEMBERED })
  }

  /** To be asked before anything else is done for an address. */
  blocked(address: string): BeaconError | undefined {
    return tooMany(this.#unknownHard.wait(addressGroup(address)))
  }

  /** Counts a secret that nobody issued. Answers with the error to give instead of the refusal, if it is one too many. */
  unknownSecret(address: string): BeaconError | undefined {
    const group = addressGroup(address)
    this.#unknownHard.take(group)
    return tooMany(this.#unknown.take(group))
  }

  /** Counts a refusal of a known key, likewise. */
  refusedByKey(keyId: string): BeaconError | undefined {
    return tooMany(this.#keys.take(keyId))
  }
}

function tooMany(waitMs: number): BeaconError | undefined {
  if (waitMs <= 0) return undefined
  return new BeaconError('rate_limited', 'too many refused attempts: wait before the next one', {
    retryAfterSeconds: Math.ceil(waitMs / 1000),
  })
}
