/** What the audit log tells of, by kinds; each is the beginning of its actions. */
export const ACTION_KINDS: readonly { readonly value: string; readonly text: string }[] = [
  { value: 'sign_in.', text: 'signing in and out' },
  { value: 'second_factor.', text: 'second factors' },
  { value: 'password.', text: 'passwords' },
  { value: 'user.', text: 'people' },
  { value: 'owner.', text: 'owners let in again' },
  { value: 'access_token.', text: 'tokens' },
  { value: 'credentials.', text: 'revoking everything' },
  { value: 'enrollment_key.', text: 'enrollment keys' },
  { value: 'provisioning_token.', text: 'provisioning tokens' },
  { value: 'setup_token.', text: 'setup tokens' },
  { value: 'claim.', text: 'refused enrolments' },
  { value: 'claim_credential.', text: 'checks of keys' },
  { value: 'robot.', text: 'robots' },
  { value: 'robot_token.', text: 'checks of robots’ tokens' },
  { value: 'robot_session.', text: 'refused connections of robots' },
  { value: 'site.', text: 'sites' },
  { value: 'fleet.', text: 'fleets' },
  { value: 'security.', text: 'what holds for everybody' },
  { value: 'secret_key.', text: 'the key of secrets' },
  { value: 'identity.', text: 'identities' },
  { value: 'request.', text: 'refused requests' },
  { value: 'audit.', text: 'the log itself' },
]

/** The kinds, and what is chosen beside them. */
export function actionChoices(
  chosen: string | undefined,
): readonly { readonly value: string; readonly text: string }[] {
  return chosen === undefined || ACTION_KINDS.some(({ value }) => value === chosen)
    ? ACTION_KINDS
    : [{ value: chosen, text: chosen }, ...ACTION_KINDS]
}

/** `fleet_token` as `fleet token`. */
export const inWords = (name: string): string => name.replaceAll('_', ' ')

/** Who did it, or what was done to, in words. */
export function nameOf(thing: {
  readonly kind: string
  readonly id: string | null
  readonly name: string | null
}): string {
  return thing.name ?? (thing.kind === 'route' ? (thing.id ?? 'route') : inWords(thing.kind))
}
