import { beforeAll, describe, expect, test } from 'vitest'
import { expiryOf, overlapOf } from '../../src/cli/token-times.ts'
import { isCheckedToken, mintCheckedToken } from '../../src/protocol/tokens.ts'
import { type Json, makeFleet, unique, useApi } from '../http/api.ts'
import { insertFleetToken, insertPerson, insertPersonalToken } from '../support/access.ts'
import { fakeServer, problem } from './fake-server.ts'
import { beacon, type TerminalOptions } from './fake-terminal.ts'

const api = useApi()
let url: string
beforeAll(async () => {
  url = await api().app.listen({ host: '127.0.0.1', port: 0 })
})

/** Runs a command as the owner, or with another key, against a real server. */
function run(argv: string[], options: TerminalOptions & { key?: string } = {}) {
  const { key = api().token, ...rest } = options
  return beacon(['tokens', ...argv], { ...rest, env: { BEACON_URL: url, BEACON_API_KEY: key } })
}

async function json(argv: string[], key?: string): Promise<Json> {
  const { exitCode, stdout, stderr } = await run([...argv, '--json'], key ? { key } : {})
  expect(`${exitCode} ${stderr}`).toBe('0 ')
  return JSON.parse(stdout)
}

const status = async (token: string) => (await api().get('/api/tokens/self', { token })).status

describe('times', () => {
  test.each([
    ['30d', { expires_in_days: 30 }],
    ['1y', { expires_in_days: 365 }],
    ['12h', { expires_in_days: 0.5 }],
    ['never', { expires_in_days: null }],
    ['2027-01-31', { expires_at: '2027-01-31T00:00:00Z' }],
    ['2027-01-31T10:00:00+02:00', { expires_at: '2027-01-31T10:00:00+02:00' }],
  ])('%s is when a token ends', (text, expected) => {
    expect(expiryOf(text)).toEqual(expected)
  })

  test.each(['', '0d', '30', '-1d', '1 month', '2027-02-30', '2027-1-1', '2027-01-31T10:00:00', 'NaNd'])(
    '%j is none',
    (text) => {
      expect(() => expiryOf(text)).toThrow(/is not a time/)
    },
  )

  test.each([
    ['0', { overlap_seconds: 0 }],
    ['24h', { overlap_seconds: 86_400 }],
    ['90min', { overlap_seconds: 5_400 }],
    ['2027-01-31', { old_expires_at: '2027-01-31T00:00:00Z' }],
  ])('%s is how long two tokens work', (text, expected) => {
    expect(overlapOf(text)).toEqual(expected)
    expect(() => overlapOf('for ever')).toThrow(/is not a time/)
  })
})

