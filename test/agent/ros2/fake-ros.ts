import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { deserialize, serialize } from 'node:v8'
import { onTestFinished } from 'vitest'
import { AgentProcess, temporaryFolder } from '../support/agent-process.ts'
import { Mailbox } from '../support/mailbox.ts'

/** The package that stands in for rclnodejs. */
export const FAKE_RCLNODEJS = join(import.meta.dirname, '../../support/rclnodejs')

export interface SeenByRos {
  readonly init?: readonly string[]
  readonly node?: { readonly name: string; readonly namespace: string }
  readonly subscription?: {
    readonly type: string
    readonly topic: string
    readonly qos: Readonly<Record<string, number>>
  }
  readonly spin?: number
  readonly shutdown?: boolean
}

interface Topic {
  readonly name: string
  readonly types: readonly string[]
  readonly publishers: number
}

/** What a test has in place of a ROS 2: it publishes, and sees what the bridge asks for. */
export class FakeRos {
  readonly seen = new Mailbox<SeenByRos>()
  readonly path = join(temporaryFolder(), 'ros.sock')
  readonly #server: Server
  #bridge: Socket | undefined

  private constructor() {
    this.#server = createServer((socket) => this.#welcome(socket))
  }

  static async start(): Promise<FakeRos> {
    const ros = new FakeRos()
    await new Promise<void>((resolve) => ros.#server.listen(ros.path, resolve))
    onTestFinished(() => {
      ros.#bridge?.destroy()
      ros.#server.close()
    })
    return ros
  }

  /** Starts a real `beacon agent ros2`. */
  bridge(args: readonly string[], env: Readonly<Record<string, string>> = {}): AgentProcess {
    const started = new AgentProcess(
      ['ros2', '--rclnodejs', FAKE_RCLNODEJS, '--rate', '20', ...args],
      this.env(env),
    )
    onTestFinished(async () => {
      started.kill('SIGKILL')
      await started.exited
    })
    return started
  }

  env(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    return { FAKE_ROS: this.path, AMENT_PREFIX_PATH: '/opt/ros/fake', ...more }
  }

  /** Until the bridge spins: then it hears what is published. */
  async isHeard(): Promise<void> {
    await this.seen.next(({ spin }) => spin !== undefined)
  }

  subscription(topic: string): Promise<SeenByRos> {
    return this.seen.next(({ subscription }) => subscription?.topic === topic)
  }

  publish(topic: string, type: string, message: unknown): void {
    this.#tell({ publish: { topic, type, message } })
  }

  diagnostics(...status: unknown[]): void {
    this.publish('/diagnostics', 'diagnostic_msgs/msg/DiagnosticArray', diagnosticArray(...status))
  }

  graph(...topics: Topic[]): void {
    this.#tell({ graph: topics })
  }

  #tell(event: unknown): void {
    this.#bridge!.write(`${serialize(event).toString('base64')}\n`)
  }

  #welcome(socket: Socket): void {
    this.#bridge = socket
    let rest = ''
    socket.setEncoding('latin1')
    socket.on('error', () => {})
    socket.on('data', (part) => {
      const lines = (rest + part).split('\n')
      rest = lines.pop()!
      for (const line of lines) this.seen.put(deserialize(Buffer.from(line, 'base64')))
    })
  }
}

const HEADER = { stamp: { sec: 1_700_000_000, nanosec: 5 }, frame_id: '' }

/** Messages as rclnodejs hands them out: all fields there are, numbers for bytes, typed arrays. */
export function diagnosticArray(...status: unknown[]) {
  return { header: HEADER, status }
}

export function status(level: number, name: string, message = '', more: object = {}) {
  return { level, name, message, hardware_id: '', values: [], ...more }
}

export function batteryState(more: object = {}) {
  return {
    header: HEADER,
    voltage: Math.fround(25.2),
    temperature: Number.NaN,
    current: Math.fround(-1.5),
    charge: Number.NaN,
    capacity: Number.NaN,
    design_capacity: Number.NaN,
    percentage: Math.fround(0.81),
    power_supply_status: 2,
    power_supply_health: 1,
    power_supply_technology: 2,
    present: true,
    cell_voltage: new Float32Array([4.2, 4.2]),
    cell_temperature: new Float32Array(),
    location: '',
    serial_number: '',
    ...more,
  }
}

export function turned(theta: number) {
  return { x: 0, y: 0, z: Math.sin(theta / 2), w: Math.cos(theta / 2) }
}

export function poseStamped(x: number, y: number, orientation: unknown, frame_id = 'map') {
  return { header: { ...HEADER, frame_id }, pose: { position: { x, y, z: 0 }, orientation } }
}

/** Also an Odometry, as far as its pose goes. */
export function poseWithCovariance(x: number, y: number, orientation: unknown, frame_id = 'map') {
  const { header, pose } = poseStamped(x, y, orientation, frame_id)
  return { header, pose: { pose, covariance: new Float64Array(36) } }
}

export function navSatFix(latitude: number, longitude: number, fix = 0) {
  return {
    header: HEADER,
    status: { status: fix, service: 1 },
    latitude,
    longitude,
    altitude: 12,
    position_covariance: new Float64Array(9),
    position_covariance_type: 0,
  }
}
