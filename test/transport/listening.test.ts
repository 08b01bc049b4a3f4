import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { request as httpsRequest } from 'node:https'
import { type AddressInfo, connect, createServer } from 'node:net'
import { type TLSSocket, connect as tlsConnect } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { WebSocket } from 'ws'
import { BeaconError } from '../../src/errors.ts'
import { chooseEngine, EngineError } from '../../src/transport/engines.ts'
import type { ListenOptions } from '../../src/transport/transport.ts'
import { newCertificate, type TestCertificate, writeCertificate } from '../support/certificate.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { exchange, RawPeer, upgradeRequest } from '../support/raw-peer.ts'
import { LISTENING, type RealEngine } from './real-engines.ts'
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

/** A port that nobody has. */
async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

const refuse = (detail: string): ListenOptions['admit'] => {
  return async () => ({ kind: 'refuse', error: new BeaconError('overloaded', detail) })
}

describe.each(LISTENING)('$name, listening,', (engine) => {
  it('says which port it was given', async () => {
    const port = await listen(engine)
    expect(port).toBeGreaterThan(0)
    expect(await exchange(port, 'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')).toContain(
      '200',
    )
  })

  it('refuses a port that somebody else has, shared or not', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    stops.push(async () => void other.close())
    const { port } = other.address() as AddressInfo
    for (const shared of [false, true])
      await expect(engine.listen({ port, shared })).rejects.toMatchObject({ code: 'EADDRINUSE' })
  })

  it('refuses a port that its own kind has for itself', async () => {
    const port = await listen(engine)
    for (const shared of [false, true])
      await expect(engine.listen({ port, shared })).rejects.toMatchObject({ code: 'EADDRINUSE' })
  })

  it('refuses an address that is not of this machine', async () => {
    await expect(engine.listen({ host: '192.0.2.1' })).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' })
  })

  it('takes a name for an address as Node does', async () => {
    const port = await listen(engine, { host: 'localhost' })
    expect(port).toBeGreaterThan(0)
    await expect(engine.listen({ host: 'no-such-host.invalid' })).rejects.toMatchObject({
      code: expect.stringMatching(/^(ENOTFOUND|EAI_AGAIN)$/),
    })
  })

  it('shares its port where the kernel can be asked to', async () => {
    const port = await freePort()
    const first = await engine.listen({ port, shared: true, admit: refuse('first') })
    stops.push(() => first.stop())
    // Node can from 22.12 on; before, a cluster's primary hands the port out.
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
    if (engine.name === 'ws' && (major < 22 || (major === 22 && minor < 12))) {
      await expect(engine.listen({ port, shared: true })).rejects.toMatchObject({ code: 'EADDRINUSE' })
      return
    }
    const second = await engine.listen({ port, shared: true, admit: refuse('second') })
    stops.push(() => second.stop())
    const answers = await Promise.all(Array.from({ length: 40 }, () => exchange(port, upgradeRequest([]))))
    const count = (name: string) => answers.filter((answer) => answer.includes(`"detail":"${name}"`)).length
    expect(count('first') + count('second')).toBe(40)
    expect(Math.min(count('first'), count('second'))).toBeGreaterThan(0)
  })
})

describe.each(LISTENING)('$name, leaving its port for a while,', (engine) => {
  const open = (recorder: Recorder): ListenOptions['admit'] => {
    return async () => ({ kind: 'accept', open: (socket) => recorder.opened(socket) })
  }
  const begin = async (options: Partial<ListenOptions> = {}) => {
    const listener = await engine.listen({ port: await freePort(), shared: true, ...options })
    stops.push(() => listener.stop())
    return listener
  }
  const isRefused = (port: number): Promise<boolean> =>
    new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.on('connect', () => resolve(false)).on('error', () => resolve(true))
      stops.push(async () => void socket.destroy())
    })

  it('takes nobody new, keeps whom it has, and takes robots there again', async () => {
    const recorder = new Recorder()
    const listener = await begin({ admit: open(recorder) })
    const come = async () => {
      const robot = new WebSocket(`ws://127.0.0.1:${listener.port}/agent/ws`, 'beacon.v1')
      await once(robot, 'open')
      return robot
    }
    const robot = await come()
    const { socket } = recorder
    for (let round = 1; round <= 3; round += 1) {
      listener.pause()
      listener.pause()
      expect(await isRefused(listener.port)).toBe(true)
      robot.send(`round ${round}`)
      await recorder.until(() => recorder.texts.length === round)
      await listener.resume()
      await listener.resume()
      const another = await come()
      another.terminate()
      await recorder.until(() => recorder.ends.length === round)
    }
    const answered = once(robot, 'message')
    socket.send('still here')
    expect(String((await answered)[0])).toBe('still here')
    robot.terminate()
  })

  it('still decides about upgrades that had begun, and hears connections that were open', async () => {
    let decide: (() => void) | undefined
    const recorder = new Recorder()
    const listener = await begin({
      admit: async (request) => {
        await new Promise<void>((resolve) => {
          decide = resolve
        })
        return open(recorder)(request)
      },
    })
    const idle = new RawPeer(listener.port)
    idle.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
    await eventually(() => idle.text.includes('200 OK'))
    const robot = new WebSocket(`ws://127.0.0.1:${listener.port}/agent/ws`, 'beacon.v1')
    const opened = once(robot, 'open')
    await eventually(() => decide !== undefined)
    listener.pause()
    expect(await isRefused(listener.port)).toBe(true)
    decide!()
    await opened
    robot.send('up')
    await recorder.until(() => recorder.texts.length === 1)
    idle.write('GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await idle.ended
    expect(idle.text.match(/200 OK/g)).toHaveLength(2)
    robot.terminate()
  })

  it('says why it cannot come back, and can once the port is free', async () => {
    const listener = await begin({ shared: false, admit: refuse('back') })
    listener.pause()
    const other = createServer().listen(listener.port, '127.0.0.1')
    await once(other, 'listening')
    await expect(listener.resume()).rejects.toMatchObject({ code: 'EADDRINUSE' })
    await expect(listener.resume()).rejects.toMatchObject({ code: 'EADDRINUSE' })
    other.close()
    await once(other, 'close')
    await listener.resume()
    expect(await exchange(listener.port, upgradeRequest([]))).toContain('"detail":"back"')
  })

  it('is over when it is stopped meanwhile', async () => {
    const listener = await engine.listen()
    listener.pause()
    await listener.stop()
    await listener.resume()
    listener.pause()
    expect(await isRefused(listener.port)).toBe(true)
  })
})

