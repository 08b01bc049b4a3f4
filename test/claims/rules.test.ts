import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Claims } from '../../src/claims/claims.ts'
import type { Database } from '../../src/db/database.ts'
import { hashToken, isCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'
import {
  claimCall,
  connect,
  createFleet,
  createKey,
  disconnect,
  eventsOf,
  outcomeOf,
  robotRequest,
  robotsOf,
  sha256,
  startClaims,
  type TestFleet,
  usesOf,
} from './fixture.ts'

let shared: TestDatabase
let database: Database
let claims: Claims
let fleet: TestFleet
const published: unknown[] = []

beforeAll(async () => {
  shared = await createTestDatabase()
  database = shared.database
  fleet = await createFleet(database)
  claims = startClaims(database, {
    bus: { publish: async (message) => void published.push(message) },
  })
})
afterAll(async () => {
  await claims.idle()
  await shared.drop()
})

/** A name that no other test uses, for all share one fleet. */
let count = 0
const unused = (base = 'robot') => `${base}-of-test-${++count}`

describe('a new robot', () => {
  test('gets its record, presence and timeline, and the key counts it', async () => {
    const key = await createKey(database, fleet, { labels: { line: 'A' } })
    const name = unused()
    const answer = await claims.claim(
      claimCall(
        key,
        robotRequest(name, {
          fingerprint: {
            hostname: 'host',
            machine_id: 'the machine',
            mac: 'DC:A6:32:01:02:03',
            agent_version: '1.2.3',
          },
        }),
      ),
    )
    expect(answer).toEqual({
      status: 201,
      response: {
        robot_id: expect.any(String),
        name,
        site_id: fleet.siteId,
        fleet_id: fleet.fleetId,
        heartbeat_interval_ms: 10_000,
      },
    })
    const [robot] = await robotsOf(database, key)
    expect(robot).toMatchObject({
      id: answer.response.robot_id,
      name,
      labels: { line: 'A' },
      lifecycle: 'active',
      claim_id: `claim-of-${name}`,
      token_hash: Buffer.from(sha256(`token of ${name}`), 'hex'),
      token_revoked_at: null,
      // What would identify the machine elsewhere is not kept.
      fingerprint: { hostname: 'host', mac: 'dc:a6:32', agent_version: '1.2.3' },
    })
    expect(robot!.machine_hash).not.toEqual(Buffer.from(sha256('the machine'), 'hex'))
    const status = await database
      .selectFrom('robot_status')
      .select('connection')
      .where('robot_id', '=', robot!.id)
      .executeTakeFirst()
    expect(status).toEqual({ connection: 'unseen' })
    const [event] = await database
      .selectFrom('robot_events')
      .selectAll()
      .where('robot_id', '=', robot!.id)
      .execute()
    expect(event).toMatchObject({
      code: 'enrolled',
      level: 'info',
      source: 'server',
      data: { credential_id: key.id, agent_version: '1.2.3', address: '192.0.2.1', hostname: 'host' },
    })
    expect(await usesOf(database, key)).toBe(1)
    const { last_used_at } = await database
      .selectFrom('claim_credentials')
      .select('last_used_at')
      .where('id', '=', key.id)
      .executeTakeFirstOrThrow()
    expect(last_used_at).not.toBeNull()
  })

  test('without a token hash gets a token, once', async () => {
    const key = await createKey(database, fleet)
    const request = { claim_id: unused('claim'), fingerprint: {} }
    const { status, response } = await claims.claim(claimCall(key, request))
    expect(status).toBe(201)
    expect(isCheckedToken('robot', response.robot_token!)).toBe(true)
    const [robot] = await robotsOf(database, key)
    expect(robot!.token_hash).toEqual(hashToken(response.robot_token!))
    expect(robot!.name).toBe(`robot-${robot!.id.slice(-8)}`)
    await expect(claims.claim(claimCall(key, request))).rejects.toMatchObject({
      code: 'claim_conflict',
      detail: expect.stringContaining('send token_hash'),
    })
    expect(await usesOf(database, key)).toBe(1)
  })

  test('takes the heartbeat interval of its fleet', async () => {
    const slow = await createFleet(database, 60_000)
    const key = await createKey(database, slow)
    const { response } = await claims.claim(claimCall(key, robotRequest('slow')))
    expect(response.heartbeat_interval_ms).toBe(60_000)
  })

  test('waits for approval when the key says so', async () => {
    const key = await createKey(database, fleet, { requireApproval: true })
    const { response } = await claims.claim(claimCall(key, robotRequest(unused())))
    expect((await robotsOf(database, key))[0]!.lifecycle).toBe('pending')
    expect(await eventsOf(database, response.robot_id)).toEqual(['enrolled', 'approval_requested'])
  })

  test.each([
    ['arm-7.local', 'arm-7.local'],
    ['  arm\u0007-8\u202e ', 'arm-8'],
    ['h'.repeat(253), 'h'.repeat(63)],
    [`${'h'.repeat(62)}\u{1f916}`, 'h'.repeat(62)],
  ])('is called after its host %j', async (hostname, name) => {
    const own = await createFleet(database)
    const key = await createKey(database, own)
    const { response } = await claims.claim(claimCall(key, { fingerprint: { hostname } }))
    expect(response.name).toBe(name)
  })

  test('gets a suffix when its name is taken, within one group and later', async () => {
    const own = await createFleet(database)
    const key = await createKey(database, own)
    const claim = () => claims.claim(claimCall(key, { name: 'n'.repeat(63), fingerprint: {} }))
    const first = await Promise.all(Array.from({ length: 6 }, claim))
    const later = await Promise.all(Array.from({ length: 6 }, claim))
    const names = [...first, ...later].map((answer) => answer.response.name)
    const base = 'n'.repeat(61)
    expect(names.slice(0, 9)).toEqual([
      'n'.repeat(63),
      ...[2, 3, 4, 5, 6, 7, 8, 9].map((n) => `${base}-${n}`),
    ])
    for (const name of names.slice(9)) expect(name).toMatch(/^n{56}-[0-9a-f]{6}$/)
    expect(new Set(names).size).toBe(12)
  })
})

describe('a key', () => {
  test('that nobody issued, or that has no form, is an invalid token', async () => {
    const known = await createKey(database, fleet)
    const unknown = { secret: `rf_enroll_${'0'.repeat(64)}` }
    expect(await outcomeOf(claims.claim(claimCall(unknown, robotRequest(unused()))))).toBe('invalid_token')
    const cut = { secret: known.secret.slice(0, -1) }
    expect(await outcomeOf(claims.claim(claimCall(cut, robotRequest(unused()))))).toBe('invalid_token')
  })

  test('that was deleted since it was last used is an invalid token', async () => {
    const key = await createKey(database, fleet)
    await claims.claim(claimCall(key, robotRequest(unused())))
    await database.deleteFrom('claim_credentials').where('id', '=', key.id).execute()
    expect(await outcomeOf(claims.claim(claimCall(key, robotRequest(unused()))))).toBe('invalid_token')
  })

  test('is refused once revoked, also to robots that repeat a claim', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    await claims.claim(claimCall(key, request))
    await database
      .updateTable('claim_credentials')
      .set({ revoked_at: new Date().toISOString() })
      .where('id', '=', key.id)
      .execute()
    expect(await outcomeOf(claims.claim(claimCall(key, robotRequest(unused()))))).toBe('key_revoked')
    expect(await outcomeOf(claims.claim(claimCall(key, request)))).toBe('key_revoked')
  })

  test('is refused once expired, but a lost answer can still be fetched', async () => {
    const key = await createKey(database, fleet, { expiresAt: new Date(Date.now() + 3_600_000) })
    const request = robotRequest(unused())
    expect(await outcomeOf(claims.claim(claimCall(key, request)))).toBe(201)
    await database
      .updateTable('claim_credentials')
      .set({ expires_at: new Date().toISOString() })
      .where('id', '=', key.id)
      .execute()
    expect(await outcomeOf(claims.claim(claimCall(key, robotRequest(unused()))))).toBe('key_expired')
    expect(await outcomeOf(claims.claim(claimCall(key, request)))).toBe(200)
  })

  test('that is used up admits and rebinds nobody, but repeats its answers', async () => {
    const key = await createKey(database, fleet, { maxUses: 1 })
    const request = robotRequest(unused())
    const first = await claims.claim(claimCall(key, request))
    expect(await outcomeOf(claims.claim(claimCall(key, robotRequest(unused()))))).toBe('key_exhausted')
    const again = { ...request, claim_id: unused('claim'), token_hash: sha256(unused('token')) }
    expect(await outcomeOf(claims.claim(claimCall(key, again)))).toBe('key_exhausted')
    expect(await claims.claim(claimCall(key, request))).toEqual({ status: 200, response: first.response })
    expect(await usesOf(database, key)).toBe(1)
  })

  test('admits only the addresses it names', async () => {
    const key = await createKey(database, fleet, { allowedCidrs: ['192.0.2.0/24', '2001:db8::/32'] })
    const from = (address: string) => outcomeOf(claims.claim(claimCall(key, robotRequest(unused()), address)))
    expect(await from('192.0.2.77')).toBe(201)
    expect(await from('::ffff:192.0.2.78')).toBe(201)
    expect(await from('2001:db8::1')).toBe(201)
    expect(await from('198.51.100.1')).toBe('address_not_allowed')
    expect(await from('::ffff:198.51.100.1')).toBe('address_not_allowed')
    expect(await from('2001:db9::1')).toBe('address_not_allowed')
    expect(await usesOf(database, key)).toBe(3)
  })
})

