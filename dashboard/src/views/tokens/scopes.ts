import type { Scope } from '../../../../src/access/scopes.ts'

/** What each scope lets one do. */
export const SCOPE_SAYS: Readonly<Record<Scope, string>> = {
  'robots:read': 'See robots, their history, sites and fleets',
  'robots:write': 'Name, label, move, approve and retire robots; make sites and fleets',
  'commands:execute': 'Send commands to robots',
  'enrollment-keys:read': 'See enrollment keys and the robots that they let in',
  'enrollment-keys:reveal': 'See the secret of an enrollment key again',
  'enrollment-keys:write': 'Make and revoke what robots enrol with',
  'tokens:manage': 'Make and revoke tokens',
  'users:manage': 'Invite, change and remove people',
  'metrics:read': 'Scrape metrics',
  'audit:read': 'Read the audit log',
}

/** What a token may be used for, in few words. */
export function scopesInFew(scopes: readonly string[] | null): string {
  if (scopes === null) return 'all that its owner may do'
  return scopes.length > 3
    ? `${scopes.slice(0, 2).join(', ')} and ${scopes.length - 2} more`
    : scopes.join(', ')
}
