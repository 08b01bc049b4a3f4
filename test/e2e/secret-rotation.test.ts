/** The key that secrets are sealed with is changed under real servers, which are killed while they do it. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import {
  makeDataFolder,
  removeDataFolder,
  type ServerProcess,
  startServer,
} from '../support/server-process.ts'
import { beacon } from './beacon-command.ts'
import { type EnrollmentKey, mintToken, Operator } from './independent/operator.ts'
import { type Scene, settings, startScene } from './scene.ts'

let ends: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const end of ends.reverse()) await end()
  ends = []
})

type Status = {
  source: string
  keys: { key_id: string; standing: string; sealed: Record<string, number> }[]
  rotation: { state: string } | null
}

/** The keys that operators may read, by their ids. */
async function keyValues(operator: Operator): Promise<Record<string, string | null>> {
  const keys = await operator.list<EnrollmentKey>('/api/enrollment-keys')
  return Object.fromEntries(keys.map((key) => [key.id, key.key_value]))
}

async function makeKeys(scene: Scene, count: number): Promise<Record<string, string>> {
  const made: Record<string, string> = {}
  for (let key = 0; key < count; key++) {
    const { id, key_value } = await scene.operator.key(scene.site, scene.fleet)
    made[id] = key_value
  }
  return made
}

/** Answers that are kept, sealed, for a day. */
async function makeAnswers(url: string, token: string, count: number): Promise<void> {
  const ask = async (index: number) => {
    const response = await fetch(`${url}/api/sites`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        'content-type': 'application/json',
        'idempotency-key': `answer-${index}`,
      },
      body: JSON.stringify({ name: `site ${index}` }),
    })
    expect(response.status).toBe(201)
    return response.headers.get('idempotency-replayed')
  }
  for (let index = 0; index < count; index += 20)
    await Promise.all(Array.from({ length: 20 }, (_, more) => ask(index + more)))
}

