import { randomBytes } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createKeyringSeal, createSeal, type Seal, sealKeyId } from '../../src/access/seal.ts'
import { fileKeyring, type Keyring, settingsKeyring } from '../../src/access/secret-key.ts'
import { createSecretRotation, type SecretRotation } from '../../src/access/secret-rotation.ts'
import type { AuditEntry } from '../../src/db/audit.ts'
import { type Database, openDatabase, openPool } from '../../src/db/database.ts'
import { withRole } from '../../src/db/roles.ts'
import { SEALED_COLUMNS, SEALED_KINDS, type SealedKind, sealContext } from '../../src/db/sealed.ts'
import { inTransaction } from '../../src/db/transaction.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let db: TestDatabase
let folder = ''
let running: SecretRotation[] = []
beforeEach(async () => {
  db = await createTestDatabase()
  folder = await mkdtemp(join(tmpdir(), 'beacon-rotation-'))
})
afterEach(async () => {
  await Promise.all(running.map((rotation) => rotation.stop()))
  running = []
  await db.drop()
  await rm(folder, { recursive: true })
})

const log = createLog('silent')
const ADDED = 'secret.key'

function start(
  keyring: Keyring,
  seal: Seal = createKeyringSeal(keyring, systemRandom),
  database: Database = db.database,
): SecretRotation {
  const rotation = createSecretRotation({
    database,
    keyring,
    seal,
    clock: systemClock,
    log,
    graceMs: 1,
  })
  running.push(rotation)
  return rotation
}

function deed(data: Readonly<Record<string, number>>): AuditEntry {
  const actor = { kind: 'user', id: null, name: 'olga' } as const
  const place = { siteId: null, fleetId: null, requestId: null, address: null }
  return {
    id: newId(),
    at: new Date(),
    action: 'secret_key.rotated',
    outcome: 'ok',
    actor,
    target: null,
    ...place,
    data,
  }
}

/** Asks for a new key and for all that follows, and waits for the end of it. */
async function rotate(rotation: SecretRotation, { keepOld = false } = {}) {
  await inTransaction(db.database, (transaction) => rotation.takeNewKey(transaction, { keepOld }))
  rotation.sealAnew({ keepOld, deed })
  return eventually(async () => {
    const status = await rotation.status()
    return status.rotation?.state === 'running' ? undefined : status
  })
}

/** Keys and answers as the server keeps them. */
class Secrets {
  readonly texts = new Map<string, string>()

  static async make(count: number, seal: Seal): Promise<Secrets> {
    const secrets = new Secrets()
    const [site, fleet] = [newId(), newId()]
    await db.pool.query('INSERT INTO sites (id, name) VALUES ($1, $2)', [site, `site ${site}`])
    await db.pool.query('INSERT INTO fleets (id, site_id, name) VALUES ($1, $2, $3)', [fleet, site, 'fleet'])
    await Promise.all(Array.from({ length: count }, () => secrets.addAnswer(seal)))
    for (let made = 0; made < Math.min(count, 5); made++) {
      const id = newId()
      await secrets.#addPerson(seal)
      const text = `rf_enroll_${randomBytes(32).toString('hex')}`
      secrets.texts.set(`enrollment_keys ${id}`, text)
      await db.pool.query(
        `INSERT INTO claim_credentials (id, kind, secret_hash, secret_sealed, last_four, name, site_id, fleet_id, max_uses)
         VALUES ($1, 'enrollment_key', $2, $3, '0000', 'key', $4, $5, 1)`,
        [id, randomBytes(32), seal.seal(text, sealContext('enrollment_keys', id)), site, fleet],
      )
    }
    return secrets
  }

