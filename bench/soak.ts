import { availableParallelism } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { STALE_AFTER_INTERVALS } from '../src/protocol/limits.ts'
import type { Absence } from './programs/fleet-crowd.ts'
import { FIRST_SEQ } from './programs/heartbeat-frames.ts'
import { withChildren } from './support/child.ts'
import { databaseCpuSeconds, postmasterOf } from './support/database.ts'
import { ENGINE_NAMES, type EngineName } from './support/engines.ts'
import {
  compareLedgers,
  connectionsNow,
  databaseBytes,
  type Ledger,
  robotsByProcess,
  type SilenceEntry,
  silencesSince,
} from './support/evidence.ts'
import { GrowingFleet } from './support/fleet.ts'
import { FleetCrowds } from './support/fleet-crowds.ts'
import { startManyProcesses } from './support/gateway-processes.ts'
import { spreadOf } from './support/measure.ts'
import { machineMemory, proportionalBytesOf, treeOf } from './support/memory.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { type Figure, keepReport, type Report, saveReport } from './support/report.ts'

// Over an hour in which robots drop out and return and processes are killed: is any acknowledged heartbeat not in
// PostgreSQL, is any in it twice, and is any robot that goes on called stale or offline?

const options = readOptions({
  engine: 'uws',
  minutes: 60,
  robots: 90_000,
  processes: 5,
  interval: 15,
  /** Robots that lose their session come back after up to so many seconds. */
  jitter: 10,
  /** Of all robots, how many in a hundred lose their network in a minute. */
  drops: 1,
  /** Minutes from one killed gateway process to the next; 0: none is. */
  'kill-every': 10,
  /** Nothing is disturbed. */
  quiet: false,
  /** Heartbeats as large as in the other benches. */
  long: false,
})
const PATIENCE_SECONDS = 300
const MIB = 2 ** 20
/** A robot's first word after an absence takes a moment to be heard. */
const HEARD_WITHIN_MS = 2_000

interface Minute {
  readonly minute: number
  readonly connected: number
  readonly heartbeatsPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly sessionsOpened: number
  readonly killed: boolean
  /** Of the server with all its processes, of PostgreSQL, and of the robots. */
  readonly serverMiB: number
  readonly postgresMiB: number
  readonly robotsMiB: number
  readonly databaseMiB: number
  readonly availableMiB: number
  readonly databaseCpuSeconds: number
}

interface Outcome {
  readonly ledger: Ledger
  /** All that timelines say of robots that fell silent, and what of it was not so. */
  readonly silences: { readonly stale: number; readonly offline: number }
  readonly wrong: { readonly stale: number; readonly offline: number }
  readonly wrongExamples: readonly SilenceEntry[]
  readonly unansweredAtEnd: number
  readonly connectionsAtEnd: Readonly<Record<string, number>>
  readonly longestAbsenceMs: number
}

const minutes: Minute[] = []
let outcome: Outcome | undefined
let totals: Record<string, unknown> = {}
let connectSeconds = 0

function report(): Report {
  const over = (what: string, of: (minute: Minute) => number, digits = 0): Figure => ({
    what: `${what} (over the minutes)`,
    spread: spreadOf(minutes.map(of)),
    digits,
  })
  const once = (what: string, value: number, headline = false): Figure => ({
    what,
    spread: spreadOf([value]),
    headline,
  })
  return {
    name: 'soak',
    question:
      `${minutes.length} minutes of ${options.robots.toLocaleString('en')} robots in ${options.processes} gateway processes ` +
      `(${ENGINE_NAMES[options.engine as EngineName]}), a heartbeat every ${options.interval} s` +
      (options.quiet
        ? ''
        : `, while ${options.drops} % of the robots drop out and return each minute` +
          (options['kill-every'] > 0
            ? ` and a process is killed every ${options['kill-every']} minutes`
            : '')),
    figures: [
      ...(outcome === undefined
        ? [once('minutes of it that were done when it was cut off', minutes.length, true)]
        : [
            once('acknowledged heartbeats', outcome.ledger.acknowledged),
            once('of them not in PostgreSQL', outcome.ledger.missing, true),
            once('in PostgreSQL twice', outcome.ledger.duplicates, true),
            once('robots falsely called offline', outcome.wrong.offline, true),
            once('robots falsely called stale', outcome.wrong.stale, true),
            once('heartbeats never acknowledged', outcome.unansweredAtEnd),
          ]),
      over('heartbeats/s', (minute) => minute.heartbeatsPerSecond),
      over('heartbeat → ack p50 ms', (minute) => minute.p50Ms, 1),
      over('heartbeat → ack p99 ms', (minute) => minute.p99Ms, 1),
      over('server, all processes, MiB', (minute) => minute.serverMiB),
      over('PostgreSQL, all processes, MiB', (minute) => minute.postgresMiB),
      once('database at the end, MiB', minutes.at(-1)!.databaseMiB),
      over('sessions opened', (minute) => minute.sessionsOpened),
    ],
    settings: { ...options, given: optionsGiven, sessions_per_second: 1_000 * availableParallelism() },
    rounds: { connectSeconds, minutes, outcome: outcome ?? null, totals },
  }
}

