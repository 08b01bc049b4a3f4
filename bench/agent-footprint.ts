import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { generate } from 'selfsigned'
import { WebSocketServer } from 'ws'
import { type RunningAgent, until, withRobots } from './support/agents.ts'
import { startBeaconServer } from './support/beacon-server.ts'
import { withChildren } from './support/child.ts'
import { withConnection } from './support/database.ts'
import { type Spread, spreadOf } from './support/measure.ts'
import { optionsGiven, readOptions } from './support/options.ts'
import { withPostgres } from './support/postgres.ts'
import type { ProcessLook } from './support/process-look.ts'
import { type BarChart, type Figure, saveReport } from './support/report.ts'
import { type RobotProcess, versionOf } from './support/robot-process.ts'
import { endTls, RobotRelay } from './support/robot-relay.ts'

// What does the agent take of a robot: memory, processor, disk, network? Against Node with one connection that sends the
// same bytes as often. All of them run at the same time; each has a copy of Node of its own, as if it were the only program
// on the machine that runs on Node.

const options = readOptions({
  minutes: 10,
  interval: 10,
  /** Which Node runs them, or several, with commas between: as a path. */
  node: process.execPath,
})
const AIMS = { residentMiB: 65, cpuPercent: 0.5 }
/** What comes before counts as the start. */
const START_SECONDS = 20
const LOOK_EVERY_MS = 2_000
const DAY_SECONDS = 86_400
const STRACE = '/usr/bin/strace'
/** Of IP and TCP with timestamps; a heartbeat and its acknowledgement are a packet each, and each is acknowledged. */
const HEADER_BYTES = 52
const PACKETS_PER_HEARTBEAT = 4

interface Traffic {
  readonly up: number
  readonly down: number
}

interface Subject {
  readonly label: string
  readonly process: RobotProcess
  readonly startedAt: number
  /** Undefined: nobody counts. */
  readonly relay: RobotRelay | undefined
  readonly looks: ProcessLook[]
  begun?: { readonly at: number; readonly look: ProcessLook; readonly traffic: Traffic }
  ended?: { readonly at: number; readonly look: ProcessLook; readonly traffic: Traffic }
}

interface Outcome {
  readonly node: string
  readonly subjects: readonly Subject[]
  /** fsync and fdatasync by the agent in the measured time; undefined where there is no strace. */
  readonly syncs: number | undefined
}

const trafficOf = (relay: RobotRelay | undefined): Traffic => ({
  up: relay?.sentByRobots ?? 0,
  down: relay?.sentToRobots ?? 0,
})

/** The bare robots' server, which answers each message with an acknowledgement as long as ours. */
async function startBareAnswers(): Promise<{ readonly port: number; close(): void }> {
  const http = createServer().unref()
  const server = new WebSocketServer({ server: http, perMessageDeflate: false })
  server.on('connection', (socket) =>
    socket.on('message', () => socket.send('{"type":"ack","seq":1700000000000}')),
  )
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const close = () => {
    for (const client of server.clients) client.terminate()
    server.close()
    http.close()
  }
  return { port: (http.address() as AddressInfo).port, close }
}

function newestHeartbeat(databaseUrl: string, robotId: string): Promise<string> {
  return withConnection(databaseUrl, async (connection) => {
    const { rows } = await connection.query(
      'SELECT heartbeat, heartbeat_seq AS seq, heartbeat_at AS at FROM robot_status WHERE robot_id = $1',
      [robotId],
    )
    const { heartbeat, seq, at } = rows[0]
    return JSON.stringify({ type: 'heartbeat', seq: Number(seq), at, ...heartbeat })
  })
}

const outcomes: Outcome[] = []
let heartbeatBytes = 0

