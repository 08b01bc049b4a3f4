import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import {
  makeDataFolder,
  removeDataFolder,
  type ServerProcess,
  startServer,
} from '../support/server-process.ts'
import { mintToken, Operator } from './independent/operator.ts'
import { exchange, upgradeRequest } from './independent/raw.ts'
import { enrol, newMachine, Robot, Session, sha256 } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'

/** Every raw secret of the run under a name that may be printed when it turns up somewhere. */
const secrets = new Map<string, string>()
/** Everything the server said over HTTP and WebSocket, except the one answer that shows a secret once. */
const said: string[] = []

let scene: Scene
let base: string
let scrapes = ''

const remember = (name: string, secret: string): string => {
  secrets.set(name, secret)
  return secret
}

/** Secrets whole, without their kind, and as PostgreSQL would print their bytes. */
function findings(text: string): string[] {
  return [...secrets].flatMap(([name, secret]) => {
    const random = /[0-9a-f]{64}/.exec(secret)?.[0] ?? secret
    const forms = [
      secret,
      random,
      Buffer.from(secret).toString('hex'),
      Buffer.from(secret).toString('base64'),
    ]
    return forms.some((form) => text.includes(form)) ? [name] : []
  })
}

async function ask(path: string, token: string | null, method = 'GET', body?: unknown): Promise<string> {
  const response = await fetch(`${base}${path}`, {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  said.push(JSON.stringify([...response.headers]), text)
  return text
}

beforeAll(async () => {
  // With all there is in the log.
  scene = await startScene({ env: { BEACON_LOG_LEVEL: 'trace' } })
  base = scene.servers[0]!.url
  const { operator, site, fleet } = scene
  const admin = remember('admin token', scene.adminToken)
  remember('secret key', scene.env.BEACON_SECRET_KEY!)

  const key = await operator.key(site, fleet)
  const hidden = await operator.key(site, fleet, { retrievable: false })
  const revoked = await operator.key(site, fleet)
  for (const [name, one] of Object.entries({ key, hidden, revoked })) remember(`${name} key`, one.key_value)
  await operator.must('POST', `/api/enrollment-keys/${revoked.id}/revoke`)
  await fetch(`${base}/api/enrollment-keys`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${admin}`,
      'content-type': 'application/json',
      'idempotency-key': 'once',
    },
    body: JSON.stringify({ site_id: site.id, fleet_id: fleet.id, name: 'kept answer' }),
  })
    .then((response) => response.json() as Promise<{ key_value: string }>)
    .then(({ key_value }) => remember('key of an answer that is kept', key_value))

  // Robots that live, come back, are replaced, revoked and retired.
  const own = remember('own robot token', mintToken('rf_robot_'))
  const machine = newMachine()
  const claim = { claim_id: randomUUID(), token_hash: sha256(own), machine }
  const first = await enrol(base, key.key_value, claim)
  said.push(first.text, (await enrol(base, key.key_value, claim)).text)
  said.push((await enrol(base, key.key_value, { ...claim, token_hash: sha256('other') })).text)
  const minted = await enrol(base, hidden.key_value, { machine: newMachine() })
  remember('minted robot token', minted.body.robot_token!)
  for (const token of [own, minted.body.robot_token!]) {
    const session = await Session.open(base, token)
    session.hello(machine)
    await session.welcome()
    session.heartbeat(1)
    session.socket.send('{"type":"heartbeat"')
    session.send({
      type: 'event',
      id: '1',
      at: new Date().toISOString(),
      level: 'info',
      code: 'x',
      message: 'y',
    })
    await session.acked(1)
    await session.frame((frame) => frame.type === 'error')
    said.push(JSON.stringify(session.frames))
    if (token !== own) session.send({ type: 'bye', reason: 'over' })
  }
  const lasting = await Robot.enrol([base], key.key_value)
  remember('token of a robot that lives on', lasting.token)
  lasting.start()
  await eventually(() => lasting.acknowledged.length > 1)
  await ask(`/api/robots/${first.body.robot_id}/revoke-token`, admin, 'POST')
  await ask(`/api/robots/${minted.body.robot_id}/retire`, admin, 'POST')
  for (const token of [own, minted.body.robot_token!, `${own}x`, admin, key.key_value])
    said.push((await exchange(base, upgradeRequest(token))).text)

  // Refusals of every kind, with secrets in all the places where people put them by mistake.
  for (const secret of [...secrets.values()]) {
    await ask('/api/robots', `${secret}0`)
    await ask(`/api/robots/${secret}`, admin)
    await ask(`/api/robots?token=${secret}`, admin)
    await ask(`/api/robots?cursor=${secret}`, admin)
    await ask(`/api/robots?site=${secret}`, admin)
    await ask(`/${secret}`, null)
    await ask(`/agent/ws?token=${secret}`, null)
    await ask('/api/fleets', admin, 'POST', { site_id: secret, name: 'x' })
    await ask('/api/sites', admin, 'POST', { name: { token: secret } })
    await ask(
      '/agent/enroll',
      secret === key.key_value || secret === hidden.key_value ? null : secret,
      'POST',
      {
        token_hash: secret,
      },
    )
    said.push(
      (await exchange(base, `GET /healthz HTTP/1.1\r\nAuthorization: Bearer ${secret}\0\r\n\r\n`)).text,
    )
  }
  await ask('/api/enrollment-keys', null)
  await ask('/api/enrollment-keys', lasting.token)
  await ask('/agent/enroll', revoked.key_value, 'POST', {})
  await ask('/agent/enroll', key.key_value, 'POST', { name: '\u0000' })
  for (const path of ['/api/robots', '/api/sites', '/api/fleets', '/api/info', '/openapi.json', '/readyz'])
    await ask(path, admin)
  for (const id of [first.body.robot_id, minted.body.robot_id, lasting.id])
    for (const path of ['', '/events', '/heartbeats']) await ask(`/api/robots/${id}${path}`, admin)
  scrapes = (await ask('/metrics', admin)) + (await ask('/metrics/robots', admin))
  await lasting.stop()
}, 60_000)
afterAll(() => scene?.end())

test('no secret is in any answer but the one that shows it once', () => {
  expect(said.length).toBeGreaterThan(100)
  expect(findings(said.join('\n'))).toEqual([])
  expect(scrapes).toContain('beacon_robot_info')
  expect(findings(scrapes)).toEqual([])
})

test('no secret is in any column of any table', async () => {
  const { pool } = scene.database
  const { rows: tables } = await pool.query<{ name: string }>(
    "SELECT quote_ident(table_name) AS name FROM information_schema.tables WHERE table_schema = 'public'",
  )
  expect(tables.length).toBeGreaterThan(8)
  let held = ''
  for (const { name } of tables) {
    const { rows } = await pool.query<{ row: string }>(
      `SELECT row_to_json(${name})::text AS row FROM ${name}`,
    )
    held += rows.map(({ row }) => row).join('\n')
  }
  expect(held).toContain('once')
  expect(findings(held)).toEqual([])
})

test('a retrievable key is shown again to an operator who may reveal it, any other to nobody', async () => {
  const keys = await scene.operator.list('/api/enrollment-keys')
  const shown = findings(JSON.stringify(keys))
  expect(shown).toContain('key key')
  expect(shown).not.toContain('hidden key')
})

test('no secret is in the log, at its most talkative, up to the end', async () => {
  const [server] = scene.servers
  expect(await server!.stop()).toBe(0)
  expect(server!.output.length).toBeGreaterThan(10_000)
  expect(findings(server!.output)).toEqual([])
  expect(server!.ownerTokens).toEqual([])
})

test('the token of a first start is on one line of the output, and nowhere else', async () => {
  const folder = await makeDataFolder()
  let server: ServerProcess | undefined
  try {
    server = await startServer({
      BEACON_DATA_DIR: folder,
      BEACON_DATABASE_URL: scene.database.url,
      BEACON_LOG_LEVEL: 'trace',
    })
    // This database has its owner.
    expect(server.ownerTokens).toEqual([])
    await server.kill9()
    await scene.database.pool.query('TRUNCATE access_tokens CASCADE')
    server = await startServer({
      BEACON_DATA_DIR: folder,
      BEACON_DATABASE_URL: scene.database.url,
      BEACON_LOG_LEVEL: 'trace',
    })
    const [token] = server.ownerTokens
    expect((await new Operator(server.url, token!).call('GET', '/api/robots')).status).toBe(200)
    expect(await server.stop()).toBe(0)
    expect(server.output.split(token!)).toHaveLength(2)
  } finally {
    await server?.kill9()
    await removeDataFolder(folder)
  }
})
