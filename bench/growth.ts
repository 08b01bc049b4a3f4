import { setTimeout as sleep } from 'node:timers/promises'
import { FIRST_SEQ } from './programs/heartbeat-frames.ts'
import { withChildren } from './support/child.ts'
import { postmasterOf } from './support/database.ts'
import { ENGINE_NAMES, type EngineName } from './support/engines.ts'
import { GrowingFleet } from './support/fleet.ts'
import { FleetCrowds } from './support/fleet-crowds.ts'
import { startManyProcesses } from './support/gateway-processes.ts'
import { spreadOf } from './support/measure.ts'
import { machineMemory, proportionalBytesOf, treeOf } from './support/memory.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { type Figure, keepReport, type Report, saveReport } from './support/report.ts'

// How many robots does one machine hold, with the robots themselves on it, and what ends it?

const options = readOptions({
  engine: 'uws',
  /** Steps before the large ones, each with a server of its own. */
  first: '1000,10000,100000',
  /** From there on one server is filled in steps, towards so many. */
  step: 100_000,
  to: 1_000_000,
  'per-process': 18_000,
  /** All robots together; their interval follows from it, and is no shorter than 15 s. */
  'heartbeats-per-second': 3_000,
  seconds: 30,
  /** MiB that have to stay available. */
  'keep-free': 1_536,
})
const SHORTEST_INTERVAL_SECONDS = 15
const PATIENCE_SECONDS = 60
const MIB = 2 ** 20
/** More heartbeats than a robot sends to one server. */
const STAGE_SEQS = 10_000
/** Connections that gateway processes and the server itself may have to PostgreSQL. */
const CONNECTIONS_PER_PROCESS = 10

interface Step {
  readonly robots: number
  readonly connected: number
  readonly processes: number
  readonly connectSeconds: number
  readonly robotsPerSecond: number
  readonly heartbeatIntervalSeconds: number
  readonly heartbeatsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly gatewaysMiB: number
  readonly serverMiB: number
  readonly robotsMiB: number
  readonly postgresMiB: number
  readonly kernelMiB: number
  readonly availableMiB: number
  readonly sockets: number
}

const steps: Step[] = []
/** Of the gateway processes before there were robots. */
const emptyGatewaysMiB: Record<number, number> = {}
let stoppedBy: string | undefined

const keepFree = options['keep-free'] * MIB
let lowest = Number.POSITIVE_INFINITY
const guard = setInterval(() => {
  const { available } = machineMemory()
  lowest = Math.min(lowest, available)
  if (available < keepFree) stoppedBy ??= `memory: ${Math.round(available / MIB)} MiB were left`
}, 1_000)
const mayGoOn = () => stoppedBy === undefined

const intervalFor = (robots: number) =>
  Math.max(SHORTEST_INTERVAL_SECONDS, Math.ceil(robots / options['heartbeats-per-second']))

/** One server, filled in these steps. */
async function fill(databaseUrl: string, fleet: GrowingFleet, counts: readonly number[]): Promise<void> {
  const postmaster = await postmasterOf(databaseUrl)
  const most = counts.at(-1)!
  const processes = Math.ceil(most / options['per-process'])
  await withChildren(async (start) => {
    const before = machineMemory()
    const server = await startManyProcesses(start, {
      databaseUrl,
      engine: options.engine as EngineName,
      processes,
      heartbeatSeconds: intervalFor(most),
    })
    await server.complete()
    await sleep(5_000)
    emptyGatewaysMiB[processes] = proportionalBytesOf(server.gateways()) / MIB
    const crowds = new FleetCrowds({
      start,
      port: server.gatewayPort,
      seed: fleet.seed,
      handshakesAtOnce: 25,
      maxInFlight: 4,
      firstSeq: FIRST_SEQ + STAGE_SEQS * Object.keys(emptyGatewaysMiB).length,
      persistence: { jitterMs: 2_000, maxJitterMs: 30_000 },
      shortHeartbeats: true,
    })
    for (const robots of counts) {
      if (!mayGoOn()) return
      await fleet.growTo(robots)
      const begun = performance.now()
      const missing = robots - crowds.robots
      await crowds.growTo(robots)
      const heartbeatIntervalSeconds = intervalFor(robots)
      await crowds.beatEvery(heartbeatIntervalSeconds * 1000)
      if (!(await crowds.allHere(PATIENCE_SECONDS, mayGoOn)))
        stoppedBy ??= `no robot more in ${PATIENCE_SECONDS} s: ${JSON.stringify(await crowds.counts())}`
      const connectSeconds = (performance.now() - begun) / 1000
      const { here } = await crowds.counts()
      if (!mayGoOn()) await crowds.stayAway()
      await sleep(5_000)
      await crowds.look()
      await sleep(options.seconds * 1000)
      const look = await crowds.look()
      const after = machineMemory()
      const gateways = proportionalBytesOf(server.gateways())
      steps.push({
        robots,
        connected: look.here,
        processes,
        connectSeconds,
        robotsPerSecond: Math.min(missing, here) / connectSeconds,
        heartbeatIntervalSeconds,
        heartbeatsPerSecond: look.latencies.count / options.seconds,
        p50Ms: look.latencies.quantileMs(0.5),
        p99Ms: look.latencies.quantileMs(0.99),
        gatewaysMiB: gateways / MIB,
        serverMiB: (proportionalBytesOf(treeOf(server.child.pid)) - gateways) / MIB,
        robotsMiB: proportionalBytesOf(crowds.pids) / MIB,
        postgresMiB: proportionalBytesOf(treeOf(postmaster)) / MIB,
        kernelMiB: (after.kernel - before.kernel) / MIB,
        availableMiB: after.available / MIB,
        sockets: after.sockets - before.sockets,
      })
      process.stderr.write(`${JSON.stringify(steps.at(-1))}\n`)
      await keepReport(report('it was ended by hand, after this step'))
      await crowds.hush()
    }
  })
}

