import fc from 'fast-check'

/**
 * Who may do what, said a second time: slowly, from the rules and not from the code. Nothing of src is imported.
 *
 * - viewer: sees robots, metrics and which keys there are. operator: changes robots, commands them, makes and reads keys.
 *   admin and owner: all of it, with tokens, people and the audit log.
 * - A role counts where it was given, and within that: the deployment holds sites, a site its fleets.
 * - A person's token does what the person may at this moment and its scopes name. One without scopes does all of it.
 * - A person who was removed does nothing, nor does one without a second factor while it is demanded.
 * - A fleet's token does at its fleet what its scopes name, whoever made it and whatever became of them.
 * - Nobody gives a token what they do not hold; nobody takes the value of a token that can do more than they.
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

const VIEWER = 'robots:read enrollment-keys:read metrics:read'
const OPERATOR = `${VIEWER} robots:write commands:execute enrollment-keys:reveal enrollment-keys:write`
const EVERYTHING = `${OPERATOR} tokens:manage users:manage audit:read`
const ROLE_MAY: Record<Role, string[]> = {
  viewer: VIEWER.split(' '),
  operator: OPERATOR.split(' '),
  admin: EVERYTHING.split(' '),
  owner: EVERYTHING.split(' '),
}

export const FLEETS = ['f0', 'f1', 'f2'] as const
export const SITES = ['s0', 's1'] as const
/** Everywhere that something can be: the deployment itself, a site, a fleet. */
export const PLACES = ['everywhere', ...SITES, ...FLEETS] as const
export type Place = (typeof PLACES)[number]
export const PEOPLE = [0, 1, 2] as const

export interface ModelPerson {
  removed: boolean
  factor: boolean
  roles: Map<Place, Role>
}

export interface ModelToken {
  person: number | null
  fleet: (typeof FLEETS)[number] | null
  scopes: Scope[] | null
  revoked: boolean
  expired: boolean
  replacedBy: number | null
  /** What it may ever do at the most: what whoever made it held at that moment. */
  ceiling: Set<string>
}

export interface World {
  people: ModelPerson[]
  siteOf: Record<string, (typeof SITES)[number]>
  demanded: boolean
  tokens: ModelToken[]
}

/** An owner, an admin of a site and an operator of a fleet, each with a token that does all they may. */
export function firstWorld(): World {
  const everything = new Set(SCOPES.flatMap((scope) => PLACES.map((place) => `${scope} ${place}`)))
  return {
    people: [
      { removed: false, factor: true, roles: new Map<Place, Role>([['everywhere', 'owner']]) },
      { removed: false, factor: false, roles: new Map<Place, Role>([['s0', 'admin']]) },
      { removed: false, factor: false, roles: new Map<Place, Role>([['f0', 'operator']]) },
    ],
    siteOf: { f0: 's0', f1: 's0', f2: 's1' },
    demanded: false,
    tokens: PEOPLE.map((person) => ({
      person,
      fleet: null,
      scopes: null,
      revoked: false,
      expired: false,
      replacedBy: null,
      ceiling: everything,
    })),
  }
}

/** Everything that a place lies in, itself first. */
function around(world: World, place: Place): Place[] {
  if (place === 'everywhere') return ['everywhere']
  if (place.startsWith('s')) return [place, 'everywhere']
  return [place, world.siteOf[place]!, 'everywhere']
}

export function isLive(world: World, token: ModelToken): boolean {
  if (token.revoked || token.expired) return false
  return token.person === null || !world.people[token.person]!.removed
}

export function isBarred(world: World, token: ModelToken): boolean {
  return token.person !== null && world.demanded && !world.people[token.person]!.factor
}

export function can(world: World, token: ModelToken, scope: Scope, place: Place): boolean {
  if (!isLive(world, token) || isBarred(world, token)) return false
  if (token.scopes !== null && !token.scopes.includes(scope)) return false
  if (token.person === null) return token.fleet === place
  for (const outer of around(world, place)) {
    const role = world.people[token.person]!.roles.get(outer)
    if (role !== undefined && ROLE_MAY[role].includes(scope)) return true
  }
  return false
}

