import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { insertAudit } from '../../src/db/audit.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { systemClock, systemRandom } from '../../src/runtime.ts'
import { fakeServer, page } from '../cli/fake-server.ts'
import { beacon } from '../cli/fake-terminal.ts'
import { type Api, startApi } from '../http/api.ts'
import { insertFleet, type TestFleet } from '../support/robots.ts'
import { entry } from './entries.ts'

let api: Api
let env: Record<string, string>
let fleet: TestFleet
let folder: string

beforeAll(async () => {
  api = await startApi()
  await api.app.listen({ host: '127.0.0.1', port: 0 })
  const { port } = api.app.server.address() as AddressInfo
  env = { BEACON_URL: `http://127.0.0.1:${port}`, BEACON_API_KEY: api.token }
  fleet = await insertFleet(api.db.database, 'pickers')
})

afterAll(() => api.close())

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'beacon-audit-cli-'))
})

afterEach(() => rm(folder, { recursive: true }))

const audit = (...argv: string[]) => beacon(['audit', ...argv], { env })

describe('beacon audit list', () => {
  const target = newId()
  const request = newId()

  beforeAll(async () => {
    const hostile = 'two\nlines \u001b[2J'
    await insertAudit(api.db.database, [
      entry({ action: 'site.created', target: { kind: 'site', id: fleet.siteId, name: hostile } }),
      entry({
        ...fleet,
        action: 'robot.retired',
        target: { kind: 'robot', id: target, name: 'bot-7' },
        requestId: request,
      }),
      entry({ action: 'request.refused', outcome: 'refused', at: new Date(Date.now() - 60_000) }),
    ])
  })

  test('shows lines, newest first, with nothing in them that moves the cursor', async () => {
    const { exitCode, stdout } = await audit('list')
    expect(exitCode).toBe(0)
    const lines = stdout.trimEnd().split('\n')
    expect(lines[0]).toMatch(/^SEQ\s+TIME\s+ACTION\s+ACTOR\s+TARGET\s+FROM/)
    expect(lines).toHaveLength(4)
    expect(lines[1]).toContain('request.refused')
    expect(lines[2]).toMatch(
      /2026-03-01 12:00:00 UTC\s+robot.retired\s+personal_token deploy\s+robot bot-7\s+192.0.2.7/,
    )
    expect(lines[3]).toContain('two\\u000alines \\u001b[2J')
  })

  test('finds places by name, and takes times as so long ago', async () => {
    for (const [filter, expected] of [
      [['--fleet', 'pickers'], ['robot.retired']],
      [['--fleet', fleet.fleetId.toUpperCase()], ['robot.retired']],
      [['--site', 'site of pickers', '--fleet', 'pickers'], ['robot.retired']],
      [['--target', target], ['robot.retired']],
      [
        ['--action', 'site.', '--action', 'robot.retired'],
        ['robot.retired', 'site.created'],
      ],
      [['--outcome', 'refused', '--from', '1h'], ['request.refused']],
      [
        ['--to', '1h'],
        ['robot.retired', 'site.created'],
      ],
      [['--to', '2026-03-01T13:00:00+01:00'], []],
      [['--query', 'BOT-7'], ['robot.retired']],
      [['--request', request], ['robot.retired']],
      [['--limit', '1'], ['request.refused']],
    ] as const) {
      const { stdout, exitCode } = await audit('list', '--json', ...filter)
      expect(exitCode, filter.join(' ')).toBe(0)
      expect(JSON.parse(stdout).items.map((line: { action: string }) => line.action)).toEqual(expected)
    }
  })

  test.each([
    [['--from', 'yesterday'], 2],
    [['--from', 'never'], 2],
    [['--from', '2026-99-01'], 2],
    [['--limit', '0'], 2],
    [['--site', 'nowhere'], 1],
    [['--outcome', 'maybe'], 1],
  ])('refuses %s', async (argv, exitCode) => {
    expect((await audit('list', ...argv)).exitCode).toBe(exitCode)
  })
})

