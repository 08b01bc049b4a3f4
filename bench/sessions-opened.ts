import { performance } from 'node:perf_hooks'
import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, withChildren } from './support/child.ts'
import { comparedWithBare } from './support/compared.ts'
import { RobotCrowd } from './support/crowd.ts'
import { databaseCpuSeconds } from './support/database.ts'
import { type EngineName, enginesAsked, startBareServer } from './support/engines.ts'
import { enrolRobots } from './support/fleet.ts'
import { Histogram } from './support/histogram.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf } from './support/proc.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'
import { untilQuiet } from './support/settling.ts'

// How many robots a second get a session, from the upgrade with their token to the welcome, when the bare engine does so
// many upgrades for the same clients, without a token and without a word?

const { engine, rounds: ROUNDS, robots: ROBOTS } = readOptions({ engine: 'both', rounds: 5, robots: 10_000 })
const CROWDS = 2
const HANDSHAKES_AT_ONCE = 400
const PATIENCE_SECONDS = 60

interface Round {
  readonly seconds: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Processor seconds: of the server's process, of the database behind it, and of the robots. */
  readonly serverSeconds: number
  readonly databaseSeconds: number
  readonly robotSeconds: number
}

type Variant = 'sessions' | 'upgrades'

function measureEngine(engine: EngineName): Promise<Record<Variant, Round[]>> {
  return withPostgres((databaseUrl) =>
    withChildren(async (start) => {
      // Robots that are gone between two rounds are not called lost yet.
      const settings = { BEACON_HEARTBEAT_SECONDS: '60' }
      const beacon = await startBeaconServer(start, { databaseUrl, engine, settings })
      const bare = await startBareServer(start, engine)
      const tokens = (await enrolRobots(databaseUrl, ROBOTS)).map((robot) => robot.token)
      const databaseSeconds = await databaseCpuSeconds(databaseUrl)

      /** Robots that are known to their crowds and away. */
      const crowdsFor = (port: number, dialect: 'beacon' | 'upgrade', firstAddress: number) =>
        Promise.all(
          Array.from({ length: CROWDS }, async (_, index) => {
            const crowd = await RobotCrowd.start(start, {
              port,
              dialect,
              firstAddress: firstAddress + index * 10,
              handshakesAtOnce: HANDSHAKES_AT_ONCE / CROWDS,
            })
            const share = ROBOTS / CROWDS
            await crowd.ask({
              do: 'add',
              tokens: tokens.slice(index * share, (index + 1) * share),
              away: true,
            })
            return crowd
          }),
        )
      const crowds = {
        sessions: await crowdsFor(beacon.gatewayPort, 'beacon', 0),
        upgrades: await crowdsFor(bare.port, 'upgrade', 100),
      }

      async function measure(server: Child, robots: readonly RobotCrowd[]): Promise<Round> {
        const all = <Answer>(ask: (crowd: RobotCrowd) => Promise<Answer>) => Promise.all(robots.map(ask))
        const crowdSeconds = async () =>
          (await all((crowd) => crowd.look())).reduce((sum, look) => sum + look.crowdSeconds, 0)
        const before = {
          robots: await crowdSeconds(),
          server: cpuSecondsOf(server.pid),
          database: databaseSeconds(),
          at: performance.now(),
        }
        await all((crowd) => crowd.ask({ do: 'come-back' }))
        await all((crowd) => crowd.ask({ do: 'all-here', withinSeconds: PATIENCE_SECONDS }))
        const seconds = (performance.now() - before.at) / 1000
        const [serverSeconds, database] = [cpuSecondsOf(server.pid) - before.server, databaseSeconds()]
        const looks = await all((crowd) => crowd.look())
        const handshakes = Histogram.of(looks.map((look) => look.handshakes))
        const round = {
          seconds,
          p50Ms: handshakes.quantileMs(0.5),
          p99Ms: handshakes.quantileMs(0.99),
          serverSeconds,
          databaseSeconds: database - before.database,
          robotSeconds: looks.reduce((sum, look) => sum + look.crowdSeconds, 0) - before.robots,
        }
        await all((crowd) => crowd.ask({ do: 'leave' }))
        await untilQuiet([server.pid])
        return round
      }

      return alternate<Variant, Round>(ROUNDS, {
        sessions: () => measure(beacon.child, crowds.sessions),
        upgrades: () => measure(bare.child, crowds.upgrades),
      })
    }),
  )
}

