import type { Bus } from '../../src/bus/bus.ts'
import { createLocalBus } from '../../src/bus/local.ts'
import type { Database } from '../../src/db/database.ts'
import { Gateway, type GatewayParts } from '../../src/gateway/gateway.ts'
import type { Resources } from '../../src/gateway/resources.ts'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { type Clock, systemRandom } from '../../src/runtime.ts'
import type { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { connectInMemory, type MemoryRobotEnd } from '../support/memory-transport.ts'
import type { TestRobot } from '../support/robots.ts'

export const INTERVAL_MS = 10_000

/** A machine on which nothing is ever short. */
export const PLENTY: Resources = {
  descriptorLimit: 1_000_000,
  openDescriptors: () => 0,
  countsCheaply: true,
  heapShare: () => 0,
  memoryShare: () => 0,
  eventLoopDelayMs: () => 0,
  stop() {},
}

export interface RunningGateway {
  readonly gateway: Gateway
  readonly bus: Bus
  readonly serverId: string
  readonly metrics: ReturnType<typeof createMetrics>
}

export async function startGateway(
  database: Database,
  clock: Clock,
  bus: Bus = createLocalBus(),
  more: Partial<GatewayParts> = {},
): Promise<RunningGateway> {
  const serverId = newId()
  const metrics = createMetrics()
  const gateway = new Gateway({
    database,
    bus,
    clock,
    random: systemRandom,
    log: createLog('silent'),
    metrics,
    server: { id: serverId, hostname: 'test', processId: process.pid },
    defaultIntervalMs: INTERVAL_MS,
    sessionsPerSecond: 0,
    resources: PLENTY,
    ...more,
  })
  await gateway.start()
  return { gateway, bus, serverId, metrics }
}

type Frame = Record<string, unknown> & { type: string }

/** A robot's end of an in-memory socket that speaks frames. */
export class Robot {
  readonly end: MemoryRobotEnd
  readonly #clock: Clock
  constructor(end: MemoryRobotEnd, clock: Clock) {
    this.end = end
    this.#clock = clock
  }

  get frames(): Frame[] {
    return this.end.frames.map((text) => JSON.parse(text) as Frame)
  }

  say(frame: object): void {
    this.end.send(JSON.stringify(frame))
  }

  beat(seq: number, extra: object = {}): void {
    this.say({ type: 'heartbeat', seq, at: new Date(this.#clock.now()).toISOString(), ...extra })
  }

  /** The first frame of the type, or the first that satisfies the predicate. */
  hears(type: string, satisfies: (frame: Frame) => boolean = () => true): Promise<Frame> {
    return eventually(
      () => this.frames.find((frame) => frame.type === type && satisfies(frame)),
      `frame ${type}`,
    )
  }
}

/** Connects a robot; with `hello: false` it says nothing yet. */
export async function connect(
  { gateway }: RunningGateway,
  clock: Clock,
  robot: TestRobot,
  options: { hello?: false | object } = {},
): Promise<Robot> {
  const end = await connectInMemory((request) => gateway.admit(request), {
    authorization: robot.authorization,
  })
  const connected = new Robot(end, clock)
  if (options.hello === false) return connected
  connected.say({ type: 'hello', protocol: 1, agent: { version: 'test' }, ...options.hello })
  await connected.hears('welcome')
  return connected
}

/** Stops a gateway, and moves its clock until it has stopped: it waits for time to pass. */
export async function stopGateway({ gateway }: RunningGateway, clock: ManualClock): Promise<void> {
  let stopped = false
  void gateway.stop().then(() => {
    stopped = true
  })
  await eventually(() => {
    clock.advance(5)
    return stopped
  })
}
