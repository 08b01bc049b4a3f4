import type { OidcSettings } from '../../config.ts'
import type { Clock, Random } from '../../runtime.ts'
import type { Seal } from '../seal.ts'
import { Attempts } from './attempts.ts'
import { createOidc, type Oidc } from './oidc.ts'
import { createPasswords, type Passwords } from './passwords.ts'
import { createSecondFactors, type SecondFactors } from './second-factor.ts'

/** All that a sign-in is judged with. */
export interface SignInDesk {
  readonly passwords: Passwords
  readonly secondFactors: SecondFactors
  readonly attempts: Attempts
  /** Undefined where no identity provider is set up. */
  readonly oidc: Oidc | undefined
}

export interface SignInDeskOptions {
  readonly clock: Clock
  readonly random: Random
  readonly seal: Seal
  readonly oidc: OidcSettings | undefined
  readonly passwords?: Passwords
}

export function createSignInDesk(options: SignInDeskOptions): SignInDesk {
  const { clock, random, seal, oidc, passwords = createPasswords(random) } = options
  return {
    passwords,
    secondFactors: createSecondFactors({ seal, clock, random }),
    attempts: new Attempts(clock),
    oidc: oidc && createOidc(oidc, clock),
  }
}
