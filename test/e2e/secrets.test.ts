/**
 * A run that uses every feature, with the log at its most talkative; then everything that was said, logged, counted or
 * kept is searched for every secret that was made or typed in.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { startProvider } from '../support/identity-provider.ts'
import {
  makeDataFolder,
  removeDataFolder,
  type ServerProcess,
  startServer,
} from '../support/server-process.ts'
import { type BackgroundCommand, beacon, startBeacon } from './beacon-command.ts'
import { type Json, mintToken, Operator } from './independent/operator.ts'
import { codeOf, Person } from './independent/person.ts'
import { exchange, upgradeRequest } from './independent/raw.ts'
import { enrol, newMachine, Robot, Session, sha256 } from './independent/robot.ts'
import { type Scene, startScene } from './scene.ts'
import { SecretScan } from './secret-scan.ts'

const PASSWORDS = ['grey herons over the estuary', 'nine lanterns by the sluice']

const inviting = ['users', 'invite', '--email', 'carla@example.test', '--name', 'Carla', '--role', 'viewer']

const scan = new SecretScan()
let scene: Scene
let base: string
let admin: string
let agent: BackgroundCommand
let agentFolder: string
let provider: Awaited<ReturnType<typeof startProvider>>
let scrapes = ''
let exports = ''

/** One that nobody listens on, for addresses that have to be known before the server starts. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
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
  scan.say(JSON.stringify([...response.headers]), text)
  return text
}

/** Has a secret made and remembers it; the rest of the answer counts as said. */
async function issue<Answer extends Json>(
  name: string,
  path: string,
  body: unknown,
  field: string,
  { token = admin, key = undefined as string | undefined } = {},
): Promise<Answer & { secret: string }> {
  const response = await fetch(`${base}${path}`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${token}`,
      'content-type': 'application/json',
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  expect(response.status, `${name}: ${text}`).toBeLessThan(300)
  const answer = JSON.parse(text) as Answer
  const secret = scan.remember(name, String(answer[field]))
  scan.say(JSON.stringify([...response.headers]))
  scan.sayWithout(text, secret)
  return { ...answer, secret }
}

/** Runs a command that shows no secret. */
async function cli(...argv: string[]) {
  const ran = await beacon(argv, { url: base, apiKey: admin })
  scan.say(ran.stdout, ran.stderr)
  expect({ argv, code: ran.code, stderr: ran.code === 0 ? '' : ran.stderr }).toEqual({
    argv,
    code: 0,
    stderr: '',
  })
}

/** Runs a command that shows secrets once. */
async function cliIssue(forms: Readonly<Record<string, RegExp>>, ...argv: string[]) {
  const { BEACON_DATABASE_URL, BEACON_DATA_DIR } = scene.env
  const env = { BEACON_DATABASE_URL: BEACON_DATABASE_URL!, BEACON_DATA_DIR: BEACON_DATA_DIR! }
  const ran = await beacon(argv, { url: base, apiKey: admin, env })
  expect({ argv, code: ran.code, stderr: ran.code === 0 ? '' : ran.stderr }).toEqual({
    argv,
    code: 0,
    stderr: '',
  })
  const shown = Object.entries(forms).map(([name, form]) => {
    const secret = form.exec(ran.stdout)?.[0]
    expect(secret, `${name} in ${ran.stdout}`).toBeDefined()
    return scan.remember(name, secret!)
  })
  scan.sayWithout(ran.stdout, ...shown)
  scan.say(ran.stderr)
}

/** A request of a person at a browser; what it shows once is named, and everything else counts as said. */
async function visit(
  person: Person,
  method: string,
  path: string,
  body?: unknown,
  shown: readonly string[] = [],
) {
  const before = person.session
  const seen = await person.call(method, path, body)
  if (person.session !== before && person.session !== '')
    scan.remember(`session ${path} ${scan.names.length}`, person.session)
  const values = shown.flatMap((field) => [seen.body[field]].flat()).map(String)
  scan.sayWithout(seen.text, ...values)
  // The cookie is where it should be.
  scan.sayWithout(JSON.stringify([...seen.headers]), ...[...person.cookies.values()].filter(Boolean))
  return seen
}

const shows = (seen: { status: number; text: string }, status = 200) =>
  expect([seen.status, seen.text]).toEqual([status, seen.text])

async function credentials() {
  const { operator, site, fleet } = scene
  const place = { site_id: site.id, fleet_id: fleet.id }
  const key = await issue<Json & { id: string }>(
    'key',
    '/api/enrollment-keys',
    { ...place, name: 'key' },
    'key_value',
  )
  const hidden = await issue<Json & { id: string }>(
    'hidden key',
    '/api/enrollment-keys',
    { ...place, name: 'hidden', retrievable: false },
    'key_value',
  )
  const revoked = await issue<Json & { id: string }>(
    'revoked key',
    '/api/enrollment-keys',
    { ...place, name: 'revoked' },
    'key_value',
  )
  await operator.must('POST', `/api/enrollment-keys/${revoked.id}/revoke`, { cascade: 'revoke_robots' })
  await issue(
    'key of an answer that is kept',
    '/api/enrollment-keys',
    { ...place, name: 'kept' },
    'key_value',
    {
      key: 'kept-key',
    },
  )
  const provisioning = await issue<Json & { id: string }>(
    'provisioning token',
    '/api/provisioning-tokens',
    { name: 'image', fleet_id: fleet.id },
    'token',
    { key: 'kept-provisioning' },
  )
  const single = await issue<Json & { id: string }>(
    'single-use provisioning token',
    '/api/provisioning-tokens',
    { name: 'one', fleet_id: fleet.id, single_use: true },
    'token',
  )
  await ask(`/api/provisioning-tokens/${provisioning.id}`, admin)
  return { key, hidden, revoked, provisioning, single }
}

async function tokens() {
  const { fleet } = scene
  const personal = await issue<Json & { id: string }>(
    'personal token',
    '/api/tokens',
    { name: 'script', expires_in_days: 30 },
    'token',
    { key: 'kept-personal' },
  )
  await ask('/api/robots', personal.secret)
  const next = await issue<Json & { id: string }>(
    'rotated personal token',
    `/api/tokens/${personal.id}/rotate`,
    {},
    'token',
  )
  await issue('token that rotated itself', '/api/tokens/self/rotate', {}, 'token', { token: next.secret })
  const ofFleet = await issue<Json & { id: string }>(
    'fleet token',
    `/api/fleets/${fleet.id}/tokens`,
    { name: 'dashboard', scopes: ['robots:read', 'metrics:read'] },
    'token',
  )
  await ask('/api/robots', ofFleet.secret)
  await issue(
    'rotated fleet token',
    `/api/fleets/${fleet.id}/tokens/${ofFleet.id}/rotate`,
    { overlap_seconds: 0 },
    'token',
  )
  for (const path of ['/api/tokens', `/api/fleets/${fleet.id}/tokens`, `/api/tokens/${personal.id}`])
    await ask(path, admin)
  await ask(`/api/tokens/${personal.id}/revoke`, admin, 'POST', {})
  await ask('/api/robots', personal.secret)
}

async function robots(made: Awaited<ReturnType<typeof credentials>>) {
  const { key, hidden } = made
  const own = scan.remember('own robot token', mintToken('rf_robot_'))
  const machine = newMachine()
  const claim = { claim_id: randomUUID(), token_hash: sha256(own), machine }
  const first = await enrol(base, key.secret, claim)
  scan.say(first.text, (await enrol(base, key.secret, claim)).text)
  scan.say((await enrol(base, key.secret, { ...claim, token_hash: sha256('other') })).text)
  const minted = await enrol(base, hidden.secret, { machine: newMachine() })
  scan.remember('minted robot token', minted.body.robot_token!)
  scan.sayWithout(minted.text, minted.body.robot_token!)
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
    scan.say(JSON.stringify(session.frames))
    if (token !== own) session.send({ type: 'bye', reason: 'over' })
  }
  for (const [name, credential] of Object.entries({ provisioning: made.provisioning, single: made.single })) {
    const answer = await enrol(base, credential.secret, { machine: newMachine() })
    expect(answer.status, answer.text).toBe(201)
    scan.remember(`robot token of ${name}`, answer.body.robot_token!)
    scan.sayWithout(answer.text, answer.body.robot_token!)
  }
  // Used up, and revoked by itself.
  scan.say((await enrol(base, made.single.secret, { machine: newMachine() })).text)

  const setup = await issue<Json>(
    'setup token',
    `/api/robots/${first.body.robot_id}/setup-token`,
    {},
    'setup_token',
    { key: 'kept-setup' },
  )
  const anew = await enrol(base, setup.secret, { machine: newMachine() })
  expect(anew.status, anew.text).toBeLessThan(300)
  scan.remember('robot token of a setup token', anew.body.robot_token!)
  scan.sayWithout(anew.text, anew.body.robot_token!)
  scan.say((await enrol(base, setup.secret, { machine: newMachine() })).text)

  const lasting = await Robot.enrol([base], key.secret)
  scan.remember('token of a robot that lives on', lasting.token)
  lasting.start()
  await eventually(() => lasting.acknowledged.length > 1)
  await ask(`/api/robots/${first.body.robot_id}/revoke-token`, admin, 'POST')
  await ask(`/api/robots/${minted.body.robot_id}/retire`, admin, 'POST')
  for (const token of [own, minted.body.robot_token!, `${own}x`, admin, key.secret])
    scan.say((await exchange(base, upgradeRequest(token))).text)
  for (const id of [first.body.robot_id, minted.body.robot_id, lasting.id])
    for (const path of ['', '/events', '/heartbeats']) await ask(`/api/robots/${id}${path}`, admin)
  return lasting
}

/** The real agent, which makes its token itself, and makes another when it is asked to. */
async function realAgent(key: string) {
  agentFolder = await mkdtemp(join(tmpdir(), 'beacon-scan-agent-'))
  const config = join(agentFolder, 'agent.toml')
  agent = startBeacon(['agent', 'run'], {
    BEACON_SERVER: base,
    BEACON_ENROLLMENT_KEY: key,
    BEACON_CONFIG: config,
    BEACON_NAME: 'real-agent',
  })
  const tokenIn = async () =>
    /rf_robot_[0-9a-f]{72}/.exec(await readFile(config, 'utf8').catch(() => ''))?.[0]
  const robot = await eventually(async () => {
    const found = (await scene.operator.list<Json>('/api/robots')).find(({ name }) => name === 'real-agent')
    return found?.connection === 'online' ? found : undefined
  }, 'the real agent')
  const first = scan.remember('token of the real agent', (await tokenIn())!)
  await cli('robots', 'rotate-token', String(robot.id), '--yes')
  const second = await eventually(async () => {
    const token = await tokenIn()
    return token === first ? undefined : token
  }, 'the new token of the real agent')
  scan.remember('second token of the real agent', second)
  await eventually(async () => {
    const { rows } = await scene.database.pool.query('SELECT FROM robots WHERE token_hash = decode($1, $2)', [
      sha256(second),
      'hex',
    ])
    return rows.length === 1
  }, 'the new token to count')
}

/** Somebody is invited, signs in with a password and a second factor, and does what people do. */
async function people() {
  const [password, another] = PASSWORDS.map((text, index) => scan.remember(`password ${index}`, text)) as [
    string,
    string,
  ]
  const email = 'olga@example.test'
  const invited = await issue<Json & { id: string }>(
    'invitation',
    '/api/users',
    { name: 'Olga', email, roles: [{ role: 'owner' }] },
    'invitation_token',
    { key: 'kept-invitation' },
  )
  const again = await issue('second invitation', `/api/users/${invited.id}/invite`, {}, 'invitation_token')
  const olga = new Person(base)
  const wrong = await visit(olga, 'POST', '/api/invitations/accept', { token: invited.secret, password })
  expect(wrong.status).toBe(403)
  shows(await visit(olga, 'POST', '/api/invitations/accept', { token: again.secret, password }))
  expect((await visit(olga, 'POST', '/api/sign-in', { email, password: another })).status).toBe(401)
  expect((await visit(olga, 'POST', '/api/sign-in', { email: password, password: email })).status).toBe(401)
  shows(await visit(olga, 'POST', '/api/sign-in', { email, password }))
  const started = await visit(olga, 'POST', '/api/session/second-factor', {}, ['secret', 'otpauth_uri'])
  shows(started, 201)
  const secret = scan.remember('second factor', String(started.body.secret))
  const confirmed = await visit(
    olga,
    'POST',
    '/api/session/second-factor/confirm',
    { code: codeOf(secret, -1) },
    ['backup_codes'],
  )
  shows(confirmed)
  const backup = confirmed.body.backup_codes as string[]
  for (const [index, code] of backup.entries()) scan.remember(`backup code ${index}`, code)
  await visit(olga, 'POST', '/api/sign-out', {})
  const back = new Person(base)
  shows(await visit(back, 'POST', '/api/sign-in', { email, password }))
  expect((await visit(back, 'POST', '/api/sign-in/second-factor', { code: '000000' })).status).toBe(401)
  shows(await visit(back, 'POST', '/api/sign-in/second-factor', { backup_code: backup[0] }))
  const own = await visit(back, 'POST', '/api/tokens', { name: 'from the page' }, ['token'])
  shows(own, 201)
  scan.remember('token made on the page', String(own.body.token))
  for (const path of [
    '/api/session',
    '/api/sessions',
    '/api/users',
    '/api/security',
    '/api/audit',
    '/api/tokens',
  ])
    shows(await visit(back, 'GET', path))
  const renewed = await visit(
    back,
    'POST',
    '/api/session/second-factor/backup-codes',
    { backup_code: backup[1] },
    ['backup_codes'],
  )
  shows(renewed)
  for (const [index, code] of (renewed.body.backup_codes as string[]).entries())
    scan.remember(`new backup code ${index}`, code)
  expect((await visit(back, 'POST', '/api/password', { new_password: 'short' })).status).toBe(403)
  const change = { current_password: password, new_password: another }
  shows(await visit(back, 'POST', '/api/password', change), 204)
  shows(await visit(new Person(base), 'POST', '/api/sign-in', { email, password: another }))
}

/** Somebody comes through the identity provider. */
async function throughProvider() {
  const email = 'piet@example.test'
  await issue(
    'invitation of somebody else',
    '/api/users',
    { name: 'Piet', email, roles: [{ role: 'viewer' }] },
    'invitation_token',
  )
  provider.accounts.set('piet', { email, email_verified: true })
  const piet = new Person(base)
  const started = await piet.call('GET', '/api/sign-in/oidc')
  expect(started.status, started.text).toBe(302)
  scan.remember('session on the way to the provider', piet.session)
  const there = started.headers.get('location')!
  for (const name of ['state', 'nonce', 'code_challenge'])
    scan.remember(name, new URL(there).searchParams.get(name)!)
  const back = new URL(await provider.visit(there, 'piet'))
  scan.remember('code of the provider', back.searchParams.get('code')!)
  const answer = await visit(piet, 'GET', `${back.pathname}${back.search}`)
  expect(answer.status, answer.text).toBe(302)
  shows(await visit(piet, 'GET', '/api/session'))
  expect((await visit(piet, 'GET', `${back.pathname}${back.search}`)).status).toBe(401)
}

/** Refusals of every kind, with secrets in all the places where people put them by mistake. */
async function mistakes(good: readonly string[]) {
  for (const secret of scan.values.map(encodeURIComponent)) {
    const raw = decodeURIComponent(secret)
    await ask('/api/robots', `${secret}0`)
    await ask(`/api/robots/${secret}`, admin)
    await ask(`/api/robots?token=${secret}`, admin)
    await ask(`/api/robots?cursor=${secret}`, admin)
    await ask(`/api/audit?query=${secret}`, admin)
    await ask(`/api/robots?site=${secret}`, admin)
    await ask(`/${secret}`, null)
    await ask(`/agent/ws?token=${secret}`, null)
    await ask('/api/fleets', admin, 'POST', { site_id: raw, name: 'x' })
    await ask('/api/sites', admin, 'POST', { name: { token: raw } })
    await ask('/api/invitations/accept', null, 'POST', { token: raw, password: 'short' })
    if (!good.includes(raw)) await ask('/agent/enroll', secret, 'POST', { token_hash: raw })
    scan.say(
      (await exchange(base, `GET /healthz HTTP/1.1\r\nAuthorization: Bearer ${secret}\0\r\n\r\n`)).text,
    )
  }
}

beforeAll(async () => {
  const port = await freePort()
  provider = await startProvider({ callback: `http://127.0.0.1:${port}/api/sign-in/oidc/callback` })
  const { issuer, clientId, clientSecret } = provider.settings
  scene = await startScene({
    env: {
      // With all there is in the log.
      BEACON_LOG_LEVEL: 'trace',
      BEACON_SECRET_KEY: '',
      BEACON_PORT: String(port),
      BEACON_PUBLIC_URL: `http://127.0.0.1:${port}`,
      BEACON_OIDC_ISSUER: issuer,
      BEACON_OIDC_CLIENT_ID: clientId,
      BEACON_OIDC_CLIENT_SECRET: clientSecret!,
    },
  })
  base = scene.servers[0]!.url
  admin = scan.remember('admin token', scene.adminToken)
  scan.remember('client secret', clientSecret!)
  const keysInFile = async () =>
    (await readFile(join(scene.env.BEACON_DATA_DIR!, 'secret.key'), 'utf8')).trim().split('\n')
  scan.remember('first secret key', (await keysInFile())[0]!)

  const made = await credentials()
  await tokens()
  const lasting = await robots(made)
  await realAgent(made.key.secret)
  await people()
  await throughProvider()

  const where = ['--site', scene.site.id, '--fleet', scene.fleet.id]
  await cliIssue({ 'key of a command': /rf_enroll_\w+/ }, 'keys', 'create', ...where, '--name', 'by command')
  await cliIssue({ 'token of a command': /rf_pat_\w+/ }, 'tokens', 'create', '--name', 'by command')
  await cliIssue({ 'invitation of a command': /rf_invite_\w+/ }, ...inviting)
  await cliIssue({ 'setup token of a command': /rf_setup_\w+/ }, 'robots', 'setup-token', lasting.id, '--yes')
  await cliIssue(
    { 'token of a recovered owner': /rf_pat_\w+/, 'invitation of a recovered owner': /rf_invite_\w+/ },
    ...['recover-owner', '--email', 'rita@example.test', '--yes', '--json'],
  )
  await cli('tokens', 'revoke-all', '--deployment', '--dry-run')
  await cli('secrets', 'rotate', '--yes')
  scan.remember('second secret key', (await keysInFile())[0]!)
  for (const argv of [
    ['secrets', 'status'],
    ['keys', 'list'],
    ['robots', 'list'],
    ['tokens', 'list'],
    ['audit', 'list'],
  ])
    await cli(...argv)

  await mistakes([made.key.secret, made.hidden.secret, made.provisioning.secret])
  await ask('/api/enrollment-keys', null)
  await ask('/api/enrollment-keys', lasting.token)
  await ask('/agent/enroll', made.revoked.secret, 'POST', {})
  await ask('/agent/enroll', made.key.secret, 'POST', { name: '\u0000' })
  for (const path of [
    '/api/robots',
    '/api/sites',
    '/api/fleets',
    '/api/info',
    '/openapi.json',
    '/readyz',
    '/api/secrets',
  ])
    await ask(path, admin)
  scrapes = (await ask('/metrics', admin)) + (await ask('/metrics/robots', admin))
  await lasting.stop()
  // Uses and refusals are written a moment later.
  await eventually(async () => {
    exports =
      (await ask('/api/audit/export?format=ndjson', admin)) +
      (await ask('/api/audit/export?format=csv', admin))
    return exports.includes('request.refused') && exports.includes('secret_key.rotated')
  }, 'the audit log')
  await ask('/api/audit?limit=200', admin)
  await ask('/api/audit/verify', admin)
}, 120_000)
afterAll(async () => {
  await agent?.kill()
  await scene?.end()
  await provider?.close()
  if (agentFolder) await rm(agentFolder, { recursive: true, force: true })
})

