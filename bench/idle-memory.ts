import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, type StartChild, withChildren } from './support/child.ts'
import { comparedWithBare } from './support/compared.ts'
import { RobotCrowd } from './support/crowd.ts'
import { type EngineName, enginesAsked, startBareServer } from './support/engines.ts'
import { enrolRobots } from './support/fleet.ts'
import { ratiosOf, spreadOf } from './support/measure.ts'
import { MEMORY_QUESTION, type MemoryAnswer } from './support/memory-question.ts'
import { readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { residentBytesOf } from './support/proc.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'
import { settledBytesAfterStorm, settledBytesOf } from './support/settling.ts'

// How much memory does an authenticated session take that says nothing for now, when the bare engine's connection
// takes so much?

const { engine, rounds: ROUNDS } = readOptions({ engine: 'both', rounds: 2 })
const COUNTS = [10_000, 19_000] as const
const MOST = COUNTS[1]
/** A session may take so many times what a bare connection takes. */
const AIMS: Readonly<Record<EngineName, number>> = { ws: 1.6, uws: 2 }
const PROBE = new URL('./programs/memory-probe.js', import.meta.url)

/** Of the server's process, without connections and with each count of them. */
interface Point {
  /** Resident bytes as they settle by themselves, and after garbage was collected by force. */
  readonly settled: number
  readonly collected: number
  /** What of the heap is alive. */
  readonly liveHeap: number
}
type Round = readonly [empty: Point, few: Point, most: Point]

interface Server {
  readonly child: Child
  readonly port: number
}

/** Every round has servers of its own: memory that was taken once is seldom given back. */
function measure(
  tokens: readonly string[],
  startServer: (start: StartChild) => Promise<Server>,
): Promise<Round> {
  return withChildren<Round>(async (start) => {
    const { child, port } = await startServer(start)
    const crowd = await RobotCrowd.start(start, { port })
    // Without robots, too, what the start has left behind has to be over: V8 gives back space for young objects only after
    // a rest.
    const look = async (): Promise<Point> => {
      const settled = await settledBytesAfterStorm(child.pid)
      const { heapUsed } = await child.ask<MemoryAnswer>({ question: MEMORY_QUESTION })
      await settledBytesOf(child.pid)
      return { settled, collected: residentBytesOf(child.pid), liveHeap: heapUsed }
    }
    const empty = await look()
    const [few, most] = [await lookWith(COUNTS[0], 0), await lookWith(MOST, COUNTS[0])]
    await crowd.child.stop()
    return [empty, few, most]

    async function lookWith(count: number, connected: number): Promise<Point> {
      await crowd.connect(tokens.slice(connected, count))
      await crowd.beatOnce()
      return look()
    }
  })
}

function measureEngine(engine: EngineName) {
  return withPostgres(async (databaseUrl) => {
    const tokens = (await enrolRobots(databaseUrl, MOST)).map((robot) => robot.token)
    const rounds: { beacon: Round[]; bare: Round[] } = { beacon: [], bare: [] }
    for (let round = 0; round < ROUNDS; round++) {
      rounds.beacon.push(
        await measure(tokens, async (start) => {
          // The sessions say nothing while they are measured, and nobody shall call them lost for it.
          const settings = { BEACON_HEARTBEAT_SECONDS: '3600' }
          const beacon = await startBeaconServer(start, { databaseUrl, engine, settings, preload: PROBE })
          return { child: beacon.child, port: beacon.gatewayPort }
        }),
      )
      rounds.bare.push(await measure(tokens, (start) => startBareServer(start, engine, PROBE)))
    }
    return rounds
  })
}

type Rounds = Awaited<ReturnType<typeof measureEngine>>

function figuresOf(engine: EngineName, rounds: Rounds): Figure[] {
  const [few, most] = COUNTS.map((count) => count.toLocaleString('en'))
  const of = (bytesOf: (round: Round) => number) => ({
    beacon: rounds.beacon.map(bytesOf),
    bare: rounds.bare.map(bytesOf),
  })
  const compare = (label: string, bytesOf: (round: Round) => number, headline = false): Figure[] => {
    const { beacon, bare } = of(bytesOf)
    return [
      { what: `${engine}, ${label}: bytes per session`, spread: spreadOf(beacon) },
      { what: `${engine}, ${label}: bytes per bare connection`, spread: spreadOf(bare) },
      {
        what: `${engine}, ${label}: ratio`,
        spread: spreadOf(ratiosOf(beacon, bare)),
        digits: 2,
        ...(headline ? { headline } : {}),
      },
    ]
  }
  const { beacon, bare } = of(([empty]) => empty.collected / 2 ** 20)
  return [
    ...compare(`${most} sessions`, bytesPerSession, true),
    ...compare(
      `each from ${few} to ${most}`,
      ([, less, more]) => (more.collected - less.collected) / (MOST - COUNTS[0]),
    ),
    ...compare(
      `${most} as they settle by themselves`,
      ([empty, , more]) => (more.settled - empty.settled) / MOST,
    ),
    ...compare(`${most}, live heap of these`, ([empty, , more]) => (more.liveHeap - empty.liveHeap) / MOST),
    { what: `${engine}: server without sessions, MiB`, spread: spreadOf(beacon) },
    { what: `${engine}: bare server without connections, MiB`, spread: spreadOf(bare) },
  ]
}

/** Garbage on both sides collected, for neither collects while nothing happens. */
function bytesPerSession([empty, , most]: Round): number {
  return (most.collected - empty.collected) / MOST
}

const figures: Figure[] = []
const groups: BarChart['groups'][number][] = []
const rounds: Partial<Record<EngineName, Rounds>> = {}
for (const name of enginesAsked(engine)) {
  rounds[name] = await measureEngine(name)
  figures.push(...figuresOf(name, rounds[name]))
  groups.push(
    comparedWithBare(
      name,
      'bytes per connection',
      { ours: rounds[name].beacon.map(bytesPerSession), bare: rounds[name].bare.map(bytesPerSession) },
      { times: AIMS[name], good: 'below' },
    ),
  )
}

await saveReport({
  name: 'idle-memory',
  question:
    'Resident memory of the server process for each authenticated, welcomed session that is idle after a heartbeat, ' +
    'against a connection of the bare engine after the same frames; both with their garbage collected',
  figures,
  chart: { title: `Resident memory with ${MOST.toLocaleString('en')} idle sessions`, groups },
  settings: { rounds: ROUNDS, counts: COUNTS },
  rounds,
})
