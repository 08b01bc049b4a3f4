import { afterEach, describe, expect, it } from 'vitest'
import { BeaconError } from '../../src/errors.ts'
import type { Admission, ListenOptions, UpgradeRequest } from '../../src/transport/transport.ts'
import { eventually } from '../support/eventually.ts'
import { exchange, frameOf, OPCODE, RawPeer, upgradeRequest } from '../support/raw-peer.ts'
import { ALL, LISTENING, type RealEngine } from './real-engines.ts'
import { Recorder } from './recorder.ts'

const stops: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop()
})

async function listen(engine: RealEngine, options: Partial<ListenOptions> = {}): Promise<number> {
  const { port, stop } = await engine.listen(options)
  stops.push(stop)
  return port
}

const refuseAll: ListenOptions['admit'] = async () => ({
  kind: 'refuse',
  error: new BeaconError('token_revoked'),
})

interface Answer {
  readonly status: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** An answer without what differs by nature: dates, ids, the order of headers and the engine's own mark. */
function parse(text: string): Answer {
  const [head = '', body = ''] = text.split(/\r\n\r\n([\s\S]*)/, 2)
  const [status = '', ...lines] = head.split('\r\n')
  const headers = lines.map((line): [string, string] => {
    const [name = '', value = ''] = line.split(/: ?(.*)/, 2)
    return [name.toLowerCase(), value]
  })
  const id = headers.find(([name]) => name === 'x-request-id')?.[1] ?? 'no id'
  const kept = headers.filter(([name]) => !['date', 'uwebsockets', 'keep-alive'].includes(name))
  return {
    status,
    headers: Object.fromEntries(kept.map(([name, value]) => [name, value.replaceAll(id, 'ID')])),
    body: body.replaceAll(id, 'ID'),
  }
}

const CLOSING = ['Connection: close']
const plain = (method: string, path: string, lines: readonly string[] = CLOSING) =>
  `${[`${method} ${path} HTTP/1.1`, 'Host: beacon', ...lines].join('\r\n')}\r\n\r\n`

/** Everything that both engines answer in plain HTTP, and what they have to say. */
const REFUSALS: readonly [what: string, request: string, status: number, code: string][] = [
  ['another path', upgradeRequest([], '/elsewhere'), 404, 'not_found'],
  ['a path that only begins alike', upgradeRequest([], '/agent/ws/x?y=1'), 404, 'not_found'],
  ['no key', upgradeRequest(['Sec-WebSocket-Key']), 400, 'invalid_request'],
  ['a short key', upgradeRequest(['Sec-WebSocket-Key: c2hvcnQ=']), 400, 'invalid_request'],
  [
    'a key that is no base64',
    upgradeRequest([`Sec-WebSocket-Key: ${'?'.repeat(24)}`]),
    400,
    'invalid_request',
  ],
  ['no version', upgradeRequest(['Sec-WebSocket-Version']), 400, 'invalid_request'],
  ['another version', upgradeRequest(['Sec-WebSocket-Version: 8']), 400, 'invalid_request'],
  ['broken subprotocols', upgradeRequest(['Sec-WebSocket-Protocol: a,,b']), 400, 'invalid_request'],
  ['a subprotocol twice', upgradeRequest(['Sec-WebSocket-Protocol: a, a']), 400, 'invalid_request'],
  ['a body', `${upgradeRequest(['Content-Length: 5'])}abcde`, 400, 'invalid_request'],
  ['a body in chunks', `${upgradeRequest(['Transfer-Encoding: chunked'])}0\r\n\r\n`, 400, 'invalid_request'],
  ['an empty body', upgradeRequest(['Content-Length: 0']), 401, 'token_revoked'],
  ['a token that does not stand', upgradeRequest([]), 401, 'token_revoked'],
  ['a token and a query', upgradeRequest([], '/agent/ws?x=1'), 401, 'token_revoked'],
]

describe.each(ALL)('$name refuses an upgrade', (engine) => {
  it.each(REFUSALS)('with %s', async (_what, request, status, code) => {
    const port = await listen(engine, { admit: refuseAll })
    const answer = parse(await exchange(port, request))
    expect(answer.status).toMatch(new RegExp(`^HTTP/1.1 ${status} `))
    expect(JSON.parse(answer.body)).toMatchObject({ status, code, request_id: 'ID' })
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json; charset=utf-8',
      'content-length': expect.stringMatching(/^\d+$/),
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      connection: 'close',
      'x-request-id': 'ID',
    })
    expect(answer.headers['www-authenticate']).toBe(status === 401 ? 'Bearer realm="beacon"' : undefined)
  })

  it('with a delay after which to come back, and the id it was given', async () => {
    const error = new BeaconError('overloaded', undefined, { retryAfterSeconds: 7 })
    const port = await listen(engine, { admit: async () => ({ kind: 'refuse', error }) })
    const answer = await exchange(port, upgradeRequest(['X-Request-Id: abc.1']))
    expect(answer).toMatch(/^HTTP\/1.1 503 Service Unavailable\r\n/)
    expect(answer).toMatch(/\r\nretry-after: 7\r\n/i)
    expect(answer).toMatch(/\r\nx-request-id: abc\.1\r\n/i)
    expect(answer).toContain('"request_id":"abc.1"')
  })