const perSecond = ({ seconds }: Round) => ROBOTS / seconds
const perCpuSecond = ({ serverSeconds }: Round) => ROBOTS / serverSeconds

function figuresOf(engine: EngineName, rounds: Record<Variant, Round[]>): Figure[] {
  const of = (variant: Variant, figure: (round: Round) => number) => rounds[variant].map(figure)
  const microseconds = (seconds: (round: Round) => number) => (round: Round) =>
    (seconds(round) * 1e6) / ROBOTS
  const ratio = (figure: (round: Round) => number) =>
    spreadOf(ratiosOf(of('sessions', figure), of('upgrades', figure)))
  const rows: Figure[] = [
    { what: 'sessions opened/s', spread: spreadOf(of('sessions', perSecond)) },
    { what: 'bare upgrades/s', spread: spreadOf(of('upgrades', perSecond)) },
    { what: 'ratio by the clock', spread: ratio(perSecond), digits: 2, headline: true },
    { what: 'sessions per processor second of the gateway', spread: spreadOf(of('sessions', perCpuSecond)) },
    {
      what: 'upgrades per processor second of the bare engine',
      spread: spreadOf(of('upgrades', perCpuSecond)),
    },
    { what: 'ratio per processor second', spread: ratio(perCpuSecond), digits: 2, headline: true },
    {
      what: 'gateway µs per session',
      spread: spreadOf(
        of(
          'sessions',
          microseconds((round) => round.serverSeconds),
        ),
      ),
    },
    {
      what: 'bare engine µs per upgrade',
      spread: spreadOf(
        of(
          'upgrades',
          microseconds((round) => round.serverSeconds),
        ),
      ),
    },
    {
      what: 'database processor µs per session, not in the ratio per processor second',
      spread: spreadOf(
        of(
          'sessions',
          microseconds((round) => round.databaseSeconds),
        ),
      ),
    },
    {
      what: 'robots’ own µs per session, on the same cores',
      spread: spreadOf(
        of(
          'sessions',
          microseconds((round) => round.robotSeconds),
        ),
      ),
    },
    {
      what: 'clients’ own µs per bare upgrade, on the same cores',
      spread: spreadOf(
        of(
          'upgrades',
          microseconds((round) => round.robotSeconds),
        ),
      ),
    },
    {
      what: 'share of the two cores that the clients of the bare engine took, %',
      spread: spreadOf(of('upgrades', ({ robotSeconds, seconds }) => (robotSeconds * 50) / seconds)),
    },
    { what: 'connect → welcome p50 ms', spread: spreadOf(of('sessions', (round) => round.p50Ms)) },
    { what: 'connect → welcome p99 ms', spread: spreadOf(of('sessions', (round) => round.p99Ms)) },
    { what: 'connect → bare upgrade p50 ms', spread: spreadOf(of('upgrades', (round) => round.p50Ms)) },
    { what: 'connect → bare upgrade p99 ms', spread: spreadOf(of('upgrades', (round) => round.p99Ms)) },
  ]
  return rows.map((row) => ({ ...row, what: `${engine}: ${row.what}` }))
}

const figures: Figure[] = []
const groups: BarChart['groups'][number][] = []
const rounds: Partial<Record<EngineName, Record<Variant, Round[]>>> = {}
for (const name of enginesAsked(engine)) {
  rounds[name] = await measureEngine(name)
  figures.push(...figuresOf(name, rounds[name]))
  const compare = (unit: string, figure: (round: Round) => number) =>
    groups.push(
      comparedWithBare(
        name,
        unit,
        { ours: rounds[name]!.sessions.map(figure), bare: rounds[name]!.upgrades.map(figure) },
        { times: 0.6, good: 'above' },
      ),
    )
  compare('opened/s', perSecond)
  compare('opened per processor second', perCpuSecond)
}

await saveReport({
  name: 'sessions-opened',
  question:
    'Authenticated sessions opened, from the connection over upgrade and `hello` to the welcome, against upgrades by ' +
    'the bare engine for the same clients; no limit on sessions a second',
  figures,
  chart: { title: 'Authenticated sessions beside bare upgrades', groups },
  settings: { rounds: ROUNDS, robots: ROBOTS, crowds: CROWDS, handshakes_at_once: HANDSHAKES_AT_ONCE },
  rounds,
})
