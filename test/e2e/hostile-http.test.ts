import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Bystanders, startBystanders } from './bystanders.ts'
import type { EnrollmentKey } from './independent/operator.ts'
import { mintToken } from './independent/operator.ts'
import { exchange, RawSocket, statusOf } from './independent/raw.ts'
import { enrol, fingerprintOf, newMachine, Session, sha256 } from './independent/robot.ts'
import { countsOf, type Scene, startScene } from './scene.ts'

let scene: Scene
let base: string
let key: EnrollmentKey
let bystanders: Bystanders
/** Sockets of robots that open and then say nothing, or nothing that matters. */
const speechless: { session: Session; robotId: string; openedAt: number }[] = []
const loris: { socket: RawSocket; openedAt: number }[] = []

beforeAll(async () => {
  scene = await startScene()
  base = scene.servers[0]!.url
  key = await scene.operator.key(scene.site, scene.fleet, { max_uses: 1_000 })
  bystanders = await startBystanders(scene)
  for (const machine of [newMachine(), newMachine()]) {
    const { body } = await enrol(base, key.key_value, { machine })
    const session = await Session.open(base, body.robot_token!)
    speechless.push({ session, robotId: body.robot_id, openedAt: Date.now() })
  }
  speechless[1]!.session.send({ type: 'unheard_of' })
  // Handshakes that never come to an end, from the first test to the last.
  for (let index = 0; index < 100; index += 1) {
    const socket = await RawSocket.open(base)
    socket.write('GET /agent/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n')
    loris.push({ socket, openedAt: performance.now() })
  }
})
afterEach(() => bystanders.areWell())
afterAll(async () => {
  await bystanders?.stop()
  for (const { socket } of loris) socket.close()
  for (const { session } of speechless) session.socket.terminate()
  await scene?.end()
})

interface Asked {
  readonly method?: string
  readonly token?: string | null
  readonly type?: string
  readonly body?: string | Buffer
}

/** One request as bytes, and its whole answer. */
async function ask(path: string, { method = 'GET', token = scene.adminToken, type, body }: Asked = {}) {
  const response = await fetch(`${base}${path}`, {
    method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(type === undefined ? {} : { 'content-type': type }),
    },
    ...(body === undefined ? {} : { body }),
  })
  return { status: response.status, text: await response.text(), headers: response.headers }
}

const post = (path: string, body: string | Buffer, type = 'application/json') =>
  ask(path, { method: 'POST', body, type })

const claimBody = (more: object) => JSON.stringify({ fingerprint: fingerprintOf(newMachine()), ...more })
const claimWith = (body: string | Buffer) =>
  ask('/agent/enroll', { method: 'POST', token: key.key_value, type: 'application/json', body })

function expectProblem(
  answer: { status: number; text: string; headers: Headers },
  status: number | number[],
) {
  expect([status].flat()).toContain(answer.status)
  expect(answer.headers.get('content-type')).toMatch(/^application\/problem\+json/)
  const problem = JSON.parse(answer.text) as { code: string; request_id: string; detail: string }
  expect(problem).toMatchObject({ status: answer.status })
  expect(problem.request_id).toBe(answer.headers.get('x-request-id'))
  expect(problem.detail.length).toBeGreaterThan(0)
  return problem
}

