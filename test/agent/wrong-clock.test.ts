import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, test } from 'vitest'
import { MARK_BYTES } from '../../agent/spool/kept-text.ts'
import type { HeartbeatFrame } from '../../src/protocol/frames.ts'
import { eventually } from '../support/eventually.ts'
import { type AgentProcess, KEY, TestRobot } from './support/agent-process.ts'
import { ControlPlane, type RobotSession, startControlPlane } from './support/control-plane.ts'

const YEAR_MS = 365 * 86_400_000
const SHIFTED_CLOCK = join(import.meta.dirname, '../support/shifted-clock.mjs')
/** What a test may take from a heartbeat's making to its look, on a busy machine. */
const SLACK_MS = 5_000

/** A robot whose clock is where the test sets it. */
class Clockless extends TestRobot {
  readonly #clock = join(this.folder, 'offset')

  /** At once: of a file that is being written, the robot might read nothing. */
  set(offsetMs: number): void {
    writeFileSync(`${this.#clock}.new`, String(offsetMs))
    renameSync(`${this.#clock}.new`, this.#clock)
  }

  start(args: readonly string[] = []): AgentProcess {
    return this.run(args, {
      NODE_OPTIONS: `--import ${SHIFTED_CLOCK}`,
      BEACON_TEST_CLOCK: this.#clock,
    })
  }

  /** The heartbeats that wait on the disk: their numbers, and their times by the robot's own clock. */
  get #waiting(): { readonly seq: number; readonly at: number }[] {
    try {
      const folder = `${this.config}.spool`
      const texts = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'utf8'))
      return [...texts.join('').matchAll(/^\S+ e (\d+) .*?"at":"([^"]+)"/gm)].map(([, seq, at]) => ({
        seq: Number(seq),
        at: Date.parse(at!),
      }))
    } catch {
      return []
    }
  }

  get spooled(): number[] {
    return this.#waiting.map(({ seq }) => seq)
  }

  /** How many of them were made while the clock was so far off. */
  spooledAt(offsetMs: number): number {
    return this.#waiting.filter(({ at }) => Math.abs(at - Date.now() - offsetMs) < YEAR_MS).length
  }
}

async function enrolled(robot: Clockless): Promise<{ readonly port: number }> {
  const server = await startControlPlane()
  robot.set(0)
  const agent = robot.start(['--enrollment-key', KEY, '--server', server.url])
  await (await server.sessions.next()).heartbeats.first(1)
  expect(await agent.stop()).toBe(0)
  const { port } = server
  await server.stop()
  return { port }
}

/** The heartbeats with these numbers, by number, once all have arrived. */
async function allOf({ heartbeats }: RobotSession, numbers: readonly number[]): Promise<HeartbeatFrame[]> {
  for (const number of numbers) await heartbeats.next(({ seq }) => seq === number)
  return heartbeats.all.filter(({ seq }) => numbers.includes(seq)).sort((one, other) => one.seq - other.seq)
}

test('a clock that starts years off, jumps, and differs from start to start changes no time, and what is sent again is the same', async () => {
  const robot = new Clockless()
  const { port } = await enrolled(robot)
  // As if nothing were known of this start of the machine yet.
  rmSync(`${robot.config}.clock`)
  const startedAt = Date.now()
  robot.set(-6 * YEAR_MS)
  const first = robot.start()
  await eventually(() => robot.spooledAt(-6 * YEAR_MS) >= 3, 'heartbeats of a slow clock')
  robot.set(20 * YEAR_MS)
  await eventually(() => robot.spooledAt(20 * YEAR_MS) >= 3, 'heartbeats of a fast clock')
  first.kill('SIGKILL')
  await first.exited
  robot.set(-30 * YEAR_MS)
  const second = robot.start()
  await eventually(() => robot.spooledAt(-30 * YEAR_MS) >= 3, 'heartbeats of another process')
  const waiting = robot.spooled

  const server = new ControlPlane()
  server.isAcknowledging = false
  await server.listen(port)
  try {
    const sent = await allOf(await server.sessions.next(), waiting)
    const times = sent.map(({ at }) => Date.parse(at))
    expect(times).toEqual([...times].sort((one, other) => one - other))
    expect(times[0]).toBeGreaterThan(startedAt - SLACK_MS)
    expect(times.at(-1)).toBeLessThan(Date.now() + SLACK_MS)
    const offsets = new Set(sent.map(({ clock_offset_ms }) => Math.round((clock_offset_ms ?? 0) / YEAR_MS)))
    expect(offsets).toEqual(new Set([-6, 20, -30]))

    // No acknowledgement came: a later process sends them as they were.
    second.kill('SIGKILL')
    await second.exited
    robot.set(3 * YEAR_MS)
    const known = server.sessions.all.length
    const third = robot.start()
    const again = await allOf(await server.sessions.next(undefined, known), waiting)
    expect(again).toEqual(sent)
    expect(await third.stop()).toBe(0)
  } finally {
    await server.stop()
  }
})

