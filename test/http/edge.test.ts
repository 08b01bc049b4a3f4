import { connect } from 'node:net'
import { describe, expect, test } from 'vitest'
import { openDatabase, openPool } from '../../src/db/database.ts'
import { BeaconError } from '../../src/errors.ts'
import { createHealth } from '../../src/http/health.ts'
import { systemClock } from '../../src/runtime.ts'
import { RETENTION } from '../support/retention.ts'
import { type Answer, expectProblem, type Json, makeFleet, startApi, unique, useApi } from './api.ts'

const api = useApi()
const JSON_TYPE = { 'content-type': 'application/json' }

describe('addresses', () => {
  test('that are nowhere are 404', async () => {
    for (const url of ['/nowhere', '/api', '/api/sites/', '/api//sites', '/API/sites', '/.git/config'])
      expectProblem(await api().get(url), 404, 'not_found')
    expectProblem(await api().get('/nowhere', { token: null }), 404, 'not_found')
  })

  test('with another method are 405 and name theirs', async () => {
    const answer = await api().call('PUT', '/api/sites', {})
    expectProblem(answer, 405, 'method_not_allowed')
    expect(answer.headers.allow).toBe('GET, HEAD, POST')
    const one = await api().call('POST', '/api/sites/0198c0de-0000-7000-8000-000000000000', {})
    expectProblem(one, 405, 'method_not_allowed')
    expect(one.headers.allow).toBe('DELETE, GET, HEAD, PATCH')
  })

  test.each([
    'x',
    '1',
    '0198c0de-0000-7000-8000-00000000000g',
    '0198c0de00007000800000000000000',
    '%00',
    '..%2f..%2fetc',
    'null',
    'a'.repeat(99),
    'a'.repeat(3_000),
    "0198c0de-0000-7000-8000-000000000000'--",
  ])('with the id %s are 404', async (id) => {
    for (const list of ['sites', 'fleets', 'enrollment-keys', 'robots'])
      expectProblem(await api().get(`/api/${list}/${id}`), 404, 'not_found')
    expectProblem(await api().get(`/api/robots/${id}/events`), 404, 'not_found')
    expectProblem(await api().post(`/api/robots/${id}/retire`), 404, 'not_found')
  })

  test('of broken encoding are 404', async () => {
    for (const url of ['/api/sites/%zz', '/%', '/api/sites/%ff'])
      expectProblem(await api().get(url), 404, 'not_found')
  })
})

describe('bodies', () => {
  const raw = (body: string | Buffer, headers: Record<string, string> = JSON_TYPE) =>
    api().call('POST', '/api/sites', body, { headers })

  test.each(['{', '{"name":}', "{'name':'a'}", 'name=a', '"', '{"name":"a"}x', 'NaN'])(
    'of broken JSON are refused: %s',
    async (body) => {
      expectProblem(await raw(body), 400, 'invalid_json')
    },
  )

  test('that are not UTF-8 are refused', async () => {
    const body = Buffer.concat([Buffer.from('{"name":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')])
    expectProblem(await raw(body), 400, 'invalid_json')
  })

  test('that reach into prototypes are refused', async () => {
    expectProblem(await raw('{"name":"a","__proto__":{"admin":true}}'), 400, 'invalid_json')
    expectProblem(await raw('{"name":"a","constructor":{"prototype":{"admin":true}}}'), 400, 'invalid_json')
    expect(({} as Json).admin).toBeUndefined()
  })

  test.each(['[]', 'null', '"text"', '1', 'true'])('of another type are refused: %s', async (body) => {
    expectProblem(await raw(body), 400, 'invalid_request')
  })

  test('that are missing are refused', async () => {
    expectProblem(await api().post('/api/sites'), 400, 'invalid_request')
    expectProblem(await raw(''), 400, 'invalid_request')
  })

  test('of other media types are refused', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'multipart/form-data; boundary=x',
      'odd',
    ])
      expectProblem(await raw('{"name":"a"}', { 'content-type': type }), 415, 'unsupported_media_type')
  })

  test('up to 64 KiB are read, larger ones are not', async () => {
    const sized = (bytes: number) => `{"name":"${'a'.repeat(bytes - 11)}"}`
    expectProblem(await raw(sized(64 * 1024)), 400, 'invalid_request')
    expectProblem(await raw(sized(64 * 1024 + 1)), 413, 'body_too_large')
  })

  test('name every bad field, with pointers that can be followed', async () => {
    const place = await makeFleet(api())
    const answer = await api().post('/api/enrollment-keys', {
      ...place,
      name: 7,
      max_uses: 0,
      labels: { 'a/b~c ': 'x', ok: 5 },
      allowed_cidrs: ['10.0.0.0/8', 'everywhere'],
      'un/known': 1,
      'a.b': 2,
    })
    const { errors, detail } = expectProblem(answer, 400, 'invalid_request')
    expect(errors.map((error: { pointer: string }) => error.pointer).sort()).toEqual([
      '/a.b',
      '/allowed_cidrs/1',
      '/labels/a~1b~0c ',
      '/labels/ok',
      '/max_uses',
      '/name',
      '/un~1known',
    ])
    expect(detail).toMatch(/^\/\S+: /)
  })

  test('with very many unknown fields get a short answer', async () => {
    const body = Object.fromEntries(Array.from({ length: 3_000 }, (_, index) => [`field${index}`, 1]))
    const answer = await api().post('/api/sites', { name: 'a', ...body })
    expect(expectProblem(answer, 400, 'invalid_request').errors).toHaveLength(20)
  })

  test.each([
    ['empty', ''],
    ['NUL', 'a\u0000b'],
    ['a line break', 'a\nb'],
    ['an escape', 'a\u001b[31m'],
    ['a direction override', 'a\u202eb'],
    ['half a surrogate pair', 'a\ud800'],
    ['a space at the end', 'a '],
    ['too long', 'a'.repeat(64)],
  ])('with a name of %s are refused', async (_, name) => {
    const answer = await api().call('POST', '/api/sites', JSON.stringify({ name }), { headers: JSON_TYPE })
    expect(expectProblem(answer, 400, 'invalid_request').errors[0].pointer).toBe('/name')
  })

  test.each([
    "Robert'); DROP TABLE sites;--",
    '<script>alert(1)</script>',
    '🤖 ünïcödé 机器人',
    '%s$1\\',
    '__proto__',
  ])('with the name %s are kept as they are', async (text) => {
    const name = `${text} ${unique('n')}`
    const created = await api().post('/api/sites', { name })
    expect(created.status).toBe(201)
    expect((await api().get(`/api/sites/${created.body.id}`)).body.name).toBe(name)
  })
})

