import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Claim, Outcome } from '../../src/claims/decide.ts'
import { type ModelKey, type ModelRobot, modelClaim } from './claim-model.ts'
import { RobotStore } from './robot-store.ts'

interface Wish {
  readonly name: string
  readonly claimId: string | undefined
  readonly token: string | undefined
  readonly machine: string | undefined
}

// Few values of each kind, so that claims get in each other's way all the time.
const wish: fc.Arbitrary<Wish> = fc.record({
  name: fc.constantFrom('arm', 'arm-2', 'arm-9', 'cart'),
  claimId: fc.option(fc.constantFrom('c1', 'c2', 'c3', 'c4'), { nil: undefined }),
  token: fc.option(fc.constantFrom('t1', 't2', 't3', 't4', 't5'), { nil: undefined }),
  machine: fc.option(fc.constantFrom('m1', 'm2', 'm3'), { nil: undefined }),
})

const keyIndex = fc.nat(20)
const robotIndex = fc.nat(40)
const step = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('claim' as const),
      key: keyIndex,
      wishes: fc.array(wish, { minLength: 1, maxLength: 20 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('connect' as const, 'disconnect' as const),
      robot: robotIndex,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('revoke' as const, 'retire' as const), robot: robotIndex }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('move' as const), robot: robotIndex }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('setup token' as const), robot: robotIndex }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('maintain' as const), robot: robotIndex }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('wait' as const), minutes: fc.integer({ min: 1, max: 50 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revoke key' as const), key: keyIndex }) },
)

type NewKey = Omit<ModelKey, 'id' | 'uses' | 'revoked' | 'successes'>

const kindOfKey = fc.oneof(
  fc.record({
    kind: fc.constant('enrollment_key' as const),
    once: fc.constant(false),
    maxUses: fc.integer({ min: 1, max: 12 }),
  }),
  fc.record({
    kind: fc.constant('provisioning_token' as const),
    once: fc.boolean(),
    maxUses: fc.constant(Number.POSITIVE_INFINITY),
  }),
)
const policies = fc.record({
  fleet: fc.constantFrom('f1', 'f1', 'f2'),
  onExisting: fc.constantFrom('rebind' as const, 'rebind' as const, 'approve' as const, 'reject' as const),
  requireApproval: fc.boolean(),
  createdAt: fc.constantFrom(0, 60),
  expiresAt: fc.constantFrom(70, 1_000),
})
const newKey: fc.Arbitrary<NewKey> = fc
  .tuple(kindOfKey, policies)
  .map(([kind, policy]) => ({ ...policy, ...kind }))

const MINUTE = 60_000

interface World {
  readonly store: RobotStore
  readonly model: ModelRobot[]
  readonly keys: ModelKey[]
  now: number
}

function world(keys: readonly NewKey[]): World {
  const at: World = { store: new RobotStore(), model: [], keys: [], now: 0 }
  for (const key of keys) addKey(at, key)
  return at
}

/** A robot that an operator made beforehand, in either fleet. */
function addHandMade(at: World, fleet: string): void {
  const id = `by-hand-in-${fleet}`
  at.model.push({
    id,
    fleet,
    name: 'by hand',
    lifecycle: 'active',
    lifecycleBefore: undefined,
    admittedBy: undefined,
    claimedWith: undefined,
    claimId: undefined,
    token: undefined,
    tokenRevokedAt: undefined,
    machine: undefined,
    connected: false,
  })
  at.store.robots.set(id, {
    id,
    siteId: 's',
    fleetId: fleet,
    heartbeatIntervalMs: null,
    name: 'by hand',
    lifecycle: 'active',
    lifecycleBefore: null,
    credentialId: null,
    tokenCredentialId: null,
    claimId: null,
    tokenHash: null,
    nextTokenHash: null,
    tokenRevokedAt: null,
    machineHash: null,
    connected: false,
  })
}

function addKey(at: World, newKey: NewKey): void {
  const key: ModelKey = { ...newKey, id: `k${at.keys.length}`, uses: 0, successes: 0, revoked: false }
  at.keys.push(key)
  at.store.keys.set(key.id, {
    id: key.id,
    kind: key.kind,
    name: key.id,
    siteId: 's',
    fleetId: key.fleet,
    heartbeatIntervalMs: null,
    maxUses: key.maxUses === Number.POSITIVE_INFINITY ? null : key.maxUses,
    uses: 0,
    singleUse: key.once,
    robotId: key.robot ?? null,
    labels: {},
    allowedCidrs: [],
    requireApproval: key.requireApproval,
    onExisting: key.onExisting,
    createdAt: new Date(key.createdAt * MINUTE),
    expiresAt: new Date(key.expiresAt * MINUTE),
    revokedAt: null,
  })
}

function revokeKey(at: World, key: ModelKey): void {
  if (key.revoked) return
  key.revoked = true
  const stored = at.store.keys.get(key.id)!
  at.store.keys.set(key.id, { ...stored, revokedAt: stored.revokedAt ?? new Date(at.now * MINUTE) })
}

function ready(wishes: readonly Wish[], from: number): Claim[] {
  return wishes.map(({ name, claimId, token, machine }, index) => {
    const robotId = `robot-${String(from + index).padStart(12, '0')}`
    return {
      robotId,
      name,
      claimId,
      tokenHash: token ?? `minted for ${robotId}`,
      minted: token === undefined,
      machineHash: machine,
      address: '192.0.2.1',
      requestId: 'request',
      fingerprint: {},
    }
  })
}

function inWords(outcome: Outcome): string {
  if (outcome.kind === 'refused') return outcome.code
  const { id, name } = outcome.robot
  return outcome.kind === 'admitted' ? `admitted ${id} as ${name}` : `${outcome.kind} ${id}`
}

/** What an operator or a robot does between claims, in the model; the store follows. */
function happen(at: World, event: { do: string; robot?: number; key?: number; minutes?: number }): void {
  const robot = event.robot === undefined ? undefined : at.model[event.robot % (at.model.length || 1)]
  if (event.do === 'wait') at.now += event.minutes!
  if (event.do === 'revoke key') revokeKey(at, at.keys[event.key! % at.keys.length]!)
  if (!robot) return
  if (event.do === 'setup token') {
    for (const key of at.keys) if (key.robot === robot.id && key.successes === 0) revokeKey(at, key)
    addKey(at, {
      kind: 'setup_token',
      once: false,
      robot: robot.id,
      fleet: robot.fleet,
      maxUses: 1,
      onExisting: 'reject',
      requireApproval: false,
      createdAt: at.now,
      expiresAt: at.now + 60,
    })
  }
  if (event.do === 'maintain' && robot.lifecycle === 'active') robot.lifecycle = 'maintenance'
  if (event.do === 'connect')
    robot.connected =
      robot.token !== undefined && robot.tokenRevokedAt === undefined && robot.lifecycle !== 'retired'
  if (event.do === 'disconnect') robot.connected = false
  if (event.do === 'retire') Object.assign(robot, { lifecycle: 'retired', connected: false })
  if (event.do === 'revoke' && robot.token !== undefined)
    Object.assign(robot, { tokenRevokedAt: robot.tokenRevokedAt ?? at.now, connected: false })
  if (event.do === 'move') {
    const fleet = robot.fleet === 'f1' ? 'f2' : 'f1'
    const taken = at.model.some(
      (other) =>
        other.fleet === fleet &&
        (other.name === robot.name || (robot.machine !== undefined && other.machine === robot.machine)),
    )
    if (!taken) robot.fleet = fleet
  }
  at.store.robots.set(robot.id, {
    ...at.store.robots.get(robot.id)!,
    fleetId: robot.fleet,
    lifecycle: robot.lifecycle,
    tokenRevokedAt: robot.tokenRevokedAt === undefined ? null : new Date(robot.tokenRevokedAt * MINUTE),
    connected: robot.connected,
  })
}

function storedRobots(store: RobotStore) {
  return [...store.robots.values()]
    .map((robot) => ({
      id: robot.id,
      fleet: robot.fleetId,
      name: robot.name,
      lifecycle: robot.lifecycle,
      lifecycleBefore: robot.lifecycleBefore ?? undefined,
      admittedBy: robot.credentialId ?? undefined,
      claimedWith: robot.tokenCredentialId ?? undefined,
      claimId: robot.claimId?.split('/').at(-1),
      token: robot.tokenHash ?? undefined,
      tokenRevokedAt: robot.tokenRevokedAt === null ? undefined : robot.tokenRevokedAt.getTime() / MINUTE,
      machine: robot.machineHash ?? undefined,
      connected: robot.connected,
    }))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
}

function modelRobots(model: readonly ModelRobot[]) {
  return [...model].sort((a, b) => (a.id < b.id ? -1 : 1))
}

test('claims decided in groups come out as claims decided one after the other', () => {
  fc.assert(
    fc.property(
      fc.array(newKey, { minLength: 3, maxLength: 3 }),
      fc.array(step, { maxLength: 12 }),
      (keys, steps) => {
        const at = world(keys)
        for (const fleet of ['f1', 'f2']) addHandMade(at, fleet)
        let made = 0
        for (const next of steps) {
          if (next.do !== 'claim') {
            happen(at, next)
            continue
          }
          const key = at.keys[next.key % at.keys.length]!
          const claims = ready(next.wishes, made)
          made += claims.length
          const grouped = at.store.claim(key.id, claims, new Date(at.now * MINUTE)).map(inWords)
          expect(grouped).toEqual(claims.map((claim) => modelClaim(at.model, key, claim, at.now)))
          expect(storedRobots(at.store)).toEqual(modelRobots(at.model))
          const stored = at.store.keys.get(key.id)!
          expect(stored.uses).toBe(key.kind === 'setup_token' ? key.successes : key.uses)
          expect(stored.revokedAt !== null).toBe(key.revoked || (key.once && key.successes > 0))
        }
      },
    ),
    { numRuns: 600 },
  )
})

test('where a group is split makes no difference', () => {
  fc.assert(
    fc.property(
      newKey,
      fc.array(wish, { minLength: 2, maxLength: 30 }),
      fc.array(fc.nat(30)),
      (key, wishes, cuts) => {
        const claims = ready(wishes, 0)
        const whole = world([key])
        const split = world([key])
        const ends = [...new Set([...cuts.map((cut) => cut % claims.length), claims.length])].sort(
          (a, b) => a - b,
        )
        const now = new Date(0)
        const inOne = whole.store.claim('k0', claims, now)
        const inParts = ends.flatMap((end, index) =>
          split.store.claim('k0', claims.slice(ends[index - 1] ?? 0, end), now),
        )
        expect(inParts.map(inWords)).toEqual(inOne.map(inWords))
        expect(storedRobots(split.store)).toEqual(storedRobots(whole.store))
        expect(split.store.events.map((event) => event.code)).toEqual(
          whole.store.events.map((event) => event.code),
        )
      },
    ),
    { numRuns: 600 },
  )
})

test('a key admits the claims that came first', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 60 }), (maxUses, count) => {
      const at = world([
        {
          kind: 'enrollment_key',
          once: false,
          fleet: 'f1',
          maxUses,
          onExisting: 'rebind',
          requireApproval: false,
          createdAt: 0,
          expiresAt: 9,
        },
      ])
      const wishes = Array.from({ length: count }, (_, index) => ({
        name: 'arm',
        claimId: `c${index}`,
        token: `t${index}`,
        machine: `m${index}`,
      }))
      const kinds = at.store.claim('k0', ready(wishes, 0), new Date(0)).map((outcome) => outcome.kind)
      const granted = Math.min(maxUses, count)
      expect(kinds).toEqual([...Array(granted).fill('admitted'), ...Array(count - granted).fill('refused')])
      expect(at.store.robots.size).toBe(granted)
    }),
  )
})
