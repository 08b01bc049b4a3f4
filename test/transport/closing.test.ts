import { once } from 'node:events'
import { connect as tlsConnect } from 'node:tls'
import { afterEach, describe, expect, it } from 'vitest'
import { CLOSE_TIMEOUT_MS, MAX_HELD_BYTES, MAX_HELD_BYTES_IN_ALL } from '../../src/transport/transport.ts'
import { writeCertificate } from '../support/certificate.ts'
import { eventually } from '../support/eventually.ts'
import { frameOf, OPCODE, RawPeer, upgradeRequest } from '../support/raw-peer.ts'
import { ALL, LISTENING, type RealEngine } from './real-engines.ts'
import { Recorder } from './recorder.ts'

const stops: (() => Promise<void>)[] = []
const peers: RawPeer[] = []
const recorders: Recorder[] = []
afterEach(async () => {
  for (const peer of peers.splice(0)) peer.socket.destroy()
  for (const stop of stops.splice(0)) await stop()
  expect(recorders.splice(0).flatMap((recorder) => recorder.faults)).toEqual([])
})

async function listen(engine: RealEngine) {
  const opened: Recorder[] = []
  const { port, stop } = await engine.listen({
    admit: async () => ({
      kind: 'accept',
      open: (socket) => {
        const recorder = new Recorder().opened(socket)
        opened.push(recorder)
        recorders.push(recorder)
        return recorder
      },
    }),
  })
  stops.push(stop)
  return {
    stop,
    async connect(options: { readonly allowHalfOpen?: boolean } = {}) {
      const peer = new RawPeer(port, options)
      peers.push(peer)
      const number = opened.length
      await peer.upgrade()
      const recorder = await eventually(() => opened[number])
      return { peer, recorder, socket: recorder.socket }
    },
  }
}

const SPAN = 'x'.repeat(16 * 1024)

/** Sends to a robot that does not read until that many bytes wait here. */
function pile(socket: Recorder['socket'], bytes: number): number {
  let count = 0
  while (socket.bufferedBytes() < bytes) {
    socket.send(SPAN)
    count += 1
  }
  return count
}

// Side by side, for they wait for what each engine's own clock says.
describe('every engine, closing,', () => {
  it('does not wait for ever for a robot that never answers', { timeout: 40_000 }, async () => {
    const tried = ALL.map(async (engine) => {
      const { connect } = await listen(engine)
      const { peer, recorder } = await connect({ allowHalfOpen: true })
      recorder.call((socket) => socket.close(4501, 'token_revoked'))
      expect(await peer.closeFrame()).toEqual({ code: 4501, reason: 'token_revoked' })
      const startedAt = performance.now()
      await recorder.until(() => recorder.ends.length === 1)
      expect(performance.now() - startedAt).toBeLessThan(CLOSE_TIMEOUT_MS + 3_000)
      // Then it hears nothing more from us, whatever it says.
      await new Promise((resolve) => {
        peer.socket.on('close', resolve)
        const poke = setInterval(() => {
          if (peer.socket.destroyed) clearInterval(poke)
          else peer.write(frameOf(OPCODE.text, 'still here'))
        }, 200)
      })
      expect(recorder.texts).toEqual([])
      expect(recorder.ends).toHaveLength(1)
    })
    await Promise.all(tried)
  })

  it('drops a robot that does not read what stands before the close frame', { timeout: 20_000 }, async () => {
    const tried = ALL.map(async (engine) => {
      const { connect } = await listen(engine)
      const { peer, recorder, socket } = await connect()
      peer.socket.pause()
      pile(socket, 100_000)
      const startedAt = performance.now()
      recorder.call(() => socket.close(4003, 'outbox_full'))
      peer.write(frameOf(OPCODE.text, 'too late'))
      await recorder.until(() => recorder.ends.length === 1)
      expect(performance.now() - startedAt).toBeGreaterThan(CLOSE_TIMEOUT_MS - 1_000)
      expect(performance.now() - startedAt).toBeLessThan(CLOSE_TIMEOUT_MS + 3_000)
      expect(recorder.ends).toEqual([{ code: 1006, reason: '' }])
      expect(recorder.texts).toEqual([])
    })
    await Promise.all(tried)
  })
})

