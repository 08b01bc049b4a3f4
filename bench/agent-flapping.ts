import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { packageRoot } from '../src/package.ts'
import { heapFileOf, PROGRAMS, type RunningAgent, statusOf, until, withRobots } from './support/agents.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { withChildren } from './support/child.ts'
import { flapping, type Phase, seeded } from './support/flapping.ts'
import { spreadOf } from './support/measure.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import type { ProcessLook } from './support/process-look.ts'
import { type Figure, keepReport, type Report, saveReport } from './support/report.ts'
import { versionOf } from './support/robot-process.ts'
import { RobotRelay } from './support/robot-relay.ts'
import { highestStored, keepLedger, type Stored, storedSince } from './support/stored-ledger.ts'
import { type Point, type Trend, trendOf } from './support/trend.ts'

// An hour of a network that comes and goes: does the agent grow, and is each of its heartbeats stored exactly once?

const options = readOptions({
  minutes: 60,
  interval: 10,
  seed: 1,
  /** Which Node runs it, or several, with commas between: as a path. */
  node: process.execPath,
})
const LOOK_EVERY_MS = 5_000
/** Until then the agent makes itself at home; growth counts from there on. */
const WARM_UP_SHARE = 1 / 6
/** The longest pause after a loss, with what waits to be sent. */
const PATIENCE_MS = 240_000
const HOUR_MS = 3_600_000
const HEAP_EVERY_MS = 60_000
/** Until the probe has answered. */
const HEAP_ANSWER_MS = 1_000
const MIB = 2 ** 20

interface Look extends ProcessLook {
  readonly hours: number
}

interface Subject {
  readonly node: string
  readonly agent: RunningAgent
  /** Another one beside it, which is asked for its live heap; to ask would change what the first takes. */
  readonly probed: RunningAgent
  readonly heaps: Point[]
  readonly firstSeq: number
  readonly looks: Look[]
  stored: Stored | undefined
  dropped: number | undefined
}

const subjects: Subject[] = []
let phases: readonly Phase[] = []
let connections = 0

const pointsOf = (looks: readonly Look[], of: (look: Look) => number): Point[] =>
  looks.map((look) => ({ hours: look.hours, value: of(look) }))

function trend(points: readonly Point[]): Trend | undefined {
  const counted = points.filter((_, index) => index >= points.length * WARM_UP_SHARE)
  return counted.length < 20 ? undefined : trendOf(counted)
}

function figuresOf({ node, looks, heaps, stored, dropped }: Subject): Figure[] {
  const over = (what: string, points: readonly Point[], digits = 1): Figure[] => {
    if (points.length === 0) return []
    const growth = trend(points)
    return [
      { what: `${node}: ${what}`, spread: spreadOf(points.map(({ value }) => value)), digits },
      ...(growth
        ? [
            {
              what: `${node}: ${what}, growth an hour (95 % of cases)`,
              spread: { median: growth.perHour, min: growth.low, max: growth.high },
              digits: 2,
              headline: true,
            },
          ]
        : []),
    ]
  }
  const once = (what: string, value: number, headline = false): Figure => ({
    what: `${node}: ${what}`,
    spread: spreadOf([value]),
    headline,
  })
  const last = looks.at(-1)!
  return [
    ...over(
      'resident, MiB (RSS)',
      pointsOf(looks, (look) => look.residentMiB),
    ),
    ...over(
      'of that not of a file, MiB',
      pointsOf(looks, (look) => look.anonymousMiB),
    ),
    ...over('live heap after a collection, MiB', heaps, 3),
    ...over(
      'file descriptors',
      pointsOf(looks, (look) => look.descriptors),
    ),
    {
      what: `${node}: processor, % of a core`,
      spread: spreadOf([
        ((last.cpuSeconds - looks[0]!.cpuSeconds) / (last.hours - looks[0]!.hours) / 3600) * 100,
      ]),
      digits: 3,
    },
    ...(stored
      ? [
          once('heartbeats stored', stored.stored),
          once('heartbeats missing', stored.missing, true),
          once('heartbeats stored twice', stored.twice, true),
          once('heartbeats dropped by the agent', dropped!),
        ]
      : []),
  ]
}

