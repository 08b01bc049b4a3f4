import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { EventQueue } from '../../agent/events.ts'
import type { Log } from '../../agent/log.ts'
import { Robot } from '../../agent/robot.ts'
import type { Reading } from '../../agent/sensors/board.ts'
import { Sequence } from '../../agent/sequence.ts'
import { SessionCount } from '../../agent/session-count.ts'
import type { HeartbeatFrame } from '../../src/protocol/frames.ts'
import { mintCheckedToken } from '../../src/protocol/tokens.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { ArraySpool } from './support/array-spool.ts'
import {
  type ControlPlane,
  problem,
  ROBOT_ID,
  type RobotSession,
  startControlPlane,
} from './support/control-plane.ts'
import { plainNetwork } from './support/network.ts'
import { serverTimeFor } from './support/server-time.ts'

/** By the clock of the robot, which is not the server's. */
const ownTime = (beat: HeartbeatFrame) => Date.parse(beat.at) + (beat.clock_offset_ms ?? 0)

const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {} }
const INTERVAL_MS = 10_000

/** A robot in this process, on a clock and with chances that the test gives. */
async function robotOf(
  server: ControlPlane,
  gatewayUrl = `ws://127.0.0.1:${server.port}/agent/ws`,
  reading: Reading = {},
) {
  const clock = new ManualClock()
  const folder = mkdtempSync(join(tmpdir(), 'beacon-storm-'))
  const abort = new AbortController()
  const chance = { next: 0 }
  const robot = new Robot(
    {
      server: server.url,
      robotId: ROBOT_ID,
      name: 'warehouse-bot-01',
      siteId: 'site-1',
      fleetId: 'fleet-1',
      gatewayUrl: `ws://127.0.0.1:${server.port}/agent/ws`,
      heartbeatIntervalMs: INTERVAL_MS,
      robotToken: mintCheckedToken('robot'),
      machineId: undefined,
    },
    {
      clock,
      serverTime: serverTimeFor(clock),
      random: { fraction: () => chance.next, bytes: (count) => Buffer.alloc(count, 1) },
      log: silentLog,
      machine: {
        hostname: 'test',
        os: 'test',
        platform: 'linux',
        arch: 'x64',
        version: 'test',
        mac: undefined,
        machineId: undefined,
        boardId: undefined,
        bootId: undefined,
      },
      network: plainNetwork(clock),
      sessionCount: new SessionCount(join(folder, 'session'), ROBOT_ID, (why) => {
        throw new Error(why)
      }),
      sequence: new Sequence(join(folder, 'sequence'), clock, (error) => {
        throw error
      }),
      spool: new ArraySpool(),
      readSensors: async () => reading,
      readLocal: () => ({ software: {}, agentFaults: [], agentMetrics: {} }),
      events: new EventQueue(clock),
      gatewayUrl,
      fallbackUrl: `ws://127.0.0.1:${server.port}/agent/ws`,
      ownIntervalMs: undefined,
      keepIdentity: () => {},
      signal: abort.signal,
    },
  )
  const isConnected = () => eventually(() => robot.status().connection === 'connected', 'a session')
  let isOver = false
  void robot.run().finally(() => {
    isOver = true
  })
  onTestFinished(async () => {
    abort.abort()
    await eventually(async () => {
      await clock.pass(1_000, 100)
      return isOver
    }, 'the end of the robot')
    rmSync(folder, { recursive: true })
  })
  return { clock, chance, robot, isConnected }
}

/** Times of the heartbeats' making, in milliseconds since `from`. */
const made = (session: RobotSession, from: number) =>
  session.heartbeats.all.map((beat) => ownTime(beat) - from)

async function plane(): Promise<ControlPlane> {
  const server = await startControlPlane()
  server.heartbeatIntervalMs = INTERVAL_MS
  return server
}

test('a robot that was just started beats at once, and from then on at a moment of its own', async () => {
  const server = await plane()
  const startedAt = new ManualClock().now()
  const { clock, chance, isConnected } = await robotOf(server)
  chance.next = 0.75
  await isConnected()
  const session = server.sessions.all[0]!
  await session.heartbeats.first(1)
  await clock.pass(2_400, 100)
  expect(made(session, startedAt)).toEqual([0])
  await clock.pass(10_200, 100)
  await session.heartbeats.first(3)
  expect(made(session, startedAt)).toEqual([0, 2_500, 12_500])
})

