import { setTimeout as sleep } from 'node:timers/promises'
import type { LiveReadersLook, LiveReadersQuestion } from './programs/live-readers.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { withChildren } from './support/child.ts'
import { RobotCrowd } from './support/crowd.ts'
import { databaseCpuSeconds } from './support/database.ts'
import { enrolRobots } from './support/fleet.ts'
import { Histogram } from './support/histogram.ts'
import { alternate, ratiosOf, spreadOf } from './support/measure.ts'
import { readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf } from './support/proc.ts'
import { type Figure, saveReport } from './support/report.ts'
import { untilQuiet } from './support/settling.ts'

// What do people who watch a fleet cost it? 10,000 robots beat every 10 s on one process that also serves live feeds: nobody
// reads, one reads all of every heartbeat, 500 read what a table of robots needs, 500 read all of every heartbeat.

const {
  engine,
  robots: ROBOTS,
  readers: READERS,
  rounds: ROUNDS,
  seconds: SECONDS,
} = readOptions({ engine: 'uws', robots: 10_000, readers: 500, rounds: 3, seconds: 20 })
const INTERVAL_MS = 10_000
const CONNECT_PER_SECOND = 1_500
const ANSWERED_WITHIN_SECONDS = 30
/** A robot is changed so often, to see when readers hear of it. */
const CHANGE_EVERY_MS = 700
/** Whoever hears of a change later than this has not heard of it. */
const HEARD_WITHIN_MS = 5_000
const READERS_PER_TOKEN = 40

/** Counts them: each has a value of its own. */
let change = 0

interface Round {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  /** Of one core. */
  readonly serverShare: number
  readonly databaseShare: number
  readonly bytesPerSecond: number
  /** From the arrival of a heartbeat at the server to that at the reader. */
  readonly heartbeatLagMs: { readonly p50: number; readonly p99: number }
  /** From the answer to an operator who changed a robot to its arrival at the reader. */
  readonly changeLagMs: { readonly p50: number; readonly max: number }
  readonly changesUnheard: number
}

const VARIANTS = {
  nobody: { readers: 0, detail: 'full' },
  one: { readers: 1, detail: 'full' },
  status: { readers: READERS, detail: 'status' },
  full: { readers: READERS, detail: 'full' },
} as const
type Variant = keyof typeof VARIANTS

const rounds = await withPostgres((databaseUrl) =>
  withChildren(async (start) => {
    const beacon = await startBeaconServer(start, {
      databaseUrl,
      engine: engine === 'ws' ? 'ws' : 'uws',
      // Robots rest while hundreds of readers are told everything, and that is no reason to think them gone.
      settings: { BEACON_HEARTBEAT_SECONDS: '600' },
    })
    const robots = await enrolRobots(databaseUrl, ROBOTS)
    const databaseSeconds = await databaseCpuSeconds(databaseUrl)
    const tokens = await fleetTokens(beacon, Math.ceil(READERS / READERS_PER_TOKEN))
    const crowd = await RobotCrowd.start(start, { port: beacon.gatewayPort })
    await crowd.connect(
      robots.map((robot) => robot.token),
      { perSecond: CONNECT_PER_SECOND },
    )
    await crowd.beatOnce()
    const readers = start(new URL('./programs/live-readers.js', import.meta.url))
    const ask = <Answer>(question: LiveReadersQuestion) => readers.ask<Answer>(question)
    await untilQuiet([beacon.child.pid])

    async function measure(variant: Variant): Promise<Round> {
      await ask({ do: 'open', port: beacon.port, tokens, ...VARIANTS[variant] })
      await crowd.ask({ do: 'beat-every', intervalMs: INTERVAL_MS })
      // Not what it costs to begin.
      await sleep(2_000)
      await crowd.look()
      await ask<LiveReadersLook>({ do: 'look' })
      const before = { server: cpuSecondsOf(beacon.child.pid), database: databaseSeconds() }
      const changed = await changeRobots(beacon, robots)
      const used = {
        server: cpuSecondsOf(beacon.child.pid) - before.server,
        database: databaseSeconds() - before.database,
      }
      const { latencies } = await crowd.look()
      const first = await ask<LiveReadersLook>({ do: 'look' })
      await crowd.ask({ do: 'beat-every', intervalMs: 0 })
      if (!(await crowd.ask<boolean>({ do: 'all-answered', withinSeconds: ANSWERED_WITHIN_SECONDS })))
        throw new Error(`heartbeats were not answered within ${ANSWERED_WITHIN_SECONDS} s`)
      if (VARIANTS[variant].readers > 0) await sleep(HEARD_WITHIN_MS)
      const last = await ask<LiveReadersLook>({ do: 'look' })
      await ask({ do: 'close' })
      if (first.lost + last.lost > 0) throw new Error(`${first.lost + last.lost} readers were cut off`)
      await untilQuiet([beacon.child.pid])

      const acknowledged = Histogram.of([latencies])
      const told = Histogram.of([first.heartbeats])
      const heard = new Map([...last.changes, ...first.changes])
      const lags = [...changed].flatMap(([value, at]) => (heard.has(value) ? [heard.get(value)! - at] : []))
      const lag = lags.length > 0 ? spreadOf(lags) : { median: Number.NaN, max: Number.NaN }
      return {
        p50Ms: acknowledged.quantileMs(0.5),
        p99Ms: acknowledged.quantileMs(0.99),
        maxMs: acknowledged.maxMs,
        serverShare: used.server / SECONDS,
        databaseShare: used.database / SECONDS,
        bytesPerSecond: first.bytes / SECONDS,
        heartbeatLagMs: { p50: told.quantileMs(0.5), p99: told.quantileMs(0.99) },
        changeLagMs: { p50: lag.median, max: lag.max },
        changesUnheard: VARIANTS[variant].readers > 0 ? changed.size - lags.length : 0,
      }
    }

    return alternate<Variant, Round>(ROUNDS, {
      nobody: () => measure('nobody'),
      one: () => measure('one'),
      status: () => measure('status'),
      full: () => measure('full'),
    })
  }),
)