describe('addresses and methods', () => {
  test('unknown ones are problems, whoever asks', async () => {
    for (const path of ['/nothing', '/api', '/api/robots/', '/api/robots/1/2/3', '/agent', '/agent/enroll/x'])
      for (const token of [scene.adminToken, null]) expectProblem(await ask(path, { token }), [401, 404])
    expectProblem(await ask('/api/robots/not-an-id'), 404)
    expectProblem(await ask(`/api/robots/${'9'.repeat(5_000)}`), 404)
    expectProblem(await ask(`/api/robots/${randomUUID()}`), 404)
    expectProblem(await ask('/api/robots?limit=0'), 400)
    expectProblem(await ask('/api/robots?limit=1e3'), 400)
    expectProblem(await ask('/api/robots?unheard_of=1'), 400)
    expectProblem(await ask('/api/robots?cursor=AAAA'), 400)
    expectProblem(await ask('/api/robots?q=%00'), 400)
    expectProblem(await ask(`/api/robots?${'fleet=x&'.repeat(500)}`), 400)
    expectProblem(await ask("/api/robots?q=' OR 1=1 --&sort=name;DROP TABLE robots"), 400)
  })

  test('HEAD, OPTIONS, TRACE and invented methods do no harm and echo nothing', async () => {
    expect((await ask('/healthz', { method: 'HEAD' })).status).toBe(200)
    for (const method of ['OPTIONS', 'TRACE', 'CONNECT', 'PROPFIND', 'BREW', 'get']) {
      const { status, text } = await exchange(
        base,
        `${method} /api/robots HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${scene.adminToken}\r\n\r\n`,
      )
      // Nothing at all for CONNECT: nobody is asked to be a proxy.
      expect(method === 'CONNECT' ? [0] : [400, 401, 404, 405, 501], method).toContain(status)
      expect(text).not.toContain(scene.adminToken)
    }
    expectProblem(await ask('/api/robots', { method: 'DELETE' }), 405)
    expectProblem(await ask('/agent/enroll'), 405)
  })

  test('a path does not lead out of the tree', async () => {
    const paths = [
      '/../../../../etc/passwd',
      '/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
      '/docs/../../../package.json',
      '/docs/static/..%2f..%2f..%2fpackage.json',
      '/docs/static/%2e%2e/%2e%2e/package.json',
      '/docs/static/..%5c..%5cpackage.json',
      '/docs/static/%00package.json',
      '//etc/passwd',
      '/api/robots/..%2f..%2fenrollment-keys',
      'http://elsewhere.example/api/robots',
      '/%c0%ae%c0%ae/etc/passwd',
      '/%',
    ]
    for (const path of paths) {
      const { status, text } = await exchange(base, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)
      expect([400, 401, 403, 404], path).toContain(status)
      expect(text).not.toMatch(/root:|"dependencies"/)
    }
  })
})