describe('beacon tokens', () => {
  test('create prints the token once, with what it may do and until when', async () => {
    const { exitCode, stdout } = await run([
      'create',
      '--name',
      'grafana',
      '--scope',
      'metrics:read',
      '--expires-in',
      '1y',
    ])
    expect(exitCode).toBe(0)
    const token = /rf_pat_[0-9a-f]{72}/.exec(stdout)![0]
    expect(isCheckedToken('personal', token)).toBe(true)
    expect(stdout).toContain('It may: metrics:read')
    expect(stdout).toMatch(/364 d|365 d/)
    const { items } = await json(['list'])
    expect(JSON.stringify(items)).not.toContain(token)
    expect(items[0]).toMatchObject({ name: 'grafana', scopes: ['metrics:read'], last_four: token.slice(-4) })
    expect((await run(['list'], { columns: 200 })).stdout).toContain('grafana')
  })

  test('create leaves to the server what was not said', async () => {
    const made = await json([
      'create',
      '--name',
      'plain',
      '--allow-from',
      '10.0.0.0/8',
      '--allow-from',
      '127.0.0.1',
    ])
    expect(made).toMatchObject({ allowed_cidrs: ['10.0.0.0/8', '127.0.0.1/32'], user_id: expect.any(String) })
    expect(await status(made.token)).toBe(200)
  })

  test('make, list, rotate and revoke the tokens of a fleet by its name, and work with one', async () => {
    const { fleet_id, site_id } = await makeFleet(api())
    const name = (await api().get(`/api/fleets/${fleet_id}`)).body.name
    const made = await json(['create', '--name', 'line', '--fleet', name, '--scope', 'robots:read'])
    expect(made).toMatchObject({ kind: 'fleet', fleet_id, scopes: ['robots:read'] })
    const listed = await json(['list', '--fleet', fleet_id, '--site', site_id])
    expect(listed.items.map((item: Json) => item.id)).toEqual([made.id])
    const rotated = await json(['rotate', made.id, '--fleet', name, '--overlap', '0'])
    expect(await status(made.token)).toBe(401)
    const again = await json(['rotate', 'self', '--overlap', '1h'], rotated.token)
    expect(again).toMatchObject({ kind: 'fleet', replaces: rotated.id })
    const { exitCode } = await run(['revoke', again.id, '--fleet', name, '--yes'])
    expect(exitCode).toBe(0)
    expect(await status(again.token)).toBe(401)
  })

  test('rotate says until when the old one works', async () => {
    const made = await json(['create', '--name', 'ci'])
    const { stdout } = await run(['rotate', made.id, '--overlap', '2h'])
    expect(stdout).toMatch(/rf_pat_[0-9a-f]{72}/)
    expect(stdout).toMatch(/The old one works until .* \((1|2) h\)\./)
    const replaced = await run(['rotate', made.id])
    const revoked = await run(['revoke', made.id, '--yes'])
    expect(revoked.stderr).toMatch(/It was rotated before: [0-9a-f-]{36} took its place, and stays/)
    expect(replaced.exitCode).toBe(1)
    expect(replaced.stderr).toContain('token_not_active')
  })

  test('revoke asks before, and needs --yes where nobody can be asked', async () => {
    const made = await json(['create', '--name', 'gone'])
    expect((await run(['revoke', made.id])).exitCode).toBe(2)
    const refused = await run(['revoke', made.id], { answer: 'n' })
    expect(refused.stderr).toContain('nothing was changed')
    expect(await status(made.token)).toBe(200)
    expect((await run(['revoke', made.id], { answer: 'y' })).stdout).toBe('token "gone" is revoked\n')
    expect(await status(made.token)).toBe(401)
    const self = await json(['create', '--name', 'self'])
    expect((await run(['revoke', 'self', '--yes'], { key: self.token })).exitCode).toBe(0)
    expect(await status(self.token)).toBe(401)
  })

  test('list those of others, filtered and sorted', async () => {
    const { database } = api().db
    const userId = await insertPerson(database, [{ role: 'viewer' }], { name: 'vera' })
    const { id } = await insertPersonalToken(database, userId, { name: 'veras' })
    const ids = async (argv: string[]) => (await json(['list', ...argv])).items.map((item: Json) => item.id)
    expect(await ids(['--user', userId])).toEqual([id])
    expect(await ids(['--everybody', '--sort=-created_at', '--limit', '1'])).toEqual([id])
    expect(await ids(['--user', userId, '--status', 'revoked'])).toEqual([])
    expect((await run(['list', '--fleet', 'x', '--everybody'])).exitCode).toBe(2)
    expect((await run(['list', '--site', 'x'])).exitCode).toBe(2)
  })

  test.each([
    [['create'], 2, /required option/],
    [['create', '--name', 'x', '--expires-in', 'soon'], 2, /is not a time/],
    [['rotate'], 2, /missing required argument/],
    [['create', '--name', 'x', '--scope', 'everything'], 1, /scopes\/0/],
    [['revoke', 'x', '--yes'], 1, /not_found/],
  ])('%j is a mistake', async (argv, exitCode, message) => {
    const result = await run(argv)
    expect(result.stderr).toMatch(message)
    expect(result.exitCode).toBe(exitCode)
  })

  test('a value that was lost on the way is said to be lost', async () => {
    const server = await fakeServer({
      'POST /api/tokens': { status: 201, body: { id: 'token-1', token: null, name: 'x', scopes: [] } },
    })
    const { exitCode, stdout, stderr } = await beacon(['tokens', 'create', '--name', 'x'], {
      env: { BEACON_URL: server.url, BEACON_API_KEY: mintCheckedToken('personal') },
    })
    expect(exitCode).toBe(1)
    expect(stdout).toBe('')
    expect(stderr).toContain('beacon tokens revoke token-1')
  })
})

