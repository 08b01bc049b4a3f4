import type { AddressInfo } from 'node:net'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { BeaconError } from '../../src/errors.ts'
import { baseHeaders } from '../../src/http/headers.ts'
import type { HttpParts } from '../../src/http/parts.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { attachWsTransport, isWebSocketUpgrade } from '../../src/transport/ws.ts'
import { type Json, useApi } from './api.ts'
import { ask } from './injecting.ts'

const EXPECTED: Readonly<Record<string, string | RegExp>> = {
  'x-request-id': /^[A-Za-z0-9._:-]{1,128}$/,
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': /camera=\(\).*microphone=\(\)/,
  'content-security-policy': /^default-src 'none';.*frame-ancestors 'none'/,
}
const HSTS = 'max-age=31536000'
/** Neither who we are in detail, nor who else may read what we say. */
const FORBIDDEN = [
  'server',
  'x-powered-by',
  'access-control-allow-origin',
  'access-control-allow-credentials',
]

type Headers = Readonly<Record<string, unknown>>

/** What is wrong with the headers of an answer. */
function faults(headers: Headers, { kept = false, https = true } = {}): string[] {
  const wrong = Object.entries(EXPECTED)
    .filter(([name, value]) => {
      const given = String(headers[name])
      return value instanceof RegExp ? !value.test(given) : given !== value
    })
    .map(([name]) => `${name}: ${headers[name]}`)
  const present = FORBIDDEN.filter((name) => headers[name] !== undefined)
  const cache =
    kept || headers['cache-control'] === 'no-store' ? [] : [`cache-control: ${headers['cache-control']}`]
  const hsts =
    headers['strict-transport-security'] === (https ? HSTS : undefined)
      ? []
      : [`strict-transport-security: ${headers['strict-transport-security']}`]
  return [...wrong, ...present, ...cache, ...hsts]
}

const config = {
  publicUrl: 'https://beacon.example',
  trustedProxies: ['127.0.0.2'],
  heartbeatIntervalMs: 10_000,
}
const api = useApi({ config: config as unknown as HttpParts['config'], takesUpgrade: isWebSocketUpgrade })
const plain = useApi()

interface Operation {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'DELETE'
  readonly url: string
}

function operations(): Operation[] {
  const { paths } = api().app.swagger() as Json
  return Object.entries<Json>(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => ({
      method: method.toUpperCase() as Operation['method'],
      url: path.replace(/\{[^}]+\}/g, newId()),
    })),
  )
}

describe('every answer carries what keeps browsers from harm', () => {
  test('of every route, whoever asks and however well', async () => {
    const seen = new Set<number>()
    const found: string[] = []
    expect(operations().length).toBeGreaterThan(30)
    for (const { method, url } of operations())
      for (const authorization of [
        undefined,
        `Bearer ${mintCheckedToken('personal')}`,
        `Bearer ${api().token}`,
      ])
        for (const payload of method === 'POST' || method === 'PATCH'
          ? ['{', '{"unknown":1}']
          : [undefined]) {
          const answer = await ask(api().app, {
            method,
            url,
            headers: {
              origin: 'https://elsewhere.example',
              ...(authorization === undefined ? {} : { authorization }),
              ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
            },
            ...(payload === undefined ? {} : { payload }),
          })
          seen.add(answer.statusCode)
          for (const fault of faults(answer.headers))
            found.push(`${method} ${url} ${answer.statusCode}: ${fault}`)
        }
    expect(found).toEqual([])
    for (const status of [200, 400, 401, 404]) expect([...seen]).toContain(status)
  })

  test.each([
    ['GET', '/nowhere'],
    ['PUT', '/api/sites'],
    ['OPTIONS', '/api/sites'],
    ['TRACE', '/api/sites'],
    ['GET', '/api/sites/%zz'],
    ['GET', `/api/sites/${'a'.repeat(3_000)}`],
    ['GET', '/docs/static/../../../etc/passwd'],
    ['GET', '/docs/static/nothing.js'],
    ['GET', '/docs/json'],
  ] as const)('of %s %s', async (method, url) => {
    const headers = { origin: 'https://elsewhere.example', 'access-control-request-method': 'POST' }
    const answer = await api().app.inject({ method: method as 'GET', url, headers })
    expect(faults(answer.headers, { kept: url === '/docs/json' })).toEqual([])
  })

  test('of the documentation, with a policy under which its page works', async () => {
    for (const url of ['/docs', '/docs/', '/docs/static/index.html', '/docs/static/swagger-ui.css']) {
      const answer = await api().app.inject({ url })
      expect(answer.statusCode, url).toBeLessThan(400)
      expect(faults(answer.headers, { kept: true }), url).toEqual([])
    }
    const { headers } = await api().app.inject({ url: '/docs/static/index.html' })
    const policy = String(headers['content-security-policy'])
    for (const part of ["script-src 'self'", "connect-src 'self'", "base-uri 'none'"])
      expect(policy).toContain(part)
    expect(policy).not.toMatch(/unsafe|\*/)
  })

  test('without the demand for HTTPS where the server is not reached by it', async () => {
    for (const url of ['/healthz', '/api/sites', '/nowhere'])
      expect(faults((await plain().app.inject({ url })).headers, { https: false }), url).toEqual([])
  })
})

