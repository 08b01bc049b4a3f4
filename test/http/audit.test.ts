import { once } from 'node:events'
import { request as httpRequest, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAudit } from '../../src/audit/desk.ts'
import { type AuditEntry, insertAudit } from '../../src/db/audit.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { entry } from '../audit/entries.ts'
import { insertFleetToken, insertPerson, insertPersonalToken, type RoleAtPlace } from '../support/access.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { insertFleet, type TestFleet } from '../support/robots.ts'
import { type Api, type Json, startApi } from './api.ts'

const ANYBODY = { kind: 'anonymous', id: null, name: null } as const

let api: Api
let here: TestFleet
let there: TestFleet

const all = async (query: string, token = api.token): Promise<Json[]> => {
  const answer = await api.get(`/api/audit?limit=200&${query}`, { token })
  expect(answer.status, answer.text).toBe(200)
  return answer.body.items
}
const seqs = (items: readonly Json[]) => items.map(({ seq }) => seq)

async function tokenOf(...roles: RoleAtPlace[]): Promise<string> {
  return (await insertPersonalToken(api.db.database, await insertPerson(api.db.database, roles))).token
}

describe('a list', () => {
  const person = newId()
  const deploy = { kind: 'personal_token', id: newId(), name: 'deploy' } as const
  const lines: AuditEntry[] = []

  beforeAll(async () => {
    api = await startApi()
    here = await insertFleet(api.db.database)
    there = await insertFleet(api.db.database)
    const at = (minute: number) => new Date(Date.UTC(2026, 2, 1, 12, minute))
    const base = { target: null, siteId: null, fleetId: null, requestId: null, address: null, data: {} }
    const inFleet = (fleet: TestFleet) => ({ siteId: fleet.siteId, fleetId: fleet.fleetId })
    lines.push(
      entry({ ...base, at: at(0), action: 'site.created', siteId: here.siteId }), // 1
      entry({
        ...base,
        at: at(1),
        action: 'robot.retired',
        ...inFleet(here),
        actor: deploy,
        address: '192.0.2.7',
      }), // 2
      entry({ ...base, at: at(2), action: 'robot.token_revoked', ...inFleet(there), actor: deploy }), // 3
      entry({
        ...base,
        at: at(3),
        action: 'user.invited',
        target: { kind: 'user', id: person, name: 'Ada' },
      }), // 4
      entry({ ...base, at: at(4), action: 'robot.retired', ...inFleet(there), data: { user_id: person } }), // 5
      entry({ ...base, at: at(5), action: 'session.used', actor: { kind: 'user', id: person, name: 'Ada' } }), // 6
      entry({
        ...base,
        at: at(6),
        action: 'request.refused',
        outcome: 'refused',
        actor: ANYBODY,
        address: '2001:db8::1',
        requestId: 'req-42',
        data: { code: 'invalid_token' },
      }), // 7
      entry({ ...base, at: at(7), action: 'robot.moved', siteId: null, fleetId: here.fleetId }), // 8
    )
    await insertAudit(api.db.database, lines)
  })

  afterAll(() => api.close())

  test('shows everything of a line, newest first', async () => {
    const items = await all('')
    expect(seqs(items)).toEqual([8, 7, 6, 5, 4, 3, 2, 1])
    expect(items[6]).toEqual({
      seq: 2,
      id: lines[1]!.id,
      at: '2026-03-01T12:01:00.000Z',
      action: 'robot.retired',
      outcome: 'ok',
      actor: deploy,
      target: null,
      site_id: here.siteId,
      fleet_id: here.fleetId,
      request_id: null,
      address: '192.0.2.7',
      data: {},
      previous_hash: items[7].hash,
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
    })
    expect(items[7].previous_hash).toBe('0'.repeat(64))
  })

  test.each<[string, () => string, number[]]>([
    ['an action', () => 'action=robot.retired', [5, 2]],
    ['a beginning of actions', () => 'action=robot.', [8, 5, 3, 2]],
    ['several actions', () => 'action=site.&action=user.invited', [4, 1]],
    ['an actor', () => `actor=${deploy.id.toUpperCase()}`, [3, 2]],
    ['a kind of actors', () => 'actor=anonymous', [7]],
    ['a person', () => `user=${person}`, [6, 5, 4]],
    ['a target', () => `target=${person}`, [4]],
    ['a site', () => `site=${here.siteId}`, [2, 1]],
    ['a fleet', () => `fleet=${here.fleetId}`, [8, 2]],
    ['an outcome', () => 'outcome=refused', [7]],
    ['an address', () => 'address=192.0.2.7', [2]],
    ['an address in another form', () => 'address=::ffff:192.0.2.7', [2]],
    ['a range', () => 'address=192.0.2.0/24', [2]],
    ['a range of IPv6', () => 'address=2001:db8::/32', [7]],
    ['a beginning', () => 'from=2026-03-01T12:05:00Z', [8, 7, 6]],
    ['an end', () => 'to=2026-03-01T14:02:00%2B02:00', [2, 1]],
    ['a text', () => 'q=aDa', [6, 4]],
    ['a request', () => 'request_id=req-42', [7]],
    ['a text that is a pattern elsewhere', () => 'q=%25', []],
    ['all of it together', () => `action=robot.&fleet=${there.fleetId}&actor=${deploy.id}`, [3]],
    ['nothing', () => `target=${newId()}`, []],
  ])('is cut down by %s', async (_what, query, expected) => {
    expect(seqs(await all(query()))).toEqual(expected)
  })

  test.each([
    'action=robot',
    "action=robot.'",
    'action=.',
    'actor=nobody',
    'outcome=maybe',
    'address=10.0.0.0/33',
    'address=localhost',
    'from=yesterday',
    'from=2026-03-01T12:05:00Z&to=2026-03-01T12:05:00Z',
    'q=%00',
    'site=1',
    'colour=red',
  ])('refuses %s', async (query) => {
    expect((await api.get(`/api/audit?${query}`)).body.code).toBe('invalid_request')
    expect((await api.get(`/api/audit/export?${query}`)).body.code).toBe('invalid_request')
  })

  test('goes on with its cursor, and stays in place while lines are added', async () => {
    const seen: number[] = []
    let cursor = ''
    for (let page = 0; page < 4; page++) {
      const answer = await api.get(
        `/api/audit?limit=3&to=2026-04-01T00:00:00Z${cursor && `&cursor=${cursor}`}`,
      )
      seen.push(...seqs(answer.body.items))
      cursor = answer.body.next_cursor
      await insertAudit(api.db.database, [
        entry({ at: new Date('2027-01-01T00:00:00Z'), action: 'later.added' }),
      ])
      if (cursor === null) break
    }
    expect(seen).toEqual([8, 7, 6, 5, 4, 3, 2, 1])
    const other = (await api.get('/api/sites?limit=1')).body.next_cursor
    expect((await api.get(`/api/audit?cursor=${other}`)).body.code).toBe('invalid_cursor')
  })

  test('reaches as far as its reader', async () => {
    const early = 'to=2026-04-01T00:00:00Z'
    const siteAdmin = await tokenOf({ role: 'admin', siteId: here.siteId })
    const fleetAdmin = await tokenOf({ role: 'admin', fleetId: there.fleetId })
    const both = await tokenOf(
      { role: 'admin', siteId: there.siteId },
      { role: 'admin', fleetId: here.fleetId },
      { role: 'viewer' },
    )
    const auditor = await insertFleetToken(api.db.database, here.fleetId, { scopes: ['audit:read'] })
    expect(seqs(await all(early, siteAdmin))).toEqual([2, 1])
    expect(seqs(await all(early, fleetAdmin))).toEqual([5, 3])
    expect(seqs(await all(early, both))).toEqual([8, 5, 3, 2])
    expect(seqs(await all(early, auditor.token))).toEqual([8, 2])
    // A filter opens nothing.
    expect(seqs(await all(`${early}&fleet=${there.fleetId}`, siteAdmin))).toEqual([])
    expect(seqs(await all(`${early}&user=${person}`, fleetAdmin))).toEqual([5])
    for (const token of [siteAdmin, fleetAdmin, both, auditor.token]) {
      const exported = await api.get(`/api/audit/export?${early}`, { token })
      const found = exported.text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line).seq)
      expect(found.reverse()).toEqual(seqs(await all(early, token)))
      expect((await api.get('/api/audit/verify', { token })).status).toBe(403)
    }
    for (const role of ['viewer', 'operator'] as const) {
      const token = await tokenOf({ role })
      for (const path of ['', '/export', '/verify'])
        expect((await api.get(`/api/audit${path}`, { token })).status).toBe(403)
    }
    expect((await api.get('/api/audit', { token: null })).status).toBe(401)
  })
})