  /** Somebody with a second factor, on the way through the identity provider. */
  async #addPerson(seal: Seal): Promise<void> {
    const [user, signIn] = [newId(), newId()]
    const [secret, flow] = [randomBytes(8).toString('hex'), randomBytes(8).toString('hex')]
    this.texts.set(`second_factors ${user}`, secret)
    this.texts.set(`sign_ins ${signIn}`, flow)
    await db.pool.query("INSERT INTO users (id, name) VALUES ($1, 'olga')", [user])
    await db.pool.query('INSERT INTO second_factors (user_id, secret_sealed) VALUES ($1, $2)', [
      user,
      seal.seal(secret, sealContext('second_factors', user)),
    ])
    await db.pool.query(
      `INSERT INTO sign_ins (id, secret_hash, stage, flow_sealed, expires_at) VALUES ($1, $2, 'oidc', $3, now())`,
      [signIn, randomBytes(32), seal.seal(flow, sealContext('sign_ins', signIn))],
    )
  }

  async addAnswer(seal: Seal, key = `key ${randomBytes(4).toString('hex')}`): Promise<void> {
    const principal = newId()
    const text = randomBytes(8).toString('hex')
    this.texts.set(`answers ${principal} ${key}`, text)
    await db.pool.query(
      'INSERT INTO idempotent_requests (principal_id, key, request_hash, status, body_sealed) VALUES ($1, $2, $3, 200, $4)',
      [principal, key, randomBytes(32), seal.seal(text, sealContext('answers', principal, key))],
    )
  }

  /** Every secret, as it can be read with these keys. */
  async read(seal: Seal): Promise<Map<string, string>> {
    const keys = await db.pool.query(
      'SELECT id, secret_sealed AS sealed FROM claim_credentials WHERE secret_sealed IS NOT NULL',
    )
    const factors = await db.pool.query('SELECT user_id AS id, secret_sealed AS sealed FROM second_factors')
    const flows = await db.pool.query('SELECT id, flow_sealed AS sealed FROM sign_ins')
    const opened = (kind: SealedKind, rows: readonly { id: string; sealed: Buffer }[]) =>
      rows.map(({ id, sealed }) => [`${kind} ${id}`, seal.open(sealed, sealContext(kind, id))] as const)
    const answers = await db.pool.query(
      'SELECT principal_id, key, body_sealed AS sealed FROM idempotent_requests',
    )
    return new Map([
      ...opened('enrollment_keys', keys.rows),
      ...opened('second_factors', factors.rows),
      ...opened('sign_ins', flows.rows),
      ...answers.rows.map(
        ({ principal_id: id, key, sealed }) =>
          [`answers ${id} ${key}`, seal.open(sealed, sealContext('answers', id, key))] as const,
      ),
    ])
  }

  async expectReadable(seal: Seal): Promise<void> {
    expect(sorted(await this.read(seal))).toEqual(sorted(this.texts))
  }
}

const counts = (keys: number, answers: number) => ({
  enrollment_keys: keys,
  answers,
  second_factors: keys,
  sign_ins: keys,
})
const sorted = (map: ReadonlyMap<string, string>) => [...map].sort(([one], [two]) => (one < two ? -1 : 1))
const keysInFile = async () => (await readFile(join(folder, ADDED), 'utf8')).trimEnd().split('\n')
const ring = () => fileKeyring(folder, systemRandom, [])
/** What a server reads that starts now. */
const freshSeal = async () => createKeyringSeal(await ring(), systemRandom)

test('everything that the database holds sealed is known', async () => {
  const { rows } = await db.pool.query<{ name: string }>(
    `SELECT table_name || '.' || column_name AS name FROM information_schema.columns
     WHERE table_schema = 'public' AND column_name ~ 'sealed'`,
  )
  expect(rows.map(({ name }) => name).sort()).toEqual([...SEALED_COLUMNS].sort())
})