test('of another start of the machine that never saw the server, a heartbeat says that its time is not sure', async () => {
  const robot = new Clockless()
  const { port } = await enrolled(robot)
  rmSync(`${robot.config}.clock`)
  robot.set(-6 * YEAR_MS)
  const agent = robot.start()
  await eventually(() => robot.spooled.length >= 2, 'heartbeats')
  agent.kill('SIGKILL')
  await agent.exited
  // What a start of the machine changes is its id alone. The checksums are made anew.
  const folder = `${robot.config}.spool`
  const owner = robot.state().identity!.robotId
  for (const file of readdirSync(folder)) {
    const lines = readFileSync(join(folder, file), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
    const moved = lines.map((line) => line.slice(9).replace(/^(e \d+ )[0-9a-f-]{36} /, '$1another-start '))
    const summed = moved.map(
      (body) => `${crc32(`${owner}\n${body}`).toString(16).padStart(8, '0')} ${body}\n`,
    )
    writeFileSync(join(folder, file), summed.join(''))
  }
  const waiting = robot.spooled
  const server = await new ControlPlane().listen(port)
  try {
    const later = robot.start()
    const lost = await allOf(await server.sessions.next(), waiting)
    for (const beat of lost) {
      expect(beat.clock_unsure).toBe(true)
      expect(beat.clock_offset_ms).toBeUndefined()
      expect(Math.abs(Date.parse(beat.at) - (Date.now() - 6 * YEAR_MS))).toBeLessThan(60_000)
    }
    expect(await later.stop()).toBe(0)
  } finally {
    await server.stop()
  }
})

test('a clock that jumps by years while it is connected changes neither its rhythm nor its times, and it comes back as fast', async () => {
  const robot = new Clockless()
  robot.set(0)
  const server = await startControlPlane()
  const agent = robot.start(['--enrollment-key', KEY, '--server', server.url])
  const session = await server.sessions.next()
  await session.heartbeats.first(3)
  for (const jump of [15 * YEAR_MS, -20 * YEAR_MS, 0]) {
    const from = session.heartbeats.all.length
    robot.set(jump)
    const jumpedAt = performance.now()
    await session.heartbeats.first(from + 10)
    // Ten beats of 100 ms each; a timer that heard of years would never fire, or always.
    expect(performance.now() - jumpedAt).toBeGreaterThan(700)
    for (const { at, seq } of session.heartbeats.all.slice(from)) {
      expect(Math.abs(Date.parse(at) - Date.now())).toBeLessThan(SLACK_MS)
      expect(seq).toBeGreaterThan(session.heartbeats.all[0]!.seq)
    }
  }
  expect(server.sessions.all).toHaveLength(1)
  for (const jump of [30 * YEAR_MS, -30 * YEAR_MS]) {
    const known = server.sessions.all.length
    const lostAt = performance.now()
    robot.set(jump)
    server.sessions.all.at(-1)!.close(1012, 'service_restart; reconnect_in_ms=300')
    await server.sessions.next(undefined, known)
    const awayMs = performance.now() - lostAt
    expect(awayMs).toBeGreaterThanOrEqual(295)
    const since = await eventually(async () => (await robot.status())?.link?.connected_since, 'a session')
    expect(Math.abs(Date.parse(since) - Date.now())).toBeLessThan(SLACK_MS)
  }
  expect(await agent.stop()).toBe(0)
})

test('marks of a corrected clock have room in every frame', () => {
  const marks = JSON.stringify({ clock_offset_ms: -253_402_300_799_999, clock_unsure: true })
  // Less the braces, plus a comma.
  expect(marks.length - 1).toBeLessThanOrEqual(MARK_BYTES)
})