/** Decides what only owners decide: for an owner, and a token of theirs that may manage people. */
export function isOwner(world: World, token: ModelToken): boolean {
  return (
    token.person !== null &&
    can(world, token, 'users:manage', 'everywhere') &&
    world.people[token.person]!.roles.get('everywhere') === 'owner'
  )
}

/** Holds the scope at some place or other. */
export function canSomewhere(world: World, token: ModelToken, scope: Scope): boolean {
  return PLACES.some((place) => can(world, token, scope, place))
}

const FOR_FLEETS = SCOPES.filter((scope) => !['tokens:manage', 'users:manage'].includes(scope))

/** The scopes that a new token would get, or undefined where it is not made. */
export function mayMint(world: World, by: ModelToken, asked: Scope[] | undefined): Scope[] | undefined {
  if (by.person === null || !canSomewhere(world, by, 'tokens:manage')) return undefined
  const held = SCOPES.filter((scope) => canSomewhere(world, by, scope))
  if (asked === undefined) return held
  return asked.every((scope) => held.includes(scope)) ? asked : undefined
}

export function mayMintForFleet(
  world: World,
  by: ModelToken,
  fleet: Place,
  asked: Scope[] | undefined,
): Scope[] | undefined {
  if (!can(world, by, 'tokens:manage', fleet)) return undefined
  const held = FOR_FLEETS.filter((scope) => can(world, by, scope, fleet))
  if (asked === undefined) return held.length > 0 ? held : undefined
  return asked.every((scope) => held.includes(scope)) ? asked : undefined
}

export function mayRotate(world: World, by: ModelToken, target: ModelToken): boolean {
  if (!isLive(world, by) || isBarred(world, by) || !isLive(world, target)) return false
  if (target.replacedBy !== null && isLive(world, world.tokens[target.replacedBy]!)) return false
  if (by === target) return true
  if (target.fleet !== null)
    return [...target.scopes!, 'tokens:manage' as const].every((scope) =>
      can(world, by, scope, target.fleet!),
    )
  if (by.person !== target.person || !canSomewhere(world, by, 'tokens:manage')) return false
  if (target.scopes === null) return by.scopes === null
  return target.scopes.every((scope) => canSomewhere(world, by, scope))
}

export function mayRevoke(world: World, by: ModelToken, target: ModelToken): boolean {
  if (!isLive(world, by) || isBarred(world, by)) return false
  if (by === target) return true
  if (target.fleet !== null) return can(world, by, 'tokens:manage', target.fleet)
  if (by.person === null) return false
  if (by.person === target.person && canSomewhere(world, by, 'tokens:manage')) return true
  const roles = [...world.people[target.person!]!.roles]
  if (roles.length === 0) return can(world, by, 'users:manage', 'everywhere')
  return roles.every(
    ([place, role]) => can(world, by, 'users:manage', place) && (role !== 'owner' || isOwner(world, by)),
  )
}

/** What a token may do at the most from now on, when this one makes it. */
export function ceilingOf(world: World, by: ModelToken, fleet: Place | null): Set<string> {
  const ceiling = new Set<string>()
  for (const scope of SCOPES)
    for (const place of PLACES) {
      // A person's token follows its person about: what is bounded for good is what it may do, not where.
      const held =
        fleet === null ? canSomewhere(world, by, scope) : place === fleet && can(world, by, scope, fleet)
      if (held) ceiling.add(`${scope} ${place}`)
    }
  return ceiling
}

/** What somebody does, or what happens. Tokens are counted around: number 7 of three is the second. */
export type Step =
  | { do: 'mint'; by: number; scopes: Scope[] | undefined }
  | { do: 'mint for fleet'; by: number; fleet: (typeof FLEETS)[number]; scopes: Scope[] | undefined }
  | { do: 'rotate'; by: number; target: number; atOnce: boolean }
  | { do: 'revoke'; by: number; target: number }
  | { do: 'give role'; person: number; place: Place; role: Role }
  | { do: 'take role'; person: number; place: Place }
  | { do: 'remove person'; person: number }
  | { do: 'second factor'; person: number; on: boolean }
  | { do: 'demand second factor'; on: boolean }
  | { do: 'move fleet'; fleet: (typeof FLEETS)[number]; site: (typeof SITES)[number] }
  | { do: 'expire'; target: number }

