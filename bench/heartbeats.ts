import { HEARTBEAT_BYTES } from './programs/heartbeat-frames.ts'
import type { Answered, CrowdQuestion } from './programs/robot-crowd.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, withChildren } from './support/child.ts'
import { comparedWithBare } from './support/compared.ts'
import { RobotCrowd } from './support/crowd.ts'
import { COUNTING_STATEMENTS, databaseCpuSeconds, databaseStatements } from './support/database.ts'
import { ENGINE_NAMES, type EngineName, enginesAsked, startBareServer } from './support/engines.ts'
import { enrolRobots } from './support/fleet.ts'
import { Histogram } from './support/histogram.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf, kernelSecondsOf } from './support/proc.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'

// How many heartbeats, durable in PostgreSQL and acknowledged, does a second of the gateway's processor time buy, when
// the same second of the bare engine buys so many echoes of the same bytes?

const { engine, rounds: ROUNDS, seconds: SECONDS } = readOptions({ engine: 'both', rounds: 5, seconds: 4 })
const ROBOTS = 1_000
/** Each robot sends its next heartbeat when the last one is acknowledged. */
const IN_FLIGHT = 1
const PACED_PER_SECOND = 1_000

/** What one stretch of load took, and what came of it. */
interface Round {
  readonly count: number
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Processor seconds: of the server's process, of that in the kernel, of the database behind it, and of the robots. */
  readonly serverSeconds: number
  readonly kernelSeconds: number
  readonly databaseSeconds: number
  readonly robotSeconds: number
  readonly statements: number
}

type Variant = 'heartbeats' | 'echoes' | 'pacedHeartbeats' | 'pacedEchoes'

function measureEngine(engine: EngineName): Promise<Record<Variant, Round[]>> {
  return withPostgres(
    (databaseUrl) =>
      withChildren(async (start) => {
        const beacon = await startBeaconServer(start, { databaseUrl, engine })
        const bare = await startBareServer(start, engine)
        const tokens = (await enrolRobots(databaseUrl, ROBOTS)).map((robot) => robot.token)
        const databaseSeconds = await databaseCpuSeconds(databaseUrl)
        const statements = await databaseStatements(databaseUrl)

        const crowds = {
          ours: await RobotCrowd.start(start, { port: beacon.gatewayPort }),
          echoing: await RobotCrowd.start(start, { port: bare.port, firstAddress: 10 }),
        }
        for (const crowd of Object.values(crowds)) await crowd.connect(tokens)

        async function measure(server: Child, crowd: RobotCrowd, question: CrowdQuestion): Promise<Round> {
          const look = async () => ({
            server: cpuSecondsOf(server.pid),
            kernel: kernelSecondsOf(server.pid),
            database: databaseSeconds(),
          })
          const statementsBefore = await statements()
          const before = await look()
          const answered = await crowd.ask<Answered>(question)
          const after = await look()
          const latencies = Histogram.of([answered.latencies])
          return {
            count: answered.count,
            seconds: answered.seconds,
            p50Ms: latencies.quantileMs(0.5),
            p99Ms: latencies.quantileMs(0.99),
            serverSeconds: after.server - before.server,
            kernelSeconds: after.kernel - before.kernel,
            databaseSeconds: after.database - before.database,
            robotSeconds: answered.crowdSeconds,
            statements: (await statements()) - statementsBefore,
          }
        }

        const saturate: CrowdQuestion = { do: 'saturate', seconds: SECONDS, inFlight: IN_FLIGHT }
        const pace: CrowdQuestion = { do: 'pace', seconds: SECONDS, perSecond: PACED_PER_SECOND }
        return alternate<Variant, Round>(ROUNDS, {
          heartbeats: () => measure(beacon.child, crowds.ours, saturate),
          echoes: () => measure(bare.child, crowds.echoing, saturate),
          pacedHeartbeats: () => measure(beacon.child, crowds.ours, pace),
          pacedEchoes: () => measure(bare.child, crowds.echoing, pace),
        })
      }),
    COUNTING_STATEMENTS,
  )
}

const perCpuSecond = (round: Round) => round.count / round.serverSeconds

