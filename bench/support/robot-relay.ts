import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'

/**
 * What the way between a robot and its server is like. `refused`: connections are reset, new ones at once. `stalled`: nothing
 * passes, and what was sent arrives when it is fair again. `lost`: what is open or opened then passes nothing any more, and
 * the robot is not told; the server's end is reset.
 */
export type Weather = 'fair' | 'refused' | 'stalled' | 'lost'

const HOST = '127.0.0.1'

/** One robot's connection through the relay. */
class Way {
  readonly robot: Socket
  readonly server: Socket
  isLost = false

  constructor(robot: Socket, server: Socket) {
    this.robot = robot
    this.server = server
  }

  stall(): void {
    this.robot.pause()
    this.server.pause()
  }

  goOn(): void {
    this.robot.resume()
    if (!this.isLost) this.server.resume()
  }

  lose(): void {
    this.isLost = true
    this.server.resetAndDestroy()
    // Taken, so that it seems to go through.
    this.robot.resume()
  }

  reset(): void {
    this.server.resetAndDestroy()
    this.robot.resetAndDestroy()
  }
}

/** Stands between robots and a server on this machine, counts what passes, and can be a bad network. */
export class RobotRelay {
  /** Payload of TCP since the start, as robots see it. */
  sentByRobots = 0
  sentToRobots = 0
  connections = 0
  readonly #server: Server
  readonly #target: number
  readonly #ways = new Set<Way>()
  #weather: Weather = 'fair'

  private constructor(target: number) {
    this.#target = target
    // A bench that was interrupted does not close it.
    this.#server = createServer({ noDelay: true }, (robot) => this.#welcome(robot)).unref()
  }

  static async to(port: number): Promise<RobotRelay> {
    const relay = new RobotRelay(port)
    relay.#server.listen(0, HOST)
    await once(relay.#server, 'listening')
    return relay
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get weather(): Weather {
    return this.#weather
  }

  set weather(weather: Weather) {
    this.#weather = weather
    for (const way of this.#ways)
      if (weather === 'refused') way.reset()
      else if (weather === 'stalled') way.stall()
      else if (weather === 'lost') way.lose()
      else way.goOn()
  }

  async close(): Promise<void> {
    for (const way of this.#ways) way.reset()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #welcome(robot: Socket): void {
    robot.on('error', () => {})
    if (this.#weather === 'refused') {
      robot.resetAndDestroy()
      return
    }
    this.connections++
    const server = connect({ host: HOST, port: this.#target, noDelay: true })
    const way = new Way(robot, server)
    this.#ways.add(way)
    server.on('error', () => {})
    robot.on('data', (chunk) => {
      this.sentByRobots += chunk.length
      if (!way.isLost) server.write(chunk)
    })
    server.on('data', (chunk) => {
      this.sentToRobots += chunk.length
      robot.write(chunk)
    })
    robot.on('close', () => {
      this.#ways.delete(way)
      server.destroy()
    })
    server.on('close', () => {
      if (!way.isLost) robot.destroy()
    })
    if (this.#weather === 'stalled') way.stall()
    if (this.#weather === 'lost') way.lose()
  }
}

/** Takes TLS on a port of its own and passes on what is in it; answers the port and how to end it. */
export async function endTls(
  certificate: { readonly cert: string; readonly key: string },
  target: number,
): Promise<{ readonly port: number; close(): void }> {
  const open = new Set<Socket>()
  const server = createTlsServer({ ...certificate, noDelay: true }, (secured) => {
    const plain = connect({ host: HOST, port: target, noDelay: true })
    for (const [one, other] of [
      [secured, plain],
      [plain, secured],
    ] as const) {
      open.add(one)
      one.on('error', () => {})
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
      one.pipe(other)
    }
  })
  server.unref()
  server.on('tlsClientError', () => {})
  server.listen(0, HOST)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close()
      for (const socket of open) socket.destroy()
    },
  }
}
