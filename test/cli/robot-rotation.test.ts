import { describe, expect, test } from 'vitest'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { fakeServer, page, problem, type Script } from './fake-server.ts'
import { beacon, type TerminalOptions } from './fake-terminal.ts'

const site = { id: 'site-1', name: 'hamburg', created_at: '2026-01-01T00:00:00Z' }
const fleet = { id: 'fleet-1', site_id: 'site-1', name: 'pickers', heartbeat_interval_ms: null }
const robot = { id: '0190a0a0-0000-7000-8000-000000000001', name: 'bot-01', connection: 'online' }
const MANY = 'POST /api/robots/rotate-tokens'

const requests = (requested: number, dry_run: boolean, matched = requested) => ({
  body: {
    dry_run,
    matched,
    requested,
    robots: Array.from({ length: Math.min(requested, 100) }, (_, at) => ({
      id: `r${at}`,
      name: `bot ${at}`,
    })),
  },
})

async function rotate(script: Script, argv: readonly string[], options: TerminalOptions = {}) {
  const server = await fakeServer({
    'GET /api/sites': page([site]),
    'GET /api/fleets': page([fleet]),
    'GET /api/robots': page([robot]),
    ...script,
  })
  const env = { BEACON_URL: server.url, BEACON_API_KEY: mintCheckedToken('personal') }
  return { server, ...(await beacon(['robots', 'rotate-token', ...argv], { ...options, env })) }
}

describe('beacon robots rotate-token', () => {
  test('asks one robot, without a question: nothing is lost by it', async () => {
    const path = `/api/robots/${robot.id}/rotate-token`
    const { server, exitCode, stdout } = await rotate({ [`POST ${path}`]: { body: robot } }, [
      'bot-01',
      '--reason',
      'suspicion',
    ])
    expect(exitCode).toBe(0)
    expect(stdout).toMatch(/bot-01 is asked for a new token now; the old one holds until then/)
    expect(server.calls.at(-1)).toMatchObject({ path, body: { reason: 'suspicion' } })
  })

  test('says when there is no token to rotate', async () => {
    const path = `POST /api/robots/${robot.id}/rotate-token`
    const refused = problem(409, 'robot_without_token', 'a robot without a token has to enrol')
    const { exitCode, stderr } = await rotate({ [path]: refused }, ['bot-01'])
    expect(exitCode).toBe(1)
    expect(stderr).toContain('has to enrol')
  })

  test('asks many by filter, after it was told which', async () => {
    const filter = ['--site', 'hamburg', '--fleet', 'pickers', '--older-than', '90d', '--label', 'floor=2']
    const { server, exitCode, stdout } = await rotate({ [MANY]: requests(2, false) }, [...filter, '--yes'])
    expect(exitCode).toBe(0)
    expect(stdout).toContain('2 robots are asked for new tokens (bot 0, bot 1)')
    expect(server.calls.at(-1)?.body).toEqual({
      filter: { site: 'site-1', fleet: 'fleet-1', token_older_than_days: 90, label: ['floor=2'] },
      reason: 'operator',
      dry_run: false,
    })
  })

  test('asks before many, and changes nothing where nobody can be asked', async () => {
    const { server, exitCode, stderr } = await rotate({ [MANY]: requests(3, true) }, ['--all'])
    expect(exitCode).toBe(2)
    expect(stderr).toContain('Ask 3 robots for new tokens (bot 0, bot 1, bot 2)?')
    const bodies = server.calls
      .filter(({ path }) => path === '/api/robots/rotate-tokens')
      .map(({ body }) => body)
    expect(bodies).toEqual([{ filter: {}, reason: 'operator', dry_run: true }])
  })

  test('a dry run only tells', async () => {
    const { server, stdout } = await rotate({ [MANY]: requests(7, true, 9) }, ['--all', '--dry-run'])
    expect(stdout).toContain('7 robots would be asked for new tokens; 2 more match')
    expect(server.calls.filter(({ path }) => path === '/api/robots/rotate-tokens')).toHaveLength(1)
    const one = await rotate({ [MANY]: requests(1, true) }, ['bot-01', '--dry-run', '--json'])
    expect(JSON.parse(one.stdout)).toMatchObject({ dry_run: true, requested: 1 })
    expect(one.server.calls.at(-1)?.body).toMatchObject({ ids: [robot.id], dry_run: true })
  })

  test('wants one way of choosing, and words it knows', async () => {
    for (const argv of [
      [],
      ['bot-01', '--all'],
      ['bot-01', '--fleet', 'pickers'],
      ['--all', '--reason', 'boredom'],
      ['--older-than', '36h'],
      ['--older-than', 'never'],
    ])
      expect((await rotate({}, argv)).exitCode, argv.join(' ')).toBe(2)
  })
})
