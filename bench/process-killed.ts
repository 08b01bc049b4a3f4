import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { withChildren } from './support/child.ts'
import { databaseCpuSeconds } from './support/database.ts'
import { ENGINE_NAMES, type EngineName, enginesAsked } from './support/engines.ts'
import { robotsByProcess, silencesSince } from './support/evidence.ts'
import { GrowingFleet } from './support/fleet.ts'
import { FleetCrowds } from './support/fleet-crowds.ts'
import { startManyProcesses } from './support/gateway-processes.ts'
import { Histogram } from './support/histogram.ts'
import { spreadOf } from './support/measure.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOfMachine, cpuSecondsOfTree } from './support/proc.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'

// One of five gateway processes is killed: how long are its robots away beyond the pause that they make themselves, and
// do those of the others feel it?

const options = readOptions({
  engine: 'both',
  robots: 90_000,
  /** Of them, those whose heartbeats are timed: in a process of their own, which has few sockets to close and to dial. */
  witnesses: 4_000,
  processes: 5,
  kills: 3,
  interval: 15,
  /** Robots that lose their session come back after up to so many seconds. */
  jitter: 10,
  /** How long others' heartbeats are timed before each kill. */
  before: 20,
  /** Until robots that are back have settled, and who is called lost by mistake has been called so. */
  settle: 15,
  /** Of the server, and what it takes unless told otherwise; 0: as many as come. */
  'sessions-per-second': 1_000 * availableParallelism(),
})
/** Robots that are not back by then are lost. */
const PATIENCE_SECONDS = 120
const LOOK_EVERY_MS = 250
/** What the processors do is told apart for this long from the kill on. */
const AFTERMATH_SECONDS = 5

interface Kill {
  readonly held: number
  readonly lost: number
  /** Lost their session, and were on another process. */
  readonly strangers: number
  /** Without a session when patience was over, which then stands for the time that all took. */
  readonly missing: number
  readonly secondsUntilBack: number
  readonly secondsBeyondJitter: number
  readonly sessionsPerSecond: number
  readonly beforeP99Ms: number
  readonly duringP99Ms: number
  readonly ratio: number
  /** Others' p99 in each second from the kill on. */
  readonly secondsP99Ms: readonly number[]
  /** Processors that were busy, of all that there are: before, and from the kill on for some seconds. */
  readonly busyBefore: Busy
  readonly busyAfter: Busy
  /** The same ratio as timed by the processes that also close and dial a fifth of the robots. */
  readonly crowdsRatio: number
  readonly refused: Readonly<Record<string, number>>
  readonly stale: number
  readonly offline: number
}

/** Processors, for the server with all its processes, PostgreSQL, the robots, and the machine as a whole. */
interface Busy {
  readonly server: number
  readonly database: number
  readonly robots: number
  readonly machine: number
}

if (options.processes < 2) throw new Error('--processes takes two or more')

const rounds: Partial<Record<EngineName, { connectSeconds: number; kills: Kill[] }>> = {}

for (const engine of enginesAsked(options.engine))
  await withPostgres(async (databaseUrl) => {
    const fleet = new GrowingFleet(databaseUrl)
    await fleet.growTo(options.robots)
    await withChildren(async (start) => {
      const server = await startManyProcesses(start, {
        databaseUrl,
        engine,
        processes: options.processes,
        heartbeatSeconds: options.interval,
        settings: { BEACON_SESSIONS_PER_SECOND: String(options['sessions-per-second']) },
      })
      await server.complete()
      const common = {
        start,
        port: server.gatewayPort,
        seed: fleet.seed,
        handshakesAtOnce: 100,
        persistence: { jitterMs: options.jitter * 1000, maxJitterMs: options.jitter * 1000 },
      }
      const witnesses = new FleetCrowds(common)
      const crowds = new FleetCrowds({ ...common, after: witnesses })
      const database = await databaseCpuSeconds(databaseUrl)
      const usage = (): Busy => ({
        server: cpuSecondsOfTree(server.child.pid),
        database: database(),
        robots: [...witnesses.pids, ...crowds.pids].reduce((sum, pid) => sum + cpuSecondsOfTree(pid), 0),
        machine: cpuSecondsOfMachine(),
      })
      const begun = performance.now()
      await witnesses.growTo(options.witnesses)
      await crowds.growTo(options.robots - options.witnesses)
      for (const some of [witnesses, crowds]) await some.beatEvery(options.interval * 1000)
      for (const some of [witnesses, crowds])
        if (!(await some.allHere(PATIENCE_SECONDS)))
          throw new Error(`not all robots connect: ${JSON.stringify(await some.counts())}`)
      const connectSeconds = (performance.now() - begun) / 1000
      const kills: Kill[] = []
      rounds[engine] = { connectSeconds, kills }
      await sleep(options.settle * 1000)
      for (let kill = 0; kill < options.kills; kill++) {
        await server.complete()
        kills.push(await killOne(server.gateways(), databaseUrl, witnesses, crowds, usage))
        process.stderr.write(`${engine}: ${JSON.stringify(kills.at(-1))}\n`)
      }
    })
  })