const anyToken = fc.nat({ max: 30 })
const person = fc.constantFrom(...PEOPLE)
const scopes = fc.option(
  fc.oneof(
    fc.subarray([...SCOPES], { minLength: 1 }),
    fc.constantFrom<Scope[]>(['tokens:manage', 'robots:read'], ['robots:read'], [...SCOPES]),
  ),
  { nil: undefined },
)
const fleetScopes = fc.option(fc.subarray([...FOR_FLEETS], { minLength: 1 }), { nil: undefined })
/** Owners are owners of the whole. */
const given = fc.oneof(
  fc.record({
    place: fc.constant<Place>('everywhere'),
    role: fc.constantFrom<Role>('owner', 'admin', 'viewer'),
  }),
  fc.record({
    place: fc.constantFrom<Place>(...PLACES),
    role: fc.constantFrom<Role>('admin', 'operator', 'viewer'),
  }),
)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('mint' as const), by: anyToken, scopes }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('mint for fleet' as const),
      by: anyToken,
      fleet: fc.constantFrom(...FLEETS),
      scopes: fleetScopes,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('rotate' as const),
      by: anyToken,
      target: anyToken,
      atOnce: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: anyToken.map((by) => ({ do: 'rotate' as const, by, target: by, atOnce: true })),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('revoke' as const), by: anyToken, target: anyToken }) },
  {
    weight: 4,
    arbitrary: fc.record({ person, at: given }).map(({ person, at }) => ({
      do: 'give role' as const,
      person,
      ...at,
    })),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('take role' as const),
      person,
      place: fc.constantFrom(...PLACES),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove person' as const), person }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('second factor' as const), person, on: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('demand second factor' as const), on: fc.boolean() }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('move fleet' as const),
      fleet: fc.constantFrom(...FLEETS),
      site: fc.constantFrom(...SITES),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('expire' as const), target: anyToken }) },
)

export const steps = (length: number, shortest = 3) =>
  fc.array(step, { minLength: shortest, maxLength: length, size: 'max' })

/**
 * What a step comes to by the rules: whether it is done, and the token that it makes. Changes the world.
 */
export function take(world: World, step: Step): { done: boolean; made?: ModelToken } {
  const tokenAt = (index: number) => world.tokens[index % world.tokens.length]!
  const make = (token: Omit<ModelToken, 'revoked' | 'expired' | 'replacedBy'>) => {
    const made = { ...token, revoked: false, expired: false, replacedBy: null }
    world.tokens.push(made)
    return { done: true, made }
  }
  switch (step.do) {
    case 'mint': {
      const by = tokenAt(step.by)
      const granted = mayMint(world, by, step.scopes)
      if (!granted) return { done: false }
      const ceiling = ceilingOf(world, by, null)
      return make({ person: by.person, fleet: null, scopes: granted, ceiling })
    }
    case 'mint for fleet': {
      const by = tokenAt(step.by)
      const granted = mayMintForFleet(world, by, step.fleet, step.scopes)
      if (!granted) return { done: false }
      const ceiling = ceilingOf(world, by, step.fleet)
      return make({ person: null, fleet: step.fleet, scopes: granted, ceiling })
    }
    case 'rotate': {
      const target = tokenAt(step.target)
      if (!mayRotate(world, tokenAt(step.by), target)) return { done: false }
      target.expired = step.atOnce
      target.replacedBy = world.tokens.length
      const { person, fleet, scopes, ceiling } = target
      return make({ person, fleet, scopes, ceiling })
    }
    case 'revoke': {
      const target = tokenAt(step.target)
      if (!mayRevoke(world, tokenAt(step.by), target)) return { done: false }
      target.revoked = true
      return { done: true }
    }
    case 'give role':
      world.people[step.person]!.roles.set(step.place, step.role)
      return { done: true }
    case 'take role':
      world.people[step.person]!.roles.delete(step.place)
      return { done: true }
    case 'remove person':
      world.people[step.person]!.removed = true
      return { done: true }
    case 'second factor':
      world.people[step.person]!.factor = step.on
      return { done: true }
    case 'demand second factor':
      world.demanded = step.on
      return { done: true }
    case 'move fleet':
      world.siteOf[step.fleet] = step.site
      return { done: true }
    case 'expire':
      tokenAt(step.target).expired = true
      return { done: true }
  }
}
