import { hostname } from 'node:os'
import type { MetricObject } from 'prom-client'
import { tellingRefusals } from '../audit/session-refusals.ts'
import { createPostgresBus } from '../bus/postgres.ts'
import { closePool, openDatabase, openPool } from '../db/database.ts'
import { Gateway } from '../gateway/gateway.ts'
import { baseHeaders } from '../http/headers.ts'
import { createLog } from '../observe/log.ts'
import { createMetrics } from '../observe/metrics.ts'
import { Releases } from '../releases.ts'
import type { Clock, Random } from '../runtime.ts'
import { chooseEngine } from '../transport/engines.ts'
import type { GatewaySettings } from './messages.ts'
import { PortDoor } from './port-door.ts'
import { startTellingRefusals, type Tell } from './refusals.ts'

/**
 * Of each gateway process, besides the one that listens. Heartbeats, openings, look-ups and timelines have at most one
 * statement in flight each; one is left for presence, the beat and what is rare.
 */
export const GATEWAY_PROCESS_CONNECTIONS = 5
const STATEMENT_TIMEOUT_MS = 30_000
const SILENCE_TIMEOUT_MS = 45_000

/** A running gateway process. */
export interface GatewayProcess {
  serversGone(serverIds: readonly string[]): void
  setExpectedRobots(robots: number): void
  setSessionsPerSecond(perSecond: number): void
  report(): Promise<MetricObject[]>
  /** Comes to the shared port, or leaves it; robots that are here stay. */
  sharePort(how: { readonly listen: boolean; readonly elsewhere: boolean }): void
  /** Sends all robots away, stores what they sent, and lets go of everything. */
  stop(): Promise<void>
}

export interface GatewayProcessParts {
  readonly clock: Clock
  readonly random: Random
  readonly tell: Tell
}

/**
 * The whole of a gateway process: it holds robots' sessions on the shared port, and knows nothing of REST. Rejects, with
 * nothing left open, when a part cannot start.
 */
export async function startGatewayProcess(
  settings: GatewaySettings,
  { clock, random, tell }: GatewayProcessParts,
): Promise<GatewayProcess> {
  const log = createLog(settings.logLevel).child({ process: settings.name })
  const releases = new Releases((name, error) =>
    log.error({ err: error, part: name }, 'could not stop a part'),
  )
  try {
    const { engine } = await chooseEngine(settings.engine)
    const metrics = createMetrics()
    const pool = openPool({
      url: settings.databaseUrl,
      name: `beacon ${settings.name}`,
      maxConnections: GATEWAY_PROCESS_CONNECTIONS,
      statementTimeoutMs: STATEMENT_TIMEOUT_MS,
      silenceTimeoutMs: SILENCE_TIMEOUT_MS,
      onePlanEach: true,
      keepsIdle: true,
      onIdleError: (error) => log.warn({ err: error }, 'a database connection was lost'),
    })
    releases.add('database connections', () => closePool(pool, clock))
    const bus = await createPostgresBus({
      url: settings.databaseUrl,
      pool,
      serverId: settings.serverId,
      clock,
      log,
    })
    releases.add('bus', () => bus.stop())

    let door: PortDoor | undefined
    const gateway = new Gateway({
      database: openDatabase(pool),
      bus,
      clock,
      random,
      log,
      metrics,
      server: { id: settings.serverId, hostname: hostname(), processId: process.pid },
      defaultIntervalMs: settings.heartbeatIntervalMs,
      clonePolicy: settings.clonePolicy,
      heartbeatLingerMs: settings.heartbeatLingerMs,
      sessionsPerSecond: settings.sessionsPerSecond,
      returnsPerSecond: settings.returnsPerSecond,
      reconnectSpreadMs: settings.reconnectSpreadMs,
      supervised: true,
      onRoomChanged: (hasRoom) => tell({ type: 'room', hasRoom }),
      onDescriptorsGone: (areGone) => door?.shut(areGone),
    })
    gateway.serversGone(settings.goneServers)
    gateway.setExpectedRobots(settings.expectedRobots)
    await gateway.start()
    const refusals = startTellingRefusals(clock, tell)
    releases.add('refusals', () => refusals.stop())
    const listener = await engine
      .listen({
        host: settings.host,
        port: settings.port,
        shared: true,
        path: settings.path,
        tls: settings.tls,
        trustedProxies: settings.trustedProxies,
        headers: (requestId) => baseHeaders(settings, requestId),
        notReadyFor: () => gateway.notReadyFor,
        admit: tellingRefusals((request) => gateway.admit(request), { audit: refusals, clock }),
        clock,
        log,
      })
      .catch(async (error: unknown) => {
        await gateway.stop()
        throw error
      })
    releases.add('listener', () => listener.stop())
    const place = new PortDoor({
      listener,
      clock,
      log,
      tell: (isListening) => tell({ type: 'listening', listening: isListening }),
    })
    door = place
    releases.add('place on the port', () => place.stop())
    releases.add('gateway', () => gateway.stop())
    return {
      serversGone: (serverIds) => gateway.serversGone(serverIds),
      setExpectedRobots: (robots) => gateway.setExpectedRobots(robots),
      report: () => metrics.registry.getMetricsAsJSON(),
      sharePort({ listen, elsewhere }) {
        gateway.roomElsewhere(elsewhere)
        place.set(listen)
      },
      setSessionsPerSecond: (perSecond) => gateway.setSessionsPerSecond(perSecond),
      stop: () => releases.run(),
    }
  } catch (error) {
    await releases.run()
    throw error
  }
}