describe('beacon audit export', () => {
  test('prints what matches', async () => {
    const { stdout, exitCode } = await audit('export', '--action', 'robot.')
    expect(exitCode).toBe(0)
    expect(stdout.split('\n')).toHaveLength(2)
    expect(JSON.parse(stdout)).toMatchObject({ action: 'robot.retired', target: { name: 'bot-7' } })
  })

  test('writes a file that is its owner’s alone, once it is whole', async () => {
    const path = join(folder, 'log.csv')
    const { stdout, exitCode } = await audit('export', '--format=csv', `--output=${path}`, '--action=robot.')
    expect([exitCode, stdout]).toEqual([0, ''])
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect((await readFile(path, 'utf8')).split('\n')).toHaveLength(3)
    expect(await readdir(folder)).toEqual(['log.csv'])
  })

  test('leaves no half of one, and says so', async () => {
    const server = await fakeServer({ 'GET /api/audit/export': { body: 'cut' } })
    const path = join(folder, 'log.ndjson')
    await writeFile(path, 'the last one\n')
    const cut = await beacon(['audit', 'export', `--output=${path}`], {
      env: { BEACON_URL: server.url, BEACON_API_KEY: mintCheckedToken('personal') },
    })
    expect(cut.exitCode).toBe(4)
    expect(await readFile(path, 'utf8')).toBe('the last one\n')
    expect(await readdir(folder)).toEqual(['log.ndjson'])
    const nowhere = await audit('export', `--output=${join(folder, 'missing', 'log')}`)
    expect(nowhere.exitCode).toBe(1)
    expect(nowhere.stderr).toContain('ENOENT')
    expect((await audit('export', '--format=xml')).exitCode).toBe(2)
  })
})

