import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import type { DialectName } from './programs/dialects.ts'
import { HEARTBEAT_BYTES } from './programs/heartbeat-frames.ts'
import type { Answered } from './programs/robot-crowd.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { type StartChild, withChildren } from './support/child.ts'
import { RobotCrowd } from './support/crowd.ts'
import { ENGINES, startBareServer } from './support/engines.ts'
import { enrolRobots } from './support/fleet.ts'
import { ratiosOf, spreadOf } from './support/measure.ts'
import { MEMORY_QUESTION } from './support/memory-question.ts'
import { readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import { cpuSecondsOf } from './support/proc.ts'
import { type Figure, saveReport } from './support/report.ts'
import { settledBytesAfterStorm, settledBytesOf } from './support/settling.ts'

// What do connections, and answers to messages of the same size, cost others who hold many connections? They do not do
// the same: nobody but ours knows each robot by its own token, and stores what it says before it answers.

const {
  rounds: ROUNDS,
  robots: ROBOTS,
  seconds: SECONDS,
} = readOptions({ rounds: 2, robots: 10_000, seconds: 4 })
const TALKING = 1_000
const PROBE = new URL('./programs/memory-probe.js', import.meta.url)
const SHARED_TOKEN = randomBytes(16).toString('hex')
const HOW_TO_GET_NATS = 'nats-server is not on the PATH, and is left out: apt-get install nats-server\n'

interface Server {
  readonly pid: number
  /** Has it collect its garbage; where that can be asked for. */
  readonly collect?: () => Promise<unknown>
  readonly port: number
  readonly dialect: DialectName
  readonly tokens: readonly string[]
}

interface Contestant {
  readonly name: string
  readonly start: (start: StartChild) => Promise<Server>
}

interface Round {
  readonly bytesPerConnection: number
  readonly connectsPerSecond: number
  readonly connectsPerCpuSecond: number
  readonly answersPerCpuSecond: number
}

function contestants(databaseUrl: string, tokens: readonly string[]): Contestant[] {
  const shared = tokens.map(() => SHARED_TOKEN)
  const program =
    (name: string, dialect: DialectName) =>
    async (start: StartChild): Promise<Server> => {
      const child = start(new URL(`./programs/${name}.js`, import.meta.url), {
        args: [SHARED_TOKEN],
        node: ['--import', PROBE.href],
      })
      const [, port, pid] = await child.says(/^listening on port (\d+) as process (\d+)$/m)
      const isNode = Number(pid) === child.pid
      return {
        pid: Number(pid),
        port: Number(port),
        dialect,
        tokens: shared,
        ...(isNode ? { collect: () => child.ask({ question: MEMORY_QUESTION }) } : {}),
      }
    }
  const nats: Contestant = { name: 'NATS', start: program('nats-server', 'nats') }
  const hasNats = spawnSync('nats-server', ['--version']).status === 0
  if (!hasNats) process.stderr.write(HOW_TO_GET_NATS)
  return [
    ...ENGINES.map((engine) => ({
      name: `ours on ${engine}`,
      start: async (start: StartChild) => {
        const settings = { BEACON_HEARTBEAT_SECONDS: '3600' }
        const { child, gatewayPort } = await startBeaconServer(start, {
          databaseUrl,
          engine,
          settings,
          preload: PROBE,
        })
        const collect = () => child.ask({ question: MEMORY_QUESTION })
        return { pid: child.pid, collect, port: gatewayPort, dialect: 'beacon' as const, tokens }
      },
    })),
    ...ENGINES.map((engine) => ({
      name: `bare ${engine}`,
      start: async (start: StartChild) => {
        const { child, port } = await startBareServer(start, engine, PROBE)
        const collect = () => child.ask({ question: MEMORY_QUESTION })
        return { pid: child.pid, collect, port, dialect: 'beacon' as const, tokens }
      },
    })),
    ...(hasNats ? [nats] : []),
    { name: 'socket.io', start: program('socket-io-server', 'socket.io') },
  ]
}

/** Each round has a server of its own: memory that was taken once is seldom given back. */
function measure(startServer: Contestant['start']): Promise<Round> {
  return withChildren<Round>(async (start) => {
    const { pid, collect, port, dialect, tokens } = await startServer(start)
    const idle = await RobotCrowd.start(start, { port, dialect })
    // What is left of starting would be given back while connections come, and make these look cheaper than they are.
    await settledBytesAfterStorm(pid)
    await collect?.()
    const empty = await settledBytesOf(pid)
    const [begun, cpu] = [performance.now(), cpuSecondsOf(pid)]
    await idle.connect(tokens)
    const seconds = (performance.now() - begun) / 1000
    const connecting = cpuSecondsOf(pid) - cpu
    await settledBytesAfterStorm(pid)
    await collect?.()
    const full = await settledBytesOf(pid)
    await idle.child.stop()

    const talking = await RobotCrowd.start(start, { port, dialect, firstAddress: 10 })
    await talking.connect(tokens.slice(0, TALKING))
    await talking.ask({ do: 'saturate', seconds: SECONDS / 4, inFlight: 1 })
    const before = cpuSecondsOf(pid)
    const { count } = await talking.ask<Answered>({ do: 'saturate', seconds: SECONDS, inFlight: 1 })
    return {
      bytesPerConnection: (full - empty) / ROBOTS,
      connectsPerSecond: ROBOTS / seconds,
      connectsPerCpuSecond: ROBOTS / connecting,
      answersPerCpuSecond: count / (cpuSecondsOf(pid) - before),
    }
  })
}

const rounds = await withPostgres(async (databaseUrl) => {
  const tokens = (await enrolRobots(databaseUrl, ROBOTS)).map((robot) => robot.token)
  const all = contestants(databaseUrl, tokens)
  const measured: Record<string, Round[]> = Object.fromEntries(all.map(({ name }) => [name, []]))
  for (let round = 0; round < ROUNDS; round++)
    for (const { name, start } of round % 2 === 0 ? all : all.toReversed())
      measured[name]!.push(await measure(start))
  return measured
})

function table(what: string, figure: (round: Round) => number): Figure[] {
  const values = Object.fromEntries(Object.entries(rounds).map(([name, each]) => [name, each.map(figure)]))
  const others = Object.keys(values).filter((name) => name === 'NATS' || name === 'socket.io')
  return [
    ...Object.entries(values).map(([name, each]) => ({ what: `${what}: ${name}`, spread: spreadOf(each) })),
    ...others.map((name) => ({
      what: `${what}: ours on uws ÷ ${name}`,
      spread: spreadOf(ratiosOf(values['ours on uws']!, values[name]!)),
      digits: 2,
      headline: true,
    })),
  ]
}

const bars = (label: string, unit: string, figure: (round: Round) => number) => ({
  label,
  unit,
  bars: Object.entries(rounds).map(([name, each]) => ({ name, spread: spreadOf(each.map(figure)) })),
})

await saveReport({
  name: 'outside',
  question:
    'What a connection and the answer to a message cost others: NATS over WebSocket (publish → +OK, stored nowhere), ' +
    'socket.io (event → acknowledgement, stored nowhere), both with one token for all, beside ours (each robot by its own ' +
    'token, each answer after the commit in PostgreSQL, whose own processor time is not counted here) and the bare ' +
    'engines (echo). Processor seconds are those of the server’s process',
  figures: [
    ...table('idle memory, bytes per connection', (round) => round.bytesPerConnection),
    ...table('connects/s with the clients on the same cores', (round) => round.connectsPerSecond),
    ...table('connects per processor second', (round) => round.connectsPerCpuSecond),
    ...table('answers per processor second', (round) => round.answersPerCpuSecond),
  ],
  chart: {
    title: 'What connections and answers cost others',
    groups: [
      bars('idle memory', 'bytes per connection', (round) => round.bytesPerConnection),
      bars('connects', 'per processor second', (round) => round.connectsPerCpuSecond),
      bars('answers', 'per processor second', (round) => round.answersPerCpuSecond),
    ],
  },
  settings: {
    rounds: ROUNDS,
    robots: ROBOTS,
    talking: TALKING,
    seconds: SECONDS,
    message_bytes: HEARTBEAT_BYTES,
  },
  rounds,
})