function report(): Report {
  const faults = phases.filter(({ weather }) => weather !== 'fair')
  return {
    name: 'agent-flapping',
    question:
      `${options.minutes} minutes of the agent as it is installed on a robot, a heartbeat every ${options.interval} s, over a network ` +
      `that is there for 5 to 60 s and then is not for as long: connections are reset, stall, or lose their other end without a word`,
    figures: [
      {
        what: 'times that the network went away',
        spread: spreadOf([faults.length]),
      },
      { what: 'connections made', spread: spreadOf([connections]) },
      ...subjects.filter(({ looks }) => looks.length > 0).flatMap(figuresOf),
    ],
    settings: { ...options, given: optionsGiven },
    rounds: {
      phases,
      subjects: subjects.map(({ node, looks, heaps, stored, dropped }) => ({
        node,
        heaps,
        stored: stored ?? null,
        dropped: dropped ?? null,
        // Each half minute.
        looks: looks.filter((_, index) => index % 6 === 0),
      })),
    },
  }
}

process.stderr.write(`measured: ${PROGRAMS.bundle[0].slice(packageRoot.length + 1)}\n`)
await withPostgres((databaseUrl) =>
  withChildren(async (start) => {
    const server = await startBeaconServer(start, {
      databaseUrl,
      settings: { BEACON_HEARTBEAT_SECONDS: String(options.interval) },
    })
    await keepLedger(databaseUrl)
    const relay = await RobotRelay.to(server.port)
    await withRobots(databaseUrl, server, async (robots) => {
      for (const node of options.node.split(',')) {
        const version = versionOf(node)
        const wish = {
          name: `agent ${version}`,
          node,
          program: 'bundle',
          server: `http://127.0.0.1:${relay.port}`,
          intervalSeconds: options.interval,
        } as const
        const agent = await robots.start(wish)
        const probed = await robots.start({ ...wish, name: `agent probed ${version}`, isProbed: true })
        await until(async () => (await statusOf(agent)).connection === 'connected', 'the agent is connected')
        // The numbers of the process that enrolled are not followed by those of this one.
        const before = await highestStored(databaseUrl, agent.robotId)
        let firstSeq = before
        await until(async () => {
          firstSeq = await highestStored(databaseUrl, agent.robotId)
          return firstSeq > before
        }, 'its first heartbeat is stored')
        subjects.push({
          node: version,
          agent,
          probed,
          firstSeq,
          looks: [],
          heaps: [],
          stored: undefined,
          dropped: undefined,
        })
      }
      const begun = performance.now()
      const look = () => {
        const hours = (performance.now() - begun) / HOUR_MS
        for (const { agent, looks } of subjects) looks.push({ hours, ...agent.process.look() })
      }
      const askHeaps = async () => {
        const hours = (performance.now() - begun) / HOUR_MS
        for (const { probed } of subjects) process.kill(probed.process.pid, 'SIGUSR2')
        await sleep(HEAP_ANSWER_MS)
        for (const { probed, heaps } of subjects) {
          const bytes = Number(readFileSync(heapFileOf(probed), 'utf8').trim().split('\n').at(-1))
          heaps.push({ hours, value: bytes / MIB })
        }
      }
      let askAt = begun
      phases = flapping(options.minutes * 60_000, seeded(options.seed))
      let phaseEnds = begun
      for (const { weather, ms } of phases) {
        relay.weather = weather
        phaseEnds += ms
        while (performance.now() < phaseEnds) {
          look()
          if (performance.now() >= askAt) {
            askAt += HEAP_EVERY_MS
            await askHeaps()
          }
          await sleep(Math.min(LOOK_EVERY_MS, Math.max(0, phaseEnds - performance.now())))
        }
        connections = relay.connections
        await keepReport(report())
      }
      relay.weather = 'fair'
      for (const subject of subjects) {
        const { agent, firstSeq } = subject
        await until(
          async () => {
            const { connection, backlog } = await statusOf(agent)
            return connection === 'connected' && backlog === 0
          },
          'all that waits is acknowledged',
          PATIENCE_MS,
        )
        subject.dropped = (await statusOf(agent)).dropped
        subject.stored = await storedSince(databaseUrl, agent.robotId, firstSeq)
      }
      look()
    })
    await relay.close()
  }),
)
await saveReport(report())