describe('queries', () => {
  test.each([
    ['unknown', '/api/sites?colour=red', '?colour'],
    ['__proto__', '/api/sites?__proto__=1', '?__proto__'],
    ['limit 0', '/api/sites?limit=0', '?limit'],
    ['limit 201', '/api/robots?limit=201', '?limit'],
    ['limit words', '/api/robots?limit=ten', '?limit'],
    ['limit twice', '/api/robots?limit=1&limit=2', '?limit'],
    ['limit infinity', '/api/robots?limit=Infinity', '?limit'],
    ['site', '/api/robots?site=here', '?site'],
    ['connection', '/api/robots?connection=lost', '?connection'],
    ['sort', '/api/robots?sort=token_hash', '?sort'],
    ['q with NUL', '/api/robots?q=a%00b', '?q'],
    ['label with NUL', '/api/robots?label=a=%00', '?label'],
    ['label without name', '/api/robots?label==x', '?label'],
    ['too many', `/api/robots?${'site=0198c0de-0000-7000-8000-000000000000&'.repeat(60)}`, '?site'],
  ])('with a bad %s are refused', async (_, url, pointer) => {
    expect(expectProblem(await api().get(url), 400, 'invalid_request').errors[0].pointer).toBe(pointer)
  })

  const cursorOf = (place: unknown) => Buffer.from(JSON.stringify(place)).toString('base64url')
  const ID = '0198c0de-0000-7000-8000-000000000000'

  test.each([
    ['empty', ''],
    ['words', 'next'],
    ['not base64url', '+/='],
    ['not UTF-8', Buffer.from([0xff, 0xfe, 0x22]).toString('base64url')],
    ['another list', cursorOf({ list: 'sites', name: 'a', id: ID })],
    ['another order', cursorOf({ list: 'robots', sort: 'created_at', descending: false, value: 1, id: ID })],
    ['a bad id', cursorOf({ list: 'robots', sort: 'name', descending: false, value: 'a', id: "'" })],
    ['NUL', cursorOf({ list: 'robots', sort: 'name', descending: false, value: 'a\u0000', id: ID })],
    ['more', cursorOf({ list: 'robots', sort: 'name', descending: false, value: 'a', id: ID, x: 1 })],
    ['__proto__', Buffer.from('{"__proto__":{"list":"robots"}}').toString('base64url')],
    ['null', cursorOf(null)],
    ['too long', 'a'.repeat(2_000)],
  ])('with a cursor of %s are refused', async (_, cursor) => {
    expectProblem(await api().get(`/api/robots?cursor=${encodeURIComponent(cursor)}`), 400, 'invalid_cursor')
  })

  test('with a time in a cursor that no clock shows are refused', async () => {
    for (const value of [-1, 1.5, 1e300, '2020-01-01']) {
      const cursor = cursorOf({ list: 'robots', sort: 'created_at', descending: false, value, id: ID })
      expectProblem(await api().get(`/api/robots?sort=created_at&cursor=${cursor}`), 400, 'invalid_cursor')
    }
    const value = Number.MAX_SAFE_INTEGER
    const cursor = cursorOf({ list: 'robots', sort: 'created_at', descending: false, value, id: ID })
    expect((await api().get(`/api/robots?sort=created_at&cursor=${cursor}`)).status).toBe(200)
  })
})