/** Kills the process that holds most robots, and watches until all have a session again. */
async function killOne(
  gateways: readonly number[],
  databaseUrl: string,
  witnesses: FleetCrowds,
  crowds: FleetCrowds,
  usage: () => Busy,
): Promise<Kill> {
  const all = [witnesses, crowds]
  const watch = () => Promise.all(all.map((some) => some.watch()))
  await watch()
  const usageBefore = usage()
  await sleep(options.before * 1000)
  const usageAtKill = usage()
  let busyAfter: Busy | undefined
  const before = await witnesses.look()
  const crowdsBefore = await crowds.look()
  const holders = await robotsByProcess(databaseUrl)
  const victim = gateways.toSorted(
    (a, b) => (holders.get(b)?.length ?? 0) - (holders.get(a)?.length ?? 0),
  )[0]!
  const held = new Set(holders.get(victim) ?? [])
  if (held.size === 0) throw new Error('no gateway process is known to hold robots')
  await watch()
  const killedAt = Date.now()
  process.kill(victim, 'SIGKILL')

  const during = new Histogram()
  const secondsP99Ms: number[] = []
  const end = performance.now() + PATIENCE_SECONDS * 1000
  let losses = await lossesOf(all)
  while (losses.robots.length < held.size || losses.back < losses.robots.length) {
    if (performance.now() > end) break
    await sleep(LOOK_EVERY_MS)
    losses = await lossesOf(all)
    const seconds = (Date.now() - killedAt) / 1000
    if (seconds >= AFTERMATH_SECONDS) busyAfter ??= busyBetween(usageAtKill, usage(), seconds)
    if (Date.now() - killedAt < (secondsP99Ms.length + 1) * 1000) continue
    const { latencies } = await witnesses.look()
    during.add(latencies.counts())
    secondsP99Ms.push(latencies.quantileMs(0.99))
  }
  const rest = await witnesses.look()
  during.add(rest.latencies.counts())
  const crowdsDuring = await crowds.look()
  await sleep(options.settle * 1000)
  const silences = await silencesSince(databaseUrl, killedAt)
  const refused: Record<string, number> = {}
  for (const [now, then] of [
    [rest, before],
    [crowdsDuring, crowdsBefore],
  ] as const)
    for (const [code, count] of Object.entries(now.refused))
      refused[code] = (refused[code] ?? 0) + count - (then.refused[code] ?? 0)
  const missing = Math.max(held.size, losses.robots.length) - losses.back
  const secondsUntilBack = missing > 0 ? PATIENCE_SECONDS : (losses.lastBackAt - killedAt) / 1000
  const [beforeP99Ms, duringP99Ms] = [before.latencies.quantileMs(0.99), during.quantileMs(0.99)]
  return {
    held: held.size,
    lost: losses.robots.length,
    strangers: losses.robots.filter((robot) => !held.has(robot)).length,
    missing,
    secondsUntilBack,
    secondsBeyondJitter: secondsUntilBack - options.jitter,
    sessionsPerSecond: losses.back / secondsUntilBack,
    beforeP99Ms,
    duringP99Ms,
    ratio: duringP99Ms / beforeP99Ms,
    secondsP99Ms,
    busyBefore: busyBetween(usageBefore, usageAtKill, options.before),
    busyAfter: busyAfter ?? busyBetween(usageAtKill, usage(), (Date.now() - killedAt) / 1000),
    crowdsRatio: crowdsDuring.latencies.quantileMs(0.99) / crowdsBefore.latencies.quantileMs(0.99),
    refused,
    stale: silences.filter((entry) => entry.code === 'stale').length,
    offline: silences.filter((entry) => entry.code === 'offline').length,
  }
}