describe('beacon audit verify', () => {
  let checkedApi: Api
  let direct: Record<string, string>

  beforeEach(async () => {
    checkedApi = await startApi()
    await insertAudit(checkedApi.db.database, [entry(), entry(), entry(), entry()])
    await checkedApi.app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = checkedApi.app.server.address() as AddressInfo
    direct = {
      BEACON_URL: `http://127.0.0.1:${port}`,
      BEACON_API_KEY: checkedApi.token,
      BEACON_DATABASE_URL: checkedApi.db.url,
    }
  })

  afterEach(() => checkedApi.close())

  const tamper = (statement: string) =>
    checkedApi.db.pool.query(`ALTER TABLE audit_log DISABLE TRIGGER ALL; ${statement}`)

  test.each([[[]], [['--direct']]])(
    '%s: says that all is well and what to note, and what is not',
    async (how) => {
      const verify = (...argv: string[]) => beacon(['audit', 'verify', ...how, ...argv], { env: direct })
      const first = await verify()
      expect(first.exitCode).toBe(0)
      const note = /^4:[0-9a-f]{64}$/m.exec(first.stdout)?.[0] ?? ''
      expect(first.stdout).toContain('the audit log is whole: 4 lines are right')

      const again = await verify('--expect', note)
      expect([again.exitCode, again.stdout]).toEqual([
        0,
        expect.stringContaining('line 4 is what was noted of it'),
      ])
      const json = await verify('--json')
      expect(JSON.parse(json.stdout)).toEqual({
        checked: 4,
        head: { seq: 4, hash: note.slice(2) },
        finding: null,
      })

      const other = await verify('--expect', `3:${note.slice(2)}`)
      expect([other.exitCode, other.stdout]).toEqual([1, expect.stringContaining('line 3 has another hash')])

      await tamper('SELECT 1')
      const unguarded = await verify()
      expect([unguarded.exitCode, unguarded.stdout]).toEqual([1, expect.stringContaining('NOT GUARDED')])

      await tamper("UPDATE audit_log SET actor_name = 'somebody else' WHERE seq = 3")
      const broken = await verify('--expect', note)
      expect([broken.exitCode, broken.stdout]).toEqual([
        1,
        expect.stringContaining('NOT WHOLE, from line 3 on'),
      ])
      const brokenJson = await verify('--json')
      expect(brokenJson.exitCode).toBe(1)
      expect(JSON.parse(brokenJson.stdout)).toMatchObject({
        checked: 2,
        finding: { seq: 3, flaw: 'line_changed' },
      })
    },
  )

  test('goes on until the end of a long log', async () => {
    const links = [1, 2, 3].map((seq) => ({ seq, hash: 'ab'.repeat(32) }))
    const server = await fakeServer({
      'GET /api/audit/verify': ({ query }) => {
        const part = Number(query.get('cursor') ?? 0)
        expect(query.get('expect')).toBe(`1:${'ab'.repeat(32)}`)
        const next_cursor = part < 2 ? String(part + 1) : null
        return { body: { checked: 20_000, head: links[2], finding: null, next_cursor } }
      },
    })
    const { stdout } = await beacon(['audit', 'verify', '--json', '--expect', `1:${'ab'.repeat(32)}`], {
      env: { ...env, BEACON_URL: server.url },
    })
    expect(JSON.parse(stdout).checked).toBe(60_000)
    expect(server.calls).toHaveLength(3)
  })

  test('is deceived by a server that lies, and not by the database', async () => {
    await tamper('DELETE FROM audit_log WHERE seq = 2')
    const liar = await fakeServer({
      'GET /api/audit/verify': { body: { checked: 4, head: null, finding: null, next_cursor: null } },
      'GET /api/sites': page([]),
    })
    const lied = { ...direct, BEACON_URL: liar.url }
    expect((await beacon(['audit', 'verify'], { env: lied })).exitCode).toBe(0)
    // The database's own functions are not asked either.
    await tamper(
      `CREATE OR REPLACE FUNCTION audit_text(entry audit_log) RETURNS text LANGUAGE sql AS 'SELECT $$$$'`,
    )
    expect((await beacon(['audit', 'verify', '--direct'], { env: lied })).exitCode).toBe(1)
    expect(liar.calls).toHaveLength(1)
  })

  test.each<[string, string[], Record<string, string>, number, RegExp]>([
    ['a note of no form', ['--expect', '4'], {}, 2, /<seq>:<hash>/],
    [
      'a database that is away',
      ['--direct'],
      { BEACON_DATABASE_URL: 'postgres://127.0.0.1:1/x' },
      4,
      /ECONNREFUSED/,
    ],
    ['an address of no form', ['--direct'], { BEACON_DATABASE_URL: 'mysql://x' }, 1, /postgres:\/\//],
    [
      'no database at all',
      ['--direct'],
      { BEACON_DATABASE_URL: '', BEACON_DATA_DIR: '/nonexistent' },
      4,
      /ENOENT/,
    ],
  ])('says what is wrong with %s', async (_what, argv, more, exitCode, message) => {
    const answer = await beacon(['audit', 'verify', ...argv], { env: { ...direct, ...more } })
    expect([answer.exitCode, answer.stderr]).toEqual([exitCode, expect.stringMatching(message)])
  })

  test('looks into the private PostgreSQL of a data folder', async () => {
    const server = await startEmbeddedPostgres({
      dataDir: folder,
      log: createLog('silent'),
      clock: systemClock,
      random: systemRandom,
      settings: { fsync: 'off' },
    })
    try {
      await migrate({ url: server.url, log: createLog('silent') })
      const { exitCode, stdout } = await beacon(['audit', 'verify', '--direct'], {
        env: { BEACON_DATA_DIR: folder },
      })
      expect([exitCode, stdout]).toEqual([0, 'the audit log is whole: 0 lines are right\n'])
    } finally {
      await server.stop()
    }
  })
})
