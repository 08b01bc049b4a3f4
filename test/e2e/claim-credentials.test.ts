import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

type Made = { id: string; token: string; setup_command: string }
const provisioningToken = (more: object = {}) =>
  scene.operator.must<Made>('POST', '/api/provisioning-tokens', {
    name: 'image',
    fleet_id: scene.fleet.id,
    ...more,
  })
const setupToken = async (robotId: string) =>
  (await scene.operator.must<{ setup_token: string }>('POST', `/api/robots/${robotId}/setup-token`))
    .setup_token

async function connect(base: string, token: string, machine = newMachine()): Promise<Session> {
  const session = await Session.open(base, token)
  session.hello(machine)
  await session.welcome()
  return session
}

async function refusedEverywhere(token: string): Promise<void> {
  for (const base of [urlA, urlB]) {
    const refusal = await Session.open(base, token).catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(UpgradeRefusedError)
    expect((refusal as UpgradeRefusedError).status).toBe(401)
  }
}

/** Closes within 2 s of the call that is its cause. */
async function endsBy(session: Session, cause: () => Promise<unknown>): Promise<number> {
  const begun = Date.now()
  await cause()
  const closed = await session.closed
  expect(closed.at - begun).toBeLessThan(WITHIN_MS)
  return closed.code
}

describe('two servers', () => {
  test('admit one robot with a token that is for one', async () => {
    const { id, token } = await provisioningToken({ single_use: true })
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, index) =>
        enrol(index % 2 ? urlA : urlB, token, { machine: newMachine(), claim_id: randomUUID() }),
      ),
    )
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1)
    expect(answers.filter(({ body }) => (body as { code?: string }).code === 'key_revoked')).toHaveLength(39)
    expect(await scene.operator.must('GET', `/api/provisioning-tokens/${id}`)).toMatchObject({
      status: 'consumed',
      uses: 1,
    })
  })

  test('end the session that a robot had before its setup token was redeemed', async () => {
    const { id } = await scene.operator.must<{ id: string }>('POST', '/api/robots', {
      fleet_id: scene.fleet.id,
      name: `by hand ${randomUUID()}`,
    })
    const first = await enrol(urlA, await setupToken(id))
    expect(first.body.robot_id).toBe(id)
    const before = await connect(urlB, first.body.robot_token!)
    const token = await setupToken(id)
    const machine = newMachine()
    let second: typeof first | undefined
    const code = await endsBy(before, async () => {
      second = await enrol(urlA, token, { machine })
    })
    expect(code).toBe(4501)
    expect(second!.body.robot_id).toBe(id)
    await refusedEverywhere(first.body.robot_token!)
    const after = await connect(urlB, second!.body.robot_token!, machine)
    after.heartbeat(1)
    await after.acked(1)
    after.socket.terminate()
  })

  test('let one of two machines have a robot that both were sent to', async () => {
    const { id } = await scene.operator.must<{ id: string }>('POST', '/api/robots', {
      fleet_id: scene.fleet.id,
      name: `by hand ${randomUUID()}`,
    })
    const token = await setupToken(id)
    const answers = await Promise.all(
      [urlA, urlB].map((base) => enrol(base, token, { machine: newMachine() })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 403])
  })

  test('send a robot away that is denied at the other, whether new or known, and keep one that is approved', async () => {
    const { token } = await provisioningToken({ require_approval: true })
    const waiting = await Promise.all(
      [1, 2, 3].map(async () => {
        const machine = newMachine()
        const { body } = await enrol(urlB, token, { machine })
        return {
          id: body.robot_id,
          token: body.robot_token!,
          session: await connect(urlB, body.robot_token!, machine),
        }
      }),
    )
    const [one, two, three] = waiting as [(typeof waiting)[0], (typeof waiting)[0], (typeof waiting)[0]]
    for (const { session } of waiting) expect(session.frames[0]).toMatchObject({ lifecycle: 'pending' })
    expect(await endsBy(one.session, () => scene.operator.must('POST', `/api/robots/${one.id}/deny`))).toBe(
      4504,
    )
    expect(
      await endsBy(two.session, () => scene.operator.must('POST', '/api/approvals/deny', { ids: [two.id] })),
    ).toBe(4504)
    await refusedEverywhere(one.token)
    await refusedEverywhere(two.token)
    const begun = Date.now()
    await scene.operator.must('POST', '/api/approvals/approve', { filter: { fleet: scene.fleet.id } })
    await three.session.frame((frame) => frame.type === 'welcome' && frame.lifecycle === 'active')
    expect(Date.now() - begun).toBeLessThan(WITHIN_MS)
    three.session.heartbeat(1)
    await three.session.acked(1)
    three.session.socket.terminate()
  })

  test('write nothing secret of any credential into logs and audit log', async () => {
    const { token } = await provisioningToken()
    const { id } = await scene.operator.must<{ id: string }>('POST', '/api/robots', {
      fleet_id: scene.fleet.id,
      name: `by hand ${randomUUID()}`,
    })
    const setup = await setupToken(id)
    await enrol(urlA, token)
    await enrol(urlB, setup)
    await enrol(urlB, setup)
    const { rows } = await scene.database.pool.query('SELECT a::text AS line FROM audit_log a')
    const lines = rows.map(({ line }) => line)
    const log = [...lines, ...scene.servers.flatMap(({ stdout, stderr }) => [stdout, stderr])].join('\n')
    expect(log).toContain('setup_token.created')
    for (const secret of [token, setup]) expect(log).not.toContain(secret.slice(9))
  })
})
