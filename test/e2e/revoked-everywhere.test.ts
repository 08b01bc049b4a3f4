import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { insertAudit } from '../../src/db/audit.ts'
import { newId } from '../../src/ids.ts'
import { eventually } from '../support/eventually.ts'
import { type Json, Operator } from './independent/operator.ts'
import { enrol, newMachine, Session, UpgradeRefusedError } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

const WITHIN_MS = 2_000

let scene: Scene
let urlA: string
let urlB: string

beforeAll(async () => {
  scene = await startScene({ servers: 2, env: { BEACON_BUS: 'postgres' } })
  ;[urlA, urlB] = scene.servers.map((server) => server.url) as [string, string]
})
afterAll(() => scene?.end())

type NewToken = Json & { readonly id: string; readonly token: string }

const make = (body: Json = {}) =>
  scene.operator.must<NewToken>('POST', '/api/tokens', { name: 'made', ...body })
const status = async (base: string, token: string) =>
  (await new Operator(base, token).call('GET', '/api/tokens/self')).status

describe('a token that ends at one server', () => {
  test('is refused by the other with the next call, while it is in constant use there', async () => {
    const { id, token } = await make()
    let revokedAt = Number.POSITIVE_INFINITY
    const answers: { begun: number; status: number }[] = []
    let going = true
    const users = Array.from({ length: 4 }, async () => {
      while (going) {
        const begun = performance.now()
        answers.push({ begun, status: await status(urlB, token) })
      }
    })
    await eventually(() => answers.length > 40)
    await scene.operator.must('POST', `/api/tokens/${id}/revoke`)
    revokedAt = performance.now()
    await eventually(() => answers.filter(({ begun }) => begun > revokedAt).length > 40)
    going = false
    await Promise.all(users)
    expect(new Set(answers.filter(({ begun }) => begun > revokedAt).map((answer) => answer.status))).toEqual(
      new Set([401]),
    )
    expect(answers.some((answer) => answer.status === 200)).toBe(true)
  })

  test('is followed by its new one there at once', async () => {
    const { token } = await make()
    const rotated = await new Operator(urlA, token).must<NewToken>('POST', '/api/tokens/self/rotate', {
      overlap_seconds: 0,
    })
    expect(await status(urlB, token)).toBe(401)
    expect(await status(urlB, rotated.token)).toBe(200)
  })

  test('takes an export at the other with it within two seconds', async () => {
    // More than any socket buffers.
    const filler = 'x'.repeat(16_000)
    for (let batch = 0; batch < 8; batch++)
      await insertAudit(
        scene.database.database,
        Array.from({ length: 250 }, () => ({
          id: newId(),
          at: new Date(),
          action: 'test.filled',
          outcome: 'ok' as const,
          actor: { kind: 'server' as const, id: null, name: null },
          target: null,
          siteId: null,
          fleetId: null,
          requestId: null,
          address: null,
          data: { filler },
        })),
      )
    const { id, token } = await make()
    const answer = await fetch(`${urlB}/api/audit/export`, { headers: { authorization: `Bearer ${token}` } })
    expect(answer.status).toBe(200)
    const reader = answer.body!.getReader()
    await reader.read()
    await scene.operator.must('POST', `/api/tokens/${id}/revoke`)
    const ended = () =>
      /an export of the audit log was ended/.test(scene.servers[1]!.stdout + scene.servers[1]!.stderr)
    const revokedAt = performance.now()
    await eventually(ended)
    expect(performance.now() - revokedAt).toBeLessThan(WITHIN_MS)
    await expect(
      (async () => {
        while (!(await reader.read()).done);
      })(),
    ).rejects.toThrow()
  })
})

test('everything of a fleet, with its robots, ends at both servers within two seconds', async () => {
  const fleet = await scene.operator.fleet(scene.site.id, 'Leaked')
  const key = await scene.operator.key(scene.site, fleet)
  const { token } = await scene.operator.must<NewToken>('POST', `/api/fleets/${fleet.id}/tokens`, {
    name: 'line',
  })
  const sessions = await Promise.all(
    [urlA, urlB, urlA, urlB].map(async (base) => {
      const machine = newMachine()
      const { body } = await enrol(urlA, key.key_value, { machine })
      const session = await Session.open(base, body.robot_token!)
      session.hello(machine)
      await session.welcome()
      return { session, base, robotToken: body.robot_token! }
    }),
  )
  const request = { of: { fleet_id: fleet.id }, include: ['robots'] }
  const dry = await scene.operator.must<Json>('POST', '/api/tokens/revoke-all', { ...request, dry_run: true })
  expect(dry).toMatchObject({ dry_run: true, total: 6 })
  const revoked = await scene.operator.must<Json>('POST', '/api/tokens/revoke-all', request)
  expect(revoked).toEqual({ ...dry, dry_run: false })
  const at = Date.now()
  for (const { session, base, robotToken } of sessions) {
    const closed = await session.closed
    expect(closed.code).toBe(4501)
    expect(closed.at - at).toBeLessThan(WITHIN_MS)
    const refusal = await Session.open(base, robotToken).catch((error: unknown) => error)
    expect((refusal as UpgradeRefusedError).status).toBe(401)
    expect(refusal).toBeInstanceOf(UpgradeRefusedError)
  }
  for (const base of [urlA, urlB]) {
    expect(await status(base, token)).toBe(401)
    expect((await enrol(base, key.key_value)).body.code).toBe('key_revoked')
  }
  expect(await scene.operator.call('GET', '/api/tokens/self')).toMatchObject({ status: 200 })
}, 30_000)
