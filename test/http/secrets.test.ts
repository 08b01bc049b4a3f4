import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createKeyringSeal, createSeal, sealKeyId } from '../../src/access/seal.ts'
import { fileKeyring, settingsKeyring } from '../../src/access/secret-key.ts'
import { createSecretRotation, type SecretRotation } from '../../src/access/secret-rotation.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { insertPerson, insertPersonalToken } from '../support/access.ts'
import { eventually } from '../support/eventually.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { type Api, expectProblem, type Json, makeFleet, startApi, useApi } from './api.ts'

const log = createLog('silent')
const NONE = { enrollment_keys: 0, answers: 0, second_factors: 0, sign_ins: 0 }

/** With its key in the settings, as the tests' server has it. */
const settled = useApi()

let api: Api
let folder: string
let secrets: SecretRotation
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'beacon-secrets-'))
  const keyring = await fileKeyring(folder, systemRandom, [])
  const seal = createKeyringSeal(keyring, systemRandom)
  const parts = {
    seal,
    get secrets() {
      return secrets
    },
  }
  api = await startApi(parts, (db: TestDatabase) => {
    secrets = createSecretRotation({ database: db.database, keyring, seal, clock: systemClock, log })
    return db
  })
})
afterAll(async () => {
  await secrets?.stop()
  await api?.close()
  await rm(folder, { recursive: true, force: true })
})

const keysInFile = async () => (await readFile(join(folder, 'secret.key'), 'utf8')).trimEnd().split('\n')

/** What the server says once it is done. */
const done = (): Promise<Json> =>
  eventually(async () => {
    const { body } = await api.get('/api/secrets')
    return body.rotation?.state === 'running' ? undefined : body
  })

test('a new key is in use with the answer, and the old one goes when all is sealed anew', async () => {
  const { body: key } = await api.post('/api/enrollment-keys', { ...(await makeFleet(api)), name: 'key' })
  const [old] = await keysInFile()
  const answer = await api.post('/api/secrets/rotate')
  expect(answer.status).toBe(200)
  expect(answer.body.keys.map((one: Json) => one.standing)).toEqual(['current', 'older'])
  const after = await done()
  expect(after).toMatchObject({
    source: 'file',
    rotation: { state: 'finished', resealed: 1, unreadable: 0, keys_removed: 1 },
  })
  const [fresh, ...others] = await keysInFile()
  expect(others).toEqual([])
  expect(fresh).not.toBe(old)
  const sealed = { ...NONE, enrollment_keys: 1 }
  expect(after.keys).toEqual([{ key_id: sealKeyId(Buffer.from(fresh!, 'hex')), standing: 'current', sealed }])
  expect((await api.get(`/api/enrollment-keys/${key.id}`)).body.key_value).toBe(key.key_value)
  const told = JSON.stringify([answer.body, after, api.logged, api.published])
  for (const secret of [old!, fresh!]) expect(told).not.toContain(secret)
})

test('the same request again, its answer lost, takes no second key', async () => {
  const once = { headers: { 'idempotency-key': 'rotate' } }
  const first = await api.post('/api/secrets/rotate', {}, once)
  await done()
  const [key] = await keysInFile()
  const again = await api.post('/api/secrets/rotate', {}, once)
  expect(again.headers['idempotency-replayed']).toBe('true')
  expect(again.body).toEqual(first.body)
  await done()
  expect(await keysInFile()).toEqual([key])
})

test('both steps are in the audit log, with who did it, and no secret', async () => {
  await api.post('/api/secrets/rotate', { keep_old: true })
  await done()
  const { rows } = await api.db.pool.query(
    `SELECT action, actor_kind, actor_id, target_kind, data FROM audit_log
     WHERE action LIKE 'secret_key.%' ORDER BY seq DESC LIMIT 2`,
  )
  expect(rows).toEqual([
    expect.objectContaining({
      action: 'secret_key.rotated',
      actor_id: api.tokenId,
      target_kind: 'secret_key',
    }),
    expect.objectContaining({ action: 'secret_key.added', actor_id: api.tokenId }),
  ])
  expect(rows[1].data).toMatchObject({ keep_old: true })
  for (const key of await keysInFile()) expect(JSON.stringify(rows)).not.toContain(key)
})

test('keep_old keeps it', async () => {
  await api.post('/api/secrets/rotate')
  await done()
  const [before] = await keysInFile()
  await api.post('/api/secrets/rotate', { keep_old: true })
  await done()
  expect((await keysInFile())[1]).toBe(before)
})

test('a key that the settings give is changed in the settings', async () => {
  const problem = expectProblem(await settled().post('/api/secrets/rotate'), 409, 'secret_key_in_settings')
  expect(problem.detail).toContain('BEACON_SECRET_KEY_PREVIOUS')
  expect((await settled().get('/api/secrets')).body.source).toBe('settings')
})

test('what is sealed with a key that is not here counts as missing, and its keys are shown without value', async () => {
  const lost = createSeal(Buffer.alloc(32, 9), systemRandom)
  const other = await startApi({ seal: lost })
  try {
    const { body: key } = await other.post('/api/enrollment-keys', {
      ...(await makeFleet(other)),
      name: 'key',
    })
    const standing = createSecretRotation({
      database: other.db.database,
      keyring: settingsKeyring(Buffer.alloc(32, 8), []),
      seal: lost,
      clock: systemClock,
      log,
    })
    expect((await standing.status()).keys[1]).toMatchObject({
      standing: 'missing',
      keyId: sealKeyId(Buffer.alloc(32, 9)),
    })
    expect(key.retrievable).toBe(true)
  } finally {
    await other.close()
  }
})

test('only owners change the key, with a token that may manage tokens and people', async () => {
  const admin = await insertPerson(api.db.database, [{ role: 'admin' }])
  const owner = await insertPerson(api.db.database, [{ role: 'owner' }])
  const tokens = await Promise.all([
    insertPersonalToken(api.db.database, admin),
    insertPersonalToken(api.db.database, owner, { scopes: ['tokens:manage'] }),
    insertPersonalToken(api.db.database, owner, { scopes: ['users:manage'] }),
  ])
  const before = await keysInFile()
  for (const { token } of tokens)
    expectProblem(await api.post('/api/secrets/rotate', {}, { token }), 403, 'insufficient_scope')
  expect(await keysInFile()).toEqual(before)
  expect((await api.get('/api/secrets', { token: tokens[0]!.token })).status).toBe(200)
  expectProblem(await api.get('/api/secrets', { token: tokens[2]!.token }), 403, 'insufficient_scope')
})
