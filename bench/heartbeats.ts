import { HEARTBEAT_BYTES } from './programs/heartbeat-frames.ts'
import type { Answered, RobotsQuestion } from './programs/robots.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, withChildren } from './support/child.ts'
import { databaseCpuSeconds } from './support/database.ts'
import { enrolRobots } from './support/fleet.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf } from './support/proc.ts'
import { saveReport } from './support/report.ts'

// How many heartbeats, durable in PostgreSQL and acknowledged, does a second of the server's processor time buy, when
// the same second of the bare engine buys so many echoes of the same bytes?

const ROUNDS = 5
const ROBOTS = 1_000
const SECONDS = 4
/** Each robot sends its next heartbeat when the last one is acknowledged. */
const IN_FLIGHT = 1
const PACED_PER_SECOND = 1_000

interface Round extends Answered {
  /** Processor seconds of the server, and of the database behind it. */
  readonly serverSeconds: number
  readonly databaseSeconds: number
}

await withPostgres((databaseUrl) =>
  withChildren(async (start) => {
    const beacon = await startBeaconServer(start, { databaseUrl })
    const echo = start(new URL('./programs/echo-server.js', import.meta.url))
    const tokens = (await enrolRobots(databaseUrl, ROBOTS)).map((robot) => robot.token)
    const databaseSeconds = await databaseCpuSeconds(databaseUrl)

    async function connect(port: number): Promise<Child> {
      const robots = start(new URL('./programs/robots.js', import.meta.url))
      await robots.ask({ do: 'connect', port, tokens } satisfies RobotsQuestion)
      return robots
    }
    const robots = { of: await connect(beacon.port), echoing: await connect(await echo.ask<number>({})) }

    async function measure(server: Child, load: Child, question: RobotsQuestion): Promise<Round> {
      const before = { server: cpuSecondsOf(server.pid), database: databaseSeconds() }
      const answered = await load.ask<Answered>(question)
      return {
        ...answered,
        serverSeconds: cpuSecondsOf(server.pid) - before.server,
        databaseSeconds: databaseSeconds() - before.database,
      }
    }

    const saturate: RobotsQuestion = { do: 'saturate', seconds: SECONDS, inFlight: IN_FLIGHT }
    const pace: RobotsQuestion = { do: 'pace', seconds: SECONDS, perSecond: PACED_PER_SECOND }
    const rounds = await alternate(ROUNDS, {
      heartbeats: () => measure(beacon.child, robots.of, saturate),
      echoes: () => measure(echo, robots.echoing, saturate),
      pacedHeartbeats: () => measure(beacon.child, robots.of, pace),
      pacedEchoes: () => measure(echo, robots.echoing, pace),
    })

    const perCpuSecond = (name: keyof typeof rounds) =>
      rounds[name].map((round) => round.count / round.serverSeconds)
    const of = (name: keyof typeof rounds, figure: (round: Round) => number) =>
      spreadOf(rounds[name].map(figure))
    const ratio = (name: keyof typeof rounds, baseline: keyof typeof rounds) =>
      spreadOf(ratiosOf(perCpuSecond(name), perCpuSecond(baseline)))
    const databaseMicroseconds = (round: Round) => (round.databaseSeconds * 1e6) / round.count
    const paced = `at ${PACED_PER_SECOND.toLocaleString('en')}/s`

    await saveReport({
      name: 'heartbeats',
      question:
        'Heartbeats that are durable in PostgreSQL and acknowledged, for each second of the server process’s processor ' +
        'time, against echoes of the same bytes by the bare ws engine for each of its own',
      figures: [
        { what: 'saturated: heartbeats per processor second', spread: spreadOf(perCpuSecond('heartbeats')) },
        { what: 'saturated: bare echoes per processor second', spread: spreadOf(perCpuSecond('echoes')) },
        { what: 'saturated: ratio', spread: ratio('heartbeats', 'echoes'), digits: 3, headline: true },
        { what: 'saturated: heartbeats/s', spread: of('heartbeats', (round) => round.count / round.seconds) },
        { what: 'saturated: bare echoes/s', spread: of('echoes', (round) => round.count / round.seconds) },
        {
          what: 'saturated: heartbeat → ack p50 ms',
          spread: of('heartbeats', (round) => round.p50Ms),
          digits: 1,
        },
        {
          what: 'saturated: heartbeat → ack p99 ms',
          spread: of('heartbeats', (round) => round.p99Ms),
          digits: 1,
        },
        {
          what: 'saturated: database processor µs per heartbeat',
          spread: of('heartbeats', databaseMicroseconds),
          digits: 1,
        },
        {
          what: `${paced}: heartbeats per processor second`,
          spread: spreadOf(perCpuSecond('pacedHeartbeats')),
        },
        { what: `${paced}: bare echoes per processor second`, spread: spreadOf(perCpuSecond('pacedEchoes')) },
        {
          what: `${paced}: ratio`,
          spread: ratio('pacedHeartbeats', 'pacedEchoes'),
          digits: 3,
          headline: true,
        },
        {
          what: `${paced}: heartbeat → ack p50 ms`,
          spread: of('pacedHeartbeats', (round) => round.p50Ms),
          digits: 1,
        },
        {
          what: `${paced}: heartbeat → ack p99 ms`,
          spread: of('pacedHeartbeats', (round) => round.p99Ms),
          digits: 1,
        },
        {
          what: `${paced}: bare echo p50 ms`,
          spread: of('pacedEchoes', (round) => round.p50Ms),
          digits: 2,
        },
        {
          what: `${paced}: database processor µs per heartbeat`,
          spread: of('pacedHeartbeats', databaseMicroseconds),
        },
      ],
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
  }),
)
