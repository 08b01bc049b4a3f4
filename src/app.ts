import { hostname } from 'node:os'
import { join } from 'node:path'
import { ensureOwner } from './access/first-owner.ts'
import { createAccess } from './access/principal.ts'
import { createKeyringSeal } from './access/seal.ts'
import { fileKeyring, settingsKeyring } from './access/secret-key.ts'
import { createSecretRotation } from './access/secret-rotation.ts'
import { createSignInDesk } from './access/sign-in/desk.ts'
import { createStanding } from './access/standing.ts'
import { createAudit } from './audit/desk.ts'
import { tellingRefusals } from './audit/session-refusals.ts'
import type { Bus } from './bus/bus.ts'
import { createLocalBus } from './bus/local.ts'
import { createPostgresBus } from './bus/postgres.ts'
import { createClaims } from './claims/claims.ts'
import { startPendingExpiry } from './claims/expiry.ts'
import type { Config } from './config.ts'
import { agreedTime } from './db/agreed-time.ts'
import { closePool, openDatabase, openPool } from './db/database.ts'
import { startDiskWatch } from './db/disk-watch.ts'
import { startEmbeddedPostgres } from './db/embedded.ts'
import { startPacker } from './db/heartbeat-packer.ts'
import { startMaintenance } from './db/maintenance.ts'
import { readMaxConnections } from './db/max-connections.ts'
import { migrate } from './db/migrate.ts'
import { separateRoles } from './db/roles.ts'
import { descriptorLimit } from './descriptor-limit.ts'
import { Gateway } from './gateway/gateway.ts'
import { reservedDescriptors } from './gateway/overload.ts'
import { RotationRequests } from './gateway/rotation-requests.ts'
import { baseHeaders } from './http/headers.ts'
import { createHealth } from './http/health.ts'
import { renderRobot } from './http/live-schema.ts'
import { RATE_LIMITS, ratePerSecond } from './http/rate-limits.ts'
import { createHttp } from './http/server.ts'
import { newId } from './ids.ts'
import { openHandouts } from './install/handouts.ts'
import { createLiveFeeds } from './live/feed.ts'
import type { Log } from './observe/log.ts'
import { createMetrics } from './observe/metrics.ts'
import { packageRoot } from './package.ts'
import { GATEWAY_PROCESS_CONNECTIONS } from './processes/gateway-process.ts'
import { hasRobotPort, openRobotPort, type RobotPort, seriesOf } from './processes/robot-port.ts'
import { Releases } from './releases.ts'
import type { Clock, Random } from './runtime.ts'
import { chooseEngine } from './transport/engines.ts'
import type { UpgradeRequest } from './transport/transport.ts'
import { attachWsTransport, isWebSocketUpgrade } from './transport/ws.ts'

export const GATEWAY_PATH = '/agent/ws'

export interface BeaconParts {
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
  /** Called when the server cannot go on, such as when its data folder became another's. */
  readonly onFatal: (error: Error) => void
}

export interface Beacon {
  /** Starts everything; rejects, with nothing left running, when a part cannot. */
  start(): Promise<Started>
  /** Drains and stops everything. Safe to call more than once, and before `start` has finished. */
  stop(): Promise<void>
}

export interface Started {
  /** Where this process takes requests, without a slash at the end. */
  readonly url: string
  readonly gatewayUrl: string
  /** The owner's token, when this start minted it: to be shown once. */
  readonly ownerToken: string | undefined
  readonly engine: 'ws' | 'uws'
  /** The package that carries robots' sockets, with its version, and why it does. */
  readonly engineBuild: string
  readonly engineWhy: string
  /** How many processes hold robots. */
  readonly processes: number
  readonly database: 'embedded' | 'external'
}

const GATEWAY_CONNECTIONS = 6
const HTTP_CONNECTIONS = 8
/** One packs, the other makes and drops partitions. */
const UPKEEP_CONNECTIONS = 2
/** How long a statement may take, after how much silence its connection is given up, and how it is planned. */
const GATEWAY_POOL = {
  statementTimeoutMs: 30_000,
  silenceTimeoutMs: 45_000,
  onePlanEach: true,
  keepsIdle: true,
}
const UPKEEP_POOL = { ...GATEWAY_POOL, onePlanEach: false, keepsIdle: false }
const HTTP_POOL = {
  statementTimeoutMs: 8_000,
  silenceTimeoutMs: 10_000,
  onePlanEach: false,
  keepsIdle: false,
}

/** The upkeep's, the bus's, and what the start and the commands that work on the database take. */
const OTHER_CONNECTIONS = 16
/** What PostgreSQL allows unless told otherwise. */
const USUAL_CONNECTIONS = 100

/** How many connections our own PostgreSQL has to allow, for this process and those that hold robots besides it. */
function maxConnections(processes: number): number {
  const each = GATEWAY_PROCESS_CONNECTIONS + 1
  const needed = GATEWAY_CONNECTIONS + HTTP_CONNECTIONS + OTHER_CONNECTIONS
  return Math.max(needed + (processes > 1 ? processes * each : 0), USUAL_CONNECTIONS)
}

