import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { fakeServer, page, problem, type Script } from './fake-server.ts'
import { beacon, type TerminalOptions } from './fake-terminal.ts'

const apiKey = mintCheckedToken('personal')
const site = { id: 'site-1', name: 'hamburg', created_at: '2026-01-01T00:00:00Z' }
const fleet = { id: 'fleet-1', site_id: 'site-1', name: 'pickers', heartbeat_interval_ms: null }
const key = {
  id: 'key-1',
  name: 'dock 4',
  site_id: 'site-1',
  fleet_id: 'fleet-1',
  status: 'active',
  uses: 0,
  max_uses: 100,
  expires_at: '2099-01-01T00:00:00Z',
  last_used_at: null,
  key_value: 'rf_enroll_abc',
  setup_command: 'beacon agent run --enrollment-key rf_enroll_abc --server http://here',
}
const places: Script = { 'GET /api/sites': page([site]), 'GET /api/fleets': page([fleet]) }
const robot = {
  id: '0190a0a0-0000-7000-8000-000000000001',
  site_id: 'site-1',
  fleet_id: 'fleet-1',
  name: 'bot-01',
  labels: { floor: '2' },
  lifecycle: 'active',
  connection: 'online',
  connection_reason: 'connected',
  connection_since: '2026-01-01T00:00:00Z',
  health: 'ok',
  last_seen_at: '2026-01-01T00:00:00Z',
  heartbeat: {
    seq: 4,
    at: '2026-01-01T00:00:00Z',
    received_at: '2026-01-01T00:00:00Z',
    age_ms: 3_000,
    battery: { charge: 0.81 },
    activity: 'picking \u001b[2J',
  },
}

/** Runs a command against a server that follows the script. */
async function against(script: Script, argv: readonly string[], options: TerminalOptions = {}) {
  const server = await fakeServer({ ...places, ...script })
  const env = { BEACON_URL: server.url, BEACON_API_KEY: apiKey }
  return { server, ...(await beacon(argv, { ...options, env: { ...env, ...options.env } })) }
}

describe('the command line', () => {
  test('says what there is', async () => {
    const { exitCode, stdout } = await beacon(['--help'])
    expect(exitCode).toBe(0)
    for (const word of ['server', 'agent', 'keys', 'robots', 'sites', 'fleets', 'demo', 'Examples'])
      expect(stdout).toContain(word)
  })

  test('tells its version', async () => {
    expect((await beacon(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
  })

  test('every setting of the server stands in its help', async () => {
    const { stdout } = await beacon(['server', '--help'])
    for (const name of ['BEACON_HOST', 'BEACON_DATABASE_URL', 'BEACON_SECRET_KEY', 'BEACON_HISTORY_HOURS'])
      expect(stdout).toContain(name)
  })

  test.each([
    [['robos'], /unknown command 'robos'[\s\S]*robots/],
    [['robots', 'lst'], /unknown command 'lst'[\s\S]*list/],
    [['robots', 'list', '--jsn'], /unknown option '--jsn'[\s\S]*--json/],
    [['robots', 'list', '--xyz'], /^"beacon robots list --help" tells what there is\.$/m],
    [['tokens', 'xyz'], /^"beacon tokens --help" tells what there is\.$/m],
    [['xyz'], /^"beacon --help" tells what there is\.$/m],
    [['robots', 'inspect'], /missing required argument/],
    [['keys', 'create', '--site', 'x'], /required option/],
    [[], /Usage: beacon/],
  ])('%j is a mistake of usage', async (argv, message) => {
    const { exitCode, stdout, stderr } = await beacon(argv)
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(message)
    expect(stdout).toBe('')
  })
})

describe('whom and where to call', () => {
  const sites = ['sites', 'list']

  test('comes from the environment or, first, from the flags', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'beacon-cli-'))
    onTestFinished(() => rmSync(folder, { recursive: true }))
    const file = join(folder, 'key')
    const other = mintCheckedToken('personal')
    writeFileSync(file, `${other}\n`)
    const { server } = await against({}, sites)
    await beacon([...sites, '--url', `${server.url}/`, '--api-key-file', file], {
      env: { BEACON_URL: 'http://127.0.0.1:1', BEACON_API_KEY: apiKey },
    })
    expect(server.calls.map((call) => call.headers.authorization)).toEqual([
      `Bearer ${apiKey}`,
      `Bearer ${other}`,
    ])
  })

  test.each([
    ['no key', { BEACON_API_KEY: '' }, 2, /BEACON_API_KEY/],
    ['a mistyped key', { BEACON_API_KEY: `${apiKey.slice(0, -1)}x` }, 3, /mistyped/],
    ['a robot’s key', { BEACON_API_KEY: 'rf_enroll_1' }, 3, /personal token/],
    ['two words for a key', { BEACON_API_KEY: 'two words' }, 2, /characters/],
    ['no address', { BEACON_API_KEY: apiKey, BEACON_URL: 'localhost:8080' }, 2, /not an address/],
    [
      'an address where nobody listens',
      { BEACON_API_KEY: apiKey, BEACON_URL: 'http://127.0.0.1:1' },
      4,
      /cannot reach http:\/\/127.0.0.1:1/,
    ],
  ])('%s fails before or at the door', async (_what, env, exitCode, message) => {
    const result = await beacon(sites, { env })
    expect(result.exitCode).toBe(exitCode)
    expect(result.stderr).toMatch(message)
    expect(result.stderr.split('\n')).toHaveLength(2)
    expect(result.stderr).not.toContain(apiKey)
  })

  test('a refused key ends with 3 and the request id', async () => {
    const script = { 'GET /api/sites': problem(401, 'token_revoked', 'The token was revoked') }
    const { exitCode, stderr } = await against(script, sites)
    expect(exitCode).toBe(3)
    expect(stderr).toBe('error: The token was revoked (token_revoked, request req-7)\n')
  })
})

