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
import { MEMORY_QUESTION, type MemoryAnswer } from './support/memory-question.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'
import { settledBytesAfterStorm, settledBytesOf } from './support/settling.ts'

// Does a gateway process keep something of every session that it ever had? Resident memory after ten full reconnects,
// over that after the first.

const options = readOptions({ engine: 'both', robots: 10_000, reconnects: 10, rounds: 2 })
const PATIENCE_SECONDS = 60
const PROBE = new URL('./programs/memory-probe.js', import.meta.url)
const AIMS: Readonly<Record<EngineName, number>> = { ws: 1.15, uws: 1.1 }

interface Memory {
  readonly resident: number
  /** What of the heap is alive, and what is resident, after garbage was collected by force. */
  readonly liveHeap: number
  readonly collected: number
}

/** Without robots (resident bytes), with robots that came once, and after the first and the last reconnect of all. */
interface Round {
  readonly empty: number
  readonly first: number
  readonly once: Memory
  readonly last: Memory
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
      const first = await settledBytesAfterStorm(child.pid)
      const reconnect = async (times: number): Promise<Memory> => {
        for (let left = times; left > 0; left--) {
          await crowds.reconnect()
          await heard()
        }
        const resident = await settledBytesAfterStorm(child.pid)
        const { heapUsed: liveHeap } = await child.ask<MemoryAnswer>({ question: MEMORY_QUESTION })
        return { resident, liveHeap, collected: await settledBytesOf(child.pid) }
      }
      const once = await reconnect(1)
      return { empty, first, once, last: await reconnect(options.reconnects - 1) }
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
            preload: PROBE,
          })
          return { child, port: gatewayPort }
        }),
      )
      of.bare.push(await measure((start) => startBareServer(start, engine, PROBE)))
    }
    rounds[engine] = of
    const name = ENGINE_NAMES[engine]
    const growth = (which: keyof typeof of, kind: keyof Memory = 'resident') =>
      spreadOf(of[which].map(({ once, last }) => last[kind] / once[kind]))
    const megabytes = (which: keyof typeof of, bytes: (round: Round) => number) =>
      spreadOf(of[which].map((round) => bytes(round) / 2 ** 20))
    const after = `after ${options.reconnects} reconnects`
    groups.push({
      label: name,
      unit: `memory ${after} ÷ after the first`,
      bars: [
        { name: 'Beacon', spread: growth('beacon') },
        { name: `bare ${name}`, spread: growth('bare') },
      ],
      aim: { value: AIMS[engine], good: 'below' },
    })
    figures.push(
      {
        what: `${name}: ${after} ÷ after the first`,
        spread: growth('beacon'),
        digits: 3,
        headline: true,
      },
      { what: `bare ${name}: ${after} ÷ after the first`, spread: growth('bare'), digits: 3 },
      {
        what: `${name}: live heap, ${after} ÷ after the first`,
        spread: growth('beacon', 'liveHeap'),
        digits: 3,
      },
      {
        what: `${name}: the same, garbage collected by force`,
        spread: growth('beacon', 'collected'),
        digits: 3,
      },
      {
        what: `bare ${name}: the same, garbage collected by force`,
        spread: growth('bare', 'collected'),
        digits: 3,
      },
      { what: `${name}: without robots, MiB`, spread: megabytes('beacon', (round) => round.empty) },
      {
        what: `${name}: with robots that came once, MiB`,
        spread: megabytes('beacon', (round) => round.first),
      },
      {
        what: `${name}: after the first reconnect, MiB`,
        spread: megabytes('beacon', (round) => round.once.resident),
      },
      { what: `${name}: ${after}, MiB`, spread: megabytes('beacon', (round) => round.last.resident) },
      {
        what: `bare ${name}: after the first reconnect, MiB`,
        spread: megabytes('bare', (round) => round.once.resident),
      },
      { what: `bare ${name}: ${after}, MiB`, spread: megabytes('bare', (round) => round.last.resident) },
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
