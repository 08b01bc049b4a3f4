/** Everything a token may be allowed to do. Closed: a route names one of these or says that it is public. */
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

/** What an owner's token holds. */
export const ALL_SCOPES: ReadonlySet<Scope> = new Set(SCOPES)