describe('keys create', () => {
  const create = ['keys', 'create', '--site', 'hamburg', '--fleet', 'pickers', '--name', 'dock 4']

  test('finds site and fleet by name, and leaves to the server what was not said', async () => {
    const { server, exitCode, stdout } = await against(
      { 'POST /api/enrollment-keys': { status: 201, body: key } },
      create,
    )
    expect(exitCode).toBe(0)
    expect(server.calls.at(-1)?.body).toEqual({ name: 'dock 4', site_id: 'site-1', fleet_id: 'fleet-1' })
    expect(stdout).toContain('  rf_enroll_abc\n')
    expect(stdout).toContain(`  ${key.setup_command}\n`)
  })

  test('passes every option on', async () => {
    const { server } = await against({ 'POST /api/enrollment-keys': { status: 201, body: key } }, [
      ...create,
      '--max-uses=5',
      '--expires-in=never',
      '--label=floor=2',
      '--label=wing=a=b',
      '--allow-cidr=10.0.0.0/8',
      '--require-approval',
      '--on-existing=reject',
      '--not-retrievable',
    ])
    expect(server.calls.at(-1)?.body).toEqual({
      name: 'dock 4',
      site_id: 'site-1',
      fleet_id: 'fleet-1',
      max_uses: 5,
      expires_in_hours: null,
      labels: { floor: '2', wing: 'a=b' },
      allowed_cidrs: ['10.0.0.0/8'],
      require_approval: true,
      on_existing: 'reject',
      retrievable: false,
    })
  })

  test('prints the server’s own object as JSON', async () => {
    const { stdout } = await against({ 'POST /api/enrollment-keys': { status: 201, body: key } }, [
      ...create,
      '--json',
    ])
    expect(JSON.parse(stdout)).toEqual(key)
  })

  test('makes what is missing only when told to', async () => {
    const script: Script = {
      'GET /api/sites': page([]),
      'GET /api/fleets': page([]),
      'POST /api/sites': { status: 201, body: site },
      'POST /api/fleets': { status: 201, body: fleet },
      'POST /api/enrollment-keys': { status: 201, body: key },
    }
    const refused = await against(script, create)
    expect(refused.exitCode).toBe(1)
    expect(refused.stderr).toContain('there is no site "hamburg"')
    const made = await against(script, [...create, '--create-missing'])
    expect(made.exitCode).toBe(0)
    const posts = made.server.calls.filter(({ method }) => method === 'POST')
    expect(posts.map(({ path, body }) => [path, body])).toEqual([
      ['/api/sites', { name: 'hamburg' }],
      ['/api/fleets', { site_id: 'site-1', name: 'pickers' }],
      ['/api/enrollment-keys', { name: 'dock 4', site_id: 'site-1', fleet_id: 'fleet-1' }],
    ])
  })

  test('whose answer cannot be had again says how to go on', async () => {
    const { exitCode, stderr } = await against(
      {
        'POST /api/enrollment-keys': { status: 201, body: { ...key, key_value: null, setup_command: null } },
      },
      [...create, '--not-retrievable'],
    )
    expect(exitCode).toBe(1)
    expect(stderr).toContain('beacon keys revoke key-1')
  })

  test.each([
    ['--max-uses=0', /--max-uses takes a whole number/],
    ['--expires-in=soon', /not a time like 24h/],
    ['--label=floor', /not a label like/],
  ])('%s is refused before anything is sent', async (option, message) => {
    const { server, exitCode, stderr } = await against({}, [...create, option])
    expect(exitCode).toBe(2)
    expect(stderr).toMatch(message)
    expect(server.calls).toEqual([])
  })
})

