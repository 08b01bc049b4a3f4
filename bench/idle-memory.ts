import { startBeaconServer } from './support/beacon-server.ts'
import { type Child, type StartChild, withChildren } from './support/child.ts'
import { comparedWithBare } from './support/compared.ts'
import { RobotCrowd } from './support/crowd.ts'
import { type EngineName, enginesAsked, startBareServer } from './support/engines.ts'
import { enrolRobots } from './support/fleet.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
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

/** Bytes of the server's process without connections, and with each count of them. */
interface Round {
  readonly resident: readonly [empty: number, ...with_: number[]]
  /** After its garbage was collected by force, without connections and with the most; and what of it is live heap. */
  readonly collected: readonly [empty: number, full: number]
  readonly liveHeap: readonly [empty: number, full: number]
}

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
    const collect = async () => {
      const { heapUsed } = await child.ask<MemoryAnswer>({ question: MEMORY_QUESTION })
      await settledBytesOf(child.pid)
      return { heapUsed, resident: residentBytesOf(child.pid) }
    }
    const emptyCollected = await collect()
    const resident: [number, ...number[]] = [await settledBytesOf(child.pid)]
    let connected = 0
    for (const count of COUNTS) {
      await crowd.connect(tokens.slice(connected, count))
      await crowd.beatOnce()
      connected = count
      resident.push(await settledBytesAfterStorm(child.pid))
    }
    const fullCollected = await collect()
    await crowd.child.stop()
    return {
      resident,
      collected: [emptyCollected.resident, fullCollected.resident],
      liveHeap: [emptyCollected.heapUsed, fullCollected.heapUsed],
    }
  })
}

function measureEngine(engine: EngineName) {
  return withPostgres(async (databaseUrl) => {
    const tokens = (await enrolRobots(databaseUrl, MOST)).map((robot) => robot.token)
    return alternate(ROUNDS, {
      beacon: () =>
        measure(tokens, async (start) => {
          // The sessions say nothing while they are measured, and nobody shall call them lost for it.
          const settings = { BEACON_HEARTBEAT_SECONDS: '3600' }
          const beacon = await startBeaconServer(start, { databaseUrl, engine, settings, preload: PROBE })
          return { child: beacon.child, port: beacon.gatewayPort }
        }),
      bare: () => measure(tokens, (start) => startBareServer(start, engine, PROBE)),
    })
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
  const { beacon, bare } = of(({ resident }) => resident[0] / 2 ** 20)
  return [
    ...compare(`${most} sessions`, ({ resident }) => (resident[2]! - resident[0]) / MOST, true),
    ...compare(
      `each from ${few} to ${most}`,
      ({ resident }) => (resident[2]! - resident[1]!) / (MOST - COUNTS[0]),
    ),
    ...compare(`${most} after forced collection`, ({ collected: [empty, full] }) => (full - empty) / MOST),
    ...compare(`${most}, live heap of these`, ({ liveHeap: [empty, full] }) => (full - empty) / MOST),
    { what: `${engine}: server without sessions, MiB`, spread: spreadOf(beacon) },
    { what: `${engine}: bare server without connections, MiB`, spread: spreadOf(bare) },
  ]
}

const figures: Figure[] = []
const groups: BarChart['groups'][number][] = []
const rounds: Partial<Record<EngineName, Rounds>> = {}
for (const name of enginesAsked(engine)) {
  rounds[name] = await measureEngine(name)
  figures.push(...figuresOf(name, rounds[name]))
  const bytes = ({ resident }: Round) => (resident[2]! - resident[0]) / MOST
  groups.push(
    comparedWithBare(
      name,
      'bytes per connection',
      { ours: rounds[name].beacon.map(bytes), bare: rounds[name].bare.map(bytes) },
      { times: AIMS[name], good: 'below' },
    ),
  )
}

await saveReport({
  name: 'idle-memory',
  question:
    'Resident memory of the server process for each authenticated, welcomed session that is idle after a heartbeat, ' +
    'against a connection of the bare engine after the same frames',
  figures,
  chart: { title: `Resident memory with ${MOST.toLocaleString('en')} idle sessions`, groups },
  settings: { rounds: ROUNDS, counts: COUNTS },
  rounds,
})