await withPostgres((databaseUrl) =>
  withChildren(async (start) => {
    const server = await startBeaconServer(start, {
      databaseUrl,
      settings: { BEACON_HEARTBEAT_SECONDS: String(options.interval) },
    })
    const certificate = await generate([{ name: 'commonName', value: 'localhost' }], {
      keyType: 'ec',
      algorithm: 'sha256',
      extensions: [
        { name: 'basicConstraints', cA: true },
        { name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] },
      ],
    })
    const tls = await endTls({ cert: certificate.cert, key: certificate.private }, server.port)
    const bareAnswers = await startBareAnswers()
    const folder = mkdtempSync(join(tmpdir(), 'beacon-authority-'))
    const caFile = join(folder, 'ca.pem')
    writeFileSync(caFile, certificate.cert)
    await withRobots(databaseUrl, server, async (robots) => {
      const running: { node: string; subjects: Subject[]; watched: RunningAgent | undefined }[] = []
      for (const node of options.node.split(',')) {
        const version = versionOf(node)
        const subjects: Subject[] = []
        const wish = { node, intervalSeconds: options.interval, program: 'bundle' } as const
        const add = (label: string, process: RobotProcess, relay?: RobotRelay) =>
          subjects.push({ label, process, startedAt: performance.now(), relay, looks: [] })

        const plain = await RobotRelay.to(server.port)
        const address = `http://127.0.0.1:${plain.port}`
        const agent = await robots.start({ ...wish, name: `agent ${version}`, server: address })
        add('agent', agent.process, plain)

        const secured = await RobotRelay.to(tls.port)
        const overTls = await robots.start({
          ...wish,
          name: `agent over TLS ${version}`,
          server: `https://127.0.0.1:${secured.port}`,
          settings: { BEACON_CA_FILE: caFile },
        })
        add('agent over TLS', overTls.process, secured)

        const inCheckout = await robots.start({
          ...wish,
          name: `agent of a checkout ${version}`,
          program: 'dist',
          server: `http://127.0.0.1:${server.port}`,
        })
        add('agent of a checkout', inCheckout.process)

        // With what the robot's software tells in it.
        let text = ''
        await until(async () => {
          text = await newestHeartbeat(databaseUrl, agent.robotId)
          return text.includes('route_left_m')
        }, 'a heartbeat holds all that it will hold')
        heartbeatBytes = Math.max(heartbeatBytes, Buffer.byteLength(text))
        const bareRelay = await RobotRelay.to(bareAnswers.port)
        const bare = await robots.startOther(`bare ${version}`, node, [
          fileURLToPath(new URL('programs/bare-robot.js', import.meta.url)),
          `ws://127.0.0.1:${bareRelay.port}`,
          String(options.interval * 1000),
          text,
        ])
        add('bare', bare, bareRelay)

        const watched = existsSync(STRACE)
          ? await robots.start({
              ...wish,
              name: `agent watched ${version}`,
              server: `http://127.0.0.1:${server.port}`,
              watchedBy: (folder) => [
                STRACE,
                // -D: the agent stays the process that was started, and strace watches from beside.
                ...['-D', '-f', '-qq', '-ttt', '-e', 'trace=fsync,fdatasync', '-e', 'signal=none'],
                ...['-o', join(folder, 'syncs')],
              ],
            })
          : undefined
        running.push({ node: version, subjects, watched })
      }
      const all = running.flatMap(({ subjects }) => subjects)
      await sleep(Math.max(0, ...all.map((one) => one.startedAt + START_SECONDS * 1000 - performance.now())))
      const note = ({ process, relay }: Subject) => ({
        at: performance.now(),
        look: process.look(),
        traffic: trafficOf(relay),
      })
      const wallBegin = Date.now()
      for (const one of all) one.begun = note(one)
      const end = performance.now() + options.minutes * 60_000
      while (performance.now() < end) {
        await sleep(Math.min(LOOK_EVERY_MS, Math.max(0, end - performance.now())))
        for (const one of all) one.looks.push(one.process.look())
      }
      for (const one of all) one.ended = note(one)
      for (const { node, subjects, watched } of running) {
        const times = watched && (await syncTimes(watched))
        const counted = times?.filter((at) => at >= wallBegin && at <= wallBegin + options.minutes * 60_000)
        outcomes.push({ node, subjects, syncs: counted?.length })
      }
      await Promise.all(all.map(({ relay }) => relay?.close()))
    })
    rmSync(folder, { recursive: true })
    tls.close()
    bareAnswers.close()
  }),
)

/** Ends the agent, and tells when it had its writes forced to disk, in milliseconds since 1970. */
async function syncTimes({ process, folder }: RunningAgent): Promise<number[]> {
  const path = join(folder, 'syncs')
  const size = () => statSync(path).size
  await process.stop()
  // strace ends a moment after what it watches. What the agent does when it starts and ends is always there.
  await until(() => size() > 0, 'strace tells of something')
  await sleep(1_000)
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => /(fsync|fdatasync)(\(| resumed)/.test(line) && !line.includes('unfinished'))
    .map((line) => Number(/^\d+\s+([\d.]+)/.exec(line)?.[1]) * 1000)
}

function percentOfCore({ begun, ended }: Subject): number {
  const seconds = (ended!.at - begun!.at) / 1000
  return ((ended!.look.cpuSeconds - begun!.look.cpuSeconds) / seconds) * 100
}

function percentWithStart({ startedAt, ended }: Subject): number {
  return (ended!.look.cpuSeconds / ((ended!.at - startedAt) / 1000)) * 100
}

function perDay({ begun, ended }: Subject, of: (noted: NonNullable<Subject['begun']>) => number): number {
  return (of(ended!) - of(begun!)) * (DAY_SECONDS / ((ended!.at - begun!.at) / 1000))
}

const alone = (value: number): Spread => spreadOf([value])
const memoryOf = ({ looks }: Subject, of: (look: ProcessLook) => number) => spreadOf(looks.map(of))
const MIB = 2 ** 20