describe('keys revoke', () => {
  const revoked = {
    'POST /api/enrollment-keys/key-1/revoke': { body: { ...key, status: 'revoked', robots_revoked: 2 } },
  }

  test('asks first, and takes no for an answer', async () => {
    const no = await against(revoked, ['keys', 'revoke', 'key-1'], { answer: 'n' })
    expect(no.exitCode).toBe(1)
    expect(no.server.calls).toEqual([])
    const yes = await against(revoked, ['keys', 'revoke', 'key-1', '--cascade', 'revoke_robots'], {
      answer: 'y',
    })
    expect(yes.terminal.questions[0]).toContain('cut off every robot')
    expect(yes.server.calls[0]?.body).toEqual({ cascade: 'revoke_robots' })
    expect(yes.stdout).toContain('2 robots')
  })

  test('needs --yes where nobody can be asked', async () => {
    const unsaid = await against(revoked, ['keys', 'revoke', 'key-1'])
    expect(unsaid.exitCode).toBe(2)
    expect(unsaid.server.calls).toEqual([])
    expect((await against(revoked, ['keys', 'revoke', 'key-1', '--yes'])).exitCode).toBe(0)
  })
})

describe('robots list', () => {
  const list: Script = { 'GET /api/robots': page([robot]) }

  test('shows a line for each robot that cannot move the cursor', async () => {
    const { stdout } = await against(list, ['robots', 'list'])
    const [titles, line] = stdout.split('\n')
    expect(titles).toMatch(/^NAME +FLEET +CONNECTION/)
    expect(line).toMatch(/^bot-01 +pickers +online/)
    expect(line).toContain('81 %')
    expect(line).toContain('3 s ago')
    expect(line).toContain('picking \\u001b[2J')
  })

  test('keeps within the terminal', async () => {
    const { terminal } = await against(list, ['robots', 'list'], { columns: 40 })
    for (const line of terminal.text.split('\n')) expect(line.length).toBeLessThanOrEqual(40)
  })

  test('sends the filters, with names made into ids', async () => {
    const { server } = await against(list, [
      ...['robots', 'list', '--site', 'hamburg', '--fleet', 'fleet-1', '--connection', 'online'],
      ...['--label', 'floor=2', '--label', 'wing', '--query', 'bot', '--sort', '-name', '--limit', '7'],
    ])
    const query = server.calls.find(({ path }) => path === '/api/robots')?.query
    expect(String(query)).toBe(
      'site=site-1&fleet=fleet-1&connection=online&label=floor%3D2&label=wing&q=bot&sort=-name&limit=7',
    )
  })

  test('says when there are more, and fetches them all when asked', async () => {
    const script: Script = {
      'GET /api/robots': ({ query }) =>
        query.get('cursor') ? page([{ ...robot, name: 'bot-02' }]) : page([robot], 'next'),
    }
    const some = await against(script, ['robots', 'list', '--limit', '1'])
    expect(some.stderr).toContain('--all')
    expect(some.stdout).not.toContain('bot-02')
    const all = await against(script, ['robots', 'list', '--all', '--json'])
    const answer = JSON.parse(all.stdout) as { items: { name: string }[]; next_cursor: null }
    expect(answer.items.map(({ name }) => name)).toEqual(['bot-01', 'bot-02'])
    expect(answer.next_cursor).toBeNull()
  })
})