describe('a claim made again', () => {
  test('with the same token gets the same robot and burns no use', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    const first = await claims.claim(claimCall(key, request))
    const again = await Promise.all(Array.from({ length: 20 }, () => claims.claim(claimCall(key, request))))
    for (const answer of again) expect(answer).toEqual({ status: 200, response: first.response })
    expect(await usesOf(database, key)).toBe(1)
    expect(await eventsOf(database, first.response.robot_id)).toEqual(['enrolled'])
  })

  test('with another token is a conflict', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    await claims.claim(claimCall(key, request))
    const other = { ...request, token_hash: sha256(unused('token')) }
    expect(await outcomeOf(claims.claim(claimCall(key, other)))).toBe('claim_conflict')
    expect(await usesOf(database, key)).toBe(1)
  })

  test('under another key is another claim', async () => {
    const claim_id = unused('claim')
    for (const name of [unused(), unused()]) {
      const key = await createKey(database, fleet)
      expect(await outcomeOf(claims.claim(claimCall(key, robotRequest(name, { claim_id }))))).toBe(201)
    }
  })

  test('without a claim id is known by its token', async () => {
    const key = await createKey(database, fleet)
    const token_hash = sha256(unused('token'))
    const first = await claims.claim(claimCall(key, { token_hash, fingerprint: {} }))
    const again = await claims.claim(claimCall(key, { token_hash, fingerprint: {} }))
    expect(again).toEqual({ status: 200, response: first.response })
    const other = await createKey(database, await createFleet(database))
    expect(await outcomeOf(claims.claim(claimCall(other, { token_hash, fingerprint: {} })))).toBe(
      'token_hash_taken',
    )
    expect(
      await outcomeOf(
        claims.claim(claimCall(key, { token_hash, claim_id: unused('claim'), fingerprint: {} })),
      ),
    ).toBe('token_hash_taken')
  })

  test('does not bring back a token that was revoked, nor a retired robot', async () => {
    const key = await createKey(database, fleet)
    const revoked = robotRequest(unused())
    const retired = robotRequest(unused())
    const first = await claims.claim(claimCall(key, revoked))
    const second = await claims.claim(claimCall(key, retired))
    await revoke(first.response.robot_id)
    await database
      .updateTable('robots')
      .set({ lifecycle: 'retired' })
      .where('id', '=', second.response.robot_id)
      .execute()
    expect(await outcomeOf(claims.claim(claimCall(key, revoked)))).toBe('robot_revoked')
    expect(await outcomeOf(claims.claim(claimCall(key, retired)))).toBe('robot_retired')
  })
})

