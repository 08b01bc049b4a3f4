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
  /** Asks from the page, with a session instead of a token. */
  readonly signedIn?: true
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

/** A person that a call is about: what they hold, and whether it is the caller. */
export interface PersonAbout {
  readonly roles: Subject['roles']
  /** `self`: the very token that asks; `own`: something else of the caller's person. */
  readonly is?: 'self' | 'own'
}

/** What a call is about. */
export interface About {
  /** Where the thing is that the path or the body names; undefined: nowhere, for there is none. */
  readonly at?: Place
  /** A second place that a body names. */
  readonly to?: Place
  /** Although the path names a place, there is no such thing in it. */
  readonly nothing?: true
  readonly person?: PersonAbout
  /** The roles that somebody is to hold. */
  readonly gives?: Subject['roles']
  /** All that has to be held there. */
  readonly needs?: readonly Scope[]
  /** What else has to be held than the scope of the route, and where. */
  readonly also?: { readonly scope: Scope; readonly at: Place }
}

export type Rule =
  /** Nobody has to say who they are. */
  | { readonly who: 'everybody' }
  /** A robot's claim credential is the bearer; nobody who asks here holds one. */
  | { readonly who: 'claimants' }
  /** Whoever asks with a token, about that token. */
  | { readonly who: 'bearers' }
  /** People, about what is their own or about other people: see each `judge`. */
  | { readonly who: 'people'; readonly judge: (subject: Subject, about: About) => Verdict }
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
  if (rule.who === 'bearers') return subject.signedIn ? 'forbidden' : 'allowed'
  if (rule.who === 'people') return isPerson(subject) ? rule.judge(subject, about) : 'forbidden'
  if (!mayAnywhere(subject, rule.scope)) return 'forbidden'
  if (rule.who === 'list') return 'allowed'
  if (rule.who === 'deployment')
    return may(subject, rule.scope, 'deployment') && (!rule.owner || isOwner(subject))
      ? 'allowed'
      : 'forbidden'
  const stands = about.at === undefined ? 'blind' : verdictAt(subject, rule.scope, rule.seenWith, about.at)
  if (stands === 'blind') return rule.who === 'named' ? 'unknown' : 'hidden'
  if (stands === 'sees') return 'forbidden'
  if (about.nothing) return 'hidden'
  if (about.also && !may(subject, about.also.scope, about.also.at)) return 'forbidden'
  if (about.to) {
    const there = verdictAt(subject, rule.scope, rule.seenWith, about.to)
    if (there !== 'may') return there === 'blind' ? 'unknown' : 'forbidden'
  }
  return 'allowed'
}

const holdsAnything = (subject: Subject) => SCOPES.some((scope) => mayAnywhere(subject, scope))

/** Makes and changes tokens of their own: who is signed in, or holds what that takes. */
export const managesTokens = (subject: Subject) => subject.signedIn || mayAnywhere(subject, 'tokens:manage')

/** The tokens of people are seen by those who manage people at each place where the person has a role. */
export function seesTokensOf(subject: Subject, { roles }: PersonAbout): boolean {
  if (roles.length === 0) return may(subject, 'users:manage', 'deployment')
  return roles.every(({ at }) => may(subject, 'users:manage', at))
}

/** And revoked by the same, those of an owner only by an owner. */
export function managesTokensOf(subject: Subject, person: PersonAbout): boolean {
  return (
    seesTokensOf(subject, person) && (isOwner(subject) || person.roles.every(({ role }) => role !== 'owner'))
  )
}

/** People themselves are seen by those who manage people at any place where the person has a role. */
export function seesUser(subject: Subject, { roles, is }: PersonAbout): boolean {
  if (!mayAnywhere(subject, 'users:manage')) return false
  if (is || may(subject, 'users:manage', 'deployment')) return true
  return roles.some(({ at }) => may(subject, 'users:manage', at))
}