describe('beacon tokens revoke-all', () => {
  async function admin() {
    const { database } = api().db
    const userId = await insertPerson(database, [{ role: 'admin' }], { name: unique('admin') })
    const first = await insertPersonalToken(database, userId, { name: 'first' })
    const second = await insertPersonalToken(database, userId, { name: 'second\u001b[2J' })
    return { userId, first, second }
  }

  test('shows what would go, asks, and does it', async () => {
    const { userId, first, second } = await admin()
    const refused = await run(['revoke-all', '--user', userId], { answer: 'n' })
    expect(refused.exitCode).toBe(1)
    expect(refused.stderr).toContain('personal tokens: 2')
    expect(refused.stderr).toContain(first.id)
    expect(refused.stderr).not.toContain('\u001b')
    expect(refused.stderr).toContain('2 would be revoked')
    expect(await status(first.token)).toBe(200)
    expect((await run(['revoke-all', '--user', userId])).exitCode).toBe(2)
    const done = await run(['revoke-all', '--user', userId], { answer: 'y' })
    expect(done.exitCode).toBe(0)
    expect(done.stdout).toContain('2 are revoked')
    for (const { token } of [first, second]) expect(await status(token)).toBe(401)
    const nothing = await run(['revoke-all', '--user', userId])
    expect(nothing).toMatchObject({ exitCode: 0, stdout: '' })
    expect(nothing.stderr).toContain('Nothing stands')
  })

  test('--mine takes one’s own, --keep-current leaves the one in use', async () => {
    const { first, second } = await admin()
    const dry = await run(['revoke-all', '--mine', '--dry-run'], { key: first.token })
    expect(dry.stdout).toContain('The token that you use now is among them')
    const body = JSON.parse(
      (await run(['revoke-all', '--mine', '--keep-current', '--yes', '--json'], { key: first.token })).stdout,
    )
    expect(body).toMatchObject({ dry_run: false, total: 1, includes_current: false })
    expect(await status(first.token)).toBe(200)
    expect(await status(second.token)).toBe(401)
  })

  test('takes a fleet by its name, and only what is asked', async () => {
    const { fleet_id } = await makeFleet(api())
    const name = (await api().get(`/api/fleets/${fleet_id}`)).body.name
    const { id, token } = await insertFleetToken(api().db.database, fleet_id, { scopes: ['robots:read'] })
    const dry = await json(['revoke-all', '--fleet', name, '--robots', '--dry-run'])
    expect(Object.keys(dry.revoked)).toContain('robots')
    const body = await json(['revoke-all', '--fleet', name, '--only', 'fleet_tokens', '--yes'])
    expect(body.revoked).toEqual({
      fleet_tokens: { count: 1, items: [expect.objectContaining({ id })] },
    })
    expect(await status(token)).toBe(401)
  })

  test.each([[[]], [['--mine', '--deployment']], [['--user', 'x', '--fleet', 'y']]])(
    'has to be told whose: %j',
    async (argv) => {
      const { exitCode, stderr } = await run(['revoke-all', ...argv, '--yes'])
      expect(exitCode).toBe(2)
      expect(stderr).toContain('say whose')
    },
  )
})

describe('the key that commands are called with', () => {
  const fleetToken = mintCheckedToken('fleet')

  test('may be a fleet’s', async () => {
    const server = await fakeServer({ 'GET /api/tokens': problem(403, 'insufficient_scope', 'no') })
    const { exitCode } = await beacon(['tokens', 'list'], {
      env: { BEACON_URL: server.url, BEACON_API_KEY: fleetToken },
    })
    expect(exitCode).toBe(3)
    expect(server.calls[0]!.headers.authorization).toBe(`Bearer ${fleetToken}`)
  })

  test.each([`${fleetToken.slice(0, -1)}x`, fleetToken.slice(0, -1), `apt_${'0'.repeat(64)}`])(
    'is not sent anywhere when it cannot be one: %s',
    async (key) => {
      const server = await fakeServer({})
      const { exitCode, stderr } = await beacon(['tokens', 'list'], {
        env: { BEACON_URL: server.url, BEACON_API_KEY: key },
      })
      expect(exitCode).toBe(3)
      expect(stderr).toMatch(/mistyped|robot’s credential/)
      expect(server.calls).toEqual([])
    },
  )
})