describe('on the wire', () => {
  let port: number
  const admitted: string[] = []
  beforeAll(async () => {
    const { app } = api()
    await app.listen({ host: '127.0.0.1', port: 0 })
    port = (app.server.address() as AddressInfo).port
    attachWsTransport({
      server: app.server,
      path: '/agent/ws',
      trustedProxies: config.trustedProxies,
      headers: (requestId) => baseHeaders(config, requestId),
      admit: async ({ remoteAddress }) => {
        admitted.push(remoteAddress)
        return { kind: 'refuse', error: new BeaconError('invalid_token') }
      },
      log: createLog('silent'),
    })
  })
  afterAll(() => {
    api().app.server.closeAllConnections()
  })

  /** Sends the lines and answers with the headers of what comes back, under small names. */
  function send(lines: readonly string[], localAddress = '127.0.0.1'): Promise<Headers & { status: string }> {
    return new Promise((resolve, reject) => {
      let text = ''
      const socket = connect({ port, host: '127.0.0.1', localAddress }, () =>
        socket.write(`${lines.join('\r\n')}\r\n\r\n`),
      )
      socket.setEncoding('latin1')
      socket.on('error', reject)
      socket.on('data', (chunk) => {
        text += chunk
        const end = text.indexOf('\r\n\r\n')
        if (end < 0) return
        const [status = '', ...headers] = text.slice(0, end).split('\r\n')
        socket.destroy()
        const pairs = headers.map((line) => [
          line.slice(0, line.indexOf(':')).toLowerCase(),
          line.slice(line.indexOf(':') + 1).trim(),
        ])
        resolve({ ...Object.fromEntries(pairs), status })
      })
    })
  }

  const upgrade = (path = '/agent/ws', ...more: string[]) => [
    `GET ${path} HTTP/1.1`,
    'Host: x',
    'Connection: upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Protocol: beacon.v1',
    ...more,
  ]
  const HANDSHAKE = ['Sec-WebSocket-Version: 13', 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==']

  test.each([
    ['what is not HTTP', ['nonsense'], '400'],
    ['a header that is none', ['GET / HTTP/1.1', 'Host: x', 'a b: c'], '400'],
    ['headers without end', ['GET / HTTP/1.1', 'Host: x', `x: ${'a'.repeat(40_000)}`], '400'],
    ['an ordinary request', ['GET /healthz HTTP/1.1', 'Host: x'], '200'],
    ['an upgrade elsewhere', upgrade('/elsewhere', ...HANDSHAKE), '404'],
    ['an upgrade with a bad token', upgrade('/agent/ws', ...HANDSHAKE), '401'],
    ['an upgrade with a body', upgrade('/agent/ws', 'Content-Length: 2', ...HANDSHAKE), '400'],
  ])('the answer to %s', async (_, lines, status) => {
    const answer = await send(lines)
    expect(answer.status).toContain(` ${status} `)
    expect(faults(answer)).toEqual([])
  })

  test.each([
    ['what the peer claims when it is no proxy of ours', '127.0.0.1', '198.51.100.1', '127.0.0.1'],
    ['what our proxy says', '127.0.0.2', '198.51.100.1', '198.51.100.1'],
    [
      'what our proxy says, not what the client told it',
      '127.0.0.2',
      '203.0.113.1, 198.51.100.1',
      '198.51.100.1',
    ],
    [
      'the first that is no proxy of ours',
      '127.0.0.2',
      '203.0.113.1, 198.51.100.1, 127.0.0.2',
      '198.51.100.1',
    ],
  ])('an upgrade comes from %s', async (_, localAddress, forwarded, expected) => {
    await send(upgrade('/agent/ws', `X-Forwarded-For: ${forwarded}`, ...HANDSHAKE), localAddress)
    expect(admitted.at(-1)).toBe(expected)
  })
})
