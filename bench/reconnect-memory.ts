import { startBeaconServer } from './support/beacon-server.ts'
import { type StartChild, withChildren } from './support/child.ts'
import {
  type BareServer,
  ENGINE_NAMES,
  type EngineName,
  enginesAsked,
  startBareServer,
} from './support/engines.ts'
import { GrowingFleet } from './support/fleet.ts'
import { FleetCrowds } from './support/fleet-crowds.ts'
import { spreadOf } from './support/measure.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'
import { settledBytesOf } from './support/settling.ts'

// Does a gateway process keep something of every session that it ever had? Resident memory after ten full reconnects,
// over that after the first.

const options = readOptions({ engine: 'both', robots: 10_000, reconnects: 10, rounds: 2 })
const PATIENCE_SECONDS = 60
const AIMS: Readonly<Record<EngineName, number>> = { ws: 1.15, uws: 1.1 }

/** Resident bytes: without robots, with robots that came once, and after the first and the last reconnect of all. */
interface Round {
  readonly empty: number
  readonly first: number
  readonly reconnectedOnce: number
  readonly reconnectedLast: number
}

await withPostgres(async (databaseUrl) => {
  const fleet = new GrowingFleet(databaseUrl)
  await fleet.growTo(options.robots)

  /** Every round has a server of its own. */
  function measure(startServer: (start: StartChild) => Promise<BareServer>): Promise<Round> {
    return withChildren(async (start) => {
      const { child, port } = await startServer(start)
      const crowds = new FleetCrowds({
        start,
        port,
        seed: fleet.seed,
        handshakesAtOnce: 200,
        persistence: { jitterMs: 1_000, maxJitterMs: 10_000 },
      })
      const empty = await settledBytesOf(child.pid)
      const heard = async (): Promise<void> => {
        if (!(await crowds.allHere(PATIENCE_SECONDS)))
          throw new Error(`not all robots connect: ${JSON.stringify(await crowds.counts())}`)
        await crowds.beatOnce()
      }
      await crowds.growTo(options.robots)
      await heard()
      const first = await settledBytesOf(child.pid)
      let reconnectedOnce = Number.NaN
      for (let reconnect = 1; reconnect <= options.reconnects; reconnect++) {
        await crowds.reconnect()
        await heard()
        if (reconnect === 1) reconnectedOnce = await settledBytesOf(child.pid)
      }
      return { empty, first, reconnectedOnce, reconnectedLast: await settledBytesOf(child.pid) }
    })
  }

  const figures: Figure[] = []
  const groups: BarChart['groups'][number][] = []
  const rounds: Partial<Record<EngineName, Record<'beacon' | 'bare', Round[]>>> = {}
  for (const engine of enginesAsked(options.engine)) {
    const of: Record<'beacon' | 'bare', Round[]> = { beacon: [], bare: [] }
    for (let round = 0; round < options.rounds; round++) {
      of.beacon.push(
        await measure(async (start) => {
          const { child, gatewayPort } = await startBeaconServer(start, {
            databaseUrl,
            engine,
            settings: { BEACON_HEARTBEAT_SECONDS: '3600' },
          })
          return { child, port: gatewayPort }
        }),
      )
      of.bare.push(await measure((start) => startBareServer(start, engine)))
    }
    rounds[engine] = of
    const name = ENGINE_NAMES[engine]
    const growth = (which: keyof typeof of) =>
      of[which].map((round) => round.reconnectedLast / round.reconnectedOnce)
    const megabytes = (which: keyof typeof of, bytes: (round: Round) => number) =>
      spreadOf(of[which].map((round) => bytes(round) / 2 ** 20))
    const after = `after ${options.reconnects} reconnects`
    groups.push({
      label: name,
      unit: `memory ${after} ÷ after the first`,
      bars: [
        { name: 'Beacon', spread: spreadOf(growth('beacon')) },
        { name: `bare ${name}`, spread: spreadOf(growth('bare')) },
      ],
      aim: { value: AIMS[engine], good: 'below' },
    })
    figures.push(
      {
        what: `${name}: ${after} ÷ after the first`,
        spread: spreadOf(growth('beacon')),
        digits: 3,
        headline: true,
      },
      { what: `bare ${name}: ${after} ÷ after the first`, spread: spreadOf(growth('bare')), digits: 3 },
      { what: `${name}: without robots, MiB`, spread: megabytes('beacon', (round) => round.empty) },
      {
        what: `${name}: with robots that came once, MiB`,
        spread: megabytes('beacon', (round) => round.first),
      },
      {
        what: `${name}: after the first reconnect, MiB`,
        spread: megabytes('beacon', (round) => round.reconnectedOnce),
      },
      { what: `${name}: ${after}, MiB`, spread: megabytes('beacon', (round) => round.reconnectedLast) },
      {
        what: `bare ${name}: after the first reconnect, MiB`,
        spread: megabytes('bare', (round) => round.reconnectedOnce),
      },
      { what: `bare ${name}: ${after}, MiB`, spread: megabytes('bare', (round) => round.reconnectedLast) },
    )
  }
  await saveReport({
    name: 'reconnect-memory',
    question:
      `Resident memory of the server process after ${options.robots.toLocaleString('en')} robots have all reconnected ` +
      `${options.reconnects} times, over that after they have once; and the bare engine’s after the same`,
    figures,
    chart: { title: 'Memory after everybody has reconnected', groups },
    settings: { ...options, given: optionsGiven },
    rounds,
  })
})