/** `end`: what stopped it, where nothing else did. */
function report(end: string): Report {
  const most = steps.reduce((best, step) => (step.connected > best.connected ? step : best))
  const perRobot = (mib: number) => (mib * 1024) / most.connected
  const figure = (what: string, value: number, digits = 0, headline = false): Figure => ({
    what,
    spread: spreadOf([value]),
    digits,
    headline,
  })
  return {
    name: 'growth',
    question:
      `Robots with a session each on one machine, robots and PostgreSQL included, in gateway processes of at most ` +
      `${options['per-process'].toLocaleString('en')} (${ENGINE_NAMES[options.engine as EngineName]}). ` +
      `What stopped it: ${stoppedBy ?? end}`,
    figures: [
      figure('robots connected and heard', most.connected, 0, true),
      figure('gateway processes', most.processes),
      figure('of which each takes, without robots, MiB', emptyGatewaysMiB[most.processes]! / most.processes),
      figure('gateway processes, KiB for each robot', perRobot(most.gatewaysMiB), 2),
      figure(
        'gateway processes beyond what they take without robots, KiB for each robot',
        perRobot(most.gatewaysMiB - emptyGatewaysMiB[most.processes]!),
        2,
      ),
      figure('kernel, both ends of each socket, KiB for each robot', perRobot(most.kernelMiB), 2),
      figure('the robots’ own processes, KiB for each robot', perRobot(most.robotsMiB), 2),
      figure('PostgreSQL, KiB for each robot', perRobot(most.postgresMiB), 2),
      ...steps.flatMap((step) => {
        const name = `${step.connected.toLocaleString('en')} robots`
        return [
          figure(`${name}: connected per second`, step.robotsPerSecond),
          figure(`${name}: heartbeats/s`, step.heartbeatsPerSecond),
          figure(`${name}: heartbeat → ack p99 ms`, step.p99Ms, 1),
        ]
      }),
    ],
    settings: { ...options, given: optionsGiven },
    rounds: {
      steps,
      emptyGatewaysMiB,
      stoppedBy: stoppedBy ?? null,
      lowestAvailableMiB: lowest / MIB,
    },
  }
}

try {
  const first = options.first.split(',').filter(Boolean).map(Number)
  const large: number[] = []
  for (let robots = (first.at(-1) ?? 0) + options.step; robots <= options.to; robots += options.step)
    large.push(robots)
  const stages = [...first.map((robots) => [robots]), ...(large.length > 0 ? [large] : [])]
  const processes = Math.ceil(Math.max(...stages.flat()) / options['per-process'])
  await withPostgres(
    async (databaseUrl) => {
      const fleet = new GrowingFleet(databaseUrl)
      for (const stage of stages) if (mayGoOn()) await fill(databaseUrl, fleet, stage)
    },
    { max_connections: String(100 + processes * CONNECTIONS_PER_PROCESS) },
  )
  await saveReport(report('nothing; more were not asked for'))
} finally {
  clearInterval(guard)
}