/** Nobody gives or takes a role that they do not hold themselves. */
function mayGive(subject: Subject, { role, at }: Subject['roles'][number]): boolean {
  if (role === 'owner' && !isOwner(subject)) return false
  return may(subject, 'users:manage', at) && GIVEN[role].every((scope) => may(subject, scope, at))
}

/** All of a person is in the hands of those who could give all that the person holds. */
function mayGiveAllOf(subject: Subject, { roles }: PersonAbout): boolean {
  if (roles.length === 0) return may(subject, 'users:manage', 'deployment')
  return roles.every((role) => mayGive(subject, role))
}

const isUnseen = (subject: Subject, place: Place) =>
  place !== 'deployment' && !may(subject, 'users:manage', place) && !sees(subject, 'robots:read', place)

type Judge = (subject: Subject, about: About) => Verdict

const when = (condition: unknown): Verdict => (condition ? 'allowed' : 'forbidden')

/** The tokens of people: their own everybody sees. */
export function tokensOf(mayChange: (subject: Subject, person: PersonAbout) => unknown): Rule {
  const judge: Judge = (subject, { person }) => {
    if (!person || !(person.is || seesTokensOf(subject, person))) return 'hidden'
    return when(mayChange(subject, person))
  }
  return { who: 'people', judge }
}

/** People. Whoever manages nobody at all learns nothing. */
export function users(judge: (subject: Subject, person: PersonAbout, about: About) => Verdict): Rule {
  return {
    who: 'people',
    judge(subject, about) {
      if (!mayAnywhere(subject, 'users:manage')) return 'forbidden'
      if (!about.person || !seesUser(subject, about.person)) return 'hidden'
      return judge(subject, about.person, about)
    },
  }
}

export const wholeUser = users((subject, person) => when(mayGiveAllOf(subject, person)))
export const otherWholeUser = users((subject, person) => when(!person.is && mayGiveAllOf(subject, person)))

export const invitation: Judge = (subject, { gives = [] }) => {
  if (!mayAnywhere(subject, 'users:manage')) return 'forbidden'
  if (gives.some(({ at }) => isUnseen(subject, at))) return 'unknown'
  return when(gives.every((role) => mayGive(subject, role)))
}

/** Roles that the caller does not see stay; of the others, what is wanted takes the place of what there is. */
export const userChange = users((subject, person, { gives }) => {
  if (!gives) return when(mayGiveAllOf(subject, person))
  if (gives.some(({ at }) => isUnseen(subject, at))) return 'unknown'
  const seen = person.roles.filter(({ at }) => may(subject, 'users:manage', at))
  const differ = (some: Subject['roles'], others: Subject['roles']) =>
    some.filter(({ role, at }) => !others.some((other) => other.role === role && other.at === at))
  const changed = [...differ(gives, seen), ...differ(seen, gives)]
  if (changed.length === 0) return 'allowed'
  return when(!person.is && changed.every((role) => mayGive(subject, role)))
})

/** Everything of a person, of a fleet or of the deployment at once. */
export const revocationOfAll: Judge = (subject, { person, at, needs = [] }) => {
  if (person) {
    if (!person.is && !seesTokensOf(subject, person)) return 'unknown'
    return when((person.is && managesTokens(subject)) || managesTokensOf(subject, person))
  }
  if (at === undefined) return 'unknown'
  if (at === 'deployment') {
    return when(isOwner(subject) && needs.every((scope) => may(subject, scope, at)))
  }
  if (!may(subject, 'robots:read', at)) return 'unknown'
  return when(needs.every((scope) => may(subject, scope, at)))
}

export const ownTokens: Judge = (subject) => when(managesTokens(subject) && holdsAnything(subject))
/** One's own everybody lists; those of others only who manages people somewhere. */
export const tokenList: Judge = (subject, { person }) =>
  when(person === undefined || person.is || mayAnywhere(subject, 'users:manage'))
/** What a token is not enough for. */
export const onThePage: Judge = (subject) => when(subject.signedIn)
export const ownSession: Judge = (subject, { person }) => {
  if (!subject.signedIn) return 'forbidden'
  return person?.is ? 'allowed' : 'hidden'
}