test('a server that is killed while it changes its key loses nothing, however often', async () => {
  const scene = await startScene({ env: { BEACON_SECRET_KEY: '' } })
  ends.push(() => scene.end())
  const folder = scene.env.BEACON_DATA_DIR!
  const keysInFile = async () => (await readFile(join(folder, 'secret.key'), 'utf8')).trimEnd().split('\n')
  let server = scene.servers[0]!
  let operator = scene.operator
  const values = await makeKeys(scene, 5)
  await makeAnswers(server.url, scene.adminToken, 400)
  const [first] = await keysInFile()

  for (const killedAfterMs of [0, 3, 8, 15, 25, 40, undefined]) {
    const keysBefore = (await keysInFile()).length
    const asked = operator.call('POST', '/api/secrets/rotate', {}).catch(() => undefined)
    if (killedAfterMs !== undefined) await pause(killedAfterMs)
    else await eventually(async () => (await keysInFile()).length > keysBefore, 'the new key')
    await server.kill9()
    await asked
    server = await scene.addServer()
    operator = new Operator(server.url, scene.adminToken)
    expect(await keyValues(operator)).toEqual(values)
  }

  const ran = await beacon(['secrets', 'rotate', '--yes', '--json'], {
    url: server.url,
    apiKey: scene.adminToken,
  })
  expect({ code: ran.code, stderr: ran.stderr }).toEqual({ code: 0, stderr: '' })
  const after = JSON.parse(ran.stdout) as Status
  expect(after.keys).toEqual([
    {
      key_id: expect.stringMatching(/^[0-9a-f]{8}$/),
      standing: 'current',
      sealed: { enrollment_keys: 5, answers: expect.any(Number), second_factors: 0, sign_ins: 0 },
    },
  ])
  expect(after.keys[0]!.sealed.answers).toBeGreaterThanOrEqual(400)
  const left = await keysInFile()
  expect(left).toHaveLength(1)
  expect(left).not.toContain(first)
  expect(await keyValues(operator)).toEqual(values)

  // What was kept of the first answers is still the answer.
  const again = await fetch(`${server.url}/api/sites`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${scene.adminToken}`,
      'content-type': 'application/json',
      'idempotency-key': 'answer-0',
    },
    body: JSON.stringify({ name: 'site 0' }),
  })
  expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([201, 'true'])
}, 90_000)

test('several servers change to a key that their settings give, one after the other, without a pause', async () => {
  const [old, fresh] = [randomBytes(32), randomBytes(32)].map((key) => key.toString('hex')) as [
    string,
    string,
  ]
  const scene = await startScene({ servers: 1, env: { BEACON_SECRET_KEY: old } })
  ends.push(() => scene.end())
  const values = await makeKeys(scene, 3)
  const running: ServerProcess[] = [scene.servers[0]!, await scene.addServer()]
  const readableEverywhere = async () => {
    for (const { url } of running)
      expect(await keyValues(new Operator(url, scene.adminToken))).toEqual(values)
  }
  /** Makes one more key on each server, so that each has sealed something with what it seals with. */
  const sealEverywhere = async () => {
    for (const { url } of running) {
      const key = await new Operator(url, scene.adminToken).key(scene.site, scene.fleet)
      values[key.id] = key.key_value
    }
  }
  const restart = async (index: number, env: Record<string, string>) => {
    await running[index]!.stop()
    running[index] = await scene.addServer(env)
  }
  const cli = (...argv: string[]) => beacon(argv, { url: running[0]!.url, apiKey: scene.adminToken })

  const refused = await cli('secrets', 'rotate', '--yes')
  expect(refused.code).toBe(1)
  expect(refused.stderr).toContain('BEACON_SECRET_KEY_PREVIOUS')

  const alone = await scene.addServer({ BEACON_SECRET_KEY: fresh, BEACON_SECRET_KEY_PREVIOUS: old })
  const early = await beacon(['secrets', 'rotate', '--yes'], { url: alone.url, apiKey: scene.adminToken })
  expect(early.code).toBe(1)
  expect(early.stderr).toContain('give it that key first')
  expect(await alone.stop()).toBe(0)

  // First all of them learn to open what the new key seals, then each begins to seal with it.
  for (const env of [
    { BEACON_SECRET_KEY: old, BEACON_SECRET_KEY_PREVIOUS: fresh },
    { BEACON_SECRET_KEY: fresh, BEACON_SECRET_KEY_PREVIOUS: old },
  ])
    for (const index of running.keys()) {
      await restart(index, env)
      await sealEverywhere()
      await readableEverywhere()
    }

  const plan = await cli('secrets', 'rotate', '--dry-run')
  expect(plan.stdout).toContain('To be sealed anew with BEACON_SECRET_KEY: ')
  const rotated = await cli('secrets', 'rotate', '--yes')
  expect(rotated.code).toBe(0)
  expect(rotated.stdout).toContain('take BEACON_SECRET_KEY_PREVIOUS out of the settings')
  await readableEverywhere()
  for (const index of running.keys()) await restart(index, { BEACON_SECRET_KEY: fresh })
  await readableEverywhere()
  const status = await cli('secrets', 'status')
  expect(status.stdout).toMatch(/current/)
  expect(status.stdout).not.toMatch(/older|missing/)

  // A key that is lost is told of, and makes its secrets unreadable, and nothing else.
  await restart(0, { BEACON_SECRET_KEY: old })
  const lost = await cli('secrets', 'status')
  expect(lost.stdout).toMatch(/missing/)
  expect(lost.stderr).toContain('Sealed with a key that this server does not have: ')
  const unreadable = Object.values(await keyValues(new Operator(running[0]!.url, scene.adminToken)))
  expect(unreadable.length).toBe(Object.keys(values).length)
  expect(unreadable.every((value) => value === null)).toBe(true)
}, 120_000)

test('a server with everything in its own folder changes its key, too', async () => {
  const folder = await makeDataFolder()
  ends.push(() => removeDataFolder(folder))
  const token = mintToken('rf_pat_')
  const server = await startServer(settings(folder, token))
  ends.push(() => server.kill9())
  const operator = new Operator(server.url, token)
  const site = await operator.site('Plant')
  const key = await operator.key(site, await operator.fleet(site.id, 'Carts'))
  const before = await readFile(join(folder, 'secret.key'), 'utf8')
  const ran = await beacon(['secrets', 'rotate', '--keep-old', '--yes'], { url: server.url, apiKey: token })
  expect(ran.code).toBe(0)
  expect(ran.stdout).toContain('The older key stays, as asked')
  const [current, older] = (await readFile(join(folder, 'secret.key'), 'utf8')).split('\n')
  expect(`${older}\n`).toBe(before)
  expect(current).not.toBe(older)
  expect(await keyValues(operator)).toEqual({ [key.id]: key.key_value })
  expect(await server.stop()).toBe(0)
  for (const secret of [current!, older!, key.key_value])
    expect(server.output + ran.stdout + ran.stderr).not.toContain(secret)
}, 60_000)