async function revoke(robotId: string, at = new Date()): Promise<void> {
  await database.updateTable('robots').set({ token_revoked_at: at }).where('id', '=', robotId).execute()
}

/** Another claim of the machine that made this one: as after its disk was wiped. */
function wiped(request: ReturnType<typeof robotRequest>): ReturnType<typeof robotRequest> {
  return { ...request, name: unused('other'), claim_id: unused('claim'), token_hash: sha256(unused('token')) }
}

describe('a machine that is known', () => {
  test('keeps its record and gets the new token, at no cost to the key', async () => {
    const key = await createKey(database, fleet, { labels: { line: 'A' } })
    const request = robotRequest(unused())
    const first = await claims.claim(claimCall(key, request))
    await database
      .updateTable('robots')
      .set({ labels: JSON.stringify({ own: 'label' }) })
      .where('id', '=', first.response.robot_id)
      .execute()
    const again = wiped(request)
    published.length = 0
    expect(await claims.claim(claimCall(key, again))).toEqual({ status: 200, response: first.response })
    const [robot, ...others] = await robotsOf(database, key)
    expect(others).toEqual([])
    expect(robot).toMatchObject({
      name: request.name,
      labels: { own: 'label' },
      claim_id: again.claim_id,
      token_hash: Buffer.from(again.token_hash!, 'hex'),
      lifecycle: 'active',
    })
    expect(await usesOf(database, key)).toBe(1)
    expect(await eventsOf(database, robot!.id)).toEqual(['enrolled', 'rebound'])
    expect(published).toEqual([{ type: 'robots_changed', robot_ids: [robot!.id] }])
  })

  test('is bound anew by another key of the fleet, repeatably, and counts for the key that admitted it', async () => {
    const first = await createKey(database, fleet)
    const second = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await claims.claim(claimCall(first, request))
    const again = wiped(request)
    expect(await claims.claim(claimCall(second, again))).toEqual({ status: 200, response })
    expect(await claims.claim(claimCall(second, again))).toEqual({ status: 200, response })
    const other = { ...again, token_hash: sha256(unused('token')) }
    expect(await outcomeOf(claims.claim(claimCall(second, other)))).toBe('claim_conflict')
    expect(await eventsOf(database, response.robot_id)).toEqual(['enrolled', 'rebound'])
    expect([await usesOf(database, first), await usesOf(database, second)]).toEqual([1, 0])
  })

  test('two machines cannot share a claim id, also when one was admitted by another key', async () => {
    const first = await createKey(database, fleet)
    const second = await createKey(database, fleet)
    const [a, b] = [robotRequest(unused()), robotRequest(unused())]
    await claims.claim(claimCall(first, a))
    await claims.claim(claimCall(first, b))
    const claim_id = unused('claim')
    const again = [a, b].map((request) => claims.claim(claimCall(second, { ...wiped(request), claim_id })))
    expect(await Promise.all(again.map(outcomeOf))).toEqual([200, 'claim_conflict'])
  })

  test('waits for an operator when the key says approve, or needs approval for all', async () => {
    const first = await createKey(database, fleet)
    for (const settings of [{ onExisting: 'approve' as const }, { requireApproval: true }]) {
      const request = robotRequest(unused())
      const { response } = await claims.claim(claimCall(first, request))
      const key = await createKey(database, fleet, settings)
      expect(await outcomeOf(claims.claim(claimCall(key, wiped(request))))).toBe(200)
      const robot = (await robotsOf(database, first)).find((row) => row.id === response.robot_id)
      expect(robot).toMatchObject({ lifecycle: 'pending', name: request.name })
      expect(await eventsOf(database, response.robot_id)).toEqual([
        'enrolled',
        'rebound',
        'approval_requested',
      ])
    }
  })

  test('is refused when the key says reject', async () => {
    const key = await createKey(database, fleet, { onExisting: 'reject' })
    const request = robotRequest(unused())
    await claims.claim(claimCall(key, request))
    expect(await outcomeOf(claims.claim(claimCall(key, wiped(request))))).toBe('machine_known')
    const [robot] = await robotsOf(database, key)
    expect(robot!.token_hash).toEqual(Buffer.from(request.token_hash!, 'hex'))
  })

  test.each(['rebind', 'approve', 'reject'] as const)(
    'is refused while its robot is connected, whatever the key says (%s), and the operator is told once',
    async (onExisting) => {
      const key = await createKey(database, fleet, { onExisting })
      const request = robotRequest(unused())
      const { response } = await claims.claim(claimCall(key, request))
      await connect(database, response.robot_id)
      const clones = Array.from({ length: 10 }, () => outcomeOf(claims.claim(claimCall(key, wiped(request)))))
      expect(new Set(await Promise.all(clones))).toEqual(new Set(['robot_online']))
      expect(await outcomeOf(claims.claim(claimCall(key, wiped(request))))).toBe('robot_online')
      expect(await eventsOf(database, response.robot_id)).toEqual(['enrolled', 'clone_suspected'])
      // The robot itself may still ask for an answer it lost.
      expect(await outcomeOf(claims.claim(claimCall(key, request)))).toBe(200)
    },
  )

  test('tells of clones again after a while', async () => {
    const clock = new ManualClock()
    const timed = startClaims(database, { clock })
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await timed.claim(claimCall(key, request))
    await connect(database, response.robot_id)
    await outcomeOf(timed.claim(claimCall(key, wiped(request))))
    clock.advance(9 * 60_000)
    await outcomeOf(timed.claim(claimCall(key, wiped(request))))
    expect(await eventsOf(database, response.robot_id)).toEqual(['enrolled', 'clone_suspected'])
    clock.advance(60_000)
    await outcomeOf(timed.claim(claimCall(key, wiped(request))))
    expect(await eventsOf(database, response.robot_id)).toEqual([
      'enrolled',
      'clone_suspected',
      'clone_suspected',
    ])
  })

  test('counts as connected while stale, unless the server of its session is gone', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await claims.claim(claimCall(key, request))
    const serverId = await connect(database, response.robot_id, 'stale')
    expect(await outcomeOf(claims.claim(claimCall(key, wiped(request))))).toBe('robot_online')
    await database.deleteFrom('servers').where('id', '=', serverId).execute()
    expect(await outcomeOf(claims.claim(claimCall(key, wiped(request))))).toBe(200)
  })

  test('in another fleet is another robot, unless that one is connected', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await claims.claim(claimCall(key, request))
    const other = await createKey(database, await createFleet(database))
    await connect(database, response.robot_id)
    expect(await outcomeOf(claims.claim(claimCall(other, wiped(request))))).toBe('robot_online')
    expect(await eventsOf(database, response.robot_id)).toContain('clone_suspected')
    await disconnect(database, response.robot_id)
    expect(await outcomeOf(claims.claim(claimCall(other, wiped(request))))).toBe(201)
  })

  test('whose token was revoked comes back through a key made since, and with a new token only', async () => {
    const before = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await claims.claim(claimCall(before, request))
    await revoke(response.robot_id)
    const after = await createKey(database, fleet, { createdAt: new Date(Date.now() + 60_000) })
    const again = wiped(request)
    expect(await outcomeOf(claims.claim(claimCall(before, again)))).toBe('robot_revoked')
    const revived = { ...again, token_hash: request.token_hash! }
    expect(await outcomeOf(claims.claim(claimCall(after, revived)))).toBe('token_hash_taken')
    expect(await outcomeOf(claims.claim(claimCall(after, again)))).toBe(200)
    const robot = (await robotsOf(database, before))[0]
    expect(robot).toMatchObject({ id: response.robot_id, token_revoked_at: null })
  })

  test('whose token was revoked is not let in anew by the same key when its robot is moved or retired', async () => {
    const elsewhere = await createFleet(database)
    for (const change of [
      { lifecycle: 'retired' as const },
      { site_id: elsewhere.siteId, fleet_id: elsewhere.fleetId },
    ]) {
      const key = await createKey(database, fleet)
      const request = robotRequest(unused())
      const { response } = await claims.claim(claimCall(key, request))
      await revoke(response.robot_id)
      await database.updateTable('robots').set(change).where('id', '=', response.robot_id).execute()
      expect(await outcomeOf(claims.claim(claimCall(key, wiped(request))))).toBe('robot_revoked')
      const after = await createKey(database, fleet, { createdAt: new Date(Date.now() + 60_000) })
      expect(await outcomeOf(claims.claim(claimCall(after, wiped(request))))).toBe(201)
    }
  })

  test('whose robot was retired is a new robot', async () => {
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    const { response } = await claims.claim(claimCall(key, request))
    await database
      .updateTable('robots')
      .set({ lifecycle: 'retired' })
      .where('id', '=', response.robot_id)
      .execute()
    const again = await claims.claim(claimCall(key, wiped(request)))
    expect(again.status).toBe(201)
    expect(again.response.robot_id).not.toBe(response.robot_id)
  })

  test.each(['', '  ', 'uninitialized', '00000000-0000-0000-0000-000000000000'])(
    'is not one that has no id of its own (%j)',
    async (machine_id) => {
      const key = await createKey(database, fleet)
      const answers = [robotRequest(unused()), robotRequest(unused())].map((request) =>
        outcomeOf(claims.claim(claimCall(key, { ...request, fingerprint: { machine_id } }))),
      )
      expect(await Promise.all(answers)).toEqual([201, 201])
    },
  )

  test('is told to the claimant even when other servers cannot be told', async () => {
    const lonely = startClaims(database, { bus: { publish: vi.fn().mockRejectedValue(new Error('no bus')) } })
    const key = await createKey(database, fleet)
    const request = robotRequest(unused())
    await lonely.claim(claimCall(key, request))
    expect(await outcomeOf(lonely.claim(claimCall(key, wiped(request))))).toBe(200)
  })
})