describe('bodies', () => {
  test('what is not JSON, or not what was asked for, is refused field by field', async () => {
    const broken = ['{', '[', '"', '{"name":}', 'nul', '{"name":"a"}}', '\ufeff{', "{'name':'a'}"]
    for (const body of broken) expectProblem(await post('/api/sites', body), 400)
    for (const body of ['[]', '"x"', '1', 'true', 'null', '{}', '{"name":1}', '{"name":null}'])
      expectProblem(await post('/api/sites', body), 400)
    expectProblem(await post('/api/sites', '{"name":["a"]}'), 400)
    expectProblem(await post('/api/sites', '{"name":"a","extra":1}'), 400)
    expectProblem(await post('/api/sites', `${'['.repeat(30_000)}${']'.repeat(30_000)}`), 400)
    expectProblem(await post('/api/sites', `{"name":${'{"a":'.repeat(9_000)}1${'}'.repeat(9_000)}}`), 400)
    expectProblem(await post('/api/sites', Buffer.from('{"name":"\xff\xfe"}', 'latin1')), 400)
    expectProblem(await post('/api/sites', '{"name":"a"}', 'text/plain'), 415)
    expectProblem(await post('/api/sites', 'name=a', 'application/x-www-form-urlencoded'), 415)
    const twice = expectProblem(await post('/api/fleets', '{"site_id":1,"name":""}'), 400)
    expect((twice as unknown as { errors: { pointer: string }[] }).errors.map((one) => one.pointer)).toEqual([
      '/site_id',
      '/name',
    ])
  })

  test('keys that reach into prototypes are refused, here and in claims', async () => {
    const before = await countsOf(scene.database.pool, key.id)
    for (const name of ['__proto__', 'constructor', 'toString'])
      for (const value of ['{"admin":true}', '{"prototype":{"admin":true}}'])
        expectProblem(await post('/api/sites', `{"name":"p","${name}":${value}}`), 400)
    expectProblem(await claimWith('{"fingerprint":{"__proto__":{"hostname":"x"}}}'), 400)
    expectProblem(await claimWith('{"__proto__":{"token_hash":"x"}}'), 400)
    expectProblem(
      await post('/api/robots', `{"fleet_id":"${scene.fleet.id}","name":"p","labels":{"__proto__":"x"}}`),
      400,
    )
    expect(({} as Record<string, unknown>).admin).toBeUndefined()
    expect(await countsOf(scene.database.pool, key.id)).toEqual(before)
  })

  test('of a key that stands twice one value counts, and it is the one that was checked', async () => {
    const { status, text } = await post('/api/sites', '{"name":"\\u0000","name":"Twice"}')
    expect(status).toBe(201)
    expect(JSON.parse(text)).toMatchObject({ name: 'Twice' })
    expectProblem(await post('/api/sites', '{"name":"Thrice","name":"\\u0000"}'), 400)
  })

  test('numbers that no field can hold', async () => {
    const { site, fleet } = scene
    for (const number of ['1e999', '-1', '0', '9007199254740993', '1.5', '-0', 'NaN', '"100"'])
      expectProblem(
        await post(
          '/api/enrollment-keys',
          `{"site_id":"${site.id}","fleet_id":"${fleet.id}","name":"n","max_uses":${number}}`,
        ),
        400,
      )
    for (const hours of ['1e999', '0', '-5', '1e300'])
      expectProblem(
        await post(
          '/api/enrollment-keys',
          `{"site_id":"${site.id}","fleet_id":"${fleet.id}","name":"n","expires_in_hours":${hours}}`,
        ),
        400,
      )
  })

  test('one that is too large is refused, announced or not', async () => {
    expectProblem(await post('/api/sites', `{"name":"${'a'.repeat(200_000)}"}`), 413)
    const announced = await exchange(
      base,
      `POST /agent/enroll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key.key_value}\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{`,
    )
    expect(announced.status).toBe(413)
  })

  test('one that never ends is cut off, and what the server takes of it is bounded', async () => {
    const socket = await RawSocket.open(base)
    socket.write(
      `POST /agent/enroll HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${key.key_value}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n`,
    )
    const chunk = `4000\r\n${'a'.repeat(0x4000)}\r\n`
    let written = 0
    while (!socket.ended && written < 64 * 1024 * 1024) {
      socket.write(chunk)
      written += chunk.length
      await socket.until(() => socket.socket.writableLength === 0, 5)
    }
    expect(socket.ended).toBe(true)
    // What is still on its way when the server hangs up may take the answer with it.
    expect([0, 413]).toContain(statusOf(socket.text))
    expect(socket.socket.bytesWritten).toBeLessThan(16 * 1024 * 1024)
  })

  test('odd framing is refused: two lengths, length and chunks, lengths that are none', async () => {
    const head = `POST /api/sites HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${scene.adminToken}\r\nContent-Type: application/json\r\n`
    const smuggled = '{"name":"a"}GET /api/enrollment-keys HTTP/1.1\r\nHost: x\r\n\r\n'
    for (const lengths of [
      'Content-Length: 12\r\nContent-Length: 5\r\n',
      'Content-Length: 12\r\nTransfer-Encoding: chunked\r\n',
      'Content-Length: -1\r\n',
      'Content-Length: 1e1\r\n',
      'Transfer-Encoding: identity, chunked\r\n',
      'Transfer-Encoding: xchunked\r\n',
      'Transfer-Encoding : chunked\r\n',
    ]) {
      const { status } = await exchange(base, `${head}${lengths}\r\n${smuggled}`)
      expect(status, lengths).toBeGreaterThanOrEqual(400)
      expect(status, lengths).toBeLessThan(500)
    }
    const { rows } = await scene.database.pool.query("SELECT 1 FROM sites WHERE name = 'a'")
    expect(rows).toEqual([])
  })
})

