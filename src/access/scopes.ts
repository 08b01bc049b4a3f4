import type { Role } from '../db/tables.ts'

/** Everything a token may be allowed to do. Closed: a route names one of these or says that it needs none. */
export const SCOPES = [
  'robots:read',
  'robots:write',
  'commands:execute',
  'enrollment-keys:read',
  'enrollment-keys:reveal',
  'enrollment-keys:write',
  'tokens:manage',
  'users:manage',
  'metrics:read',
  'audit:read',
] as const

export type Scope = (typeof SCOPES)[number]

export const ROLES = ['owner', 'admin', 'operator', 'viewer'] as const satisfies readonly Role[]

const VIEWER: readonly Scope[] = ['robots:read', 'enrollment-keys:read', 'metrics:read']
const OPERATOR: readonly Scope[] = [
  ...VIEWER,
  'robots:write',
  'commands:execute',
  'enrollment-keys:reveal',
  'enrollment-keys:write',
]

/** What each role may do at its place. Owners, besides, decide about owners and what holds for the whole deployment. */
export const ROLE_SCOPES: Readonly<Record<Role, readonly Scope[]>> = {
  viewer: VIEWER,
  operator: OPERATOR,
  admin: SCOPES,
  owner: SCOPES,
}

/** What a fleet token may be given: it can make neither people nor tokens. */
export const FLEET_TOKEN_SCOPES: readonly Scope[] = SCOPES.filter(
  (scope) => scope !== 'tokens:manage' && scope !== 'users:manage',
)

export function isScope(text: string): text is Scope {
  return (SCOPES as readonly string[]).includes(text)
}