describe('an export', () => {
  beforeAll(async () => {
    api = await startApi()
  })

  afterAll(() => api.close())

  test('is NDJSON, oldest first, and itself a line of the log', async () => {
    await insertAudit(api.db.database, [entry(), entry({ target: null })])
    const listed = await all('')
    const answer = await api.get('/api/audit/export?outcome=ok')
    expect(answer.headers['content-type']).toBe('application/x-ndjson; charset=utf-8')
    expect(answer.headers['content-disposition']).toBe('attachment; filename="beacon-audit.ndjson"')
    const lines = answer.text.split('\n')
    expect(lines.pop()).toBe('')
    expect(lines.map((line) => JSON.parse(line))).toEqual(listed.reverse())
    expect((await all(''))[0]).toMatchObject({
      action: 'audit.exported',
      actor: { id: api.tokenId },
      data: { format: 'ndjson', filter: { outcome: 'ok' } },
    })
  })

  test('of nothing is empty, or titles alone', async () => {
    expect((await api.get(`/api/audit/export?target=${newId()}`)).text).toBe('')
    const titles = (await api.get(`/api/audit/export?format=csv&target=${newId()}`)).text
    expect(titles.split('\n')).toHaveLength(2)
  })

  test('in CSV quotes what needs it, and runs in no spreadsheet', async () => {
    const names = [
      '=HYPERLINK("http://x","y")',
      '+1',
      '-1',
      '@SUM(1)',
      '\tx',
      '\rx',
      'a "b",\nc',
      'plain',
      '',
    ]
    const target = newId()
    await insertAudit(
      api.db.database,
      names.map((name) => entry({ target: { kind: 'robot', id: target, name } })),
    )
    const answer = await api.get(`/api/audit/export?format=csv&target=${target}`)
    expect(answer.headers['content-type']).toMatch(/^text\/csv/)
    const [titles, ...rows] = parseCsv(answer.text)
    expect(titles).toContain('previous_hash')
    expect(rows).toHaveLength(names.length)
    const column = titles!.indexOf('target_name')
    for (const [index, row] of rows.entries()) {
      expect(row).toHaveLength(titles!.length)
      const name = names[index]!
      expect(row[column]).toBe(/^[=+\-@\t\r]/.test(name) ? `'${name}` : name)
      for (const cell of row) expect(cell).not.toMatch(/^[=+\-@\t\r]/)
      expect(JSON.parse(row[titles!.indexOf('data')]!)).toHaveProperty('nested')
    }
  })

  test('of very many lines is sent as fast as it is read, and kept nowhere', {
    timeout: 90_000,
  }, async () => {
    const LINES = 20_000
    const target = newId()
    const filling = 'x'.repeat(1_000)
    for (let batch = 0; batch < LINES; batch += 1_000)
      await insertAudit(
        api.db.database,
        Array.from({ length: 1_000 }, () =>
          entry({ target: { kind: 'robot', id: target, name: 'r' }, data: { filling } }),
        ),
      )
    await api.app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = api.app.server.address() as AddressInfo
    const open = async () => {
      const sent = httpRequest({
        port,
        path: `/api/audit/export?target=${target}`,
        headers: { authorization: `Bearer ${api.token}` },
      })
      sent.end()
      const [response] = (await once(sent, 'response')) as [IncomingMessage]
      return response
    }
    let reads = 0
    const counting = () => {
      reads += 1
    }
    api.db.pool.on('acquire', counting)

    // Nobody reads: it stands still, having read no more than fits into the sockets' buffers.
    const response = await open()
    response.pause()
    let before = -1
    let still = 0
    await eventually(() => {
      still = reads === before ? still + 1 : 0
      before = reads
      return still > 300
    }, 'a standstill')
    expect(reads).toBeLessThan(LINES / 500 / 2)

    let count = 0
    let last = 0
    for await (const line of createInterface({ input: response })) {
      const { seq } = JSON.parse(line)
      expect(seq).toBeGreaterThan(last)
      last = seq
      count += 1
    }
    expect(count).toBe(LINES)
    // Whoever goes away in the middle leaves nothing behind.
    reads = 0
    const left = await open()
    left.destroy()
    await eventually(() => api.db.pool.idleCount === api.db.pool.totalCount, 'every connection given back')
    expect(reads).toBeLessThan(LINES / 500 / 2)
    api.db.pool.off('acquire', counting)
  })
})

