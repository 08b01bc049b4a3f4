import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { lockRobot, revokeRobotTokens } from '../../src/db/robots.ts'
import { newId } from '../../src/ids.ts'
import { claimCredentialKind, hashToken } from '../../src/protocol/tokens.ts'
import { meanwhile } from '../claims/waiting.ts'
import { insertFleetToken } from '../support/access.ts'
import { expectProblem, type Json, makeFleet, makeRobot, setStatus, unique } from './api.ts'
import { auditOf, type ClaimingApi, machine, sha256, startClaimingApi } from './claiming.ts'

let api: ClaimingApi
beforeAll(async () => {
  api = await startClaimingApi()
})
afterAll(() => api.close())

async function setupToken(robotId: string): Promise<Json> {
  const answer = await api.post(`/api/robots/${robotId}/setup-token`)
  expect(answer.status).toBe(201)
  return answer.body
}

const credential = async (id: string) =>
  (await api.db.pool.query('SELECT * FROM claim_credentials WHERE id = $1', [id])).rows[0]
const robotOf = async (id: string) =>
  (await api.db.pool.query('SELECT * FROM robots WHERE id = $1', [id])).rows[0]

/** Claims compare times by the millisecond. */
async function millisecondPassed(database: Database): Promise<void> {
  const now = async () => {
    const { rows } = await sql<{ now: number }>`
      SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now
    `.execute(database)
    return rows[0]!.now
  }
  const before = await now()
  while ((await now()) === before);
}