describe('a new key', () => {
  test('seals everything anew, and the old one goes', async () => {
    const keyring = await ring()
    const seal = createKeyringSeal(keyring, systemRandom)
    const secrets = await Secrets.make(450, seal)
    const [old] = keyring.keys().current.toString('hex').match(/.+/) ?? []
    const rotation = start(keyring)
    const before = await rotation.status()
    expect(before).toEqual({
      source: 'file',
      keys: [
        {
          keyId: sealKeyId(keyring.keys().current),
          standing: 'current',
          sealed: counts(5, 450),
        },
      ],
      rotation: null,
    })
    const after = await rotate(rotation)
    expect(after.rotation).toEqual({ state: 'finished', resealed: 465, unreadable: 0, keysRemoved: 1 })
    expect(after.keys).toEqual([
      {
        keyId: sealKeyId(keyring.keys().current),
        standing: 'current',
        sealed: counts(5, 450),
      },
    ])
    const inFile = await keysInFile()
    expect(inFile).toHaveLength(1)
    expect(inFile).not.toContain(old)
    await secrets.expectReadable(seal)
    await secrets.expectReadable(await freshSeal())
    await expect(secrets.read(createSeal(Buffer.from(old!, 'hex'), systemRandom))).rejects.toThrow(
      'is not here',
    )
    const audit = await db.pool.query(
      "SELECT action, data FROM audit_log WHERE action = 'secret_key.rotated'",
    )
    expect(audit.rows).toEqual([
      { action: 'secret_key.rotated', data: { resealed: 465, unreadable: 0, keys_removed: 1 } },
    ])
  })

  test('leaves the old one to open backups with, when told so, until the next', async () => {
    const keyring = await ring()
    const old = createSeal(keyring.keys().current, systemRandom)
    const backup = old.seal('of yesterday', 'backup')
    await Secrets.make(3, old)
    const rotation = start(keyring)
    const kept = await rotate(rotation, { keepOld: true })
    expect(kept.keys.map(({ standing }) => standing)).toEqual(['current', 'older'])
    expect(kept.keys[1]!.sealed).toEqual(counts(0, 0))
    expect((await freshSeal()).open(backup, 'backup')).toBe('of yesterday')
    expect((await rotate(rotation)).keys.map(({ standing }) => standing)).toEqual(['current'])
    expect(await keysInFile()).toHaveLength(1)
  })

  test('comes even when as many old ones are kept as there may be, in the place of the oldest', async () => {
    const keyring = await ring()
    const seal = createKeyringSeal(keyring, systemRandom)
    const secrets = await Secrets.make(2, seal)
    const rotation = start(keyring)
    for (let keys = 1; keys < 16; keys++) await rotate(rotation, { keepOld: true })
    const kept = await keysInFile()
    expect(kept).toHaveLength(16)
    await expect(rotate(rotation, { keepOld: true })).rejects.toMatchObject({ code: 'invalid_request' })
    expect(await keysInFile()).toEqual(kept)
    await inTransaction(db.database, (transaction) => rotation.takeNewKey(transaction, { keepOld: false }))
    expect((await keysInFile()).slice(1)).toEqual(kept.slice(0, -1))
    await eventually(async () => {
      const status = await rotate(rotation)
      return status.keys.length === 1
    })
    expect(await keysInFile()).toHaveLength(1)
    await secrets.expectReadable(await freshSeal())
  })

  test('does not come while each of the old ones is needed', async () => {
    const keyring = await ring()
    const secrets = await Secrets.make(1, createKeyringSeal(keyring, systemRandom))
    for (let keys = 1; keys < 16; keys++) {
      await keyring.file.add()
      await secrets.addAnswer(createKeyringSeal(keyring, systemRandom))
    }
    await expect(rotate(start(keyring))).rejects.toMatchObject({ code: 'overloaded' })
    expect(await keysInFile()).toHaveLength(16)
    await secrets.expectReadable(await freshSeal())
  })

  test('changes nothing where there is nothing', async () => {
    const after = await rotate(start(await ring()))
    expect(after.rotation).toEqual({ state: 'finished', resealed: 0, unreadable: 0, keysRemoved: 1 })
  })

  test('is not taken when the transaction that takes it may not wait for another', async () => {
    const rotation = start(await ring())
    const order: string[] = []
    await Promise.all(
      ['one', 'two'].map((name) =>
        inTransaction(db.database, async (transaction) => {
          await rotation.takeNewKey(transaction, { keepOld: false })
          order.push(`${name} in`)
          await new Promise((resolve) => setImmediate(resolve))
          order.push(`${name} out`)
        }),
      ),
    )
    expect(order[0]!.split(' ')[0]).toBe(order[1]!.split(' ')[0])
    expect(await keysInFile()).toHaveLength(3)
  })
})

