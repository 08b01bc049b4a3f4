import { afterEach, describe, expect, it } from 'vitest'
import { BeaconError } from '../../src/errors.ts'
import type { Admit, UpgradeRequest } from '../../src/transport/transport.ts'
import { type ConnectOptions, type RobotEnd, UpgradeRefused } from '../support/memory-transport.ts'
import { Recorder } from './recorder.ts'

export interface TransportUnderTest {
  connect(options?: ConnectOptions): Promise<RobotEnd>
  stop(): Promise<void>
}

/** What every transport has to do, whichever engine it stands on. */
export function itIsATransport(name: string, create: (admit: Admit) => Promise<TransportUnderTest>): void {
  describe(`${name} transport`, () => {
    let transport: TransportUnderTest | undefined
    let faults: readonly string[] = []
    afterEach(async () => {
      await transport?.stop()
      transport = undefined
      expect(faults).toEqual([])
    })

    async function begin(decide?: (request: UpgradeRequest) => BeaconError | undefined) {
      const requests: UpgradeRequest[] = []
      const recorder = new Recorder()
      faults = recorder.faults
      const started = await create(async (request) => {
        requests.push(request)
        const error = decide?.(request)
        if (error) return { kind: 'refuse', error }
        return {
          kind: 'accept',
          open: (opened) => recorder.opened(opened),
        }
      })
      transport = started
      return { connect: started.connect, requests, recorder, socket: () => recorder.socket }
    }

    it('says who asks, and with what', async () => {
      const { connect, requests } = await begin()
      await connect({ authorization: 'Bearer abc', subprotocols: ['beacon.v1', 'other'] })
      expect(requests).toHaveLength(1)
      expect(requests[0]).toMatchObject({ authorization: 'Bearer abc', subprotocols: ['beacon.v1', 'other'] })
      expect(requests[0]?.remoteAddress).toMatch(/^[\d.:a-f]+$/)
    })

    it('refuses before the upgrade, with status, code and Retry-After', async () => {
      const { connect } = await begin(
        () => new BeaconError('overloaded', undefined, { retryAfterSeconds: 7 }),
      )
      const refusal = await connect().catch((error: unknown) => error)
      expect(refusal).toBeInstanceOf(UpgradeRefused)
      expect(refusal).toMatchObject({ status: 503, code: 'overloaded', retryAfter: '7' })
    })

    it('carries text both ways, in order', async () => {
      const { connect, recorder, socket } = await begin()
      const robot = await connect()
      for (let index = 0; index < 100; index += 1) robot.send(`up ${index} ü`)
      await recorder.until(() => recorder.texts.length === 100)
      expect(recorder.texts).toEqual(Array.from({ length: 100 }, (_, index) => `up ${index} ü`))
      for (let index = 0; index < 100; index += 1) socket().send(`down ${index} ü`)
      socket().close(4000, 'enough')
      await robot.closed
      expect(robot.frames).toEqual(Array.from({ length: 100 }, (_, index) => `down ${index} ü`))
    })

    it('tells binary frames apart', async () => {
      const { connect, recorder } = await begin()
      const robot = await connect()
      robot.sendBinary(new Uint8Array([1, 2, 3]))
      await recorder.until(() => recorder.binaries === 1)
      expect(recorder.texts).toEqual([])
    })

    it('closes with the code and reason it is given, and tells its own side once', async () => {
      const { connect, recorder, socket } = await begin()
      const robot = await connect()
      socket().close(4501, 'token_revoked')
      expect(await robot.closed).toEqual({ code: 4501, reason: 'token_revoked' })
      await recorder.until(() => recorder.ends.length > 0)
      socket().close(4000, 'again')
      socket().terminate()
      socket().send('into the void')
      expect(recorder.ends).toHaveLength(1)
    })

    it('tells when the robot closes, and with what', async () => {
      const { connect, recorder } = await begin()
      const robot = await connect()
      robot.close(4123, 'my reasons')
      await recorder.until(() => recorder.ends.length > 0)
      expect(recorder.ends).toEqual([{ code: 4123, reason: 'my reasons' }])
    })

    it('tells 1006 when the robot vanishes, and when the server drops it', async () => {
      const { connect, recorder, socket } = await begin()
      const first = await connect()
      first.vanish()
      await recorder.until(() => recorder.ends.length === 1)
      await connect()
      socket().terminate()
      await recorder.until(() => recorder.ends.length === 2)
      expect(recorder.ends.map((end) => end.code)).toEqual([1006, 1006])
    })

    it('holds frames back while paused, and loses none', async () => {
      const { connect, recorder, socket } = await begin()
      const robot = await connect()
      robot.send('before')
      await recorder.until(() => recorder.texts.length === 1)
      socket().pause()
      for (let index = 0; index < 50; index += 1) robot.send(`held ${index}`)
      socket().resume()
      await recorder.until(() => recorder.texts.length === 51)
      expect(recorder.texts[50]).toBe('held 49')
    })

    it('closes a paused socket too', async () => {
      const { connect, recorder, socket } = await begin()
      const robot = await connect()
      socket().pause()
      socket().close(4501, 'token_revoked')
      expect(await robot.closed).toEqual({ code: 4501, reason: 'token_revoked' })
      await recorder.until(() => recorder.ends.length === 1)
    })

    it('tells its end once, and never within a call', async () => {
      const { connect, recorder } = await begin()
      const robot = await connect()
      recorder.call((socket) => {
        socket.close(4000, 'first')
        socket.close(4001, 'second')
        socket.terminate()
        socket.send('into the void')
        socket.pause()
        socket.resume()
      })
      await robot.closed
      await recorder.until(() => recorder.ends.length > 0)
      recorder.call((socket) => socket.close(4002, 'third'))
      await connect()
      expect(recorder.ends).toHaveLength(1)
    })

    it('can be closed and dropped by what it delivers', async () => {
      const { connect, recorder } = await begin()
      recorder.onText = () => recorder.call((socket) => socket.close(4501, 'token_revoked'))
      const robot = await connect()
      robot.send('one')
      robot.send('two')
      expect(await robot.closed).toEqual({ code: 4501, reason: 'token_revoked' })
      await recorder.until(() => recorder.ends.length === 1)
      expect(recorder.texts).toEqual(['one'])

      recorder.onText = () => recorder.call((socket) => socket.terminate())
      const other = await connect()
      other.send('three')
      other.send('four')
      await recorder.until(() => recorder.ends.length === 2)
      expect(recorder.texts).toEqual(['one', 'three'])
    })

    it('can be closed before the first frame', async () => {
      const recorder = new Recorder()
      faults = recorder.faults
      transport = await create(async () => ({
        kind: 'accept',
        open: (socket) => {
          recorder.opened(socket).call(() => socket.close(4005, 'overloaded'))
          return recorder
        },
      }))
      const robot = await transport.connect()
      expect(await robot.closed).toEqual({ code: 4005, reason: 'overloaded' })
      await recorder.until(() => recorder.ends.length === 1)
    })

    it('may be paused again by what it delivers', async () => {
      const { connect, recorder, socket } = await begin()
      const robot = await connect()
      robot.send('before')
      await recorder.until(() => recorder.texts.length === 1)
      recorder.onText = () => {
        socket().pause()
        setImmediate(() => socket().resume())
      }
      socket().pause()
      for (let index = 0; index < 20; index += 1) robot.send(`held ${index}`)
      socket().resume()
      socket().resume()
      await recorder.until(() => recorder.texts.length === 21)
      expect(recorder.texts.slice(1)).toEqual(Array.from({ length: 20 }, (_, index) => `held ${index}`))
    })

    it('delivers what a robot sent while paused before it left', async () => {
      const { connect, recorder, socket } = await begin()
      const robot = await connect()
      robot.send('before')
      await recorder.until(() => recorder.texts.length === 1)
      socket().pause()
      robot.send('held')
      robot.close(4123, 'gone home')
      setImmediate(() => socket().resume())
      await recorder.until(() => recorder.ends.length > 0)
      expect(recorder.texts).toEqual(['before', 'held'])
      expect(recorder.ends).toEqual([{ code: 4123, reason: 'gone home' }])
    })

    it('holds many sockets apart', async () => {
      const recorders: Recorder[] = []
      transport = await create(async () => ({
        kind: 'accept',
        open: (socket) => {
          const recorder = new Recorder().opened(socket)
          recorder.onText = (text) => socket.send(`${text} back`)
          recorders.push(recorder)
          return recorder
        },
      }))
      const { connect } = transport
      const robots = await Promise.all(Array.from({ length: 300 }, () => connect()))
      for (const [index, robot] of robots.entries()) robot.send(`robot ${index}`)
      await Promise.all(recorders.map((recorder) => recorder.until(() => recorder.texts.length === 1)))
      for (const recorder of recorders) recorder.socket.close(1012, 'service_restart')
      expect(await Promise.all(robots.map((robot) => robot.closed))).toEqual(
        robots.map(() => ({ code: 1012, reason: 'service_restart' })),
      )
      expect(robots.map((robot) => robot.frames)).toEqual(robots.map((_, index) => [`robot ${index} back`]))
      await Promise.all(recorders.map((recorder) => recorder.until(() => recorder.ends.length === 1)))
    })
  })
}
