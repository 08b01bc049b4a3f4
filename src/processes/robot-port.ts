import { availableParallelism } from 'node:os'
import type { Config } from '../config.ts'
import type { Gateway } from '../gateway/gateway.ts'
import { lingerFor } from '../gateway/heartbeat-writer.ts'
import { newId } from '../ids.ts'
import type { Log } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Clock, Random } from '../runtime.ts'
import type { Engine, ListenOptions } from '../transport/transport.ts'
import { createLaunch } from './launch.ts'
import type { ToldRefusal } from './messages.ts'
import { reservePort } from './port.ts'
import { PortDoor } from './port-door.ts'
import { Reports } from './reports.ts'
import { GatewayStartError, Supervisor } from './supervisor.ts'

export interface RobotPortParts {
  readonly config: Config
  readonly engine: Engine
  /** What this process's own sessions are held by. */
  readonly gateway: Gateway
  readonly path: string
  readonly databaseUrl: string
  /** Of each gateway process; 0: as many as come. */
  readonly sessionsPerSecond: number
  readonly headers: ListenOptions['headers']
  readonly admit: ListenOptions['admit']
  readonly onRefused: (refusal: ToldRefusal) => void
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  readonly metrics: Metrics
}

/** Where robots are taken besides the server's own port. */
export interface RobotPort {
  readonly port: number
  /** Whether anybody takes robots there. */
  isOpen(): boolean
  /** Rows of `servers` that belong to it, besides the server's own. */
  serverIds(): readonly string[]
  setGoneServers(serverIds: readonly string[]): void
  setExpectedRobots(robots: number): void
  /** This process has no descriptors left for whoever connects, or has some again. Other processes see to that themselves. */
  shut(isShut: boolean): void
  /** What all processes that hold robots have counted, this one included, in the text format. */
  series(): Promise<string>
  /** Sends its robots away and closes it. */
  stop(): Promise<void>
}

/** The port for robots cannot be had; the message says what to change. */
export class RobotPortError extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause })
    this.name = 'RobotPortError'
  }
}

/** What stands for the server's own process on series of which each process has its own. */
const OWN_NAME = 'server'

/** The series of a server that is one process. */
export function seriesOf(metrics: Metrics): Promise<string> {
  return new Reports().text(metrics.registry, OWN_NAME)
}

/** Whether robots have a port of their own: with one process of the ws engine they come to the server's. */
export function hasRobotPort(
  config: Pick<Config, 'gatewayProcesses'>,
  engine: Pick<Engine, 'name'>,
): boolean {
  return config.gatewayProcesses > 1 || engine.name === 'uws'
}

/** Opens the port for robots, in this process or in several others. Rejects with a RobotPortError when it is taken. */
export async function openRobotPort(parts: RobotPortParts): Promise<RobotPort> {
  try {
    return await (parts.config.gatewayProcesses > 1 ? openInProcesses(parts) : openHere(parts))
  } catch (error) {
    throw explained(error, parts.config)
  }
}

function explained(error: unknown, { host, gatewayPort }: Config): unknown {
  const { code, message } = error as NodeJS.ErrnoException
  const where = `${host}:${gatewayPort}`
  if (code === 'EADDRINUSE')
    return new RobotPortError(`${where} is in use: another program has BEACON_GATEWAY_PORT`, error)
  if (code === 'EACCES')
    return new RobotPortError(`${where} may not be used by this user: change BEACON_GATEWAY_PORT`, error)
  if (error instanceof GatewayStartError)
    return new RobotPortError(`the gateway processes do not start: ${message}`, error)
  return error
}

async function openHere(parts: RobotPortParts): Promise<RobotPort> {
  const { config, engine, gateway, path, headers, admit, clock, log, metrics } = parts
  const { host } = config
  // A port that uws picks by itself cannot be had again at once by whoever comes after it: it sets no SO_REUSEADDR then.
  const picked = config.gatewayPort === 0 ? await reservePort({ host, port: 0, clock, log }) : undefined
  await picked?.release()
  const listener = await engine.listen({
    host,
    port: picked?.port ?? config.gatewayPort,
    shared: false,
    path,
    tls: config.tls,
    trustedProxies: config.trustedProxies,
    headers,
    notReadyFor: () => gateway.notReadyFor,
    admit,
    clock,
    log,
  })
  const door = new PortDoor({ listener, clock, log, tell() {} })
  return {
    port: listener.port,
    isOpen: () => true,
    serverIds: () => [],
    setGoneServers() {},
    setExpectedRobots() {},
    shut: (isShut) => door.shut(isShut),
    series: () => seriesOf(metrics),
    async stop() {
      door.stop()
      await listener.stop()
    },
  }
}

async function openInProcesses(parts: RobotPortParts): Promise<RobotPort> {
  const { config, engine, gateway, path, databaseUrl, sessionsPerSecond, clock, log, metrics } = parts
  const reserved = await reservePort({ host: config.host, port: config.gatewayPort, clock, log })
  const supervisor = new Supervisor({
    ...parts,
    processes: config.gatewayProcesses,
    sessionsPerSecond: sessionsPerSecond * config.gatewayProcesses,
    launch: createLaunch(),
    settingsFor: (name) => ({
      name,
      serverId: newId(),
      databaseUrl,
      engine: engine.name,
      host: config.host,
      port: reserved.port,
      path,
      tls: config.tls,
      publicUrl: config.publicUrl,
      trustedProxies: config.trustedProxies,
      logLevel: config.logLevel,
      heartbeatIntervalMs: config.heartbeatIntervalMs,
      clonePolicy: config.clonePolicy,
      heartbeatLingerMs: lingerFor(config.gatewayProcesses, availableParallelism()),
      sessionsPerSecond,
      returnsPerSecond: config.sessionsPerSecond,
      reconnectSpreadMs: config.reconnectSpreadMs,
      expectedRobots: 0,
      goneServers: [],
    }),
    onServerGone: (serverId) => gateway.declareGone(serverId),
    onRefusals: (refusals) => {
      for (const refusal of refusals) parts.onRefused(refusal)
    },
  })
  try {
    await supervisor.start()
  } catch (error) {
    await reserved.release()
    throw error
  }
  return {
    port: reserved.port,
    isOpen: () => supervisor.ready > 0,
    serverIds: () => supervisor.serverIds,
    setGoneServers: (serverIds) => supervisor.setGoneServers(serverIds),
    setExpectedRobots: (robots) => supervisor.setExpectedRobots(robots),
    shut() {},
    series: () => supervisor.seriesText(metrics.registry, OWN_NAME),
    async stop() {
      await supervisor.stop()
      await reserved.release()
    },
  }
}
