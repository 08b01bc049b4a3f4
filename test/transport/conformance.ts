import { afterEach, describe, expect, it } from 'vitest'
import { BeaconError } from '../../src/errors.ts'
import type { Admit, RobotSocket, SocketHandler, UpgradeRequest } from '../../src/transport/transport.ts'
import { type ConnectOptions, type RobotEnd, UpgradeRefused } from '../support/memory-transport.ts'

export interface TransportUnderTest {
  connect(options?: ConnectOptions): Promise<RobotEnd>
  stop(): Promise<void>
}

/** The server's end, noting what it is told. */
class Recorder implements SocketHandler {
  readonly texts: string[] = []
  binaries = 0
  overflows = 0
  readonly ends: { code: number; reason: string }[] = []
  readonly #waiting: { done: () => boolean; resolve: () => void }[] = []

  text(text: string): void {
    this.texts.push(text)
    this.#look()
  }
  binary(): void {
    this.binaries += 1
    this.#look()
  }
  overflowed(): void {
    this.overflows += 1
    this.#look()
  }
  closed(code: number, reason: string): void {
    this.ends.push({ code, reason })
    this.#look()
  }
  until(done: () => boolean): Promise<void> {
    return done() ? Promise.resolve() : new Promise((resolve) => this.#waiting.push({ done, resolve }))
  }
  #look(): void {
    for (const waiting of this.#waiting) if (waiting.done()) waiting.resolve()
  }
}

/** What every transport has to do, whichever engine it stands on. */
export function itIsATransport(name: string, create: (admit: Admit) => Promise<TransportUnderTest>): void {
  describe(`${name} transport`, () => {
    let transport: TransportUnderTest | undefined
    afterEach(async () => {
      await transport?.stop()
      transport = undefined
    })

    async function begin(decide?: (request: UpgradeRequest) => BeaconError | undefined) {
      const requests: UpgradeRequest[] = []
      const recorder = new Recorder()
      let socket: RobotSocket | undefined
      const started = await create(async (request) => {
        requests.push(request)
        const error = decide?.(request)
        if (error) return { kind: 'refuse', error }
        return {
          kind: 'accept',
          open: (opened) => {
            socket = opened
            return recorder
          },
        }
      })
      transport = started
      return { connect: started.connect, requests, recorder, socket: () => socket! }
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
  })
}