test('the run made secrets of every kind', () => {
  const names = scan.names.join('\n')
  for (const kind of ['rf_pat_', 'rf_fleet_', 'rf_robot_', 'rf_enroll_', 'apt_', 'rf_setup_', 'rf_invite_'])
    expect(
      scan.values.some((secret) => secret.startsWith(kind)),
      kind,
    ).toBe(true)
  for (const name of [
    'password',
    'session',
    'second factor',
    'backup code',
    'secret key',
    'code of the provider',
  ])
    expect(names).toContain(name)
  expect(scan.names.length).toBeGreaterThan(40)
})

test('no secret is in any answer but the one that shows it once, and in no output of a command', () => {
  expect(scan.said.length).toBeGreaterThan(100_000)
  expect(scan.findings(scan.said)).toEqual([])
})

test('no secret is in any metric', () => {
  expect(scrapes).toContain('beacon_robot_info')
  expect(scrapes).toContain('beacon_rate_limited_total')
  expect(scan.findings(scrapes)).toEqual([])
})

test('no secret is in what the audit log gives out', () => {
  for (const action of [
    'access_token.created',
    'sign_in.succeeded',
    'claim.refused',
    'second_factor.enabled',
  ])
    expect(exports, action).toContain(action)
  expect(scan.findings(exports)).toEqual([])
})

