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

const keyIndex = fc.nat(2)
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
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('wait' as const), minutes: fc.integer({ min: 1, max: 50 }) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('revoke key' as const), key: keyIndex }) },
)

type NewKey = Omit<ModelKey, 'id' | 'uses' | 'revoked'>

const newKey: fc.Arbitrary<NewKey> = fc.record({
  fleet: fc.constantFrom('f1', 'f1', 'f2'),
  maxUses: fc.integer({ min: 1, max: 12 }),
  onExisting: fc.constantFrom('rebind' as const, 'rebind' as const, 'approve' as const, 'reject' as const),
  requireApproval: fc.boolean(),
  createdAt: fc.constantFrom(0, 60),
  expiresAt: fc.constantFrom(70, 1_000),
})

const MINUTE = 60_000

interface World {
  readonly store: RobotStore
  readonly model: ModelRobot[]
  readonly keys: ModelKey[]
  now: number
}

function world(keys: readonly NewKey[]): World {
  const store = new RobotStore()
  const modelKeys = keys.map((key, index) => ({ ...key, id: `k${index}`, uses: 0, revoked: false }))
  for (const key of modelKeys)
    store.keys.set(key.id, {
      id: key.id,
      siteId: 's',
      fleetId: key.fleet,
      heartbeatIntervalMs: null,
      maxUses: key.maxUses,
      uses: 0,
      labels: {},
      allowedCidrs: [],
      requireApproval: key.requireApproval,
      onExisting: key.onExisting,
      createdAt: new Date(key.createdAt * MINUTE),
      expiresAt: new Date(key.expiresAt * MINUTE),
      revokedAt: null,
    })
  return { store, model: [], keys: modelKeys, now: 0 }
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
  if (event.do === 'revoke key') {
    const key = at.keys[event.key!]!
    key.revoked = true
    at.store.keys.set(key.id, { ...at.store.keys.get(key.id)!, revokedAt: new Date(at.now * MINUTE) })
  }
  if (!robot) return
  if (event.do === 'connect')
    robot.connected = robot.tokenRevokedAt === undefined && robot.lifecycle !== 'retired'
  if (event.do === 'disconnect') robot.connected = false
  if (event.do === 'retire') Object.assign(robot, { lifecycle: 'retired', connected: false })
  if (event.do === 'revoke')
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
      admittedBy: robot.credentialId,
      claimId: robot.claimId?.split('/').at(-1),
      token: robot.tokenHash,
      tokenRevokedAt: robot.tokenRevokedAt === null ? undefined : robot.tokenRevokedAt.getTime() / MINUTE,
      machine: robot.machineHash ?? undefined,
      connected: robot.connected,
    }))
    .sort((a, b) => (a.id < b.id ? -1 : 1))
}

function modelRobots(model: readonly ModelRobot[]) {
  return model.map(({ claimedWith: _, ...robot }) => robot).sort((a, b) => (a.id < b.id ? -1 : 1))
}

test('claims decided in groups come out as claims decided one after the other', () => {
  fc.assert(
    fc.property(
      fc.array(newKey, { minLength: 3, maxLength: 3 }),
      fc.array(step, { maxLength: 12 }),
      (keys, steps) => {
        const at = world(keys)
        let made = 0
        for (const next of steps) {
          if (next.do !== 'claim') {
            happen(at, next)
            continue
          }
          const key = at.keys[next.key]!
          const claims = ready(next.wishes, made)
          made += claims.length
          const grouped = at.store.claim(key.id, claims, new Date(at.now * MINUTE)).map(inWords)
          expect(grouped).toEqual(claims.map((claim) => modelClaim(at.model, key, claim, at.now)))
          expect(storedRobots(at.store)).toEqual(modelRobots(at.model))
          expect(at.store.keys.get(key.id)!.uses).toBe(key.uses)
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
        { fleet: 'f1', maxUses, onExisting: 'rebind', requireApproval: false, createdAt: 0, expiresAt: 9 },
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