await withPostgres(async (databaseUrl) => {
  const fleet = new GrowingFleet(databaseUrl)
  await fleet.growTo(options.robots)
  const postmaster = await postmasterOf(databaseUrl)
  const databaseSeconds = await databaseCpuSeconds(databaseUrl)
  await withChildren(async (start) => {
    const server = await startManyProcesses(start, {
      databaseUrl,
      engine: options.engine as EngineName,
      processes: options.processes,
      heartbeatSeconds: options.interval,
      settings: { BEACON_SESSIONS_PER_SECOND: String(1_000 * availableParallelism()) },
    })
    await server.complete()
    const crowds = new FleetCrowds({
      start,
      port: server.gatewayPort,
      seed: fleet.seed,
      handshakesAtOnce: 100,
      persistence: { jitterMs: options.jitter * 1000, maxJitterMs: options.jitter * 1000 },
      shortHeartbeats: !options.long,
    })
    let begun = performance.now()
    await crowds.growTo(options.robots)
    await crowds.beatEvery(options.interval * 1000)
    if (!(await crowds.allHere(PATIENCE_SECONDS)))
      throw new Error(`not all robots connect: ${JSON.stringify(await crowds.counts())}`)
    connectSeconds = (performance.now() - begun) / 1000
    process.stderr.write(`${options.robots} robots connected in ${connectSeconds.toFixed(0)} s\n`)
    await crowds.look()
    const since = Date.now()
    begun = performance.now()

    let opened = (await crowds.counts()).opened
    let seconds = databaseSeconds()
    for (let minute = 1; minute <= options.minutes; minute++) {
      // Not in the last minutes, so that what a kill does can be seen.
      const killed =
        !options.quiet &&
        options['kill-every'] > 0 &&
        minute % options['kill-every'] === 0 &&
        minute < options.minutes
      if (killed) await killOne(server.gateways(), databaseUrl)
      const end = begun + minute * 60_000
      while (performance.now() < end) {
        if (!options.quiet) await crowds.loseSome((options.robots * options.drops) / 100 / 60)
        await sleep(Math.max(Math.min(1_000, end - performance.now()), 0))
      }
      const look = await crowds.look()
      const used = databaseSeconds()
      minutes.push({
        minute,
        connected: look.here,
        heartbeatsPerSecond: look.latencies.count / 60,
        p50Ms: look.latencies.quantileMs(0.5),
        p99Ms: look.latencies.quantileMs(0.99),
        maxMs: look.latencies.maxMs,
        sessionsOpened: look.opened - opened,
        killed,
        serverMiB: proportionalBytesOf(treeOf(server.child.pid)) / MIB,
        postgresMiB: proportionalBytesOf(treeOf(postmaster)) / MIB,
        robotsMiB: proportionalBytesOf(crowds.pids) / MIB,
        databaseMiB: (await databaseBytes(databaseUrl)) / MIB,
        availableMiB: machineMemory().available / MIB,
        databaseCpuSeconds: used - seconds,
      })
      ;[opened, seconds] = [look.opened, used]
      const { latencies: _latencies, handshakes: _handshakes, ...counts } = look
      totals = counts
      process.stderr.write(`${inOneLine(minutes.at(-1)!)}\n`)
      await keepReport(report())
    }

    // Before robots are silent because they are told to be.
    const connectionsAtEnd = await connectionsNow(databaseUrl)
    const absences = await crowds.absencesLongerThan(HEARD_WITHIN_MS)
    const silences = await silencesSince(databaseUrl, since)
    await crowds.hush()
    await crowds.allAnswered(60)
    const { sent, answered } = await crowds.counts()
    process.stderr.write('comparing what was acknowledged with what is there\n')
    const away = new Map<number, Absence[]>()
    for (const absence of absences) away.set(absence.robot, [...(away.get(absence.robot) ?? []), absence])
    const wrong = silences.filter(({ robot, at }) => !(away.get(robot) ?? []).some(explains(at)))
    const count = (entries: readonly SilenceEntry[], code: SilenceEntry['code']) =>
      entries.filter((entry) => entry.code === code).length
    outcome = {
      connectionsAtEnd,
      silences: { stale: count(silences, 'stale'), offline: count(silences, 'offline') },
      wrong: { stale: count(wrong, 'stale'), offline: count(wrong, 'offline') },
      wrongExamples: wrong.slice(0, 20),
      unansweredAtEnd: sent - answered,
      longestAbsenceMs: Math.max(0, ...absences.map(({ from, to }) => (to ?? Date.now()) - from)),
      ledger: await compareLedgers(databaseUrl, FIRST_SEQ, await crowds.acknowledged()),
    }
  })
})
await saveReport(report())

/** Whether a robot that was away was so long enough to be called silent then: its last word may be an interval older. */
function explains(at: number): (absence: Absence) => boolean {
  const longEnoughMs = (STALE_AFTER_INTERVALS - 1) * options.interval * 1000
  return ({ from, to }) => at - from >= longEnoughMs && at <= (to ?? at) + HEARD_WITHIN_MS
}

/** The one with most robots: it is the one that has been there for longest. */
async function killOne(gateways: readonly number[], databaseUrl: string): Promise<void> {
  const holders = await robotsByProcess(databaseUrl)
  const [victim] = gateways.toSorted((a, b) => (holders.get(b)?.length ?? 0) - (holders.get(a)?.length ?? 0))
  if (victim !== undefined) process.kill(victim, 'SIGKILL')
}

function inOneLine(minute: Minute): string {
  const whole = (value: number) => Math.round(value).toLocaleString('en')
  return (
    `minute ${minute.minute}: ${whole(minute.connected)} robots, ${whole(minute.heartbeatsPerSecond)} heartbeats/s, ` +
    `p50 ${minute.p50Ms.toFixed(1)} ms, p99 ${minute.p99Ms.toFixed(1)} ms, longest ${whole(minute.maxMs)} ms, ` +
    `${whole(minute.sessionsOpened)} sessions opened${minute.killed ? ' (a process was killed)' : ''}, ` +
    `server ${whole(minute.serverMiB)} MiB, PostgreSQL ${whole(minute.postgresMiB)} MiB, robots ${whole(minute.robotsMiB)} MiB, ` +
    `database ${whole(minute.databaseMiB)} MiB, ${whole(minute.availableMiB)} MiB to spare`
  )
}