  it('without repeating an id that is none, or a secret', async () => {
    const port = await listen(engine, { admit: refuseAll })
    for (const id of ['a b', 'x'.repeat(129), `rf_robot_${'0123456789abcdef'.repeat(4)}`])
      expect(await exchange(port, upgradeRequest([`X-Request-Id: ${id}`]))).not.toContain(id)
  })
})

describe.each(ALL)('$name asks', (engine) => {
  async function asked(lines: readonly string[], trustedProxies: readonly string[] = []) {
    const requests: UpgradeRequest[] = []
    const port = await listen(engine, {
      trustedProxies,
      admit: async (request) => {
        requests.push(request)
        return { kind: 'refuse', error: new BeaconError('token_revoked') }
      },
    })
    await exchange(port, upgradeRequest(lines))
    expect(requests).toHaveLength(1)
    return requests[0]!
  }

  it('with the credential, the subprotocols and the address', async () => {
    expect(
      await asked([
        'Authorization: Bearer abc',
        'authorization: Bearer other',
        'Sec-WebSocket-Protocol: a, beacon.v1',
        'X-Forwarded-For: 203.0.113.9',
      ]),
    ).toMatchObject({
      authorization: 'Bearer abc',
      subprotocols: ['a', 'beacon.v1'],
      remoteAddress: '127.0.0.1',
    })
  })

  it('without what is not there', async () => {
    expect(await asked(['Sec-WebSocket-Protocol'])).toMatchObject({
      authorization: undefined,
      subprotocols: [],
      remoteAddress: '127.0.0.1',
    })
  })

  it.each([
    [['X-Forwarded-For: 203.0.113.9, 198.51.100.7'], '198.51.100.7'],
    [['X-Forwarded-For: 198.51.100.7:40000, 127.0.0.9:50000'], '198.51.100.7'],
    [['X-Forwarded-For: 203.0.113.9', 'X-Forwarded-For: 2001:db8::1'], '2001:db8::1'],
    [['X-Forwarded-For:'], '127.0.0.1'],
  ])('about the address that a trusted proxy names in %j', async (lines, address) => {
    expect((await asked(lines, ['127.0.0.0/8'])).remoteAddress).toBe(address)
  })

  it('nobody about a robot that went away meanwhile', async () => {
    let decide: (admission: Admission) => void = () => {}
    const recorders: Recorder[] = []
    let questions = 0
    let asker: UpgradeRequest | undefined
    const accept: Admission = {
      kind: 'accept',
      open: (socket) => {
        const recorder = new Recorder().opened(socket)
        recorders.push(recorder)
        return recorder
      },
    }
    const port = await listen(engine, {
      admit: (request) => {
        questions += 1
        asker ??= request
        return questions === 1 ? new Promise((resolve) => (decide = resolve)) : Promise.resolve(accept)
      },
    })
    const gone = new RawPeer(port)
    gone.write(upgradeRequest([]))
    await eventually(() => questions === 1)
    expect(asker?.isGone?.()).toBe(false)
    gone.vanish()
    await eventually(() => asker?.isGone?.())
    const later = new RawPeer(port)
    await later.upgrade()
    decide(accept)
    const last = new RawPeer(port)
    expect(await last.upgrade()).toMatch(/^HTTP\/1.1 101 /)
    expect(recorders).toHaveLength(2)
    later.vanish()
    last.vanish()
    await Promise.all(recorders.map((recorder) => recorder.until(() => recorder.ends.length === 1)))
  })
})