/** Builds the whole server from its settings, part by part; they are released in reverse. */
export function createBeacon(config: Config, parts: BeaconParts): Beacon {
  const { clock, random, log } = parts
  const releases = new Releases((name, error) =>
    log.error({ err: error, part: name }, 'could not stop a part'),
  )
  let stopping: Promise<void> | undefined

  async function build(): Promise<Started> {
    const server = { id: newId(), hostname: hostname(), processId: process.pid }
    const metrics = createMetrics()
    const { engine, why: engineWhy } = await chooseEngine(config.gatewayEngine)

    let ownerUrl = config.databaseOwnerUrl ?? config.databaseUrl
    if (ownerUrl === undefined) {
      const embedded = await startEmbeddedPostgres({
        dataDir: config.dataDir,
        log,
        clock,
        random,
        onLost: parts.onFatal,
        settings: { max_connections: String(maxConnections(config.gatewayProcesses)) },
      })
      releases.add('embedded PostgreSQL', () => embedded.stop())
      ownerUrl = embedded.url
    }
    await migrate({ url: ownerUrl, log })
    // From here on nothing works with the rights of the tables' owner.
    const urls = await separateRoles({
      ownerUrl,
      serverUrl: config.databaseOwnerUrl === undefined ? undefined : config.databaseUrl,
      ownLogins: config.databaseUrl === undefined,
      random,
      log,
    })

    const pool = (
      name: string,
      maxConnections: number,
      settings: typeof HTTP_POOL,
      url: string = urls.server,
    ) => {
      const opened = openPool({
        url,
        name: `beacon ${name}`,
        maxConnections,
        ...settings,
        onIdleError: (error) => log.warn({ err: error }, 'a database connection was lost'),
      })
      releases.add(`${name} database connections`, () => closePool(opened, clock))
      return opened
    }
    // Apart, so that slow questions of operators never stand before heartbeats.
    const gatewayPool = pool('gateway', GATEWAY_CONNECTIONS, GATEWAY_POOL)
    const httpPool = pool('http', HTTP_CONNECTIONS, HTTP_POOL)
    const gatewayDatabase = openDatabase(gatewayPool)
    const allowed = await readMaxConnections(gatewayDatabase)
    const needed = maxConnections(config.gatewayProcesses)
    if (config.gatewayProcesses > 1 && allowed < needed)
      log.warn({ allowed, needed }, 'PostgreSQL allows fewer connections than the processes may need')
    const httpDatabase = openDatabase(httpPool)

    const upkeep = openDatabase(pool('upkeep', UPKEEP_CONNECTIONS, UPKEEP_POOL, urls.upkeep))
    const now = () => agreedTime(upkeep, clock)
    const maintenance = startMaintenance({
      database: gatewayDatabase,
      upkeep,
      clock,
      now,
      retention: config.history,
      log,
    })
    releases.add('maintenance', () => maintenance.stop())
    await maintenance.ready
    const packer = startPacker({ upkeep, clock, now, retention: config.history, log, metrics })
    releases.add('packing of heartbeats', () => packer.stop())
    const diskWatch = startDiskWatch({
      database: upkeep,
      folder: config.databaseUrl === undefined ? config.dataDir : undefined,
      clock,
      log,
      metrics,
    })
    releases.add('watch over the disk', () => diskWatch.stop())

    const bus: Bus =
      config.bus === 'postgres'
        ? await createPostgresBus({ url: urls.server, pool: gatewayPool, serverId: server.id, clock, log })
        : createLocalBus()
    releases.add('bus', () => bus.stop())

    const { token: ownerToken } = await ensureOwner(httpDatabase, {
      adminToken: config.adminToken,
      random,
      clock,
    })
    const keyring = config.secretKey
      ? settingsKeyring(config.secretKey, config.secretKeyPrevious)
      : await fileKeyring(config.dataDir, random, config.secretKeyPrevious)
    const seal = createKeyringSeal(keyring, random)
    const secrets = createSecretRotation({ database: httpDatabase, keyring, seal, clock, log })
    releases.add('secret rotation', () => secrets.stop())

    const standing = createStanding({ database: httpDatabase, bus, clock, log })
    releases.add('watch over tokens', () => standing.stop())

    const audit = createAudit({ database: httpDatabase, clock, log })
    releases.add('audit log', () => audit.stop())

    const rotations = new RotationRequests({ database: gatewayDatabase, bus, clock, log, server })
    rotations.start()
    releases.add('requests for new tokens', () => rotations.stop())

    const claims = createClaims({
      database: httpDatabase,
      clock,
      random,
      bus,
      audit,
      onClonesSuspected: (robotIds) => void rotations.suspect(robotIds),
      log,
      metrics,
      defaults: { heartbeatIntervalMs: config.heartbeatIntervalMs },
    })
    releases.add('claims', () => claims.idle())

    const pendingExpiry = startPendingExpiry({ database: httpDatabase, clock, bus, log })
    releases.add('expiry of pending robots', () => pendingExpiry.stop())

    // The server's own door is one more of them: robots with an older address come to it.
    const doors = config.gatewayProcesses > 1 ? config.gatewayProcesses + 1 : 1
    const sessionsPerSecond = config.sessionsPerSecond / doors
    let robotPort: RobotPort | undefined
    let goneServers: readonly string[] = []
    let expectedRobots = 0
    const gateway = new Gateway({
      database: gatewayDatabase,
      bus,
      clock,
      random,
      log,
      metrics,
      server,
      defaultIntervalMs: config.heartbeatIntervalMs,
      clonePolicy: config.clonePolicy,
      sessionsPerSecond,
      returnsPerSecond: config.sessionsPerSecond,
      reconnectSpreadMs: config.reconnectSpreadMs,
      onDescriptorsGone: (areGone) => robotPort?.shut(areGone),
      onGoneChanged: (serverIds) => {
        goneServers = serverIds
        robotPort?.setGoneServers(serverIds)
      },
      onExpectedRobots: (robots) => {
        expectedRobots = robots
        robotPort?.setExpectedRobots(robots)
      },
    })
    await gateway.start()
    // Gateway processes open no secrets, but are servers like any other to whoever changes keys.
    await secrets.announce(() => [server.id, ...(robotPort?.serverIds() ?? [])])

    const handouts = openHandouts(join(packageRoot, 'dist/install'))
    releases.add('what robots install', () => handouts.close())
    const live = createLiveFeeds({
      database: httpDatabase,
      clock,
      random,
      log,
      metrics,
      render: renderRobot,
    })
    const http = await createHttp({
      config,
      database: httpDatabase,
      access: createAccess(httpDatabase),
      standing,
      live,
      audit,
      seal,
      signIn: createSignInDesk({ clock, random, seal, oidc: config.oidc }),
      secrets,
      handouts,
      claims,
      bus,
      log,
      metrics,
      clock,
      random,
      health: createHealth({
        database: httpDatabase,
        clock,
        draining: () => gateway.draining,
        takesRobots: () => robotPort?.isOpen() ?? true,
      }),
      processSeries: () => robotPort?.series() ?? seriesOf(metrics),
      rateLimits: { ...RATE_LIMITS, requests: ratePerSecond(config.requestsPerSecond) },
      takesUpgrade: isWebSocketUpgrade,
      gatewayPath: GATEWAY_PATH,
      gatewayPort: () => robotPort?.port,
    })
    releases.add('HTTP', () => http.close())
    // Beyond these, connections are hung up on: what is left is for the database, files and the other port.
    const descriptors = descriptorLimit()
    if (descriptors !== undefined) http.server.maxConnections = descriptors - reservedDescriptors(descriptors)
    const headers = (requestId: string) => baseHeaders(config, requestId)
    const admit = tellingRefusals((request: UpgradeRequest) => gateway.admit(request), { audit, clock })
    const detach = attachWsTransport({
      server: http.server,
      path: GATEWAY_PATH,
      trustedProxies: config.trustedProxies,
      headers,
      admit,
      log,
    })
    releases.add('upgrades', detach)
    // Before the listening sockets go, so that robots sent away find somebody who tells them when to come back. All
    // processes at once: how long they may take together is limited.
    releases.add('gateway', async () => {
      await Promise.all([gateway.stop(), config.gatewayProcesses > 1 && robotPort?.stop()])
      await robotPort?.stop()
    })
    // First of all: an answer that goes on would keep HTTP open, and its reader finds another server meanwhile.
    releases.add('live feeds', () => live.stop())
    if (hasRobotPort(config, engine)) {
      robotPort = await openRobotPort({
        config,
        engine,
        gateway,
        path: GATEWAY_PATH,
        databaseUrl: urls.server,
        sessionsPerSecond,
        headers,
        admit,
        onRefused: ({ at, ...refusal }) => audit.refused({ ...refusal, at: new Date(at) }),
        clock,
        random,
        log,
        metrics,
      })
      robotPort.setGoneServers(goneServers)
      robotPort.setExpectedRobots(expectedRobots)
    }

    const url = await http.listen({ host: config.host, port: config.port })
    const { protocol, hostname: host } = new URL(url)
    const own = robotPort ? `${protocol}//${host}:${robotPort.port}` : url
    return {
      url,
      gatewayUrl: `${(config.publicUrl ?? own).replace(/^http/, 'ws')}${GATEWAY_PATH}`,
      ownerToken,
      engine: engine.name,
      engineBuild: engine.build,
      engineWhy,
      processes: config.gatewayProcesses,
      database: config.databaseUrl === undefined ? 'embedded' : 'external',
    }
  }

  let starting: Promise<Started> | undefined
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      await starting?.catch(() => {})
      await releases.run()
    })()
    return stopping
  }
  return {
    start() {
      starting = build()
      return starting.catch(async (error: unknown) => {
        await stop()
        throw error
      })
    },
    stop,
  }
}