type Server = { readonly port: number; readonly ownerToken: string }

async function call<Answer>(
  { port, ownerToken }: Server,
  path: string,
  method = 'GET',
  body?: object,
): Promise<Answer> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${ownerToken}`,
      ...(body ? { 'content-type': 'application/json' } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  if (!answer.ok) throw new Error(`${method} ${path} answered with ${answer.status}: ${await answer.text()}`)
  return (await answer.json()) as Answer
}

/** One token may not read as many feeds as there are readers. */
async function fleetTokens(server: Server, count: number): Promise<string[]> {
  const { items } = await call<{ items: { id: string }[] }>(server, '/api/fleets')
  const tokens: string[] = []
  for (let index = 0; index < count; index += 1) {
    const body = { name: `reader ${index}`, scopes: ['robots:read'] }
    tokens.push(
      (await call<{ token: string }>(server, `/api/fleets/${items[0]!.id}/tokens`, 'POST', body)).token,
    )
  }
  return tokens
}

/** Changes a robot again and again for as long as is measured; answers when each change was answered. */
async function changeRobots(server: Server, robots: readonly { id: string }[]): Promise<Map<string, number>> {
  const changed = new Map<string, number>()
  const end = performance.now() + SECONDS * 1000
  for (;;) {
    const left = end - performance.now()
    if (left < CHANGE_EVERY_MS) {
      await sleep(Math.max(0, left))
      return changed
    }
    change += 1
    const { id } = robots[(change * 97) % robots.length]!
    await call(server, `/api/robots/${id}`, 'PATCH', { labels: { change: String(change) } })
    changed.set(String(change), Date.now())
    await sleep(CHANGE_EVERY_MS)
  }
}

const WORDS: Readonly<Record<Variant, string>> = {
  nobody: 'nobody reads',
  one: '1 reader of everything',
  status: `${READERS} readers of the status`,
  full: `${READERS} readers of everything`,
}
const of = (variant: Variant, figure: (round: Round) => number) => spreadOf(rounds[variant].map(figure))
const figures: Figure[] = []
for (const variant of Object.keys(VARIANTS) as Variant[]) {
  const add = (what: string, figure: (round: Round) => number, more: Partial<Figure> = {}) =>
    figures.push({ what: `${WORDS[variant]}: ${what}`, spread: of(variant, figure), digits: 1, ...more })
  add('heartbeat → ack p50 ms', (round) => round.p50Ms, { digits: 2 })
  add('heartbeat → ack p99 ms', (round) => round.p99Ms, { digits: 2 })
  if (variant !== 'nobody') {
    const p99 = (which: Variant) => rounds[which].map((round) => round.p99Ms)
    figures.push({
      what: `${WORDS[variant]}: p99 over that with nobody`,
      spread: spreadOf(ratiosOf(p99(variant), p99('nobody'))),
      digits: 2,
      headline: true,
    })
  }
  add('server, % of a core', (round) => round.serverShare * 100)
  add('its database, % of a core', (round) => round.databaseShare * 100)
  if (variant === 'nobody') continue
  add('MB/s', (round) => round.bytesPerSecond / 1e6)
  if (VARIANTS[variant].detail === 'full') {
    add('heartbeat → reader p50 ms', (round) => round.heartbeatLagMs.p50, { digits: 0 })
    add('heartbeat → reader p99 ms', (round) => round.heartbeatLagMs.p99, { digits: 0 })
  }
  add('an operator’s change → reader p50 ms', (round) => round.changeLagMs.p50, { digits: 0 })
  add('an operator’s change → reader, slowest ms', (round) => round.changeLagMs.max, { digits: 0 })
}

await saveReport({
  name: 'live-feed',
  question:
    `What readers of the live feed cost the heartbeats of ${ROBOTS.toLocaleString('en')} robots that send one every ` +
    `${INTERVAL_MS / 1000} s to the same process, against the same with nobody who reads; and how late readers hear`,
  figures,
  settings: {
    engine,
    rounds: ROUNDS,
    robots: ROBOTS,
    readers: READERS,
    interval_seconds: INTERVAL_MS / 1000,
    seconds: SECONDS,
    fsync: 'on',
  },
  rounds,
})
