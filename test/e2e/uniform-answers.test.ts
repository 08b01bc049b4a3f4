/** What somebody who guesses is told: the same for all that was never issued, wherever it is presented. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Json, mintToken } from './independent/operator.ts'
import { exchange, upgradeRequest } from './independent/raw.ts'
import { enrol, newMachine } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

let scene: Scene
let base: string
beforeAll(async () => {
  scene = await startScene()
  base = scene.servers[0]!.url
}, 60_000)
afterAll(() => scene?.end())

const hex = () => randomBytes(32).toString('hex')
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'
const setup = () => `rf_setup_${Array.from(randomBytes(55), (byte) => BASE32[byte & 31]).join('')}`
const mistyped = (token: string) => token.slice(0, -1) + (token.endsWith('0') ? '1' : '0')

/** An answer without what is different every time. */
async function shown(response: Response): Promise<Json> {
  const { request_id: _, ...body } = (await response.json()) as Json
  const headers = Object.fromEntries(response.headers)
  for (const name of ['date', 'x-request-id', 'keep-alive', 'connection', 'retry-after']) delete headers[name]
  return { status: response.status, headers, body }
}

const post = (path: string, body: unknown, token?: string) =>
  fetch(`${base}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...(token ? { authorization: `Bearer ${token}` } : {}) },
    body: JSON.stringify(body),
  }).then(shown)

const get = (path: string, token: string) =>
  fetch(`${base}${path}`, { headers: { authorization: `Bearer ${token}` } }).then(shown)

/** All are the same, and the first is this. */
function expectUniform(answers: readonly Json[], status: number, code: string): void {
  expect(answers[0]).toMatchObject({ status, body: { code } })
  for (const answer of answers) expect(answer).toEqual(answers[0])
}

describe('a credential that nobody issued gets one answer', () => {
  test('over REST, of whatever kind it is or is not', async () => {
    const [personal, fleet] = [mintToken('rf_pat_'), mintToken('rf_fleet_')]
    const answers = []
    for (const token of [
      personal,
      fleet,
      mistyped(personal),
      mistyped(fleet),
      mintToken('rf_robot_'),
      setup(),
      'x',
    ])
      answers.push(await get('/api/robots', token))
    expectUniform(answers, 401, 'invalid_token')
  })

  test('over REST, for things that are there and things that are not', async () => {
    const { id } = await scene.operator.key(scene.site, scene.fleet)
    const token = mintToken('rf_pat_')
    const answers = []
    for (const one of [id, '0198c0de-0000-7000-8000-000000000000'])
      answers.push(await get(`/api/enrollment-keys/${one}`, token))
    expectUniform(answers, 401, 'invalid_token')
  })

  test('when robots enrol', async () => {
    const claim = { fingerprint: { machine_id: hex() } }
    const answers = []
    for (const secret of [
      `rf_enroll_${hex()}`,
      `apt_${hex()}`,
      setup(),
      'rf_enroll_short',
      mintToken('rf_pat_'),
    ])
      answers.push(await post('/agent/enroll', claim, secret))
    expectUniform(answers, 401, 'invalid_token')
  })

  test('for an invitation: never made, used, replaced or misspelt', async () => {
    const invite = (name: string) =>
      scene.operator.must<Json>('POST', '/api/users', {
        name,
        email: `${name}@example.test`,
        roles: [{ role: 'viewer' }],
      })
    const password = 'slow barges under the bridge'
    const [used, replaced] = [await invite('one'), await invite('two')]
    expect((await post('/api/invitations/accept', { token: used.invitation_token, password })).status).toBe(
      200,
    )
    await scene.operator.must('POST', `/api/users/${replaced.id}/invite`, {})
    const answers = []
    for (const token of [
      `rf_invite_${hex()}`,
      used.invitation_token,
      replaced.invitation_token,
      'rf_invite_x',
      'x',
    ])
      answers.push(await post('/api/invitations/accept', { token, password }))
    expectUniform(answers, 403, 'invitation_invalid')
  })

  test('for a sign-in: no such account, or another password', async () => {
    const answers = []
    for (const email of ['one@example.test', 'nobody@example.test'])
      answers.push(await post('/api/sign-in', { email, password: 'not the password at all' }))
    expectUniform(answers, 401, 'sign_in_failed')
  })
})

describe('that a credential was revoked is told to who holds it, and to nobody else', () => {
  test('of an enrollment key, of which a guess may know all but the last digit', async () => {
    const key = await scene.operator.key(scene.site, scene.fleet)
    await scene.operator.must('POST', `/api/enrollment-keys/${key.id}/revoke`)
    expect((await enrol(base, key.key_value, { machine: newMachine() })).body.code).toBe('key_revoked')
    expect((await enrol(base, mistyped(key.key_value), { machine: newMachine() })).body.code).toBe(
      'invalid_token',
    )
  })

  test('of a robot, before its socket opens', async () => {
    const key = await scene.operator.key(scene.site, scene.fleet)
    const { body } = await enrol(base, key.key_value, { machine: newMachine() })
    await scene.operator.must('POST', `/api/robots/${body.robot_id}/revoke-token`)
    const codeOf = async (token: string) =>
      /"code":"(\w+)"/.exec((await exchange(base, upgradeRequest(token))).text)?.[1]
    expect(await codeOf(body.robot_token!)).toBe('token_revoked')
    expect(await codeOf(mintToken('rf_robot_'))).toBe('invalid_token')
    expect(await codeOf(mistyped(body.robot_token!))).toBe('invalid_token')
    expect(await codeOf(scene.adminToken)).toBe('invalid_token')
  })
})