describe.each(ALL)('$name, closing,', (engine) => {
  it('loses nothing that was sent before, when the robot reads on', async () => {
    const { connect } = await listen(engine)
    const { peer, recorder, socket } = await connect()
    peer.socket.pause()
    const count = pile(socket, 200_000)
    recorder.call(() => socket.close(1012, 'service_restart'))
    peer.socket.resume()
    for (let index = 0; index < count; index += 1)
      expect((await peer.frame()).payload.length).toBe(SPAN.length)
    expect(await peer.closeFrame()).toEqual({ code: 1012, reason: 'service_restart' })
    peer.socket.end()
    await recorder.until(() => recorder.ends.length === 1)
  })

  it('counts what waits, until the robot reads', async () => {
    const { connect } = await listen(engine)
    const { peer, socket } = await connect()
    expect(socket.bufferedBytes()).toBe(0)
    peer.socket.pause()
    const count = pile(socket, 200_000)
    peer.socket.resume()
    for (let index = 0; index < count; index += 1) await peer.frame()
    await eventually(() => socket.bufferedBytes() === 0)
    socket.send('after')
    expect((await peer.frame()).payload.toString()).toBe('after')
  })
})

describe.each(ALL)('$name, paused,', (engine) => {
  /** Sends until the kernel takes no more, or nobody is there any more. */
  async function flood(peer: RawPeer, limit: number): Promise<number> {
    const frame = frameOf(OPCODE.text, 'y'.repeat(1_000))
    let sent = 0
    while (sent < limit && !peer.socket.destroyed) {
      sent += 1
      if (peer.socket.write(frame)) continue
      const drained = new Promise((resolve) => peer.socket.once('drain', resolve))
      const stuck = new Promise((resolve) => setTimeout(resolve, 300, 'stuck'))
      if ((await Promise.race([drained, stuck, peer.ended])) === 'stuck') break
    }
    return sent
  }

  it('holds no more than it may', { timeout: 30_000 }, async () => {
    const { connect } = await listen(engine)
    const { peer, recorder, socket } = await connect()
    recorder.onOverflow = () => recorder.call(() => socket.close(4004, 'too_many_frames'))
    socket.pause()
    const sent = await flood(peer, 40_000)
    if (engine.holdsInMemory) {
      expect(await peer.closeFrame()).toEqual({ code: 4004, reason: 'too_many_frames' })
      await recorder.until(() => recorder.ends.length === 1)
      expect(recorder.overflows).toBe(1)
      expect(recorder.texts).toEqual([])
      return
    }
    // TCP holds the robot back, and it is all there afterwards.
    expect(sent).toBeLessThan(40_000)
    expect(recorder.texts.length).toBeLessThan(1_000)
    socket.resume()
    await recorder.until(() => recorder.texts.length === sent)
    expect(recorder.overflows).toBe(0)
  })

  it('still tells a robot that overflowed what its owner has to say', { timeout: 30_000 }, async () => {
    const { connect } = await listen(engine)
    const { peer, recorder, socket } = await connect()
    peer.write(frameOf(OPCODE.text, 'before'))
    await recorder.until(() => recorder.texts.length === 1)
    const overflowed = new Promise<void>((resolve) => {
      recorder.onOverflow = resolve
    })
    socket.pause()
    const sent = await flood(peer, 40_000)
    if (!engine.holdsInMemory) return expect(sent).toBeLessThan(40_000)
    await overflowed
    peer.write(frameOf(OPCODE.text, 'after'))
    await new Promise((resolve) => setImmediate(resolve))
    // Nothing of what it sent is delivered any more: there is a gap in it.
    socket.resume()
    socket.send('got the first one')
    recorder.call(() => socket.close(4004, 'too_many_frames'))
    expect((await peer.frame()).payload.toString()).toBe('got the first one')
    expect(await peer.closeFrame()).toEqual({ code: 4004, reason: 'too_many_frames' })
    await recorder.until(() => recorder.ends.length === 1)
    expect(recorder.texts).toEqual(['before'])
    expect(recorder.overflows).toBe(1)
  })

  it('drops a robot whose owner does not care that it overflowed', { timeout: 30_000 }, async () => {
    const { connect } = await listen(engine)
    const { peer, recorder, socket } = await connect()
    socket.pause()
    const startedAt = performance.now()
    const sent = await flood(peer, 40_000)
    if (!engine.holdsInMemory) return expect(sent).toBeLessThan(40_000)
    await recorder.until(() => recorder.ends.length === 1)
    expect(recorder.ends).toEqual([{ code: 1006, reason: '' }])
    expect(recorder.overflows).toBe(1)
    expect(performance.now() - startedAt).toBeLessThan(CLOSE_TIMEOUT_MS + 3_000)
  })

  it('counts what it let go of', { timeout: 30_000 }, async () => {
    const { connect } = await listen(engine)
    const robots = await Promise.all(Array.from({ length: 8 }, () => connect()))
    // More than may be held in all, were any of it forgotten to be given back.
    const rounds = Math.ceil(MAX_HELD_BYTES_IN_ALL / (MAX_HELD_BYTES / 2) / robots.length) + 4
    const text = 'z'.repeat(MAX_HELD_BYTES / 2)
    const frame = frameOf(OPCODE.text, text)
    const { socket: mark } = robots[0]!
    expect(mark.bufferedBytes()).toBe(0)
    for (let round = 1; round <= rounds; round += 1) {
      for (const { peer, socket } of robots) {
        socket.pause()
        peer.write(frame)
      }
      await new Promise((resolve) => setImmediate(resolve))
      for (const { socket } of robots) socket.resume()
      await Promise.all(robots.map(({ recorder }) => recorder.until(() => recorder.texts.length === round)))
    }
    expect(robots.map(({ recorder }) => recorder.overflows)).toEqual(robots.map(() => 0))
  })
})

