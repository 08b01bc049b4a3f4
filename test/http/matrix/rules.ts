/**
 * Who may do what, said a second time: from the contract, without looking at how the server works it out. Nothing here
 * may import anything of src/.
 */

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

export type Role = 'owner' | 'admin' | 'operator' | 'viewer'

const VIEWED: readonly Scope[] = ['robots:read', 'enrollment-keys:read', 'metrics:read']
const OPERATED: readonly Scope[] = [
  'robots:read',
  'robots:write',
  'commands:execute',
  'enrollment-keys:read',
  'enrollment-keys:reveal',
  'enrollment-keys:write',
  'metrics:read',
]

const GIVEN: Readonly<Record<Role, readonly Scope[]>> = {
  viewer: VIEWED,
  operator: OPERATED,
  admin: SCOPES,
  owner: SCOPES,
}

/** Two sites: A with the fleets A1 and A2, B with the fleet B1. */
export const PLACES = ['deployment', 'A', 'A1', 'A2', 'B', 'B1'] as const
export type Place = (typeof PLACES)[number]

const PARENT: Readonly<Record<Place, Place | undefined>> = {
  deployment: undefined,
  A: 'deployment',
  A1: 'A',
  A2: 'A',
  B: 'deployment',
  B1: 'B',
}

/** Somebody who asks. */
export interface Subject {
  readonly name: string
  /** A person has roles at places; a fleet's own token holds its scopes there. */
  readonly roles: readonly { readonly role: Role; readonly at: Place }[]
  readonly fleet?: Place
  /** What the token is cut down to; null: nothing is cut. */
  readonly scopes: readonly Scope[] | null
}

function within(inner: Place, outer: Place): boolean {
  for (let place: Place | undefined = inner; place !== undefined; place = PARENT[place])
    if (place === outer) return true
  return false
}

function isGiven(subject: Subject, scope: Scope): boolean {
  return subject.scopes === null || subject.scopes.includes(scope)
}

/** Holds the scope at the place itself. */
export function may(subject: Subject, scope: Scope, place: Place): boolean {
  if (!isGiven(subject, scope)) return false
  if (subject.fleet !== undefined) return within(place, subject.fleet)
  return subject.roles.some(({ role, at }) => GIVEN[role].includes(scope) && within(place, at))
}

export function mayAnywhere(subject: Subject, scope: Scope): boolean {
  return PLACES.some((place) => may(subject, scope, place))
}

/** Knows that something is there. Of a site, too, who may look into one of its fleets. */
export function sees(subject: Subject, scope: Scope, place: Place): boolean {
  if (place === 'A' || place === 'B')
    return PLACES.some((inner) => within(inner, place) && may(subject, scope, inner))
  return may(subject, scope, place)
}

export function isPerson(subject: Subject): boolean {
  return subject.fleet === undefined
}

/** Decides for the deployment: an owner, with a token that may manage people. */
export function isOwner(subject: Subject): boolean {
  return isGiven(subject, 'users:manage') && subject.roles.some(({ role }) => role === 'owner')
}

/** What a caller has to be told: allowed; 403; 404; or that a body names something that does not exist. */
export type Verdict = 'allowed' | 'forbidden' | 'hidden' | 'unknown'

/** What a call is about. */
export interface About {
  /** Where the thing is that the path or the body names; undefined: nowhere, for there is none. */
  readonly at?: Place
  /** A second place that a body names. */
  readonly to?: Place
  /** What else has to be held than the scope of the route, and where. */
  readonly also?: { readonly scope: Scope; readonly at: Place }
}

export type Rule =
  /** Nobody has to say who they are. */
  | { readonly who: 'everybody' }
  /** A robot's claim credential is the bearer; nobody who asks here holds one. */
  | { readonly who: 'claimants' }
  /** People, about what is their own. */
  | { readonly who: 'people' }
  /** Holders of the scope for the whole deployment; with `owner`, owners. */
  | { readonly who: 'deployment'; readonly scope: Scope; readonly owner?: true }
  /** Holders of the scope where the thing in the path is; whoever holds `seenWith` there knows that it is there. */
  | { readonly who: 'there'; readonly scope: Scope; readonly seenWith: Scope }
  /** Holders of the scope where the body says. */
  | { readonly who: 'named'; readonly scope: Scope; readonly seenWith: Scope }
  /** Holders of the scope anywhere; what they get is what they hold it for. */
  | { readonly who: 'list'; readonly scope: Scope }