function figuresOf(engine: EngineName, rounds: Record<Variant, Round[]>): Figure[] {
  const of = (variant: Variant, figure: (round: Round) => number) => spreadOf(rounds[variant].map(figure))
  const microseconds = (round: Round) => (round.serverSeconds * 1e6) / round.count
  const kernelPercent = (round: Round) => (round.kernelSeconds * 100) / round.serverSeconds

  const compare = (load: string, ours: Variant, bare: Variant): Figure[] => {
    const what = (figure: string) => `${engine}, ${load}: ${figure}`
    return [
      { what: what('heartbeats per processor second of the gateway'), spread: of(ours, perCpuSecond) },
      { what: what('echoes per processor second of the bare engine'), spread: of(bare, perCpuSecond) },
      {
        what: what('ratio'),
        spread: spreadOf(ratiosOf(rounds[ours].map(perCpuSecond), rounds[bare].map(perCpuSecond))),
        digits: 3,
        headline: true,
      },
      { what: what('gateway µs per heartbeat'), spread: of(ours, microseconds), digits: 1 },
      { what: what('share of the gateway’s in the kernel, %'), spread: of(ours, kernelPercent) },
      { what: what('bare engine µs per echo'), spread: of(bare, microseconds), digits: 1 },
      { what: what('share of the bare engine’s in the kernel, %'), spread: of(bare, kernelPercent) },
      {
        what: what('database processor ms per 1,000 heartbeats, not in the ratio'),
        spread: of(ours, (round) => (round.databaseSeconds * 1e6) / round.count),
        digits: 1,
      },
      {
        what: what('statements per 1,000 heartbeats'),
        spread: of(ours, (round) => (round.statements * 1e3) / round.count),
        digits: 1,
      },
      { what: what('heartbeat → ack p50 ms'), spread: of(ours, (round) => round.p50Ms), digits: 1 },
      { what: what('heartbeat → ack p99 ms'), spread: of(ours, (round) => round.p99Ms), digits: 1 },
      { what: what('bare echo p50 ms'), spread: of(bare, (round) => round.p50Ms), digits: 2 },
      { what: what('bare echo p99 ms'), spread: of(bare, (round) => round.p99Ms), digits: 2 },
    ]
  }
  const perSecond = (what: string, variant: Variant): Figure => ({
    what: `${engine}, saturated: ${what} by the clock, with robots and database on the same cores`,
    spread: of(variant, (round) => round.count / round.seconds),
  })
  return [
    ...compare('saturated', 'heartbeats', 'echoes'),
    perSecond('heartbeats/s', 'heartbeats'),
    perSecond('bare echoes/s', 'echoes'),
    ...compare(`${PACED_PER_SECOND.toLocaleString('en')}/s`, 'pacedHeartbeats', 'pacedEchoes'),
  ]
}

const figures: Figure[] = []
const groups: BarChart['groups'][number][] = []
const rounds: Partial<Record<EngineName, Record<Variant, Round[]>>> = {}
for (const name of enginesAsked(engine)) {
  rounds[name] = await measureEngine(name)
  figures.push(...figuresOf(name, rounds[name]))
  groups.push(
    comparedWithBare(
      `${name}, saturated`,
      'per processor second',
      {
        ours: rounds[name].heartbeats.map(perCpuSecond),
        bare: rounds[name].echoes.map(perCpuSecond),
      },
      { times: 0.6, good: 'above' },
    ),
  )
}

await saveReport({
  name: 'heartbeats',
  question:
    'Heartbeats that are durable in PostgreSQL and acknowledged, for each second of the gateway process’s processor ' +
    `time, against echoes of the same bytes by the bare engine (${Object.values(ENGINE_NAMES).join(', ')}) for each of its own`,
  figures,
  chart: { title: 'Durable heartbeats beside bare echoes', groups },
  settings: {
    rounds: ROUNDS,
    robots: ROBOTS,
    seconds: SECONDS,
    in_flight: IN_FLIGHT,
    paced_per_second: PACED_PER_SECOND,
    heartbeat_bytes: HEARTBEAT_BYTES,
    fsync: 'on',
  },
  rounds,
})