const SOMETHING = '0198c0de-0000-7000-8000-000000000000'

describe('what a route takes nothing of', () => {
  test.each([
    ['POST', '/api/tokens/revoke-all?dry_run=true', { of: { deployment: true } }, '?dry_run'],
    ['POST', `/api/enrollment-keys/${SOMETHING}/revoke?cascade=none`, undefined, '?cascade'],
    ['GET', `/api/robots/${SOMETHING}?fields=name`, undefined, '?fields'],
    ['GET', '/api/security?a=1', undefined, '?a'],
    ['DELETE', `/api/users/${SOMETHING}`, { dry_run: true }, '/dry_run'],
    ['DELETE', `/api/robots/${SOMETHING}`, ['x'], ''],
    ['POST', `/api/users/${SOMETHING}/reset-second-factor`, { dry_run: true }, '/dry_run'],
  ] as const)('is refused, not passed over: %s %s', async (method, url, body, pointer) => {
    const answer = await api().call(method, url, body)
    expectProblem(answer, 400, 'invalid_request')
    expect(answer.body.errors).toEqual([{ pointer, detail: 'is not known here' }])
    expect((await api().get('/api/tokens/self')).status).toBe(200)
  })

  test('is no matter where everybody may read', async () => {
    expect((await api().get('/healthz?cache=buster', { token: null })).status).toBe(200)
  })
})

