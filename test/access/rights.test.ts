import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Place as RealPlace } from '../../src/access/authority.ts'
import { demandOwnRights, demandRightsAt, fleetScopesOf, scopesOf } from '../../src/access/minting.ts'
import { type Principal, principalOfToken, rolesAt } from '../../src/access/principal.ts'
import { rangesWithin } from '../../src/access/ranges.ts'
import { addressRule } from '../../src/addresses.ts'
import { BeaconError } from '../../src/errors.ts'
import {
  can,
  canSomewhere,
  firstWorld,
  isBarred,
  isLive,
  isOwner,
  type ModelToken,
  mayRevoke,
  PLACES,
  type Place,
  SCOPES,
  steps,
  take,
  type World,
} from './rights-model.ts'

function realPlace(world: World, place: Place): RealPlace {
  if (place === 'everywhere') return { siteId: null, fleetId: null }
  if (place.startsWith('s')) return { siteId: place, fleetId: null }
  return { siteId: world.siteOf[place]!, fleetId: place }
}

function rolesOf(world: World, person: number) {
  return [...world.people[person]!.roles].map(([place, role]) => ({ role, ...realPlace(world, place) }))
}

/** What the code makes of a token in this world, as it would find it in the database. */
function realPrincipal(world: World, token: ModelToken): Principal | undefined {
  const person = token.person === null ? undefined : world.people[token.person]!
  const found = principalOfToken({
    id: String(world.tokens.indexOf(token)),
    kind: person ? 'personal' : 'fleet',
    name: 'token',
    scopes: token.scopes,
    allowedCidrs: [],
    expiresAt: null,
    revoked: token.revoked,
    expired: token.expired,
    userId: token.person === null ? null : String(token.person),
    userName: null,
    userRemoved: person?.removed ?? false,
    hasSecondFactor: person?.factor ?? false,
    secondFactorRequired: world.demanded,
    siteId: token.fleet === null ? null : world.siteOf[token.fleet]!,
    fleetId: token.fleet,
    roles: token.person === null ? [] : rolesOf(world, token.person),
  })
  return found instanceof BeaconError ? undefined : found
}

/** Whether the code lets it pass. */
function passes(judge: () => void): boolean {
  try {
    judge()
    return true
  } catch (error) {
    if (error instanceof BeaconError) return false
    throw error
  }
}

/** Every token does what the rules say, no more and no less, and never more than whoever made it held then. */
function compareRights(world: World): void {
  const wrong: string[] = []
  world.tokens.forEach((token, index) => {
    const principal = realPrincipal(world, token)
    const compare = (what: string, code: boolean, rules: boolean) => {
      if (code !== rules) wrong.push(`token ${index}: ${what} is ${code}`)
    }
    compare('stands', principal !== undefined, isLive(world, token))
    compare('is barred', principal?.barred !== undefined, isLive(world, token) && isBarred(world, token))
    compare('is an owner', principal?.authority.isOwner ?? false, isOwner(world, token))
    for (const scope of SCOPES) {
      compare(`holds ${scope}`, principal?.authority.holds(scope) ?? false, canSomewhere(world, token, scope))
      for (const place of PLACES) {
        const covers = principal?.authority.covers(scope, realPlace(world, place)) ?? false
        compare(`${scope} at ${place}`, covers, can(world, token, scope, place))
        if (covers && !token.ceiling.has(`${scope} ${place}`))
          wrong.push(`token ${index}: ${scope} at ${place} is more than whoever made it held`)
      }
    }
  })
  expect(wrong).toEqual([])
}

/** What the code says to making or taking over a token, asked before the rules are. */
function realAnswer(world: World, step: Parameters<typeof take>[1]): boolean | undefined {
  const tokenAt = (index: number) => world.tokens[index % world.tokens.length]!
  if (step.do === 'mint' || step.do === 'mint for fleet' || step.do === 'revoke') {
    const by = realPrincipal(world, tokenAt(step.by))
    if (!by || by.barred) return false
    if (step.do === 'mint')
      return (
        by.userId !== null &&
        by.authority.holds('tokens:manage') &&
        passes(() => demandOwnRights(by, { scopes: step.scopes ?? scopesOf(by), allowedCidrs: [] }))
      )
    if (step.do === 'mint for fleet') {
      const fleet = realPlace(world, step.fleet)
      const scopes = step.scopes ?? fleetScopesOf(by, fleet)
      return (
        by.authority.covers('tokens:manage', fleet) &&
        scopes.length > 0 &&
        passes(() => demandRightsAt(by, { scopes, allowedCidrs: [] }, fleet))
      )
    }
    const target = tokenAt(step.target)
    if (target.person === null || target.person === tokenAt(step.by).person) return undefined
    return by.userId !== null && by.authority.manages(rolesAt(rolesOf(world, target.person)))
  }
  return undefined
}