describe.each(LISTENING)('$name with a certificate', (engine) => {
  let certificate: TestCertificate
  beforeAll(async () => {
    certificate = await writeCertificate()
  })
  afterAll(() => certificate.remove())

  it('carries robots over TLS', async () => {
    const recorder = new Recorder()
    const port = await listen(engine, {
      tls: certificate,
      admit: async () => ({ kind: 'accept', open: (socket) => recorder.opened(socket) }),
    })
    const robot = new WebSocket(`wss://localhost:${port}/agent/ws`, 'beacon.v1', { ca: certificate.cert })
    await once(robot, 'open')
    robot.send('up')
    await recorder.until(() => recorder.texts.length === 1)
    const answered = once(robot, 'message')
    recorder.socket.send('down'.repeat(20_000))
    expect(String((await answered)[0])).toHaveLength(80_000)
    const closed = once(robot, 'close')
    recorder.call((socket) => socket.close(4501, 'token_revoked'))
    const [code, reason] = await closed
    expect([code, String(reason)]).toEqual([4501, 'token_revoked'])
    await recorder.until(() => recorder.ends.length === 1)
    expect(recorder.faults).toEqual([])
  })

  it('answers over TLS alone', async () => {
    const port = await listen(engine, { tls: certificate })
    const answer = await new Promise((resolve, reject) => {
      httpsRequest(
        { host: 'localhost', port, path: '/healthz', ca: certificate.cert, agent: false },
        (response) => {
          response.resume()
          resolve(response.statusCode)
        },
      )
        .on('error', reject)
        .end()
    })
    expect(answer).toBe(200)
    expect(await exchange(port, 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')).not.toContain('200 OK')
  })

  it('refuses versions of TLS that are not safe any more', async () => {
    const port = await listen(engine, { tls: certificate })
    const old = tlsConnect({
      host: 'localhost',
      port,
      ca: certificate.cert,
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1',
      ciphers: 'ALL:@SECLEVEL=0',
    })
    await expect(once(old, 'secureConnect')).rejects.toThrow()
  })

  it('does not start with files that are no certificate', async () => {
    await expect(
      engine.listen({ tls: { certFile: certificate.keyFile, keyFile: certificate.certFile } }),
    ).rejects.toThrow()
  })

  it('gives up on a handshake that does not come to its end', { timeout: 40_000 }, async () => {
    const port = await listen(engine, { tls: certificate })
    const startedAt = performance.now()
    const silent = new RawPeer(port)
    await silent.ended
    expect(performance.now() - startedAt).toBeLessThan(20_000)
  })
})

describe('the ws engine', () => {
  it('takes up a certificate that was renewed, and leaves one that does not fit', async () => {
    const certificate = await writeCertificate()
    stops.push(async () => certificate.remove())
    const clock = new ManualClock()
    const port = await listen(LISTENING[0]!, { tls: certificate, clock })
    const shown = async (): Promise<string> => {
      const socket: TLSSocket = tlsConnect({ host: 'localhost', port, rejectUnauthorized: false })
      await once(socket, 'secureConnect')
      const { fingerprint256 } = socket.getPeerCertificate()
      socket.destroy()
      return fingerprint256
    }
    const before = await shown()
    const renewed = await newCertificate()
    // The key alone: halfway through being written.
    writeFileSync(certificate.keyFile, renewed.key)
    clock.advance(60_000)
    expect(await shown()).toBe(before)
    writeFileSync(certificate.certFile, renewed.cert)
    await eventually(async () => {
      clock.advance(60_000)
      return (await shown()) !== before
    })
  })
})

describe('the engine is chosen', () => {
  it('as asked, without looking for the other', async () => {
    const { engine, why } = await chooseEngine('ws')
    expect(engine.name).toBe('ws')
    expect(engine.build).toMatch(/^ws \d+\.\d+\.\d+$/)
    expect(why).toBe('BEACON_GATEWAY_ENGINE asks for it')
  })

  it('by what loads, and says why', async () => {
    const { engine, why } = await chooseEngine('auto')
    const asked = await chooseEngine('uws').catch((error: unknown) => error)
    if (asked instanceof EngineError) {
      expect(engine.name).toBe('ws')
      expect(asked.message).toContain(why)
      expect(asked.message).toContain('npm install uNetworking/uWebSockets.js#')
      expect(asked.message).toContain('npm install @uwsjs/core@')
      return
    }
    expect(engine.name).toBe('uws')
    expect(why).toBe(`${engine.build} is installed`)
    expect(asked).toEqual({ engine: expect.objectContaining({ name: 'uws', build: engine.build }), why })
  })
})