function figuresOf({ node, subjects, syncs }: Outcome): Figure[] {
  const bare = subjects.find(({ label }) => label === 'bare')!
  const beatsPerDay = DAY_SECONDS / options.interval
  const [agent] = subjects
  return [
    ...subjects.flatMap((one): Figure[] => {
      const what = (text: string) => `${node}, ${one.label}: ${text}`
      const isAgent = one !== bare
      const resident = memoryOf(one, (look) => look.residentMiB)
      const up = perDay(one, ({ traffic }) => traffic.up)
      const down = perDay(one, ({ traffic }) => traffic.down)
      return [
        { what: what('resident, MiB (RSS)'), spread: resident, digits: 1, headline: isAgent },
        { what: what('the most since its start, MiB'), spread: alone(one.ended!.look.peakMiB), digits: 1 },
        {
          what: what('resident, MiB (PSS)'),
          spread: memoryOf(one, (look) => look.proportionalMiB),
          digits: 1,
        },
        {
          what: what('of that not of a file, MiB'),
          spread: memoryOf(one, (look) => look.anonymousMiB),
          digits: 1,
        },
        {
          what: what('processor, % of a core'),
          spread: alone(percentOfCore(one)),
          digits: 3,
          headline: isAgent,
        },
        { what: what('the same with the start, %'), spread: alone(percentWithStart(one)), digits: 3 },
        {
          what: what(`processor until ${START_SECONDS} s after the start, s`),
          spread: alone(one.begun!.look.cpuSeconds),
          digits: 2,
        },
        ...(one.relay && up > 0
          ? [
              { what: what('bytes sent per heartbeat'), spread: alone(up / beatsPerDay) },
              { what: what('bytes received per heartbeat'), spread: alone(down / beatsPerDay) },
              {
                what: what('both ways, MiB a day'),
                spread: alone((up + down) / MIB),
                digits: 2,
                headline: isAgent,
              },
              {
                what: what('with the headers of IP and TCP, reckoned, MiB a day'),
                spread: alone((up + down + beatsPerDay * PACKETS_PER_HEARTBEAT * HEADER_BYTES) / MIB),
                digits: 2,
              },
            ]
          : []),
        {
          what: what('written to disk, MiB a day'),
          spread: alone(perDay(one, ({ look }) => look.writtenBytes) / MIB),
          digits: 2,
        },
        { what: what('file descriptors'), spread: memoryOf(one, (look) => look.descriptors) },
        { what: what('threads'), spread: memoryOf(one, (look) => look.threads) },
      ]
    }),
    ...(syncs === undefined
      ? []
      : [
          {
            what: `${node}, agent: writes forced to disk, a day`,
            spread: alone((syncs * DAY_SECONDS) / (options.minutes * 60)),
          },
        ]),
    {
      what: `${node}: agent ÷ bare, resident`,
      spread: alone(
        memoryOf(agent!, (look) => look.residentMiB).median /
          memoryOf(bare, (look) => look.residentMiB).median,
      ),
      digits: 2,
      headline: true,
    },
    {
      what: `${node}: agent ÷ bare, processor`,
      spread: alone(percentOfCore(agent!) / Math.max(percentOfCore(bare), 1e-9)),
      digits: 2,
      headline: true,
    },
  ]
}

const barsOf = (label: string, spread: (subject: Subject) => Spread, name = '') =>
  outcomes.flatMap(({ node, subjects }) =>
    subjects
      .filter((one) => one.label === label)
      .map((one) => ({ name: `${name}Node ${node.slice(1).split('.')[0]}`, spread: spread(one) })),
  )
const resident = (one: Subject) => memoryOf(one, (look) => look.residentMiB)

const groups: BarChart['groups'][number][] = [
  {
    label: 'agent over TLS',
    unit: 'MiB resident',
    bars: barsOf('agent over TLS', resident),
    aim: { value: AIMS.residentMiB, good: 'below' },
  },
  {
    label: 'Node with one connection',
    unit: 'MiB resident',
    bars: barsOf('bare', resident, 'bare '),
    aim: { value: AIMS.residentMiB, good: 'below' },
  },
  {
    label: 'agent over TLS',
    unit: '% of a core',
    bars: barsOf('agent over TLS', (one) => alone(percentOfCore(one))),
    aim: { value: AIMS.cpuPercent, good: 'below' },
  },
]

await saveReport({
  name: 'agent-footprint',
  question:
    `${options.minutes} minutes of the agent as it is installed on a robot, a heartbeat of ${heartbeatBytes} bytes every ` +
    `${options.interval} s, against Node with one connection that sends the same`,
  figures: outcomes.flatMap(figuresOf),
  chart: { title: 'What the agent takes of a robot', groups },
  settings: { ...options, given: optionsGiven, start_seconds: START_SECONDS },
  rounds: outcomes.map(({ node, subjects, syncs }) => ({
    node,
    syncs: syncs ?? null,
    subjects: subjects.map(({ label, startedAt, begun, ended, looks }) => ({
      label,
      seconds_to_begin: (begun!.at - startedAt) / 1000,
      seconds: (ended!.at - begun!.at) / 1000,
      begun: { ...begun!.look, ...begun!.traffic },
      ended: { ...ended!.look, ...ended!.traffic },
      // Each half minute.
      looks: looks.filter((_, index) => index % 15 === 0),
    })),
  })),
})
