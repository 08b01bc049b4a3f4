import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { claimCredentialKind } from '../../src/protocol/tokens.ts'
import { type Json, makeFleet, makeRobot, unique } from '../http/api.ts'
import { type ClaimingApi, machine, startClaimingApi } from '../http/claiming.ts'
import { beacon, type TerminalOptions } from './fake-terminal.ts'

/** The commands around enrolment, against the real REST interface. */

let api: ClaimingApi
let url = ''
let place: { site_id: string; fleet_id: string }

beforeAll(async () => {
  api = await startClaimingApi()
  url = await api.app.listen({ host: '127.0.0.1', port: 0 })
})
afterAll(() => api.close())
beforeEach(async () => {
  place = await makeFleet(api)
})

async function run(argv: readonly string[], options: TerminalOptions = {}) {
  return beacon(argv, { ...options, env: { BEACON_URL: url, BEACON_API_KEY: api.token } })
}

async function json(argv: readonly string[]): Promise<Json> {
  const { exitCode, stdout, stderr } = await run([...argv, '--json'])
  expect([exitCode, stderr]).toEqual([0, ''])
  return JSON.parse(stdout)
}

const createToken = (...more: string[]) =>
  json(['provisioning-tokens', 'create', '--fleet', place.fleet_id, '--name', 'image', ...more])

async function waiting(count: number): Promise<{ ids: string[]; credential: string }> {
  const { id, token } = await createToken('--require-approval')
  const ids: string[] = []
  while (ids.length < count) ids.push((await api.claim(token, machine(unique('new')))).body.robot_id)
  return { ids, credential: id }
}

const robot = (id: string) => api.get(`/api/robots/${id}`)
const lifecycleOf = async (id: string) => (await robot(id)).body.lifecycle

describe('beacon provisioning-tokens', () => {
  test('create prints the token once, with the command that uses it', async () => {
    const { exitCode, stdout } = await run([
      ...['provisioning', 'create', '--fleet', place.fleet_id, '--name', 'dock 4', '--single-use'],
    ])
    expect(exitCode).toBe(0)
    const token = /apt_[0-9a-f]{64}/.exec(stdout)![0]
    expect(claimCredentialKind(token)).toBe('provisioning_token')
    expect(stdout).toContain('admits one robot')
    expect(stdout).toContain(`curl -fsSL ${url}/install.sh | sh -s -- --enrollment-key ${token}`)
    expect((await api.claim(token, machine(unique('new')))).status).toBe(201)
    const listed = await run(['provisioning-tokens', 'list', '--sort', '-last_used_at'])
    expect(listed.stdout).toMatch(/dock 4 +consumed +1\/1/)
    expect(listed.stdout).not.toContain(token)
  })

  test('create takes every option', async () => {
    const made = await createToken(
      ...['--expires-in=never', '--label=floor=2', '--allow-cidr=10.0.0.0/8'],
      ...['--require-approval', '--on-existing=reject'],
    )
    expect(made).toMatchObject({
      fleet_id: place.fleet_id,
      expires_at: null,
      labels: { floor: '2' },
      allowed_cidrs: ['10.0.0.0/8'],
      require_approval: true,
      on_existing: 'reject',
    })
  })

  test('revoke asks first, and cuts robots off when told to', async () => {
    const { id, token } = await createToken()
    const { robot_id } = (await api.claim(token, machine(unique('new')))).body
    const robots = await json(['provisioning-tokens', 'robots', id])
    expect(robots.items.map((item: Json) => item.id)).toEqual([robot_id])
    expect((await json(['robots', 'list', '--credential', id])).items.map((item: Json) => item.id)).toEqual([
      robot_id,
    ])
    expect((await run(['provisioning-tokens', 'revoke', id])).exitCode).toBe(2)
    const done = await run(['provisioning-tokens', 'revoke', id, '--cascade', 'revoke_robots'], {
      answer: 'y',
    })
    expect(done.stdout).toContain('1 robots are cut off')
    expect((await robot(robot_id)).body.token_revoked_at).not.toBeNull()
  })

  test('keys robots lists the robots of a key', async () => {
    const key = (await api.post('/api/enrollment-keys', { ...place, name: 'key' })).body
    const { robot_id, name } = (await api.claim(key.key_value, machine(unique('new')))).body
    expect((await run(['keys', 'robots', key.id])).stdout).toContain(name)
    expect((await json(['keys', 'robots', key.id])).items[0].id).toBe(robot_id)
  })
})