const GARBAGE: readonly [what: string, bytes: string][] = [
  ['noise', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n'],
  ['a header that is too large', upgradeRequest([`X-Large: ${'x'.repeat(40_000)}`])],
  ['too many headers', upgradeRequest(Array.from({ length: 5_000 }, (_, index) => `X-${index}: x`))],
  ['no Host', upgradeRequest(['Host'])],
  ['a broken header', 'GET /agent/ws HTTP/1.1\r\nHost: x\r\nno colon here\r\n\r\n'],
  ['two lengths', 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc'],
]

// Side by side, for it waits for what each engine's own clock says.
describe('every engine on a port of its own', () => {
  it('gives up on a request that does not come to its end', { timeout: 40_000 }, async () => {
    const tried = LISTENING.map(async (engine) => {
      const port = await listen(engine)
      const startedAt = performance.now()
      const slow = new RawPeer(port)
      slow.write('GET /agent/ws HTTP/1.1\r\nHost: x\r\n')
      const drip = setInterval(() => slow.write('X-More: x\r\n'), 500)
      const silent = new RawPeer(port)
      await Promise.all([slow.ended, silent.ended])
      clearInterval(drip)
      expect(performance.now() - startedAt).toBeLessThan(20_000)
    })
    await Promise.all(tried)
  })
})

describe.each(LISTENING)('$name on a port of its own', (engine) => {
  it.each(GARBAGE)('lets nobody in with %s, and goes on', async (_what, bytes) => {
    let questions = 0
    const port = await listen(engine, {
      admit: (request) => {
        questions += 1
        return refuseAll(request)
      },
    })
    const answer = await exchange(port, Buffer.from(bytes, 'latin1'))
    expect(answer).toMatch(/^$|^HTTP\/1.1 (4\d\d|505) /)
    expect(questions).toBe(0)
    expect(await exchange(port, plain('GET', '/healthz'))).toMatch(/^HTTP\/1.1 200 /)
  })

  it('says how it is', async () => {
    let reasons: string[] = []
    const port = await listen(engine, { notReadyFor: () => reasons })
    const ask = async (method: string, path: string) => parse(await exchange(port, plain(method, path)))
    expect(await ask('GET', '/healthz')).toMatchObject({
      status: 'HTTP/1.1 200 OK',
      headers: { 'content-type': 'application/json; charset=utf-8', 'x-content-type-options': 'nosniff' },
      body: '{"status":"ok"}',
    })
    expect(await ask('HEAD', '/healthz')).toMatchObject({ status: 'HTTP/1.1 200 OK', body: '' })
    expect(await ask('GET', '/readyz?verbose')).toMatchObject({
      status: 'HTTP/1.1 200 OK',
      body: '{"ready":true,"reasons":[]}',
    })
    reasons = ['database_unavailable']
    expect(await ask('GET', '/readyz')).toMatchObject({
      status: 'HTTP/1.1 503 Service Unavailable',
      body: '{"ready":false,"reasons":["database_unavailable"]}',
    })
  })

  it.each([
    ['GET', '/', 404, 'not_found'],
    ['POST', '/healthz', 404, 'not_found'],
    ['DELETE', '/agent/ws', 404, 'not_found'],
    ['GET', '/agent/ws', 426, 'upgrade_required'],
    ['GET', '/api/robots', 404, 'not_found'],
  ])('has nothing for %s %s', async (method, path, status, code) => {
    const port = await listen(engine)
    const answer = parse(await exchange(port, plain(method, path)))
    expect(answer.status).toContain(` ${status} `)
    expect(JSON.parse(answer.body)).toMatchObject({ status, code })
  })

  it('takes an offer of another protocol for an ordinary request', async () => {
    const port = await listen(engine)
    const offer = ['Connection: upgrade, http2-settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__']
    const peer = new RawPeer(port)
    peer.write(plain('GET', '/healthz', offer))
    await peer.until(() => peer.text.includes('{"status":"ok"}'))
    expect(peer.text).toMatch(/^HTTP\/1.1 200 /)
    peer.vanish()
  })
})

describe.each(ALL)('$name and frames that come before its 101', (engine) => {
  it('takes them, or with uws refuses all, and leaves nothing behind', async () => {
    const recorder = new Recorder()
    const asked: UpgradeRequest[] = []
    const port = await listen(engine, {
      admit: async (request) => {
        asked.push(request)
        await eventually(() => !engine.holdsInMemory || request.isGone!())
        return { kind: 'accept', open: (socket) => recorder.opened(socket) }
      },
    })
    const hasty = new RawPeer(port)
    hasty.write(Buffer.concat([Buffer.from(upgradeRequest([])), frameOf(OPCODE.text, 'hasty')]))
    if (engine.holdsInMemory) {
      await hasty.ended
      expect(hasty.text).toMatch(/^HTTP\/1\.1 505 /)
      expect(asked).toHaveLength(1)
      expect(recorder.socket).toBeUndefined()
      return
    }
    await recorder.until(() => recorder.texts.length === 1)
    expect(recorder.texts).toEqual(['hasty'])
    hasty.vanish()
    await recorder.until(() => recorder.ends.length === 1)
  })
})

describe('engines say the same', () => {
  const requests = [
    ...REFUSALS.map(([, request]) => request),
    plain('GET', '/healthz'),
    plain('HEAD', '/healthz'),
    plain('GET', '/readyz'),
    plain('GET', '/agent/ws'),
    plain('GET', '/elsewhere'),
    plain('PUT', '/healthz'),
  ]

  it('to every request, but for ids and dates', async () => {
    const ports = await Promise.all(LISTENING.map((engine) => listen(engine, { admit: refuseAll })))
    for (const request of requests) {
      const answers = await Promise.all(ports.map(async (port) => parse(await exchange(port, request))))
      for (const answer of answers) expect(answer, request).toEqual(answers[0])
    }
  })

  it('to a robot that they let in', async () => {
    const heads = await Promise.all(
      ALL.map(async (engine) => {
        const port = await listen(engine, {
          admit: async () => ({ kind: 'accept', open: (socket) => new Recorder().opened(socket) }),
        })
        const peer = new RawPeer(port)
        const head = parse(await peer.upgrade(['Sec-WebSocket-Protocol: other, beacon.v1']))
        peer.vanish()
        return head
      }),
    )
    for (const head of heads) expect(head).toEqual(heads[0])
    expect(heads[0]?.headers).toMatchObject({ 'sec-websocket-protocol': 'beacon.v1' })
  })
})