describe('robots inspect', () => {
  const event = {
    id: 'e1',
    source: 'server',
    at: '2026-01-01T00:00:00Z',
    level: 'info',
    code: 'connected',
    message: 'Connected\u0007',
  }
  const script: Script = {
    'GET /api/robots': page([robot, { ...robot, id: 'other', name: 'bot-011' }]),
    [`GET /api/robots/${robot.id}`]: { body: robot },
    [`GET /api/robots/${robot.id}/events`]: page([event]),
  }

  test.each(['bot-01', robot.id])('finds %s and shows all there is', async (wanted) => {
    const { exitCode, stdout } = await against(script, ['robots', 'inspect', wanted])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/bot-01 +online \(connected\)/)
    expect(stdout).toMatch(/labels\.floor +2/)
    expect(stdout).toMatch(/battery\.charge +0\.81/)
    expect(stdout).toMatch(/connected +Connected\\u0007/)
    expect(stdout).toMatch(/received_at +2026-01-01T00:00:00Z \(\d+ \w+ ago\)/)
  })

  test('answers with the server’s objects as JSON', async () => {
    const { stdout } = await against(script, ['robots', 'inspect', 'bot-01', '--json'])
    expect(JSON.parse(stdout)).toEqual({ robot, events: [event] })
  })

  test('does not guess between two robots of one name, or at none', async () => {
    const twice = { ...script, 'GET /api/robots': page([robot, { ...robot, id: 'other' }]) }
    expect((await against(twice, ['robots', 'inspect', 'bot-01'])).stderr).toContain('2 robots are called')
    const none = await against({ 'GET /api/robots': page([]) }, ['robots', 'inspect', 'bot-01'])
    expect(none.exitCode).toBe(1)
    expect(none.stderr).toContain('there is no robot "bot-01"')
  })
})

describe('acting on a robot', () => {
  test.each([
    ['revoke-token', ['--yes'], 'enrol again'],
    ['retire', ['--yes'], 'is retired'],
    ['approve', [], 'is approved'],
  ])('%s', async (action, more, said) => {
    const { server, exitCode, stdout } = await against(
      { 'GET /api/robots': page([robot]), [`POST /api/robots/${robot.id}/${action}`]: { body: robot } },
      ['robots', action, 'bot-01', ...more],
    )
    expect(exitCode).toBe(0)
    expect(stdout).toContain(said)
    expect(server.calls.at(-1)?.path).toBe(`/api/robots/${robot.id}/${action}`)
  })
})

describe('sites and fleets', () => {
  test('are listed and made', async () => {
    expect((await against({}, ['sites', 'list'])).stdout).toMatch(/hamburg +site-1/)
    expect((await against({}, ['fleets', 'list', '--site', 'hamburg'])).stdout).toMatch(/hamburg +pickers/)
    const made = await against({ 'POST /api/fleets': { status: 201, body: fleet } }, [
      ...['fleets', 'create', 'pickers', '--site', 'hamburg', '--heartbeat-seconds', '2.5'],
    ])
    expect(made.server.calls.at(-1)?.body).toEqual({
      site_id: 'site-1',
      name: 'pickers',
      heartbeat_interval_ms: 2500,
    })
  })

  test('say how to begin when there are none', async () => {
    const { stdout, stderr } = await against({ 'GET /api/sites': page([]) }, ['sites', 'list'])
    expect(stdout).toBe('')
    expect(stderr).toContain('beacon sites create')
  })
})
