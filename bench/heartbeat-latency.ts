import { setTimeout as sleep } from 'node:timers/promises'
import type { Look } from './programs/robot-crowd.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, withChildren } from './support/child.ts'
import { comparedWithBare } from './support/compared.ts'
import { RobotCrowd } from './support/crowd.ts'
import { databaseCpuSeconds } from './support/database.ts'
import { type EngineName, enginesAsked, startBareServer } from './support/engines.ts'
import { enrolRobots } from './support/fleet.ts'
import { Histogram } from './support/histogram.ts'
import { alternate, spreadOf } from './support/measure.ts'
import { readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf } from './support/proc.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'
import { untilQuiet } from './support/settling.ts'

// How soon is a heartbeat acknowledged, and so in PostgreSQL, when a process holds 19,000 robots that send one every 15 s,
// and how soon does the bare engine send the same bytes back to as many?

const {
  engine,
  robots: ROBOTS,
  rounds: ROUNDS,
  seconds: SECONDS,
} = readOptions({ engine: 'both', robots: 19_000, rounds: 3, seconds: 20 })
const INTERVAL_SECONDS = 15
const AIMS_MS: Readonly<Record<EngineName, number>> = { ws: 20, uws: 10 }
const CONNECT_PER_SECOND = 1_500
const ANSWERED_WITHIN_SECONDS = 10

interface Round {
  readonly count: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly maxMs: number
  /** Share of one core: of the server's process, of the database behind it, and of the robots. */
  readonly serverShare: number
  readonly databaseShare: number
  readonly robotShare: number
}

type Variant = 'heartbeats' | 'echoes'

function measureEngine(engine: EngineName): Promise<Record<Variant, Round[]>> {
  return withPostgres((databaseUrl) =>
    withChildren(async (start) => {
      // Robots fall silent while the others are measured, and nobody shall call them lost for it.
      const settings = { BEACON_HEARTBEAT_SECONDS: String(4 * SECONDS) }
      const beacon = await startBeaconServer(start, { databaseUrl, engine, settings })
      const bare = await startBareServer(start, engine)
      const tokens = (await enrolRobots(databaseUrl, ROBOTS)).map((robot) => robot.token)
      const databaseSeconds = await databaseCpuSeconds(databaseUrl)
      const crowds: Record<Variant, RobotCrowd> = {
        heartbeats: await RobotCrowd.start(start, { port: beacon.gatewayPort }),
        echoes: await RobotCrowd.start(start, { port: bare.port, firstAddress: 10 }),
      }
      for (const crowd of Object.values(crowds)) {
        await crowd.connect(tokens, { perSecond: CONNECT_PER_SECOND })
        await crowd.beatOnce()
      }
      await untilQuiet([beacon.child.pid, bare.child.pid])

      async function measure(variant: Variant, server: Child): Promise<Round> {
        const crowd = crowds[variant]
        const before = {
          look: await crowd.look(),
          server: cpuSecondsOf(server.pid),
          database: databaseSeconds(),
        }
        await crowd.ask({ do: 'beat-every', intervalMs: INTERVAL_SECONDS * 1000 })
        await sleep(SECONDS * 1000)
        const used = {
          server: cpuSecondsOf(server.pid) - before.server,
          database: databaseSeconds() - before.database,
        }
        await crowd.ask({ do: 'beat-every', intervalMs: 0 })
        // Those on the way count as well: the slow ones are among them.
        if (!(await crowd.ask<boolean>({ do: 'all-answered', withinSeconds: ANSWERED_WITHIN_SECONDS })))
          throw new Error(`heartbeats were not answered within ${ANSWERED_WITHIN_SECONDS} s`)
        const look: Look = await crowd.look()
        const latencies = Histogram.of([look.latencies])
        return {
          count: latencies.count,
          p50Ms: latencies.quantileMs(0.5),
          p99Ms: latencies.quantileMs(0.99),
          p999Ms: latencies.quantileMs(0.999),
          maxMs: latencies.maxMs,
          serverShare: used.server / SECONDS,
          databaseShare: used.database / SECONDS,
          robotShare: (look.crowdSeconds - before.look.crowdSeconds) / SECONDS,
        }
      }

      return alternate<Variant, Round>(ROUNDS, {
        heartbeats: () => measure('heartbeats', beacon.child),
        echoes: () => measure('echoes', bare.child),
      })
    }),
  )
}

function figuresOf(engine: EngineName, rounds: Record<Variant, Round[]>): Figure[] {
  const of = (variant: Variant, figure: (round: Round) => number) => spreadOf(rounds[variant].map(figure))
  const quantiles = (what: string, variant: Variant): Figure[] => [
    { what: `${what} p50 ms`, spread: of(variant, (round) => round.p50Ms), digits: 2 },
    {
      what: `${what} p99 ms`,
      spread: of(variant, (round) => round.p99Ms),
      digits: 2,
      headline: variant === 'heartbeats',
    },
    { what: `${what} p99.9 ms`, spread: of(variant, (round) => round.p999Ms), digits: 2 },
    { what: `${what} slowest ms`, spread: of(variant, (round) => round.maxMs), digits: 1 },
  ]
  const percent = (what: string, variant: Variant, share: (round: Round) => number): Figure => ({
    what: `${what}, % of a core`,
    spread: of(variant, (round) => share(round) * 100),
    digits: 1,
  })
  const rows: Figure[] = [
    ...quantiles('heartbeat → ack', 'heartbeats'),
    ...quantiles('bare echo', 'echoes'),
    percent('gateway', 'heartbeats', (round) => round.serverShare),
    percent('its database', 'heartbeats', (round) => round.databaseShare),
    percent('its robots', 'heartbeats', (round) => round.robotShare),
    percent('bare engine', 'echoes', (round) => round.serverShare),
  ]
  return rows.map((row) => ({ ...row, what: `${engine}: ${row.what}` }))
}

const figures: Figure[] = []
const groups: BarChart['groups'][number][] = []
const rounds: Partial<Record<EngineName, Record<Variant, Round[]>>> = {}
for (const name of enginesAsked(engine)) {
  rounds[name] = await measureEngine(name)
  figures.push(...figuresOf(name, rounds[name]))
  const p99 = (each: readonly Round[]) => each.map((round) => round.p99Ms)
  groups.push({
    ...comparedWithBare(`${name}, p99`, 'ms', {
      ours: p99(rounds[name].heartbeats),
      bare: p99(rounds[name].echoes),
    }),
    aim: { value: AIMS_MS[name], good: 'below' },
  })
}

await saveReport({
  name: 'heartbeat-latency',
  question:
    `From a robot’s heartbeat to its acknowledgement, with ${ROBOTS.toLocaleString('en')} robots on one process that send ` +
    `one every ${INTERVAL_SECONDS} s at times of their own, against the echo of the bare engine to as many; ` +
    'quantiles of each round, and the median of these',
  figures,
  chart: { title: `Heartbeat → acknowledgement with ${ROBOTS.toLocaleString('en')} robots`, groups },
  settings: {
    rounds: ROUNDS,
    robots: ROBOTS,
    interval_seconds: INTERVAL_SECONDS,
    seconds: SECONDS,
    fsync: 'on',
  },
  rounds,
})