function verdictAt(subject: Subject, scope: Scope, seenWith: Scope, place: Place): 'may' | 'sees' | 'blind' {
  if (may(subject, scope, place)) return 'may'
  if (!sees(subject, seenWith, place)) return 'blind'
  return scope === seenWith ? 'may' : 'sees'
}

export function verdict(rule: Rule, subject: Subject, about: About): Verdict {
  if (rule.who === 'everybody') return 'allowed'
  if (rule.who === 'claimants') return 'forbidden'
  if (rule.who === 'people') return isPerson(subject) ? 'allowed' : 'forbidden'
  if (!mayAnywhere(subject, rule.scope)) return 'forbidden'
  if (rule.who === 'list') return 'allowed'
  if (rule.who === 'deployment')
    return may(subject, rule.scope, 'deployment') && (!rule.owner || isOwner(subject))
      ? 'allowed'
      : 'forbidden'
  const stands = about.at === undefined ? 'blind' : verdictAt(subject, rule.scope, rule.seenWith, about.at)
  if (stands === 'blind') return rule.who === 'named' ? 'unknown' : 'hidden'
  if (stands === 'sees') return 'forbidden'
  if (about.also && !may(subject, about.also.scope, about.also.at)) return 'forbidden'
  if (about.to) {
    const there = verdictAt(subject, rule.scope, rule.seenWith, about.to)
    if (there !== 'may') return there === 'blind' ? 'unknown' : 'forbidden'
  }
  return 'allowed'
}

const public_: Rule = { who: 'everybody' }
const site = (scope: Scope): Rule => ({ who: 'there', scope, seenWith: 'robots:read' })
const fleet = site
const robot = site
const key = (scope: Scope): Rule => ({ who: 'there', scope, seenWith: 'enrollment-keys:read' })

/** Every route there is. */
export const RULES: Readonly<Record<string, Rule>> = {
  'GET /healthz': public_,
  'GET /readyz': public_,
  'GET /api/info': public_,
  'GET /openapi.json': public_,
  'GET /agent/ws': public_,
  'POST /agent/enroll': { who: 'claimants' },

  'GET /metrics': { who: 'deployment', scope: 'metrics:read' },
  'GET /metrics/robots': { who: 'list', scope: 'metrics:read' },

  // A site's name is the deployment's, a fleet's name its site's (see `also` in cells.ts).
  'GET /api/sites': { who: 'list', scope: 'robots:read' },
  'POST /api/sites': { who: 'deployment', scope: 'robots:write' },
  'GET /api/sites/{id}': site('robots:read'),
  'PATCH /api/sites/{id}': site('robots:write'),
  'DELETE /api/sites/{id}': site('robots:write'),

  'GET /api/fleets': { who: 'list', scope: 'robots:read' },
  'POST /api/fleets': { who: 'named', scope: 'robots:write', seenWith: 'robots:read' },
  'GET /api/fleets/{id}': fleet('robots:read'),
  'PATCH /api/fleets/{id}': fleet('robots:write'),
  'DELETE /api/fleets/{id}': fleet('robots:write'),

  'GET /api/robots': { who: 'list', scope: 'robots:read' },
  'POST /api/robots': { who: 'named', scope: 'robots:write', seenWith: 'robots:read' },
  'GET /api/robots/{id}': robot('robots:read'),
  'PATCH /api/robots/{id}': robot('robots:write'),
  'GET /api/robots/{id}/heartbeats': robot('robots:read'),
  'GET /api/robots/{id}/events': robot('robots:read'),
  'POST /api/robots/{id}/revoke-token': robot('robots:write'),
  'POST /api/robots/{id}/approve': robot('robots:write'),
  'POST /api/robots/{id}/retire': robot('robots:write'),

  'POST /api/robots/{id}/rotate-token': robot('robots:write'),
  'POST /api/robots/rotate-tokens': { who: 'list', scope: 'robots:write' },

  'GET /api/enrollment-keys': { who: 'list', scope: 'enrollment-keys:read' },
  'POST /api/enrollment-keys': {
    who: 'named',
    scope: 'enrollment-keys:write',
    seenWith: 'robots:read',
  },
  'GET /api/enrollment-keys/{id}': key('enrollment-keys:read'),
  'POST /api/enrollment-keys/{id}/revoke': key('enrollment-keys:write'),

  'GET /api/secrets': { who: 'deployment', scope: 'tokens:manage' },
  'POST /api/secrets/rotate': { who: 'deployment', scope: 'tokens:manage', owner: true },
}