describe('every answer', () => {
  test('keeps a sane request id and replaces any other', async () => {
    const ask = async (id: string) =>
      (await api().get('/healthz', { headers: { 'x-request-id': id } })).headers['x-request-id']
    expect(await ask('trace-1.a:b_C')).toBe('trace-1.a:b_C')
    const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-/
    for (const odd of ['', 'a b', '<script>', 'a'.repeat(129), 'a"b']) expect(await ask(odd)).toMatch(UUID_V7)
  })

  test('keeps no request id that is a secret: it would stand in the logs', async () => {
    const hex = '0123456789abcdef'.repeat(4)
    const secrets = [
      ...['pat', 'fleet', 'robot', 'enroll', 'invite'].map((kind) => `rf_${kind}_${hex}`),
      `rf_setup_${'abcdefghijklmnopqrstuvwxyz234567'.repeat(2).slice(0, 55)}`,
      `apt_${hex}`,
    ]
    for (const id of [...secrets, `mine-${api().token}`]) {
      const answer = await api().post('/api/sites', {}, { token: null, headers: { 'x-request-id': id } })
      expectProblem(answer, 401, 'credentials_required')
      expect(
        `${answer.headers['x-request-id']} ${answer.text} ${JSON.stringify(api().logged)}`,
      ).not.toContain(id)
    }
  })

  test('can neither be stored, framed nor guessed at', async () => {
    for (const url of ['/api/sites', '/nowhere', '/healthz', '/openapi.json', '/api/sites/%zz']) {
      const { headers } = await api().get(url)
      expect(headers).toMatchObject({
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
        'content-security-policy':
          "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      })
    }
  })
})

describe('what goes wrong on our side', () => {
  test('is told without details and logged with them', async () => {
    const broken = await startApi({
      access: {
        authenticate: () => Promise.reject(new Error('the disk of 10.1.2.3 is on fire')),
      },
    })
    try {
      const answer = await broken.get('/api/sites')
      expectProblem(answer, 500, 'internal_error')
      expect(answer.text).not.toContain('fire')
      const line = broken.logged.find((entry) => entry.level === 'error')
      expect(line).toMatchObject({ request_id: answer.headers['x-request-id'], code: 'internal_error' })
      expect(line.err.message).toContain('fire')
    } finally {
      await broken.close()
    }
  })

  test('a database that is away is 503 with Retry-After, and the process lives on', async () => {
    const pool = openPool({
      url: 'postgres://nobody@127.0.0.1:1/nothing',
      name: 'nothing',
      maxConnections: 2,
      statementTimeoutMs: 1_000,
      onIdleError: () => {},
    })
    const database = openDatabase(pool)
    const away = await startApi({
      database,
      health: createHealth({ database, clock: systemClock, draining: () => false, takesRobots: () => true }),
    })
    try {
      for (const url of ['/api/sites', '/api/robots', '/metrics/robots']) {
        const answer = await away.get(url)
        expectProblem(answer, 503, 'database_unavailable')
        expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
      }
      expectProblem(
        await away.post('/api/sites', { name: 'a' }, { headers: { 'idempotency-key': 'k' } }),
        503,
        'database_unavailable',
      )
      expect((await away.get('/healthz')).status).toBe(200)
      const ready = await away.get('/readyz')
      expect([ready.status, ready.body]).toEqual([503, { ready: false, reasons: ['database_unavailable'] }])
      const scrape = await away.get('/metrics')
      expect(scrape.status).toBe(200)
      expect(scrape.text).toContain('beacon_database_errors_total{operation="count_robots"} 1')
    } finally {
      await away.close()
      await pool.end()
    }
  })

  test('a server that drains is not ready', async () => {
    const draining = await startApi({
      health: { draining: true, ready: async () => ({ ready: false, reasons: ['draining'] }) },
    })
    try {
      const answer = await draining.get('/readyz')
      expect([answer.status, answer.body]).toEqual([503, { ready: false, reasons: ['draining'] }])
      expectProblem(await draining.post('/agent/enroll', {}), 503, 'draining')
    } finally {
      await draining.close()
    }
  })
})

describe('on a socket', () => {
  async function exchange(port: number, text: string): Promise<string> {
    const socket = connect(port, '127.0.0.1')
    let answer = ''
    for await (const chunk of socket.on('connect', () => socket.write(text))) answer += chunk
    return answer
  }

  test('what is not HTTP gets a problem document and a closed connection', async () => {
    const own = await startApi()
    try {
      await own.app.listen({ host: '127.0.0.1', port: 0 })
      const { port } = own.app.server.address() as { port: number }
      for (const text of [
        'GARBAGE\r\n\r\n',
        'GET /healthz HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n',
        'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n',
      ]) {
        const answer = await exchange(port, text)
        expect(answer).toMatch(/^HTTP\/1\.1 400 /)
        expect(answer).toContain('content-type: application/problem+json')
        expect(answer).toContain('x-content-type-options: nosniff')
        expect(answer).toContain('"code":"invalid_request"')
      }
      const fine = await exchange(port, 'GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n')
      expect(fine).toMatch(/^HTTP\/1\.1 200 OK/)
    } finally {
      await own.close()
    }
  })
})

describe('proxies', () => {
  const ask = async (trustedProxies: string[]): Promise<Json> => {
    const seen: Json = {}
    const own = await startApi({
      config: { publicUrl: undefined, trustedProxies, heartbeatIntervalMs: 10_000, history: RETENTION },
      claims: {
        claim: ({ address }) => {
          seen.address = address
          return Promise.reject(new BeaconError('invalid_token'))
        },
        check: () => Promise.reject(new BeaconError('invalid_token')),
      },
    })
    try {
      const headers = {
        'x-forwarded-for': '203.0.113.9, 198.51.100.7',
        'x-forwarded-proto': 'https',
        'x-forwarded-host': 'fleet.example',
        host: 'inside:8080',
      }
      expectProblem(await own.post('/agent/enroll', {}, { headers }), 401, 'invalid_token')
      seen.info = (await own.get('/api/info', { headers })).body.gateway_url
      return seen
    } finally {
      await own.close()
    }
  }

  test('that nobody configured are not believed', async () => {
    expect(await ask([])).toEqual({ address: '127.0.0.1', info: 'ws://inside:8080/agent/ws' })
    expect(await ask(['10.0.0.0/8'])).toEqual({ address: '127.0.0.1', info: 'ws://inside:8080/agent/ws' })
  })

  test('that are configured say who asks, up to the first one that is not', async () => {
    expect(await ask(['127.0.0.0/8'])).toEqual({
      address: '198.51.100.7',
      info: 'wss://fleet.example/agent/ws',
    })
  })
})

describe('/api/info', () => {
  test('repeats no Host header that is none', async () => {
    const info = async (host: string): Promise<Answer> =>
      api().get('/api/info', { token: null, headers: { host } })
    expect((await info('beacon.example:8443')).body).toEqual({
      name: 'beacon',
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      protocol: 'beacon.v1',
      gateway_url: 'ws://beacon.example:8443/agent/ws',
      heartbeat_interval_ms: 10_000,
    })
    for (const host of ['a;reboot', '$(reboot)', 'a b', 'a/b', "a'"])
      expect((await info(host)).body.gateway_url).toBe('ws://localhost/agent/ws')
  })

  test('the WebSocket asked for without an upgrade says what it is', async () => {
    const answer = await api().get('/agent/ws', { token: null })
    expectProblem(answer, 426, 'upgrade_required')
    expect(answer.headers.upgrade).toBe('websocket')
  })
})
