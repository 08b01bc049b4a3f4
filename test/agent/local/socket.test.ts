import { existsSync, lstatSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { dirname, join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { EventQueue } from '../../../agent/events.ts'
import { socketToCall, socketToServe } from '../../../agent/local/address.ts'
import { LOCAL_LIMITS, type LocalLimits } from '../../../agent/local/limits.ts'
import { LocalSocket } from '../../../agent/local/socket.ts'
import { RobotSoftware } from '../../../agent/local/software.ts'
import { systemRandom } from '../../../agent/runtime.ts'
import { ManualClock } from '../../support/clock.ts'
import { eventually } from '../../support/eventually.ts'
import { placesAt, temporaryFolder } from '../support/agent-process.ts'
import { Mailbox } from '../support/mailbox.ts'
import { serverTimeFor } from '../support/server-time.ts'
import { silentLog } from '../support/silent-log.ts'

interface Opened {
  readonly clock: ManualClock
  readonly software: RobotSoftware
  readonly local: LocalSocket
}

async function open(
  limits: Partial<LocalLimits> = {},
  path = join(temporaryFolder(), 'agent.sock'),
): Promise<Opened> {
  const clock = new ManualClock()
  const software = new RobotSoftware({
    clock,
    serverTime: serverTimeFor(clock),
    random: systemRandom,
    events: new EventQueue(clock),
    faultStore: { read: () => [], write() {} },
    limits: { ...LOCAL_LIMITS, ...limits },
  })
  const local = await LocalSocket.listen({ path, software, clock, random: systemRandom, log: silentLog })
  onTestFinished(() => local.close())
  return { clock, software, local }
}

/** A program of the robot. */
class Program {
  readonly answers = new Mailbox<{ readonly ok: boolean; readonly error?: string }>()
  readonly socket: Socket
  readonly closed: Promise<void>

  constructor(path: string) {
    this.socket = connect({ path, allowHalfOpen: true })
    this.socket.on('error', () => {})
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()))
    let rest = ''
    this.socket.setEncoding('utf8').on('data', (part: string) => {
      const lines = (rest + part).split('\n')
      rest = lines.pop()!
      for (const line of lines) this.answers.put(JSON.parse(line))
    })
    this.socket.on('end', () => this.socket.end())
    onTestFinished(() => void this.socket.destroy())
  }

  say(...lines: string[]): this {
    this.socket.write(lines.map((line) => `${line}\n`).join(''))
    return this
  }
}

describe('the socket', () => {
  test('answers each line in order, however the bytes come', async () => {
    const { software, local } = await open()
    const program = new Program(local.path)
    const bytes = Buffer.from('{"mode":"fünf"}\r\nnonsense\n\n{"metric":{"a":1}}\n{"metric":{"b":2}}')
    for (const byte of bytes) {
      program.socket.write(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    program.socket.end()
    await program.closed
    expect(program.answers.all).toEqual([
      { ok: true },
      { ok: false, error: expect.stringMatching(/not JSON/) },
      { ok: true },
      { ok: true },
    ])
    expect(software.read()).toEqual({ mode: 'fünf', metrics: { a: 1, b: 2 } })
  })

  test('is for its user and its group', async () => {
    const { local } = await open()
    expect(statSync(local.path).mode & 0o777).toBe(0o660)
  })

  test('takes the place of one that a killed agent left, and goes when it is closed', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'agent.sock')
    const dead = createServer()
    await new Promise<void>((resolve) => dead.listen(join(folder, 'dead'), resolve))
    renameSync(join(folder, 'dead'), path)
    await new Promise<void>((resolve) => dead.close(() => resolve()))
    expect(lstatSync(path).isSocket()).toBe(true)

    const { local } = await open({}, path)
    const program = new Program(path).say('{"mode":"x"}')
    expect(await program.answers.next()).toEqual({ ok: true })
    await local.close()
    await program.closed
    expect(readdirSync(folder)).toEqual([])
  })

  test('leaves alone what is not its own', async () => {
    const { local } = await open()
    await expect(open({}, local.path)).rejects.toThrow(/another program listens/)
    const program = new Program(local.path).say('{"mode":"x"}')
    expect(await program.answers.next()).toEqual({ ok: true })

    const file = join(temporaryFolder(), 'notes.txt')
    writeFileSync(file, 'mine')
    await expect(open({}, file)).rejects.toThrow(/not a socket/)
    expect(existsSync(file)).toBe(true)
    await expect(open({}, join(temporaryFolder(), 'x'.repeat(120)))).rejects.toThrow(/too long/)

    // Another agent took the name meanwhile.
    const path = join(temporaryFolder(), 'agent.sock')
    const first = await open({}, path)
    renameSync(path, `${path}.moved`)
    const second = await open({}, path)
    await first.local.close()
    expect(existsSync(path)).toBe(true)
    await second.local.close()
  })
})