describe('while the key changes', () => {
  test('what is sealed meanwhile, here and on a server that shares the file, stays readable', async () => {
    const [ours, theirs] = [await ring(), await ring()]
    const [our, their] = [ours, theirs].map((keyring) => createKeyringSeal(keyring, systemRandom)) as [
      Seal,
      Seal,
    ]
    const secrets = await Secrets.make(600, our)
    const rotation = start(ours)
    let ended = false
    const writers = [our, their, our, their].map(async (seal) => {
      let written = 0
      while (!ended) {
        await secrets.addAnswer(seal)
        written += 1
      }
      return written
    })
    for (let turn = 0; turn < 3; turn++) {
      const after = await rotate(rotation)
      expect(after.rotation).toMatchObject({ state: 'finished', unreadable: 0 })
    }
    ended = true
    const written = await Promise.all(writers)
    expect(Math.min(...written)).toBeGreaterThan(3)
    expect(await keysInFile()).toHaveLength(1)
    for (const seal of [our, their, await freshSeal()]) await secrets.expectReadable(seal)
  })

  test('two servers that do it at once both end, with all in order', async () => {
    const secrets = await Secrets.make(500, await freshSeal())
    const rotations = [start(await ring()), start(await ring())]
    const ends = await Promise.all(rotations.map((rotation) => rotate(rotation)))
    expect(ends.map(({ rotation }) => rotation?.state)).toEqual(['finished', 'finished'])
    await secrets.expectReadable(await freshSeal())
    // Whoever ends first leaves the other's key, which the next one takes away.
    await rotate(rotations[0]!)
    expect(await keysInFile()).toHaveLength(1)
    await secrets.expectReadable(await freshSeal())
  })

  test('a transaction that sealed with the old key is waited for before the old key goes', async () => {
    const keyring = await ring()
    const seal = createKeyringSeal(keyring, systemRandom)
    const secrets = await Secrets.make(2, seal)
    // The server works as a role that may not look into what other logins do.
    const role = `rotating_${randomBytes(4).toString('hex')}`
    await db.pool.query(`CREATE ROLE ${role}; GRANT ALL ON ALL TABLES IN SCHEMA public TO ${role}`)
    const pool = openPool({
      url: withRole(db.url, role),
      name: 'beacon test role',
      maxConnections: 2,
      statementTimeoutMs: 20_000,
      onIdleError: () => {},
    })
    const client = await db.pool.connect()
    try {
      await client.query('BEGIN')
      await client.query('SELECT 1')
      const principal = newId()
      const envelope = seal.seal('in flight', sealContext('answers', principal, 'late'))
      const rotation = start(keyring, seal, openDatabase(pool))
      await inTransaction(db.database, (transaction) => rotation.takeNewKey(transaction, { keepOld: false }))
      rotation.sealAnew({ keepOld: false, deed })
      await eventually(async () => (await rotation.status()).rotation?.resealed === 8)
      expect((await rotation.status()).rotation?.state).toBe('running')
      expect(await keysInFile()).toHaveLength(2)
      await client.query(
        'INSERT INTO idempotent_requests (principal_id, key, request_hash, status, body_sealed) VALUES ($1, $2, $3, 200, $4)',
        [principal, 'late', randomBytes(32), envelope],
      )
      secrets.texts.set(`answers ${principal} late`, 'in flight')
      await client.query('COMMIT')
      await eventually(async () => (await rotation.status()).rotation?.state === 'finished')
      expect(await keysInFile()).toHaveLength(1)
      await secrets.expectReadable(await freshSeal())
    } finally {
      client.release()
      await Promise.all(running.map((rotation) => rotation.stop()))
      await pool.end()
      await db.pool.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`)
    }
  })

  test('a row that is written in the same moment keeps what was written last', async () => {
    const keyring = await ring()
    const seal = createKeyringSeal(keyring, systemRandom)
    const secrets = await Secrets.make(1, seal)
    const [name] = [...secrets.texts.keys()].filter((key) => key.startsWith('answers'))
    const [, principal, ...key] = name!.split(' ')
    // Sealing anew reads the envelope; before it writes, the row gets another one.
    let raced = false
    const racing: Seal = {
      seal: (text, context) => {
        raced = true
        return seal.seal(text, context)
      },
      open: (envelope, context) => seal.open(envelope, context),
    }
    const client = await db.pool.connect()
    try {
      await client.query('BEGIN')
      await client.query('UPDATE idempotent_requests SET body_sealed = $1', [
        seal.seal('newer', sealContext('answers', principal!, key.join(' '))),
      ])
      const rotation = start(keyring, racing)
      await inTransaction(db.database, (transaction) => rotation.takeNewKey(transaction, { keepOld: false }))
      rotation.sealAnew({ keepOld: false, deed })
      await eventually(() => raced)
      await client.query('COMMIT')
      await eventually(async () => (await rotation.status()).rotation?.state === 'finished')
    } finally {
      client.release()
    }
    secrets.texts.set(name!, 'newer')
    await secrets.expectReadable(await freshSeal())
  })
})

/** The ring of a server that dies when it comes to change its file in this way. */
function dyingAt(step: 'add' | 'remove', keyring: Awaited<ReturnType<typeof ring>>): Keyring {
  const file = new Proxy(keyring.file, {
    get(target, name) {
      if (name === step) return () => Promise.reject(new Error('killed'))
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  return { keys: () => keyring.keys(), file }
}

describe('a rotation that is cut off', () => {
  /** Seals that die after so many times, as a process does. */
  function dying(seal: Seal, after: number): Seal {
    let left = after
    return {
      open: (envelope, context) => seal.open(envelope, context),
      seal(text, context) {
        left -= 1
        if (left < 0) throw new Error('killed')
        return seal.seal(text, context)
      },
    }
  }

  test.each([0, 1, 199, 200, 201, 414])(
    'after %i envelopes loses nothing, and the next one ends it',
    async (after) => {
      const secrets = await Secrets.make(400, await freshSeal())
      const keyring = await ring()
      const cut = await rotate(start(keyring, dying(createKeyringSeal(keyring, systemRandom), after)))
      expect(cut.rotation?.state).toBe('failed')
      expect(await keysInFile()).toHaveLength(2)
      await secrets.expectReadable(await freshSeal())
      const again = await rotate(start(await ring()))
      expect(again.rotation).toMatchObject({
        state: 'finished',
        resealed: 415,
        unreadable: 0,
        keysRemoved: 2,
      })
      expect(await keysInFile()).toHaveLength(1)
      await secrets.expectReadable(await freshSeal())
    },
  )

  test('before the new key was in the file changes nothing', async () => {
    const keyring = await ring()
    const before = await keysInFile()
    await expect(rotate(start(dyingAt('add', keyring)))).rejects.toThrow('killed')
    expect(await keysInFile()).toEqual(before)
  })

  test('when all is sealed anew and the old key is still there, ends with the next one', async () => {
    const secrets = await Secrets.make(10, await freshSeal())
    const keyring = await ring()
    expect((await rotate(start(dyingAt('remove', keyring)))).rotation).toMatchObject({
      state: 'failed',
      resealed: 25,
    })
    expect(await keysInFile()).toHaveLength(2)
    await secrets.expectReadable(await freshSeal())
    await rotate(start(await ring()))
    expect(await keysInFile()).toHaveLength(1)
    await secrets.expectReadable(await freshSeal())
  })
})

describe('what cannot be read', () => {
  test('because its key is lost is counted as missing, left alone, and keeps nothing back', async () => {
    await Secrets.make(4, createSeal(Buffer.alloc(32, 1), systemRandom))
    const rotation = start(await ring())
    const after = await rotate(rotation)
    expect(after.rotation).toMatchObject({ state: 'finished', resealed: 0, unreadable: 0, keysRemoved: 1 })
    expect(after.keys).toEqual([
      expect.objectContaining({ standing: 'current', sealed: counts(0, 0) }),
      {
        keyId: sealKeyId(Buffer.alloc(32, 1)),
        standing: 'missing',
        sealed: counts(4, 4),
      },
    ])
  })

  test('although its key is here keeps that key, and is told', async () => {
    const keyring = await ring()
    const seal = createKeyringSeal(keyring, systemRandom)
    const old = sealKeyId(keyring.keys().current)
    await Secrets.make(3, seal)
    await db.pool.query(
      'INSERT INTO idempotent_requests (principal_id, key, request_hash, status, body_sealed) VALUES ($1, $2, $3, 200, $4)',
      [newId(), 'copied', randomBytes(32), seal.seal('text', 'of another row')],
    )
    const after = await rotate(start(keyring))
    expect(after.rotation).toMatchObject({ state: 'finished', resealed: 12, unreadable: 1, keysRemoved: 0 })
    expect(after.keys[1]).toEqual({
      keyId: old,
      standing: 'older',
      sealed: { ...counts(0, 1) },
    })
  })
})

describe('keys that the settings give', () => {
  const [first, second] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]

  test('are changed by the settings: without another key there is nothing to do', async () => {
    const rotation = start(settingsKeyring(first, []))
    await expect(rotate(rotation)).rejects.toMatchObject({ code: 'secret_key_in_settings' })
    expect((await rotation.status()).source).toBe('settings')
  })

  test('are not changed while a server lives that could not read what the new one seals', async () => {
    const serverId = newId()
    await db.pool.query("INSERT INTO servers (id, hostname, process_id) VALUES ($1, 'pier', 7)", [serverId])
    const rotation = start(settingsKeyring(second, [first]))
    const behind = start(settingsKeyring(first, []))
    const refused = { code: 'secret_key_in_settings', detail: expect.stringContaining('on pier (process 7)') }
    await expect(rotate(rotation)).rejects.toMatchObject(refused)
    await behind.announce(() => [serverId])
    await expect(rotate(rotation)).rejects.toMatchObject(refused)
    await start(settingsKeyring(first, [second])).announce(() => [serverId])
    expect((await rotate(rotation)).rotation?.state).toBe('finished')
    // A server that does not beat any more is no reason to wait.
    await behind.announce(() => [serverId])
    await db.pool.query("UPDATE servers SET beat_at = now() - interval '21 seconds'")
    expect((await rotate(rotation)).rotation?.state).toBe('finished')
  })

  test('then seal everything anew, and say that the old one is no longer needed', async () => {
    const secrets = await Secrets.make(20, createSeal(first, systemRandom))
    const keyring = settingsKeyring(second, [first])
    await secrets.expectReadable(createKeyringSeal(keyring, systemRandom))
    const after = await rotate(start(keyring))
    expect(after.rotation).toEqual({ state: 'finished', resealed: 35, unreadable: 0, keysRemoved: 0 })
    expect(after.keys.map(({ standing, sealed }) => [standing, sealed.answers])).toEqual([
      ['current', 20],
      ['older', 0],
    ])
    await secrets.expectReadable(createSeal(second, systemRandom))
  })

  test('take over from a file', async () => {
    const keyring = await ring()
    const secrets = await Secrets.make(5, createKeyringSeal(keyring, systemRandom))
    const [inFile] = await keysInFile()
    await rotate(start(settingsKeyring(second, [Buffer.from(inFile!, 'hex')])))
    await secrets.expectReadable(createSeal(second, systemRandom))
  })
})

test('every kind of sealed thing is in these tests', () => {
  expect(SEALED_KINDS).toEqual(Object.keys(counts(0, 0)))
})
