import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { HttpResponse, WebSocketBehavior } from '@uwsjs/core'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import { WebSocketServer } from 'ws'
import { createLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/runtime.ts'
import type { Admission, ListenOptions } from '../../src/transport/transport.ts'
import { createUwsEngine, type Uws } from '../../src/transport/uws.ts'
import { attachWsTransport } from '../../src/transport/ws.ts'
import { eventually } from '../support/eventually.ts'
import { exchange, frameOf, OPCODE, RawPeer, upgradeRequest } from '../support/raw-peer.ts'
import { ALL, type RealEngine } from './real-engines.ts'
import { Recorder } from './recorder.ts'

interface LogLine {
  readonly msg: string
  readonly err?: { readonly message: string }
}

/** A log whose lines can be read. */
function listeningLog() {
  const lines: LogLine[] = []
  const log = createLog('error', { write: (line) => void lines.push(JSON.parse(line) as LogLine) })
  return { log, lines }
}

/** Rejections that nobody handles end the process; here they are the test's. */
const unhandled: unknown[] = []
const note = (error: unknown): void => void unhandled.push(error)
process.on('unhandledRejection', note)
afterEach(() => expect(unhandled.splice(0)).toEqual([]))

async function listen(engine: RealEngine, admit: ListenOptions['admit']) {
  const { log, lines } = listeningLog()
  const { port, stop } = await engine.listen({ admit, log })
  onTestFinished(() => stop())
  return { port, lines }
}

/** That an engine still lets robots in. */
async function expectOpen(port: number, recorder: Recorder): Promise<void> {
  const peer = new RawPeer(port)
  await peer.upgrade()
  peer.write(frameOf(OPCODE.text, 'up'))
  await recorder.until(() => recorder.texts.length === 1)
  peer.vanish()
  await recorder.until(() => recorder.ends.length === 1)
}

describe.each(ALL)('$name', (engine) => {
  it('drops the socket that its owner could not take, says why, and goes on', async () => {
    const recorder = new Recorder()
    let opened = 0
    const { port, lines } = await listen(engine, async () => ({
      kind: 'accept',
      open: (socket) => {
        opened += 1
        if (opened === 1) throw new Error('no place to put it')
        return recorder.opened(socket)
      },
    }))
    const peer = new RawPeer(port)
    peer.write(upgradeRequest([]))
    // What came along must not bring anything down, nor what breaks the protocol. uws takes nothing before its 101.
    if (!engine.holdsInMemory)
      peer.write(Buffer.concat([frameOf(OPCODE.text, 'to nobody'), frameOf(0x3, 'nonsense')]))
    await peer.ended
    await expectOpen(port, recorder)
    expect(opened).toBe(2)
    expect(lines).toMatchObject([{ err: { message: 'no place to put it' } }])
  })

  it('answers 500 where it was never decided, says why, and goes on', async () => {
    const recorder = new Recorder()
    let asked = 0
    const { port, lines } = await listen(engine, async () => {
      asked += 1
      if (asked === 1) throw new Error('undecided')
      return { kind: 'accept', open: (socket) => recorder.opened(socket) }
    })
    const answer = await exchange(port, upgradeRequest(['X-Request-Id: abc.1']))
    expect(answer).toMatch(/^HTTP\/1\.1 500 /)
    expect(answer).toMatch(/\r\nconnection: close\r\n/i)
    expect(answer).toContain('"code":"internal_error"')
    expect(answer).toContain('"request_id":"abc.1"')
    expect(answer).not.toContain('undecided')
    await expectOpen(port, recorder)
    expect(lines).toMatchObject([{ err: { message: 'undecided' } }])
  })

  it('is not upset when nobody is there any more to hear that it was never decided', async () => {
    const recorder = new Recorder()
    let fail: ((error: Error) => void) | undefined
    let isGone: (() => boolean) | undefined
    const { port, lines } = await listen(engine, async (request) => {
      if (isGone !== undefined) return { kind: 'accept', open: (socket) => recorder.opened(socket) }
      isGone = () => request.isGone!()
      return new Promise<Admission>((_resolve, reject) => {
        fail = reject
      })
    })
    const peer = new RawPeer(port)
    peer.write(upgradeRequest([]))
    await eventually(() => fail)
    peer.vanish()
    await eventually(() => isGone!())
    fail!(new Error('too late to matter'))
    await expectOpen(port, recorder)
    expect(lines).toMatchObject([{ err: { message: 'too late to matter' } }])
  })
})

describe('an upgrade that the engine itself fails at', () => {
  const accept: ListenOptions['admit'] = async () => ({
    kind: 'accept',
    open: (socket) => new Recorder().opened(socket),
  })

  it('is a 500, with ws', async () => {
    const server = createServer()
    // The engine takes no connection twice, and this one somebody else has taken before.
    const other = new WebSocketServer({ noServer: true })
    server.on('upgrade', (request, stream, head) => {
      const { write } = stream
      stream.write = () => true
      other.handleUpgrade(request, stream, head, () => {})
      stream.write = write
    })
    const { log, lines } = listeningLog()
    attachWsTransport({
      server,
      path: '/agent/ws',
      trustedProxies: [],
      headers: () => ({}),
      admit: accept,
      log,
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    onTestFinished(() => void server.close())
    const answer = await exchange((server.address() as AddressInfo).port, upgradeRequest([]))
    expect(answer).toMatch(/^HTTP\/1\.1 500 [\s\S]*"code":"internal_error"/)
    expect(lines).toMatchObject([{ err: { message: expect.stringContaining('more than once') } }])
  })

  const uwsIsThere = ALL.some(({ name }) => name === 'uws')
  it.runIf(uwsIsThere)('is a 500, with uws', async () => {
    const uws = ((await import('@uwsjs/core')) as unknown as { default: Uws }).default
    const failing = {
      ...uws,
      App: () => {
        const app = uws.App()
        const { ws } = app
        app.ws = <Data>(pattern: string, behavior: WebSocketBehavior<Data>) =>
          ws.call(app, pattern, {
            ...behavior,
            upgrade: (response: HttpResponse, ...more: [never, never]) => {
              response.upgrade = () => {
                throw new Error('the engine does not want to')
              }
              return behavior.upgrade!(response, ...more)
            },
          } as WebSocketBehavior<unknown>)
        return app
      },
    } as Uws
    const { log, lines } = listeningLog()
    const listener = await createUwsEngine(failing, 'test').listen({
      host: '127.0.0.1',
      port: 0,
      shared: false,
      path: '/agent/ws',
      tls: undefined,
      trustedProxies: [],
      headers: () => ({}),
      notReadyFor: () => [],
      admit: accept,
      clock: systemClock,
      log,
    })
    onTestFinished(() => listener.stop())
    const answer = await exchange(listener.port, upgradeRequest([]))
    expect(answer).toMatch(/^HTTP\/1\.1 500 [\s\S]*"code":"internal_error"/)
    expect(lines).toMatchObject([{ err: { message: 'the engine does not want to' } }])
  })
})
