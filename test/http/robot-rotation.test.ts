import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { hashToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { expectProblem, type Json, makeFleet, makeRobot, setStatus, useApi } from './api.ts'

const api = useApi()
const query = (text: string, values: unknown[] = []) => api().db.pool.query(text, values)
const DAY_MS = 86_400_000

/** A robot with a token of this age. */
async function robotOfAge(fleetId: string, days = 1, body: Json = {}): Promise<Json> {
  const robot = await makeRobot(api(), fleetId, body)
  await query('UPDATE robots SET token_hash = $2, token_issued_at = $3 WHERE id = $1', [
    robot.id,
    hashToken(mintCheckedToken('robot')),
    new Date(Date.now() - days * DAY_MS),
  ])
  return robot
}

const rotate = (id: string, body?: Json, token?: string) =>
  api().post(`/api/robots/${id}/rotate-token`, body, token ? { token } : {})
const rotateMany = (body: Json, token?: string) =>
  api().post('/api/robots/rotate-tokens', body, token ? { token } : {})
const rotationOf = async (id: string) => (await api().get(`/api/robots/${id}`)).body.rotation
const eventsOf = async (id: string): Promise<Json[]> =>
  (await api().get(`/api/robots/${id}/events?code=token_rotation_requested`)).body.items
const auditOf = async (id: string) =>
  (
    await query(
      `SELECT * FROM audit_log WHERE target_id = $1 AND action = 'robot.token_rotation_requested'`,
      [id],
    )
  ).rows

describe('asking one robot', () => {
  test('shows with the robot, on its timeline, in the audit log, and is told to all servers', async () => {
    const { fleet_id } = await makeFleet(api())
    const robot = await robotOfAge(fleet_id)
    expect(await rotationOf(robot.id)).toBeNull()
    const before = api().published.length
    const answer = await rotate(robot.id, { reason: 'suspicion' })
    expect(answer.status).toBe(200)
    expect(answer.body.rotation).toEqual({ requested_at: expect.any(String), reason: 'suspicion' })
    expect(await rotationOf(robot.id)).toEqual(answer.body.rotation)
    expect(api().published.slice(before)).toEqual([{ type: 'robots_changed', robot_ids: [robot.id] }])
    const events = await eventsOf(robot.id)
    expect(events).toEqual([
      expect.objectContaining({
        data: expect.objectContaining({ reason: 'suspicion', by_token: api().tokenId }),
      }),
    ])
    expect(await auditOf(robot.id)).toEqual([
      expect.objectContaining({
        actor_id: api().tokenId,
        fleet_id,
        data: expect.objectContaining({ reason: 'suspicion' }),
      }),
    ])
  })

  test('needs no body, and renews a request when it is made again', async () => {
    const { fleet_id } = await makeFleet(api())
    const robot = await robotOfAge(fleet_id)
    const first = await rotate(robot.id)
    expect(first.body.rotation.reason).toBe('operator')
    const second = await rotate(robot.id, {})
    expect(Date.parse(second.body.rotation.requested_at)).toBeGreaterThanOrEqual(
      Date.parse(first.body.rotation.requested_at),
    )
    expect(await eventsOf(robot.id)).toHaveLength(2)
  })

  test('is refused where there is no token to rotate', async () => {
    const { fleet_id } = await makeFleet(api())
    const never = await makeRobot(api(), fleet_id)
    expectProblem(await rotate(never.id), 409, 'robot_without_token')
    const revoked = await robotOfAge(fleet_id)
    await api().post(`/api/robots/${revoked.id}/revoke-token`)
    expectProblem(await rotate(revoked.id), 409, 'robot_without_token')
    const retired = await robotOfAge(fleet_id)
    await api().post(`/api/robots/${retired.id}/retire`)
    expectProblem(await rotate(retired.id), 409, 'robot_is_retired')
    expectProblem(await rotate(newId()), 404, 'not_found')
    expectProblem(await rotate(revoked.id, { reason: 'age' }), 400, 'invalid_request')
  })

  test('a request ends with the token it was for', async () => {
    const { fleet_id } = await makeFleet(api())
    const robot = await robotOfAge(fleet_id)
    await rotate(robot.id)
    await api().post(`/api/robots/${robot.id}/revoke-token`)
    expect(await rotationOf(robot.id)).toBeNull()
  })

  test('is for those who may change robots, in their fleets', async () => {
    const own = await makeFleet(api())
    const foreign = await makeFleet(api())
    const inside = await robotOfAge(own.fleet_id)
    const outside = await robotOfAge(foreign.fleet_id)
    const { database } = api().db
    const viewer = await insertPerson(database, [{ role: 'viewer', fleetId: own.fleet_id }])
    const { token: seeing } = await insertPersonalToken(database, viewer)
    const { token: acting } = await insertFleetToken(database, own.fleet_id, {
      scopes: ['robots:read', 'robots:write'],
    })
    expectProblem(await rotate(inside.id, {}, seeing), 403, 'insufficient_scope')
    expectProblem(await rotate(outside.id, {}, seeing), 403, 'insufficient_scope')
    expect((await rotate(inside.id, {}, acting)).status).toBe(200)
    expectProblem(await rotate(outside.id, {}, acting), 404, 'not_found')
    expect(await rotationOf(outside.id)).toBeNull()
  })
})

describe('asking many robots', () => {
  test('a dry run names them and changes nothing', async () => {
    const { fleet_id } = await makeFleet(api())
    const robots = [await robotOfAge(fleet_id, 3), await robotOfAge(fleet_id, 2)]
    await makeRobot(api(), fleet_id)
    const before = api().published.length
    const { body } = await rotateMany({ filter: { fleet: fleet_id }, dry_run: true })
    expect(body).toMatchObject({ dry_run: true, matched: 2, requested: 2 })
    expect(body.robots.map(({ id }: Json) => id).sort()).toEqual(robots.map(({ id }) => id).sort())
    for (const { id } of robots) {
      expect(await rotationOf(id)).toBeNull()
      expect(await eventsOf(id)).toEqual([])
      expect(await auditOf(id)).toEqual([])
    }
    expect(api().published.slice(before)).toEqual([])
  })

  test('asks exactly those that a dry run names', async () => {
    const { fleet_id, site_id } = await makeFleet(api())
    const old = await robotOfAge(fleet_id, 40, { labels: { floor: '2' } })
    const young = await robotOfAge(fleet_id, 2, { labels: { floor: '2' } })
    const elsewhere = await robotOfAge(fleet_id, 40, { labels: { floor: '3' } })
    const online = await robotOfAge(fleet_id, 1)
    await setStatus(api(), online.id, { connection: 'online' })
    const cases: [Json, Json[]][] = [
      [{ fleet: fleet_id, label: ['floor=2'] }, [old, young]],
      [{ site: site_id, token_older_than_days: 30 }, [old, elsewhere]],
      [{ fleet: fleet_id, label: ['floor=2'], token_older_than_days: 30 }, [old]],
      [{ fleet: fleet_id, label: ['floor'] }, [old, young, elsewhere]],
      [{ fleet: fleet_id, connection: ['online'] }, [online]],
      [{ fleet: fleet_id, lifecycle: ['maintenance'] }, []],
      [{ fleet: newId() }, []],
    ]
    for (const [filter, expected] of cases) {
      await query('UPDATE robots SET rotation_requested_at = NULL, rotation_reason = NULL')
      const dry = await rotateMany({ filter, dry_run: true })
      const done = await rotateMany({ filter })
      expect(done.body).toEqual({ ...dry.body, dry_run: false })
      const { rows } = await query('SELECT id FROM robots WHERE rotation_requested_at IS NOT NULL')
      expect(rows.map(({ id }) => id).sort()).toEqual(expected.map(({ id }) => id).sort())
    }
  })

  test('leaves out those that are asked already when told to', async () => {
    const { fleet_id } = await makeFleet(api())
    const [asked, other] = [await robotOfAge(fleet_id), await robotOfAge(fleet_id)]
    await rotate(asked.id)
    const { body } = await rotateMany({ filter: { fleet: fleet_id, not_requested: true } })
    expect(body.robots.map(({ id }: Json) => id)).toEqual([other.id])
  })

  test('writes a line of the audit log and of the timeline for each, and tells of all', async () => {
    const { fleet_id } = await makeFleet(api())
    const robots = await Promise.all(Array.from({ length: 130 }, () => robotOfAge(fleet_id)))
    const before = api().published.length
    const { body } = await rotateMany({ filter: { fleet: fleet_id }, reason: 'suspicion' })
    expect(body).toMatchObject({ matched: 130, requested: 130 })
    expect(body.robots).toHaveLength(100)
    const told = api()
      .published.slice(before)
      .flatMap((message) => message.robot_ids)
    expect(told.sort()).toEqual(robots.map(({ id }) => id).sort())
    for (const { id } of robots.slice(0, 3)) {
      expect(await eventsOf(id)).toHaveLength(1)
      expect(await auditOf(id)).toHaveLength(1)
    }
  })

  test('asks nobody out of reach, whatever the filter says', async () => {
    const own = await makeFleet(api())
    const foreign = await makeFleet(api())
    const inside = await robotOfAge(own.fleet_id)
    const outside = await robotOfAge(foreign.fleet_id)
    const { database } = api().db
    const { token } = await insertFleetToken(database, own.fleet_id, {
      scopes: ['robots:read', 'robots:write'],
    })
    for (const chosen of [{ filter: {} }, { ids: [inside.id, outside.id, newId()] }]) {
      const { body } = await rotateMany(chosen, token)
      expect(body).toMatchObject({ matched: 1, requested: 1 })
      expect(body.robots[0].id).toBe(inside.id)
    }
    expect((await rotateMany({ filter: { fleet: foreign.fleet_id } }, token)).body.matched).toBe(0)
    expect(await rotationOf(outside.id)).toBeNull()
    const { token: reading } = await insertFleetToken(database, own.fleet_id, { scopes: ['robots:read'] })
    expectProblem(await rotateMany({ filter: {} }, reading), 403, 'insufficient_scope')
  })

  test('wants a filter that it knows all of', async () => {
    for (const body of [
      {},
      { filter: { colour: 'red' } },
      { ids: [] },
      { ids: [newId()], filter: {} },
      { filter: {}, force: true },
    ])
      expectProblem(await rotateMany(body), 400, 'invalid_request')
  })

  test('sent again with the same key asks nobody twice', async () => {
    const { fleet_id } = await makeFleet(api())
    const robot = await robotOfAge(fleet_id)
    const headers = { 'idempotency-key': newId() }
    const first = await api().post('/api/robots/rotate-tokens', { filter: { fleet: fleet_id } }, { headers })
    const again = await api().post('/api/robots/rotate-tokens', { filter: { fleet: fleet_id } }, { headers })
    expect(again.body).toEqual(first.body)
    expect(await eventsOf(robot.id)).toHaveLength(1)
  })
})