describe('a setup token', () => {
  test('is 64 characters that are shown once, with the command to run and the address of the server', async () => {
    const robot = await makeRobot(api)
    const headers = { host: 'beacon.example:8080', 'idempotency-key': newId() }
    const send = () => api.post(`/api/robots/${robot.id}/setup-token`, {}, { headers })
    const { status, body } = await send()
    expect(status).toBe(201)
    expect(claimCredentialKind(body.setup_token)).toBe('setup_token')
    expect(body.setup_token).toHaveLength(64)
    expect(body).toEqual({
      id: expect.any(String),
      robot_id: robot.id,
      setup_token: body.setup_token,
      setup_command: `curl -fsSL http://beacon.example:8080/install.sh | sh -s -- --setup-token ${body.setup_token}`,
      created_at: expect.any(String),
      expires_at: expect.any(String),
    })
    expect(Date.parse(body.expires_at) - Date.parse(body.created_at)).toBe(3_600_000)
    expect((await send()).body).toEqual({ ...body, setup_token: null, setup_command: null })
    const kept = await credential(body.id)
    expect(kept.secret_hash).toEqual(hashToken(body.setup_token))
    expect(kept.secret_sealed).toBeNull()
    const told = [
      api.logged,
      await auditOf(api, robot.id),
      (await api.get(`/api/robots/${robot.id}/events`)).body,
    ]
    expect(JSON.stringify(told)).not.toContain(body.setup_token.slice(9))
  })

  test('binds its very robot, under the name it has, and says so in the audit log', async () => {
    const robot = await makeRobot(api, undefined, { name: 'Dock 4', labels: { line: 'A' } })
    const { id, setup_token } = await setupToken(robot.id)
    const request = machine(unique('machine'), { name: 'another name' })
    const answer = await api.claim(setup_token, request)
    expect(answer.status).toBe(201)
    expect(answer.body).toMatchObject({
      robot_id: robot.id,
      name: 'Dock 4',
      site_id: robot.site_id,
      fleet_id: robot.fleet_id,
    })
    const shown = (await api.get(`/api/robots/${robot.id}`)).body
    expect(shown).toMatchObject({
      name: 'Dock 4',
      labels: { line: 'A' },
      lifecycle: 'active',
      credential_id: null,
      token_credential_id: id,
      enrolled_at: expect.any(String),
      token_issued_at: expect.any(String),
      fingerprint: { hostname: request.fingerprint.hostname },
    })
    const { token_hash, machine_hash } = await robotOf(robot.id)
    expect(token_hash.toString('hex')).toBe(request.token_hash)
    expect(machine_hash).not.toBeNull()
    expect(await auditOf(api, robot.id)).toMatchObject([
      { action: 'robot.created' },
      { action: 'setup_token.created', data: { credential_id: id, replaced: [] } },
      {
        action: 'robot.enrolled',
        outcome: 'ok',
        actor_kind: 'claim_credential',
        actor_id: id,
        fleet_id: robot.fleet_id,
        request_id: answer.headers['x-request-id'],
        data: { credential_kind: 'setup_token' },
      },
    ])
  })

  test('works once; the same claim again gets the same answer, anything else is told where to get a new one', async () => {
    const robot = await makeRobot(api)
    const { id, setup_token } = await setupToken(robot.id)
    const request = machine(unique('machine'))
    const first = await api.claim(setup_token, request)
    const again = await api.claim(setup_token, request)
    expect([again.status, again.body]).toEqual([200, first.body])
    const others = [
      { ...request, token_hash: sha256('other') },
      { ...request, claim_id: 'other' },
      { token_hash: request.token_hash },
      machine(unique('machine')),
    ]
    for (const other of others) {
      const problem = expectProblem(await api.claim(setup_token, other), 403, 'setup_token_consumed')
      expect(problem.detail).toContain(`POST /api/robots/${robot.id}/setup-token`)
      expect(problem.detail).toContain(`beacon robots setup-token ${robot.id}`)
    }
    expect((await credential(id)).uses).toBe(1)
    const told = api.refused.filter(({ actor }) => actor.id === id)
    expect(told).toHaveLength(others.length)
    expect(told[0]).toMatchObject({
      action: 'claim.refused',
      outcome: 'refused',
      actor: { kind: 'claim_credential', name: robot.name },
      fleetId: robot.fleet_id,
      data: { code: 'setup_token_consumed' },
    })
  })

  test('without a token of the robot’s own shows one, and cannot be repeated', async () => {
    const robot = await makeRobot(api)
    const { setup_token } = await setupToken(robot.id)
    const answer = await api.post('/agent/enroll', { claim_id: 'c' }, { token: setup_token })
    expect(answer.body.robot_token).toMatch(/^rf_robot_/)
    expectProblem(
      await api.post('/agent/enroll', { claim_id: 'c' }, { token: setup_token }),
      403,
      'setup_token_consumed',
    )
  })

  test('expires after an hour, but a lost answer can still be fetched', async () => {
    const [used, unused] = [await makeRobot(api), await makeRobot(api)]
    const tokens = [await setupToken(used.id), await setupToken(unused.id)]
    const request = machine(unique('machine'))
    await api.claim(tokens[0].setup_token, request)
    for (const { id } of tokens)
      await api.db.pool.query('UPDATE claim_credentials SET expires_at = now() WHERE id = $1', [id])
    expect((await api.claim(tokens[0].setup_token, request)).status).toBe(200)
    const late = await api.claim(tokens[1].setup_token, machine(unique('machine')))
    expect(expectProblem(late, 403, 'setup_token_expired').detail).toContain(
      `beacon robots setup-token ${unused.id}`,
    )
  })

  test('takes the place of those before it that nobody used', async () => {
    const robot = await makeRobot(api)
    const first = await setupToken(robot.id)
    const second = await setupToken(robot.id)
    const refusal = await api.claim(first.setup_token, machine(unique('machine')))
    expect(expectProblem(refusal, 403, 'key_revoked').detail).toContain('a newer one')
    expect((await api.claim(second.setup_token, machine(unique('machine')))).status).toBe(201)
    // What was used stays what it is: a lost answer can still be fetched.
    const third = await setupToken(robot.id)
    expect((await credential(second.id)).revoked_at).toBeNull()
    expect(third.id).not.toBe(second.id)
  })

  test('made by several at once leaves one that works', async () => {
    const robot = await makeRobot(api)
    const made = await Promise.all(Array.from({ length: 8 }, () => setupToken(robot.id)))
    const standing = await Promise.all(made.map(({ id }) => credential(id)))
    expect(standing.filter((row) => row.revoked_at === null)).toHaveLength(1)
  })

  test('rotates what a robot holds, even while it is connected, and tells whoever holds its session', async () => {
    const robot = await makeRobot(api)
    const first = machine(unique('machine'))
    await api.claim((await setupToken(robot.id)).setup_token, first)
    await setStatus(api, robot.id, { connection: 'online', session_no: 1, server_id: newId() })
    const second = machine(unique('machine'))
    const { id, setup_token } = await setupToken(robot.id)
    const told = api.published.length
    const answer = await api.claim(setup_token, second)
    expect([answer.status, answer.body.robot_id]).toEqual([200, robot.id])
    expect(api.published.slice(told)).toEqual([{ type: 'robots_changed', robot_ids: [robot.id] }])
    const row = await robotOf(robot.id)
    expect(row.token_hash.toString('hex')).toBe(second.token_hash)
    expect(row.token_credential_id).toBe(id)
    expect((await api.get(`/api/robots/${robot.id}/events`)).body.items[0].code).toBe('rebound')
    expect((await auditOf(api, robot.id)).map(({ action }) => action)).toEqual([
      'robot.created',
      'setup_token.created',
      'robot.enrolled',
      'setup_token.created',
      'robot.rebound',
    ])
  })

  test('does not take back the token that it was made to replace', async () => {
    const robot = await makeRobot(api)
    const request = machine(unique('machine'))
    await api.claim((await setupToken(robot.id)).setup_token, request)
    const { setup_token } = await setupToken(robot.id)
    expectProblem(await api.claim(setup_token, { ...request, claim_id: 'again' }), 409, 'token_hash_taken')
    expect((await api.claim(setup_token, machine(unique('machine')))).status).toBe(200)
  })

  test('does not bring back a robot that was revoked after it was made; a newer one does', async () => {
    const robot = await makeRobot(api)
    await api.claim((await setupToken(robot.id)).setup_token, machine(unique('machine')))
    const before = await setupToken(robot.id)
    await api.post(`/api/robots/${robot.id}/revoke-token`)
    expectProblem(await api.claim(before.setup_token, machine(unique('machine'))), 403, 'key_revoked')
    await api.db.pool.query('UPDATE claim_credentials SET revoked_at = NULL WHERE id = $1', [before.id])
    expectProblem(await api.claim(before.setup_token, machine(unique('machine'))), 403, 'robot_revoked')
    const after = await setupToken(robot.id)
    expect((await api.claim(after.setup_token, machine(unique('machine')))).status).toBe(200)
    expect((await api.get(`/api/robots/${robot.id}`)).body.token_revoked_at).toBeNull()
  })

  test('or token that was made while the revocation waited for the robot does not bring it back either', async () => {
    const robot = await makeRobot(api)
    const name = unique('machine')
    await api.claim((await setupToken(robot.id)).setup_token, machine(name))
    let token = ''
    const revoked = await meanwhile(
      api.db.database,
      (transaction) => lockRobot(transaction, robot.id),
      () => api.post(`/api/robots/${robot.id}/revoke-token`),
      async () => {
        const body = { name: 'made meanwhile', fleet_id: robot.fleet_id }
        token = (await api.post('/api/provisioning-tokens', body)).body.token
      },
    )
    expect(revoked.status).toBe(200)
    const again = machine(name, { claim_id: 'again', token_hash: sha256(unique('token')) })
    expectProblem(await api.claim(token, again), 403, 'robot_revoked')
  })

  test('that is made while a revocation is under way is made after it', async () => {
    const robot = await makeRobot(api)
    await api.claim((await setupToken(robot.id)).setup_token, machine(unique('machine')))
    const made = await meanwhile(
      api.db.database,
      (transaction) => lockRobot(transaction, robot.id),
      () => setupToken(robot.id),
      async (transaction) => {
        await revokeRobotTokens(transaction, { id: robot.id })
        await millisecondPassed(transaction)
      },
    )
    expect((await api.claim(made.setup_token, machine(unique('machine')))).status).toBe(200)
  })

  test('of a robot without a token ends with the order to cut it off', async () => {
    const robot = await makeRobot(api)
    const { id, setup_token } = await setupToken(robot.id)
    await api.post(`/api/robots/${robot.id}/revoke-token`)
    expectProblem(await api.claim(setup_token, machine(unique('machine'))), 403, 'key_revoked')
    expect((await auditOf(api, robot.id)).at(-1)).toMatchObject({
      action: 'robot.token_revoked',
      data: { setup_tokens: [id] },
    })
  })

  test('is not made for a robot that is retired, and not redeemed for one that was meanwhile', async () => {
    const robot = await makeRobot(api)
    const { setup_token } = await setupToken(robot.id)
    await api.post(`/api/robots/${robot.id}/retire`)
    expectProblem(await api.post(`/api/robots/${robot.id}/setup-token`), 409, 'robot_is_retired')
    expectProblem(await api.claim(setup_token, machine(unique('machine'))), 401, 'robot_retired')
  })

  test('does not make one machine two robots', async () => {
    const { fleet_id } = await makeFleet(api)
    const [one, two] = [await makeRobot(api, fleet_id), await makeRobot(api, fleet_id)]
    const name = unique('machine')
    await api.claim((await setupToken(one.id)).setup_token, machine(name))
    const { setup_token } = await setupToken(two.id)
    const same = machine(name, { claim_id: 'c2', token_hash: sha256('t2') })
    expectProblem(await api.claim(setup_token, same), 409, 'machine_known')
    await setStatus(api, one.id, { connection: 'online' })
    expectProblem(await api.claim(setup_token, same), 409, 'robot_online')
    expect((await api.get(`/api/robots/${one.id}/events`)).body.items[0].code).toBe('clone_suspected')
    await api.post(`/api/robots/${one.id}/retire`)
    expect((await api.claim(setup_token, same)).status).toBe(201)
  })

  test('leaves a robot that waits for approval waiting', async () => {
    const place = await makeFleet(api)
    const key = (await api.post('/api/enrollment-keys', { ...place, name: 'k', require_approval: true })).body
    const { robot_id } = (await api.claim(key.key_value, machine(unique('machine')))).body
    await api.claim((await setupToken(robot_id)).setup_token, machine(unique('machine')))
    expect((await api.get(`/api/robots/${robot_id}`)).body).toMatchObject({
      lifecycle: 'pending',
      credential_id: key.id,
    })
    expect((await api.get(`/api/enrollment-keys/${key.id}`)).body.uses).toBe(1)
  })

  test('moves with its robot, and goes with it', async () => {
    const robot = await makeRobot(api)
    const { id, setup_token } = await setupToken(robot.id)
    const there = await makeFleet(api)
    await api.patch(`/api/robots/${robot.id}`, { fleet_id: there.fleet_id })
    expect((await api.delete(`/api/fleets/${robot.fleet_id}`)).status).toBe(204)
    expect(await credential(id)).toMatchObject({ fleet_id: there.fleet_id, site_id: there.site_id })
    await api.post(`/api/robots/${robot.id}/retire`)
    expect((await api.delete(`/api/robots/${robot.id}`)).status).toBe(204)
    expect(await credential(id)).toBeUndefined()
    expectProblem(await api.claim(setup_token, machine(unique('machine'))), 401, 'invalid_token')
  })

  test('needs enrollment-keys:write where the robot is', async () => {
    const robot = await makeRobot(api)
    const elsewhere = await makeFleet(api)
    const as = async (fleetId: string, scopes: Json) => ({
      token: (await insertFleetToken(api.db.database, fleetId, { scopes })).token,
    })
    const url = `/api/robots/${robot.id}/setup-token`
    const may = ['robots:read', 'robots:write']
    expectProblem(await api.post(url, {}, await as(robot.fleet_id, may)), 403, 'insufficient_scope')
    const all = [...may, 'enrollment-keys:write']
    expectProblem(await api.post(url, {}, await as(elsewhere.fleet_id, all)), 404, 'not_found')
    expect((await api.post(url, {}, await as(robot.fleet_id, all))).status).toBe(201)
    expectProblem(await api.post(`/api/robots/${newId()}/setup-token`), 404, 'not_found')
  })
})

describe('the record of a robot', () => {
  test('is deleted once it is retired, and its fleet can go then', async () => {
    const robot = await makeRobot(api)
    const url = `/api/robots/${robot.id}`
    expectProblem(await api.delete(url), 409, 'robot_not_retired')
    await api.post(`${url}/retire`)
    expectProblem(await api.delete(`/api/fleets/${robot.fleet_id}`), 409, 'not_empty')
    expect((await api.delete(url)).status).toBe(204)
    expectProblem(await api.get(url), 404, 'not_found')
    expectProblem(await api.delete(url), 404, 'not_found')
    expect((await auditOf(api, robot.id)).at(-1)).toMatchObject({
      action: 'robot.deleted',
      target_name: robot.name,
    })
    expect((await api.delete(`/api/fleets/${robot.fleet_id}`)).status).toBe(204)
  })
})
