import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { createLog } from '../../src/observe/log.ts'
import { MAX_MESSAGE_BYTES, type UpgradeRequest } from '../../src/transport/transport.ts'
import { attachWsTransport } from '../../src/transport/ws.ts'
import { eventually } from '../support/eventually.ts'
import { RawPeer } from '../support/raw-peer.ts'
import { connectWebSocket } from '../support/ws-robot.ts'

let server: Server
let port: number
let requests: UpgradeRequest[]
let texts: string[]

beforeEach(async () => {
  requests = []
  texts = []
  server = createServer((_request, response) => response.end('plain'))
  attachWsTransport({
    server,
    path: '/agent/ws',
    trustedProxies: ['127.0.0.0/8'],
    headers: () => ({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' }),
    admit: async (request) => {
      requests.push(request)
      return {
        kind: 'accept',
        open: (socket) => ({
          text: (text) => {
            texts.push(text)
            socket.send('taken')
          },
          binary() {},
          overflowed() {},
          closed() {},
        }),
      }
    },
    log: createLog('silent'),
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  port = (server.address() as AddressInfo).port
})

afterEach(async () => {
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

const connections = () =>
  new Promise<number>((resolve, reject) => {
    server.getConnections((error, count) => (error ? reject(error) : resolve(count)))
  })
const expectNoConnections = () =>
  eventually(async () => (await connections()) === 0, 'the last connection to go')

/** Sends raw bytes and answers with all that comes back until the server hangs up. */
function raw(lines: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(`${lines.join('\r\n')}\r\n\r\n`))
    let answer = ''
    socket.setEncoding('utf8')
    socket.on('data', (chunk) => {
      answer += chunk
    })
    socket.on('end', () => resolve(answer))
    socket.on('error', reject)
  })
}

describe('an upgrade request', () => {
  it('for another address is a 404 problem', async () => {
    const answer = await raw([
      'GET /elsewhere HTTP/1.1',
      'Host: x',
      'Connection: upgrade',
      'Upgrade: websocket',
    ])
    expect(answer).toMatch(/^HTTP\/1.1 404 /)
    expect(answer).toContain('application/problem+json')
    expect(requests).toEqual([])
  })

  it('to another protocol is declined by answering the request', async () => {
    const offer = [
      'Host: x',
      'Connection: upgrade, http2-settings',
      'Upgrade: h2c',
      'HTTP2-Settings: AAMAAABkAAQAAP__',
    ]
    expect(await raw(['GET /healthz HTTP/1.1', ...offer])).toMatch(/^HTTP\/1.1 200 [\s\S]*plain$/)
    const posted = await raw([
      'POST /agent/ws HTTP/1.1',
      ...offer,
      'Content-Length: 2',
      'Connection: close',
      '',
      '{}',
    ])
    expect(posted).toMatch(/^HTTP\/1.1 (400|200) /)
    expect(requests).toEqual([])
  })

  it('to another protocol leaves no connection that its client keeps half open', async () => {
    const peer = new RawPeer(port, { allowHalfOpen: true })
    peer.write('GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n')
    await peer.until(() => peer.text.includes('plain'))
    if (/\r\nconnection: close\r\n/i.test(peer.text)) await expectNoConnections()
    peer.socket.destroy()
  })

  it('that is refused leaves no connection, though its client never reads that', {
    timeout: 20_000,
  }, async () => {
    const peer = new RawPeer(port)
    await new Promise((resolve) => peer.socket.once('connect', resolve))
    peer.socket.pause()
    server.prependOnceListener('upgrade', (_request, stream) => {
      // As much as the kernel takes at both ends, and more.
      stream.write(Buffer.alloc(32 * 1024 * 1024))
    })
    peer.write('GET /elsewhere HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n')
    await eventually(async () => (await connections()) === 1)
    await expectNoConnections()
    peer.socket.destroy()
  })

  it('without a key is a problem of ours, with the headers of every refusal', async () => {
    const answer = await raw([
      'GET /agent/ws HTTP/1.1',
      'Host: x',
      'Connection: upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Protocol: beacon.v1',
    ])
    expect(answer).toMatch(/^HTTP\/1.1 400 /)
    expect(answer).toContain('application/problem+json')
    expect(answer).toContain('"code":"invalid_request"')
    expect(answer).toContain('x-content-type-options: nosniff')
  })

  it('behind a trusted proxy comes from the address that the proxy names', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/agent/ws`, 'beacon.v1', {
      headers: { 'x-forwarded-for': '203.0.113.9, 198.51.100.7' },
    })
    await new Promise((resolve) => socket.on('open', resolve))
    expect(requests[0]?.remoteAddress).toBe('198.51.100.7')
    socket.terminate()
  })

  it('behind two trusted proxies that write ports along comes from before both', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/agent/ws`, 'beacon.v1', {
      headers: { 'x-forwarded-for': '198.51.100.7:40000, 127.0.0.1:50000' },
    })
    await new Promise((resolve) => socket.on('open', resolve))
    expect(requests[0]?.remoteAddress).toBe('198.51.100.7')
    socket.terminate()
  })

  it('that goes away while it is decided about harms nobody', async () => {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => {})
    await new Promise<void>((resolve) =>
      socket.write(
        'GET /agent/ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
        () => resolve(),
      ),
    )
    socket.resetAndDestroy()
    const robot = await connectWebSocket(`ws://127.0.0.1:${port}/agent/ws`)
    robot.vanish()
  })
})

describe('a message', () => {
  it('in fragments arrives whole', async () => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/agent/ws`, 'beacon.v1')
    await new Promise((resolve) => socket.on('open', resolve))
    const answered = new Promise((resolve) => socket.on('message', resolve))
    socket.send('{"a":', { fin: false })
    socket.send('1', { fin: false })
    socket.send('}', { fin: true })
    await answered
    expect(texts).toEqual(['{"a":1}'])
    socket.terminate()
  })

  it('beyond what the engine buffers closes the socket with 1009', async () => {
    const robot = await connectWebSocket(`ws://127.0.0.1:${port}/agent/ws`)
    robot.send('x'.repeat(MAX_MESSAGE_BYTES + 1))
    expect((await robot.closed).code).toBe(1009)
    expect(texts).toEqual([])
  })
})