describe('beacon robots', () => {
  test('create and setup-token bind a machine to a robot made beforehand', async () => {
    const name = unique('robot')
    const made = await run(['robots', 'create', name, '--fleet', place.fleet_id, '--label', 'floor=2'])
    expect(made.exitCode).toBe(0)
    expect(made.stdout).toContain('beacon robots setup-token')
    const { exitCode, stdout } = await run(['robots', 'setup-token', name])
    expect(exitCode).toBe(0)
    const token = /rf_setup_[a-z2-7]{55}/.exec(stdout)![0]
    expect(stdout).toContain(`curl -fsSL ${url}/install.sh | sh -s -- --setup-token ${token}`)
    const bound = (await api.claim(token, machine(unique('machine')))).body
    expect(bound.name).toBe(name)
    expect((await robot(bound.robot_id)).body.labels).toEqual({ floor: '2' })
    // From now on a setup token takes something away.
    expect((await run(['robots', 'setup-token', name])).exitCode).toBe(2)
    const asked = await run(['robots', 'setup-token', name], { answer: 'y' })
    expect(asked.terminal.questions[0]).toContain('has a token, which stops')
    expect(asked.exitCode).toBe(0)
  })

  test('delete removes the record of one that is retired', async () => {
    const { id } = await makeRobot(api, place.fleet_id)
    const early = await run(['robots', 'delete', id, '--yes'])
    expect([early.exitCode, early.stderr]).toEqual([1, expect.stringContaining('robot_not_retired')])
    await run(['robots', 'retire', id, '--yes'])
    expect((await run(['robots', 'delete', id])).exitCode).toBe(2)
    expect((await run(['robots', 'delete', id, '--yes'])).exitCode).toBe(0)
    expect((await robot(id)).status).toBe(404)
  })
})

describe('beacon approvals', () => {
  test('list shows who waits and where it came from', async () => {
    const { ids } = await waiting(2)
    const { exitCode, stdout } = await run(['approvals', 'list', '--fleet', place.fleet_id])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/^NAME +FLEET +KNOWN +HOST +ADDRESS/)
    expect(stdout).toMatch(/new-\w+ .* new .* 127\.0\.0\.1 +image/)
    const { items } = await json(['approvals', 'list', '--fleet', place.fleet_id])
    expect(items.map(({ id }: Json) => id)).toEqual(ids)
    expect(
      (await json(['approvals', 'list', '--older-than', '1h', '--fleet', place.fleet_id])).items,
    ).toEqual([])
  })

  test('approve lets in whom it names, after asking', async () => {
    const { ids } = await waiting(3)
    const [one, two, three] = ids as [string, string, string]
    const name = (await robot(two)).body.name
    expect((await run(['approvals', 'approve', one, name])).exitCode).toBe(2)
    const no = await run(['approvals', 'approve', one, name], { answer: 'n' })
    expect([no.exitCode, await lifecycleOf(one)]).toEqual([1, 'pending'])
    const yes = await run(['approvals', 'approve', one, name], { answer: 'y' })
    expect(yes.exitCode).toBe(0)
    expect(yes.terminal.questions[0]).toContain('Approve 2 robots')
    expect(await Promise.all([one, two, three].map(lifecycleOf))).toEqual(['active', 'active', 'pending'])
    const again = await run(['approvals', 'approve', one, '--yes'])
    expect([again.exitCode, again.stderr]).toEqual([1, expect.stringContaining('did not wait')])
  })

  test('deny takes a filter, and says before what it would do', async () => {
    const { ids, credential } = await waiting(3)
    const others = await waiting(1)
    const deny = ['approvals', 'deny', '--credential', credential]
    const dry = await json([...deny, '--dry-run'])
    expect(dry.dry_run).toBe(true)
    expect(dry.robots.map(({ id }: Json) => id).sort()).toEqual([...ids].sort())
    expect((await run([...deny, '--dry-run'])).stdout).toContain('would be denied')
    expect(await lifecycleOf(ids[0]!)).toBe('pending')
    const done = await json([...deny, '--yes'])
    expect(done.robots.map(({ outcome }: Json) => outcome)).toEqual(['removed', 'removed', 'removed'])
    expect((await robot(ids[0]!)).status).toBe(404)
    expect(await lifecycleOf(others.ids[0]!)).toBe('pending')
    const none = await run([...deny, '--yes'])
    expect([none.exitCode, none.stderr]).toEqual([0, 'No robot that waits was found.\n'])
  })

  test('--all stands for all that wait, and nothing for none', async () => {
    const { ids } = await waiting(2)
    for (const argv of [[], ['--all', '--credential', 'x'], [ids[0]!, '--all']])
      expect((await run(['approvals', 'approve', ...argv, '--yes'])).exitCode).toBe(2)
    expect((await run(['approvals', 'approve', '--all', '--yes'])).exitCode).toBe(0)
    expect((await api.get('/api/approvals')).body.items).toEqual([])
    expect(await lifecycleOf(ids[0]!)).toBe('active')
  })

  test.each([
    ['--older-than', 'never'],
    ['--older-than', 'soon'],
  ])('%s %s is a mistake of usage', async (...option) => {
    expect((await run(['approvals', 'list', ...option])).exitCode).toBe(2)
  })
})