describe.each(LISTENING)('$name, stopped,', (engine) => {
  it('drops what is left, takes nobody and gives its port back', async () => {
    const { connect, stop } = await listen(engine)
    const { peer, recorder } = await connect()
    const other = await connect()
    other.socket.pause()
    await stop()
    await Promise.all([peer.ended, other.peer.ended])
    await recorder.until(() => recorder.ends.length === 1)
    await other.recorder.until(() => other.recorder.ends.length === 1)
    expect(recorder.ends).toEqual([{ code: 1006, reason: '' }])
    recorder.call((socket) => socket.close(4000, 'too late'))
    const refused = new RawPeer(peer.socket.remotePort ?? 1)
    await refused.ended
  })

  it('drops upgrades that are being decided, and opens none of them any more', async () => {
    const recorder = new Recorder()
    let accept: (() => void) | undefined
    const listener = await engine.listen({
      admit: () =>
        new Promise((resolve) => {
          accept = () => resolve({ kind: 'accept', open: (socket) => recorder.opened(socket) })
        }),
    })
    const peer = new RawPeer(listener.port)
    peers.push(peer)
    peer.write(upgradeRequest([]))
    await eventually(() => accept)
    await listener.stop()
    await peer.ended
    accept!()
    await new Promise((resolve) => setImmediate(resolve))
    expect(recorder.socket).toBeUndefined()
    expect(peer.text).toBe('')
  })

  it('drops connections that have not finished their TLS handshake', async () => {
    const certificate = await writeCertificate()
    stops.push(async () => certificate.remove())
    const listener = await engine.listen({ tls: certificate })
    const startedAt = performance.now()
    const peer = new RawPeer(listener.port)
    peers.push(peer)
    // So that it was taken for sure: whoever came before was, too.
    const other = tlsConnect({ port: listener.port, host: '127.0.0.1', rejectUnauthorized: false })
    other.on('error', () => {})
    await once(other, 'secureConnect')
    const otherEnded = once(other, 'close')
    await listener.stop()
    await Promise.all([peer.ended, otherEnded])
    expect(performance.now() - startedAt).toBeLessThan(5_000)
  })
})