describe('heads', () => {
  test('bombs of headers and addresses are refused', async () => {
    const long = await exchange(
      base,
      `GET /healthz HTTP/1.1\r\nHost: x\r\nX-Bomb: ${'b'.repeat(200_000)}\r\n\r\n`,
    )
    expect([400, 431]).toContain(long.status)
    const many = await exchange(
      base,
      `GET /healthz HTTP/1.1\r\nHost: x\r\n${Array.from({ length: 5_000 }, (_, index) => `X-${index}: 1\r\n`).join('')}\r\n`,
    )
    expect([200, 400, 431]).toContain(many.status)
    const address = await exchange(base, `GET /${'a'.repeat(200_000)} HTTP/1.1\r\nHost: x\r\n\r\n`)
    expect([400, 414, 431]).toContain(address.status)
  })

  test('what is not HTTP is answered in HTTP and let go', async () => {
    const { adminToken } = scene
    for (const bytes of [
      '\0'.repeat(100),
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      'SSH-2.0-OpenSSH_9.2\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      `GET / HTTP/1.1\r\nAuthorization: Bearer ${adminToken}\0\r\n\r\n`,
      'GET / HTTP/1.1\r\nBroken header\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    ]) {
      const socket = await RawSocket.open(base)
      socket.write(bytes)
      expect(await socket.until(() => false, 5_000)).toBe('closed')
      expect([0, 400], JSON.stringify(bytes)).toContain(statusOf(socket.text))
      expect(socket.text).not.toContain(adminToken)
    }
  })

  test('pipelined requests are answered one after the other', async () => {
    const socket = await RawSocket.open(base)
    const one = (path: string, id: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: ${id}\r\n\r\n`
    socket.write(
      Array.from({ length: 50 }, (_, index) =>
        one(index % 2 === 0 ? '/healthz' : '/api/robots', `line-${index}-end`),
      ).join(''),
    )
    const count = () => (socket.text.match(/x-request-id: line-/gi) ?? []).length
    expect(await socket.until(() => count() === 50, 5_000)).toBe('met')
    const ids = [...socket.text.matchAll(/x-request-id: line-(\d+)-end/gi)].map((found) => Number(found[1]))
    expect(ids).toEqual(Array.from({ length: 50 }, (_, index) => index))
    socket.close()
  })

  test("a caller's own request id is kept only when it is sane", async () => {
    for (const [given, kept] of [
      ['trace-7', true],
      ['a b', false],
      ['<script>', false],
      ['x'.repeat(500), false],
    ] as const) {
      const response = await fetch(`${base}/healthz`, { headers: { 'x-request-id': given } })
      expect(response.headers.get('x-request-id') === given).toBe(kept)
    }
  })
})

describe('credentials', () => {
  test('odd ones are 401, and never said back', async () => {
    const odd = [
      '',
      'Bearer',
      'Bearer ',
      `Basic ${Buffer.from('a:b').toString('base64')}`,
      `bearer ${mintToken('rf_pat_')}`,
      `Bearer ${mintToken('rf_robot_')}`,
      `Bearer ${key.key_value}`,
      `Bearer ${scene.adminToken} extra`,
      `Bearer ${scene.adminToken}x`,
      `Bearer ${scene.adminToken.toUpperCase()}`,
      `Bearer ${scene.adminToken.slice(0, -1)}`,
      `Bearer ${'a'.repeat(10_000)}`,
      'Bearer \xff\xfe\xc3\xa4',
      "Bearer ' OR '1'='1",
      `Token ${scene.adminToken}`,
    ]
    for (const authorization of odd)
      for (const request of ['GET /api/robots', 'GET /metrics', 'POST /agent/enroll']) {
        const { status, text } = await exchange(
          base,
          `${request} HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`,
        )
        // The enrollment key is the one credential that opens this one door.
        const opens = request.startsWith('POST') && authorization.endsWith(key.key_value)
        expect([status], `${request} ${authorization.slice(0, 40)}`).toEqual([opens ? 201 : status])
        if (!opens) expect([401, 429]).toContain(status)
        if (authorization.length > 20) expect(text).not.toContain(authorization.slice(-20))
      }
  })

  test('two of them in one request are not a way around either', async () => {
    const { status } = await exchange(
      base,
      `GET /api/robots HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nonsense\r\nAuthorization: Bearer ${scene.adminToken}\r\n\r\n`,
    )
    expect([400, 401]).toContain(status)
  })

  test('one in the address is none', async () => {
    for (const name of ['token', 'access_token', 'api_key'])
      expectProblem(await ask(`/api/robots?${name}=${scene.adminToken}`, { token: null }), 401)
  })

  test('X-Forwarded-For counts for nothing from an address that is no proxy of ours', async () => {
    const far = await scene.operator.key(scene.site, scene.fleet, { allowed_cidrs: ['203.0.113.0/24'] })
    const response = await fetch(`${base}/agent/enroll`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${far.key_value}`,
        'content-type': 'application/json',
        'x-forwarded-for': '203.0.113.7',
        forwarded: 'for=203.0.113.7',
      },
      body: claimBody({}),
    })
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({ code: 'address_not_allowed' })
  })
})