test('after a lost connection what waits goes out first, and new heartbeats at a random point of the interval', async () => {
  for (const [fraction, after] of [
    [0, 10_000],
    [0.35, 6_500],
    [0.999, 10],
  ] as const) {
    const server = await plane()
    const { clock, chance, robot, isConnected } = await robotOf(server)
    await isConnected()
    await server.sessions.all[0]!.heartbeats.first(1)
    await eventually(() => robot.status().backlog === 0, 'the acknowledgement')

    const { port } = server
    await server.stop()
    await eventually(() => robot.status().connection === 'waiting', 'the loss')
    // Refused again and again, it makes two heartbeats meanwhile.
    while (robot.status().backlog < 2) await clock.pass(500, 100)
    await server.listen(port)
    chance.next = fraction
    await eventually(async () => {
      await clock.pass(100)
      return robot.status().connection === 'connected'
    }, 'the return')
    const backAt = clock.now()
    const session = server.sessions.all.at(-1)!
    const waited = robot.status().backlog
    expect(waited).toBeGreaterThanOrEqual(2)
    await session.heartbeats.first(waited)
    expect(made(session, backAt).every((at) => at <= 0)).toBe(true)

    await clock.pass(after - 1)
    await clock.pass(1)
    const beats = await session.heartbeats.first(waited + 1)
    expect(ownTime(beats.at(-1)!) - backAt).toBe(after)
  }
})

test('robots that are told when to come back are there then, and not before', async () => {
  const server = await plane()
  server.onUpgrade = (number) =>
    number <= 3 ? problem(503, 'overloaded', 'too many', { 'retry-after': '20' }) : undefined
  const { clock, chance, robot } = await robotOf(server)
  chance.next = 0.5
  for (let refusals = 1; refusals <= 3; refusals++) {
    await eventually(() => robot.status().next_attempt_at !== null && server.upgrades.all.length === refusals)
    expect(Date.parse(robot.status().next_attempt_at!) - clock.now()).toBe(20_500)
    await clock.pass(20_499)
    expect(server.upgrades.all).toHaveLength(refusals)
    await clock.pass(1)
  }
  await eventually(() => robot.status().connection === 'connected', 'a session')
})

test('a robot that lost its session comes back at its moment of the spread that the server named, and then backs off', async () => {
  const server = await plane()
  server.reconnectSpreadMs = 100_000
  const { clock, chance, robot, isConnected } = await robotOf(server)
  chance.next = 0.5
  await isConnected()
  const session = server.sessions.all[0]!
  // It stands for 30 s, and beats meanwhile.
  for (let beats = 1; beats <= 4; beats++) {
    await session.heartbeats.first(beats)
    await eventually(() => robot.status().backlog === 0, 'the acknowledgement')
    await clock.pass(INTERVAL_MS, 100)
  }
  /** It says so, and waits. */
  const says = (sentence: RegExp) =>
    eventually(() => {
      const { connection, last_error } = robot.status()
      return connection === 'waiting' && sentence.test(last_error ?? '')
    }, String(sentence))
  chance.next = 0.42
  const { port } = server
  await server.stop()
  await says(/^connection lost \(1006\); trying again in 42 s, for the server spreads its robots/)

  // The server is there again at once: that changes nothing. Then it is gone at the moment itself.
  await server.listen(port)
  await clock.pass(41_999, 100)
  expect(server.upgrades.all).toHaveLength(1)
  await server.stop()
  chance.next = 0.5
  await clock.pass(1)
  await says(/ECONNREFUSED.*trying again in 1 s$/)

  // Once for each loss: a session that did not stand for long is followed by the backoff.
  await server.listen(port)
  await clock.pass(1_000)
  await isConnected()
  server.sessions.all.at(-1)!.vanish()
  await says(/^connection lost \(1006\); trying again in 2 s$/)
})

test('a robot whose gateway is nowhere to be found comes to the server itself', async () => {
  const server = await plane()
  const deserted = createServer()
  await new Promise<void>((resolve) => deserted.listen(0, '127.0.0.1', resolve))
  const { port } = deserted.address() as AddressInfo
  await new Promise((resolve) => deserted.close(resolve))
  const { clock, chance, robot } = await robotOf(server, `ws://127.0.0.1:${port}/agent/ws`)
  chance.next = 0.5
  await eventually(async () => {
    await clock.pass(1_000, 100)
    return robot.status().connection === 'connected'
  }, 'a session at the other address')
})

test('a fault that the agent found before the first welcome has its true time from then on', async () => {
  const server = await plane()
  // Its clock stands at the beginning of 2026, and the server's does not.
  const { clock, isConnected } = await robotOf(server, undefined, { system: { disk: 0.99 } })
  await isConnected()
  const session = server.sessions.all[0]!
  await clock.pass(25_000, 100)
  const [early, ...later] = await session.heartbeats.first(3)
  expect(early!.clock_offset_ms).toBeUndefined()
  expect(early!.faults).toMatchObject([{ code: 'disk_nearly_full', since: early!.at }])
  for (const beat of later) {
    expect(beat.clock_offset_ms).toBeDefined()
    const [fault] = beat.faults!
    // Since the first heartbeat, by the clock of the server.
    expect(Date.parse(fault!.since)).toBe(Date.parse(early!.at) - beat.clock_offset_ms!)
  }
})