function busyBetween(from: Busy, to: Busy, seconds: number): Busy {
  return {
    server: (to.server - from.server) / seconds,
    database: (to.database - from.database) / seconds,
    robots: (to.robots - from.robots) / seconds,
    machine: (to.machine - from.machine) / seconds,
  }
}

async function lossesOf(all: readonly FleetCrowds[]) {
  const losses = await Promise.all(all.map((some) => some.losses()))
  return {
    robots: losses.flatMap((each) => each.robots),
    back: losses.reduce((sum, each) => sum + each.back, 0),
    lastBackAt: Math.max(...losses.map((each) => each.lastBackAt ?? 0)),
  }
}

const figures: Figure[] = Object.entries(rounds).flatMap(([engine, { kills }]) => {
  const name = ENGINE_NAMES[engine as EngineName]
  const of = (what: string, figure: (kill: Kill) => number, digits = 0, headline = false): Figure => ({
    what: `${name}: ${what}`,
    spread: spreadOf(kills.map(figure)),
    digits,
    headline,
  })
  return [
    of('robots of the killed process', (kill) => kill.held),
    of('seconds until all are back, beyond the jitter', (kill) => kill.secondsBeyondJitter, 1, true),
    of(`robots that were not back after ${PATIENCE_SECONDS} s`, (kill) => kill.missing),
    of('others’ heartbeat → ack p99 meanwhile ÷ before', (kill) => kill.ratio, 2, true),
    of('others’ p99 before, ms', (kill) => kill.beforeP99Ms, 1),
    of('others’ p99 meanwhile, ms', (kill) => kill.duringP99Ms, 1),
    of('others’ p99 in the worst second, ms', (kill) => Math.max(...kill.secondsP99Ms), 1),
    ...(['server', 'database', 'robots', 'machine'] as const).flatMap((who) => [
      of(`processors busy before, ${who}`, (kill) => kill.busyBefore[who], 2),
      of(`processors busy in the first ${AFTERMATH_SECONDS} s, ${who}`, (kill) => kill.busyAfter[who], 2),
    ]),
    of('the same ratio, timed by those who also close and dial', (kill) => kill.crowdsRatio, 2),
    of('sessions opened per second until then', (kill) => kill.sessionsPerSecond),
    of('robots of other processes that lost their session', (kill) => kill.strangers, 0, true),
    of('robots called stale', (kill) => kill.stale),
    of('robots called offline', (kill) => kill.offline, 0, true),
  ]
})

/** Seconds beyond the jitter, and how much slower others are answered, that are good enough. */
const AIMS: Readonly<Record<EngineName, { readonly seconds: number; readonly ratio: number }>> = {
  ws: { seconds: 8, ratio: 5 },
  uws: { seconds: 4, ratio: 3 },
}

function groupsOf(engine: EngineName, kills: readonly Kill[]): BarChart['groups'] {
  const bars = (figure: (kill: Kill) => number) => [
    { name: ENGINE_NAMES[engine], spread: spreadOf(kills.map(figure)) },
  ]
  const { seconds, ratio } = AIMS[engine]
  return [
    {
      label: 'until all are back',
      unit: 'seconds beyond their own pause',
      bars: bars((kill) => kill.secondsBeyondJitter),
      aim: { value: seconds, good: 'below' },
    },
    {
      label: 'others meanwhile',
      unit: 'p99 ÷ p99 before',
      bars: bars((kill) => kill.ratio),
      aim: { value: ratio, good: 'below' },
    },
  ]
}

await saveReport({
  name: 'process-killed',
  question:
    `One of ${options.processes} gateway processes with ${options.robots.toLocaleString('en')} robots in all is killed ` +
    `(SIGKILL): its robots come back after up to ${options.jitter} s each, and the others go on`,
  figures,
  chart: {
    title: `One of ${options.processes} processes is killed`,
    groups: Object.entries(rounds).flatMap(([engine, { kills }]) => groupsOf(engine as EngineName, kills)),
  },
  settings: { ...options, given: optionsGiven },
  rounds,
})