test('no secret is in any column of any table', async () => {
  const { found, tables, bytes } = await scan.findingsIn(scene.database)
  expect(tables).toBeGreaterThan(15)
  expect(bytes).toBeGreaterThan(50_000)
  expect(found).toEqual([])
})

test('a secret that were there would be found, in whatever form', async () => {
  const { pool } = scene.database
  for (const [index, secret] of scan.values.entries()) {
    const name = scan.names[index]!
    for (const text of [
      secret,
      `{"a":${JSON.stringify(secret)}}`,
      Buffer.from(secret).toString('hex'),
      Buffer.from(`Bearer ${secret}`).toString('base64'),
      Buffer.from(`x:${secret}:y`).toString('base64url'),
      `https://here/?token=${encodeURIComponent(secret)}&x`,
    ])
      expect(scan.findings(`before ${text} after`), name).toContain(name)
  }
  const [token, password] = [admin, PASSWORDS[0]!]
  const robot = (await pool.query<{ id: string }>('SELECT id FROM robots LIMIT 1')).rows[0]!.id
  for (const [name, text] of [
    ['admin token', token],
    ['admin token', Buffer.from(token).toString('hex')],
    ['password 0', Buffer.from(`: ${password}`).toString('base64')],
  ] as const) {
    await pool.query('UPDATE robots SET labels = $1 WHERE id = $2', [JSON.stringify({ text }), robot])
    expect((await scan.findingsIn(scene.database)).found).toContain(`${name} in public.robots`)
  }
  // Bytes that are the text of a secret, where no hash is demanded.
  await pool.query("UPDATE robots SET labels = '{}' WHERE id = $1", [robot])
  const sealed = 'SELECT body_sealed FROM idempotent_requests LIMIT 1'
  const { rows: before } = await pool.query<{ body_sealed: Buffer }>(sealed)
  const swap = 'UPDATE idempotent_requests SET body_sealed = $1 WHERE body_sealed = $2'
  const planted = Buffer.from(JSON.stringify({ token }))
  await pool.query(swap, [planted, before[0]!.body_sealed])
  expect((await scan.findingsIn(scene.database)).found).toContain('admin token in public.idempotent_requests')
  await pool.query(swap, [before[0]!.body_sealed, planted])
  expect((await scan.findingsIn(scene.database)).found).toEqual([])
})