describe('a program that asks too much', () => {
  test('has its lines refused, is read more slowly, and costs the others nothing', async () => {
    const { clock, software, local } = await open({ connectionLines: { perSecond: 10, burst: 5 } })
    const loud = new Program(local.path).say(...Array(20).fill('{"metric":{"a":1}}'))
    await loud.answers.first(20)
    expect(loud.answers.all.map(({ ok }) => ok)).toEqual([...Array(5).fill(true), ...Array(15).fill(false)])
    expect(loud.answers.all.at(-1)!.error).toMatch(/too many lines/)
    expect(software.refusals.lines).toBe(15)

    loud.say('{"metric":{"a":2}}')
    const calm = new Program(local.path).say('{"metric":{"b":1}}')
    expect(await calm.answers.next()).toEqual({ ok: true })
    expect(software.read().metrics).toEqual({ a: 1, b: 1 })
    clock.advance(100)
    await loud.answers.first(21)
    expect(software.read().metrics).toEqual({ a: 2, b: 1 })
  })

  test('is closed when it is refused again and again', async () => {
    const { local } = await open({ refusedInARow: 50 })
    const program = new Program(local.path).say(...Array(10_000).fill('x'))
    await program.closed
    expect(program.answers.all).toHaveLength(50)
    expect(program.answers.all.at(-1)!.error).toMatch(/too many refused lines/)
    await eventually(() => local.connections === 0)
  })

  test('has a line that never ends cut off, and one that is only too long refused', async () => {
    const { software, local } = await open()
    const long = `{"mode":"${'x'.repeat(9_000)}"}`
    const program = new Program(local.path).say(long, '{"mode":"x"}')
    await program.answers.first(2)
    expect(program.answers.all.map(({ ok }) => ok)).toContain(true)

    const endless = new Program(local.path)
    endless.socket.write('x'.repeat(100_000))
    expect(await endless.answers.next()).toEqual({ ok: false, error: 'a line holds at most 8192 bytes' })
    await endless.closed
    expect(software.refusals.malformed).toBeGreaterThanOrEqual(2)
  })

  test('is let go when it reads no answers', async () => {
    const fast = { perSecond: 1e9, burst: 1e9 }
    const { local } = await open({ connectionLines: fast, allLines: fast, unreadBytes: 1_000 })
    const program = new Program(local.path)
    program.socket.pause()
    program.say(...Array(100_000).fill('{"get":"values"}'))
    await eventually(() => local.connections === 0, 'the end of the connection')
  })

  test('finds no room when there are many, until one has been silent for long', async () => {
    const { clock, software, local } = await open({ connections: 2 })
    const idle = new Program(local.path).say('{"mode":"a"}')
    await idle.answers.next()
    clock.advance(30_000)
    const busy = new Program(local.path).say('{"mode":"b"}')
    await busy.answers.next()

    const third = new Program(local.path)
    await third.closed
    expect(third.answers.all).toEqual([{ ok: false, error: 'too many connections: at most 2' }])
    expect(software.refusals.connections).toBe(1)

    clock.advance(30_000)
    const fourth = new Program(local.path).say('{"mode":"c"}')
    expect(await fourth.answers.next()).toEqual({ ok: true })
    await idle.closed
    expect(local.connections).toBe(2)
    expect(await busy.say('{"mode":"d"}').answers.first(2)).toHaveLength(2)
  })
})

test('the socket’s place: the environment, systemd’s folder, the state folder', () => {
  const places = placesAt(join(temporaryFolder(), 'agent.toml'))
  const own = join(dirname(places.config), 'agent.toml.sock')
  expect(socketToServe(places, {})).toBe(own)
  expect(socketToServe(places, { RUNTIME_DIRECTORY: '/run/beacon' })).toBe('/run/beacon/agent.sock')
  expect(socketToServe(places, { RUNTIME_DIRECTORY: '/run/beacon', BEACON_AGENT_SOCKET: '/x/y' })).toBe(
    '/x/y',
  )
  expect(socketToServe(places, { BEACON_AGENT_SOCKET: 'off' })).toBeUndefined()
  expect(socketToCall(places, {}, true)).toBe(own)
  expect(socketToCall(places, { BEACON_AGENT_SOCKET: '/x/y' }, true)).toBe('/x/y')
  // A service's folder is closed to whoever is not of its group: what is in it cannot be looked for.
  const folder = temporaryFolder()
  expect(socketToCall(places, {}, false, folder)).toBe(join(folder, 'agent.sock'))
  expect(socketToCall(places, {}, true, folder)).toBe(own)
  expect(socketToCall(places, {}, false, join(folder, 'none'))).toBe(own)
})