/** RFC 4180, reckoned independently of what wrote it. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = []
  let row: string[] = []
  const cell = /(?:"((?:[^"]|"")*)"|([^",\n]*))(,|\n|$)/gy
  for (let found = cell.exec(text); found && cell.lastIndex <= text.length; found = cell.exec(text)) {
    row.push(found[1]?.replaceAll('""', '"') ?? found[2] ?? '')
    if (found[3] !== ',') {
      rows.push(row)
      row = []
    }
    if (cell.lastIndex === text.length) break
  }
  return rows
}

describe('verifying', () => {
  beforeAll(async () => {
    api = await startApi()
    await insertAudit(api.db.database, [entry(), entry(), entry()])
  })

  afterAll(() => api.close())

  test('tells the head, compares it with what was noted, and names the first fault', async () => {
    const { body } = await api.get('/api/audit/verify')
    expect(body).toEqual({
      checked: 3,
      head: { seq: 3, hash: (await all(''))[0].hash },
      finding: null,
      next_cursor: null,
    })
    const note = `${body.head.seq}:${body.head.hash}`
    expect((await api.get(`/api/audit/verify?expect=${note.toUpperCase()}`)).body.finding).toBeNull()
    expect((await api.get(`/api/audit/verify?expect=2:${body.head.hash}`)).body.finding).toMatchObject({
      seq: 2,
      flaw: 'not_as_noted',
    })
    expect((await api.get(`/api/audit/verify?expect=4:${body.head.hash}`)).body.finding).toMatchObject({
      seq: 4,
      flaw: 'end_missing',
    })
    await api.db.pool.query(`ALTER TABLE audit_log DISABLE TRIGGER audit_log_refuse;
      UPDATE audit_log SET action = 'robot.kept' WHERE seq = 2`)
    expect((await api.get('/api/audit/verify')).body).toMatchObject({
      checked: 1,
      finding: { seq: 2, flaw: 'line_changed' },
      next_cursor: null,
    })
  })

  test.each(['expect=3', 'expect=3:abc', 'expect=-1:00', 'expect=x:y', 'cursor=x', 'limit=3'])(
    'refuses %s',
    async (query) => {
      expect((await api.get(`/api/audit/verify?${query}`)).body.code).toMatch(/^invalid_(request|cursor)$/)
    },
  )
})

describe('requests', () => {
  test('with a token that stands no more, or from where it must not come, are told with whose it was', async () => {
    const told: AuditEntry[] = []
    api = await startApi({ audit: { refused: (line) => void told.push(line), used: () => {} } })
    try {
      const { database } = api.db
      const person = await insertPerson(database, [{ role: 'viewer' }], { name: 'Ada' })
      const fleet = await insertFleet(database)
      const past = new Date(Date.now() - 1_000)
      const tokens = {
        token_revoked: await insertPersonalToken(database, person, { revokedAt: past }),
        token_expired: await insertPersonalToken(database, person, { expiresAt: past }),
        address_not_allowed: await insertFleetToken(database, fleet.fleetId, {
          scopes: ['robots:read'],
          allowedCidrs: ['192.0.2.0/24'],
        }),
      }
      for (const { token } of Object.values(tokens)) await api.get('/api/robots', { token })
      const of = { user_id: person, user_name: 'Ada' }
      const actor = (kind: string, { id }: { id: string }) => ({ kind, id, name: 'token' })
      expect(told.map((line) => [line.action, line.actor, line.data])).toEqual([
        ['request.refused', actor('personal_token', tokens.token_revoked), { code: 'token_revoked', ...of }],
        ['request.refused', actor('personal_token', tokens.token_expired), { code: 'token_expired', ...of }],
        [
          'request.refused',
          actor('fleet_token', tokens.address_not_allowed),
          { code: 'address_not_allowed' },
        ],
      ])
    } finally {
      await api.close()
    }
  })

  test('that are refused, and tokens that are used, are in the log, and no secret is', async () => {
    const clock = new ManualClock('2026-03-01T12:00:00Z')
    api = await startApi({ clock, audit: { refused: () => {}, used: () => {} } })
    const writing = createAudit({ database: api.db.database, clock, log: createLog('silent') })
    Object.assign(api.parts.audit, writing)
    try {
      const viewer = await tokenOf({ role: 'viewer' })
      const wrong = api.token.replace(/^(rf_pat_)./, '$1z')
      await api.get('/api/sites', { token: null })
      await api.get('/api/sites', { token: wrong, headers: { 'x-request-id': 'mine-1' } })
      await api.post('/api/sites', { name: 'x' }, { token: viewer })
      await api.post('/api/sites', { name: 'y' }, { token: viewer })
      await api.get(`/api/robots/${newId()}`)
      await api.post('/api/sites', {})
      await api.get('/nowhere')
      await writing.stop()
      const lines = await all('from=2026-03-01T12:00:00Z&to=2026-03-01T12:01:00Z')
      const refused = lines.filter(({ outcome }) => outcome === 'refused').reverse()
      expect(
        refused.map(({ action, actor, target, data }) => [action, actor.kind, target.id, data.code]),
      ).toEqual([
        ['request.refused', 'anonymous', 'GET /api/sites', 'credentials_required'],
        ['request.refused', 'anonymous', 'GET /api/sites', 'invalid_token'],
        ['request.refused', 'personal_token', 'POST /api/sites', 'insufficient_scope'],
        ['request.refused', 'personal_token', 'POST /api/sites', 'insufficient_scope'],
      ])
      expect(refused[1]).toMatchObject({ request_id: 'mine-1', address: '127.0.0.1' })
      expect(refused[3].data).toMatchObject({ repetitions: 1, user_name: 'somebody' })
      const used = lines.filter(({ action }) => action === 'access_token.used')
      expect(used.map(({ data }) => data.count).sort()).toEqual([2, 2])
      const text = JSON.stringify(lines)
      for (const secret of [api.token, wrong, viewer]) expect(text).not.toContain(secret.slice(7, 40))
    } finally {
      await api.close()
    }
  })
})