test('a retrievable key is shown again to an operator who may reveal it, any other to nobody', async () => {
  const keys = await scene.operator.list('/api/enrollment-keys')
  const shown = scan.findings(JSON.stringify(keys))
  expect(shown).toContain('key')
  expect(shown).not.toContain('hidden key')
})

test('no secret is in the log of the server or the agent, at its most talkative, up to the end', async () => {
  await agent.stop()
  expect(agent.output.length).toBeGreaterThan(200)
  expect(scan.findings(agent.output)).toEqual([])
  const [server] = scene.servers
  expect(await server!.stop()).toBe(0)
  expect(server!.output.length).toBeGreaterThan(10_000)
  expect(scan.findings(server!.output)).toEqual([])
  expect(server!.ownerTokens).toEqual([])
})

test('the token of a first start is on one line of the output, and nowhere else', async () => {
  const folder = await makeDataFolder()
  let server: ServerProcess | undefined
  try {
    const env = {
      BEACON_DATA_DIR: folder,
      BEACON_DATABASE_URL: scene.database.url,
      BEACON_LOG_LEVEL: 'trace',
    }
    server = await startServer(env)
    // This database has its owner.
    expect(server.ownerTokens).toEqual([])
    await server.kill9()
    await scene.database.pool.query('TRUNCATE access_tokens CASCADE')
    server = await startServer(env)
    const [token] = server.ownerTokens
    expect((await new Operator(server.url, token!).call('GET', '/api/robots')).status).toBe(200)
    expect(await server.stop()).toBe(0)
    expect(server.output.split(token!)).toHaveLength(2)
  } finally {
    await server?.kill9()
    await removeDataFolder(folder)
  }
})
