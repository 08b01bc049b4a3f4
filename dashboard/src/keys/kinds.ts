import type { EnrollmentKey, NewProvisioningToken, ProvisioningToken } from '../api/types.ts'

/** What robots are enrolled with by the batch. */
export type Kind = 'enrollment' | 'provisioning'
export type Key = EnrollmentKey | ProvisioningToken
type Status = Key['status']

interface KindFacts {
  readonly path: string
  readonly noun: string
  readonly nouns: string
  readonly statuses: readonly Status[]
  /** What it is for, in a sentence. */
  readonly about: string
}

export const KINDS: Readonly<Record<Kind, KindFacts>> = {
  enrollment: {
    path: '/api/enrollment-keys',
    noun: 'enrollment key',
    nouns: 'enrollment keys',
    statuses: ['active', 'exhausted', 'expired', 'revoked'],
    about: 'Lets a batch of robots in, as many as it says.',
  },
  provisioning: {
    path: '/api/provisioning-tokens',
    noun: 'provisioning token',
    nouns: 'provisioning tokens',
    statuses: ['active', 'consumed', 'expired', 'revoked'],
    about: 'For images and provisioning systems: lets any number of robots in, or exactly one.',
  },
}

/** What a status means, in a sentence. */
export const STATUS_SAYS: Readonly<Record<Status, string>> = {
  active: 'It lets robots in.',
  exhausted: 'As many robots came as it lets in.',
  consumed: 'It was for one robot, and that came.',
  expired: 'Its time is over.',
  revoked: 'Somebody revoked it.',
}

/** How a machine fares that is enrolled already and claims again. */
export const ON_EXISTING_SAYS: Readonly<Record<Key['on_existing'], string>> = {
  rebind: 'keeps its record and gets a new token',
  approve: 'waits until somebody approves it',
  reject: 'is refused',
}

/** `12 of 100`; tokens that are not for one robot have no limit. */
export function usesOf(key: Key): string {
  const uses = key.uses.toLocaleString('en')
  if ('max_uses' in key) return `${uses} of ${key.max_uses.toLocaleString('en')}`
  return key.single_use ? `${uses} of 1` : uses
}

/** A key that was just made, with what is known of it now and perhaps never again. */
export interface MadeKey {
  readonly kind: Kind
  readonly key: Key
  readonly secret: string
  readonly command: string
  /** Somebody who may can read it again later. */
  readonly canBeShown: boolean
}

export function madeOf(answer: EnrollmentKey | NewProvisioningToken): MadeKey {
  const isToken = 'token' in answer
  const secret = isToken ? answer.token : answer.key_value
  // Only the repetition of a request is answered without.
  if (secret === null || answer.setup_command === null) throw new Error('The server did not tell the secret')
  return {
    kind: isToken ? 'provisioning' : 'enrollment',
    key: answer,
    secret,
    command: answer.setup_command,
    canBeShown: !isToken && answer.retrievable,
  }
}

export const capital = (text: string) => text.replace(/^./, (first) => first.toUpperCase())
