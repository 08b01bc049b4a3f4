import type { SameBytesQuestion } from './programs/same-bytes-server.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { withChildren } from './support/child.ts'
import { databaseCpuSeconds } from './support/database.ts'
import { enrolRobots, reportFor } from './support/fleet.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf } from './support/proc.ts'
import { type Figure, saveReport } from './support/report.ts'
import { type Requested, requestsFor } from './support/requests.ts'

// How many reads a second does the REST edge answer, against fastify alone with the same bytes in its hand?

const ROUNDS = 5
const ROBOTS = 5_000
const CONNECTIONS = 16
const SECONDS = 3

interface Round extends Requested {
  /** Processor seconds of the server, and of the database behind it. */
  readonly serverSeconds: number
  readonly databaseSeconds: number
}

await withPostgres((databaseUrl) =>
  withChildren(async (start) => {
    const beacon = await startBeaconServer(start, { databaseUrl })
    const robots = await enrolRobots(databaseUrl, ROBOTS)
    await reportFor(databaseUrl, robots)
    const databaseSeconds = await databaseCpuSeconds(databaseUrl)
    const headers = { authorization: `Bearer ${beacon.ownerToken}` }
    const beaconUrl = `http://127.0.0.1:${beacon.port}`
    const reads = [
      { name: `GET /api/robots (50 of ${ROBOTS.toLocaleString('en')})`, path: '/api/robots?limit=50' },
      { name: 'GET /api/robots/{id}', path: `/api/robots/${robots[ROBOTS / 2]!.id}` },
      { name: 'GET /healthz', path: '/healthz' },
    ]

    const bare = start(new URL('./programs/same-bytes-server.js', import.meta.url))
    const answers: SameBytesQuestion['answers'] = await Promise.all(
      reads.map(async ({ path }) => {
        const response = await fetch(`${beaconUrl}${path}`, { headers })
        if (!response.ok) throw new Error(`${path} answered with ${response.status}`)
        return {
          path: path.split('?', 1)[0]!,
          type: response.headers.get('content-type')!,
          body: await response.text(),
        }
      }),
    )
    const bareUrl = `http://127.0.0.1:${await bare.ask<number>({ answers })}`

    async function measure(server: { pid: number }, url: string): Promise<Round> {
      const before = { server: cpuSecondsOf(server.pid), database: databaseSeconds() }
      const requested = await requestsFor({ url, connections: CONNECTIONS, seconds: SECONDS, headers })
      return {
        ...requested,
        serverSeconds: cpuSecondsOf(server.pid) - before.server,
        databaseSeconds: databaseSeconds() - before.database,
      }
    }

    const rounds: Record<string, Record<'beacon' | 'bare', Round[]>> = {}
    const figures: Figure[] = []
    for (const { name, path } of reads) {
      const measured = await alternate(ROUNDS, {
        beacon: () => measure(beacon.child, beaconUrl + path),
        bare: () => measure(bare, bareUrl + path),
      })
      rounds[name] = measured
      const rates = (which: 'beacon' | 'bare') => measured[which].map((round) => round.count / round.seconds)
      const perCpu = (which: 'beacon' | 'bare') =>
        measured[which].map((round) => round.count / round.serverSeconds)
      figures.push(
        { what: `${name}: requests/s`, spread: spreadOf(rates('beacon')) },
        { what: `${name}: bare fastify requests/s`, spread: spreadOf(rates('bare')) },
        {
          what: `${name}: ratio`,
          spread: spreadOf(ratiosOf(rates('beacon'), rates('bare'))),
          digits: 3,
          headline: true,
        },
        {
          what: `${name}: ratio per processor second of the server`,
          spread: spreadOf(ratiosOf(perCpu('beacon'), perCpu('bare'))),
          digits: 3,
        },
        {
          what: `${name}: p50 ms`,
          spread: spreadOf(measured.beacon.map((round) => round.p50Ms)),
          digits: 2,
        },
        {
          what: `${name}: p99 ms`,
          spread: spreadOf(measured.beacon.map((round) => round.p99Ms)),
          digits: 2,
        },
        {
          what: `${name}: bare p50 ms`,
          spread: spreadOf(measured.bare.map((round) => round.p50Ms)),
          digits: 2,
        },
        {
          what: `${name}: bare p99 ms`,
          spread: spreadOf(measured.bare.map((round) => round.p99Ms)),
          digits: 2,
        },
        {
          what: `${name}: database processor µs per request`,
          spread: spreadOf(measured.beacon.map((round) => (round.databaseSeconds * 1e6) / round.count)),
        },
      )
    }
    await saveReport({
      name: 'rest-reads',
      question: 'Reads that the REST edge answers, against fastify alone with the same bytes in its hand',
      figures,
      settings: {
        rounds: ROUNDS,
        robots: ROBOTS,
        connections: CONNECTIONS,
        seconds: SECONDS,
        bytes: Object.fromEntries(answers.map(({ path, body }) => [path, Buffer.byteLength(body)])),
      },
      rounds,
    })
  }),
)
