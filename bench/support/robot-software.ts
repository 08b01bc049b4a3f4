import { connect, type Socket } from 'node:net'

const EVERY_MS = 5_000

/** What a mobile robot's own software tells its agent every five seconds, until it is stopped. */
export class RobotSoftware {
  readonly #socket: Socket
  readonly #timer: NodeJS.Timeout
  #lines = 0

  constructor(path: string) {
    this.#socket = connect(path)
    this.#socket.on('error', () => {})
    this.#socket.resume()
    this.#tell()
    this.#timer = setInterval(() => this.#tell(), EVERY_MS)
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#socket.destroy()
  }

  /** Something changes each time. */
  #tell(): void {
    const at = this.#lines++
    const line = {
      mode: 'auto',
      activity: `driving to dock ${at % 9}`,
      battery: { charge: 0.9 - (at % 60) / 100, charging: false, voltage: 25.3 },
      pose: { frame: 'map', x: Math.sin(at / 10) * 12, y: Math.cos(at / 10) * 7, theta: (at / 10) % 3 },
      metric: {
        motor_left_amps: 2 + (at % 7) / 10,
        motor_right_amps: 2 + (at % 5) / 10,
        route_left_m: at % 90,
      },
    }
    this.#socket.write(`${JSON.stringify(line)}\n`)
  }
}