describe('no sequence of making, rotating, demoting, promoting, removing, moving and revoking', () => {
  test('lets a token do anything but what the rules say', () => {
    let made = 0
    let refused = 0
    fc.assert(
      fc.property(steps(40), (sequence) => {
        const world = firstWorld()
        for (const step of sequence) {
          const answer = realAnswer(world, step)
          const { done } = take(world, step)
          if (answer !== undefined) expect(answer, JSON.stringify(step)).toBe(done)
          if (step.do === 'mint') {
            if (done) made += 1
            else refused += 1
          }
          compareRights(world)
        }
      }),
      { numRuns: 150 },
    )
    // Both happened often enough to mean something.
    expect(made).toBeGreaterThan(100)
    expect(refused).toBeGreaterThan(100)
  })
})

test('the model tells apart who may revoke whose', () => {
  const world = firstWorld()
  const [owner, admin, operator] = world.tokens as [ModelToken, ModelToken, ModelToken]
  expect(mayRevoke(world, owner, admin)).toBe(true)
  expect(mayRevoke(world, admin, operator)).toBe(true)
  expect(mayRevoke(world, admin, owner)).toBe(false)
  expect(mayRevoke(world, operator, admin)).toBe(false)
})

describe('ranges that lie within others', () => {
  const cidr = fc
    .record({
      base: fc.tuple(fc.constantFrom(10, 11), fc.nat(3), fc.nat(3), fc.nat(255)),
      bits: fc.integer({ min: 6, max: 32 }),
      mapped: fc.boolean(),
    })
    .map(({ base, bits, mapped }) =>
      mapped ? `::ffff:${base.join('.')}/${bits + 96}` : `${base.join('.')}/${bits}`,
    )

  test('admit no address that the others do not', () => {
    const address = fc
      .tuple(fc.constantFrom(8, 10, 11, 12), fc.nat(255), fc.nat(3), fc.nat(255))
      .map((parts) => parts.join('.'))
    let within = 0
    fc.assert(
      fc.property(
        fc.array(cidr, { minLength: 1, maxLength: 3 }),
        fc.array(cidr, { minLength: 1, maxLength: 3 }),
        fc.array(address, { minLength: 20, maxLength: 20 }),
        (inner, outer, addresses) => {
          if (!rangesWithin(inner, outer)) return
          within += 1
          const [isInner, isOuter] = [addressRule(inner), addressRule(outer)]
          for (const each of addresses) if (isInner(each)) expect(isOuter(each), each).toBe(true)
        },
      ),
      { numRuns: 2_000 },
    )
    expect(within).toBeGreaterThan(50)
  })

  test('are themselves', () => {
    fc.assert(
      fc.property(fc.array(cidr, { minLength: 1, maxLength: 4 }), (ranges) => {
        expect(rangesWithin(ranges, ranges)).toBe(true)
        expect(rangesWithin(ranges, [])).toBe(true)
        expect(rangesWithin([], ranges)).toBe(false)
      }),
    )
  })

  test.each([
    [['10.0.0.0/8'], ['10.0.0.0/7'], true],
    [['10.0.0.0/7'], ['10.0.0.0/8'], false],
    [['::ffff:10.1.0.0/112'], ['10.0.0.0/8'], true],
    [['10.1.2.3'], ['::ffff:10.0.0.0/104'], true],
    [['::/0'], ['0.0.0.0/0'], false],
    [['0.0.0.0/0'], ['::/0'], false],
    [['::ffff:0.0.0.0/90'], ['0.0.0.0/0'], false],
    [['2001:db8::1'], ['2001:db8::/32'], true],
    [['2001:db9::/32'], ['2001:db8::/31'], true],
    [['2001:db9::/32'], ['2001:db8::/32', '10.0.0.0/8'], false],
  ])('%j within %j: %s', (inner, outer, expected) => {
    expect(rangesWithin(inner, outer)).toBe(expected)
  })
})