describe('names and claims', () => {
  const evil = [
    '\u0007bell',
    'a\nb',
    '\u202egnp.exe',
    'a\u2066b',
    ' led',
    'trail ',
    '',
    'x'.repeat(64),
    '\ud800',
  ]

  test('a name that could deceive a reader is refused', async () => {
    for (const name of evil) {
      expectProblem(await post('/api/sites', JSON.stringify({ name })), 400)
      expectProblem(await claimWith(claimBody({ name })), 400)
    }
    expectProblem(await claimWith(claimBody({ name: { toString: 'x' } })), 400)
  })

  test('a host name that could is not taken over into the name', async () => {
    const names: string[] = []
    for (const hostname of evil) {
      const answer = await claimWith(JSON.stringify({ fingerprint: { hostname } }))
      expect([201, 400]).toContain(answer.status)
      if (answer.status === 201) names.push((JSON.parse(answer.text) as { name: string }).name)
    }
    expect(names.length).toBeGreaterThan(4)
    for (const name of names) expect(name).toMatch(/^[^\p{C}\s]([^\p{C}]{0,61}[^\p{C}\s])?$/u)
    const { text } = await scene.operator.call('GET', '/metrics/robots')
    for (const line of text.trim().split('\n')) expect(line).toMatch(/^(#|beacon_robot)/)
  })

  test('a claim that is sent a hundred times at once admits one robot', async () => {
    const before = await countsOf(scene.database.pool, key.id)
    const claim = {
      claim_id: randomUUID(),
      token_hash: sha256(mintToken('rf_robot_')),
      machine: newMachine(),
    }
    const answers = await Promise.all(Array.from({ length: 100 }, () => enrol(base, key.key_value, claim)))
    expect(answers.filter((answer) => answer.status === 201)).toHaveLength(1)
    expect(answers.filter((answer) => answer.status === 200)).toHaveLength(99)
    expect(new Set(answers.map((answer) => answer.body.robot_id)).size).toBe(1)
    expect(await countsOf(scene.database.pool, key.id)).toEqual({
      uses: before.uses + 1,
      robots: before.robots + 1,
    })
  })

  test("a claim overheard from another's cannot be turned into a second robot or its token", async () => {
    const claim = {
      claim_id: randomUUID(),
      token_hash: sha256(mintToken('rf_robot_')),
      machine: newMachine(),
    }
    const first = await enrol(base, key.key_value, claim)
    const attempts = [
      { ...claim, token_hash: sha256('mine') },
      { claim_id: claim.claim_id, machine: newMachine() },
      { ...claim, claim_id: randomUUID(), machine: newMachine() },
    ]
    for (const attempt of attempts) {
      const answer = await enrol(base, key.key_value, attempt)
      expect([409, 403]).toContain(answer.status)
      expect(answer.text).not.toContain(first.body.robot_id)
    }
  })
})

test('a robot that never says hello is let go after ten seconds, with a code that says come back', async () => {
  for (const { session, robotId, openedAt } of speechless) {
    const { code, reason, at } = await session.closed
    expect(at - openedAt).toBeGreaterThan(9_500)
    expect(at - openedAt).toBeLessThan(14_000)
    expect([code >= 4000 && code < 4500, reason]).toEqual([true, 'hello_timeout'])
    expect(await scene.operator.robot(robotId)).toMatchObject({ connection: 'unseen' })
  }
})

test('handshakes that never come to an end are let go', async () => {
  const endings = await Promise.all(
    loris.map(async ({ socket, openedAt }) => {
      const end = await socket.until(() => false, 25_000)
      return { end, status: statusOf(socket.text), afterMs: performance.now() - openedAt }
    }),
  )
  for (const { end } of endings) expect(end).toBe('closed')
}, 40_000)
