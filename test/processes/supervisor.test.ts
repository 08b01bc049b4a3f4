import { describe, expect, test } from 'vitest'
import { newId } from '../../src/ids.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import type { FromProcess, GatewaySettings, ToProcess } from '../../src/processes/messages.ts'
import { GatewayStartError, type LaunchHandlers, Supervisor } from '../../src/processes/supervisor.ts'
import { ManualClock } from '../support/clock.ts'

/** A process that does what the test says. */
class FakeProcess {
  static #pids = 1000
  readonly pid = FakeProcess.#pids++
  readonly told: ToProcess[] = []
  killed = false
  readonly handlers: LaunchHandlers

  constructor(handlers: LaunchHandlers) {
    this.handlers = handlers
  }

  send(message: ToProcess): void {
    this.told.push(message)
  }

  kill(): void {
    this.killed = true
  }

  say(message: FromProcess): void {
    this.handlers.message(message)
  }

  exit(how = 'SIGKILL'): void {
    this.handlers.exited(how)
  }

  get settings(): GatewaySettings {
    const told = this.told.find((message) => message.type === 'settings')
    if (told?.type !== 'settings') throw new Error('it was told no settings')
    return told.settings
  }

  comeUp(): void {
    this.say({ type: 'hello' })
    this.say({ type: 'ready' })
  }

  count(type: ToProcess['type']): number {
    return this.told.filter((message) => message.type === type).length
  }
}

function scene(processes = 3) {
  const clock = new ManualClock()
  const metrics = createMetrics()
  const started: FakeProcess[] = []
  const gone: string[] = []
  const refused: string[] = []
  const supervisor = new Supervisor({
    processes,
    sessionsPerSecond: 600,
    launch: (handlers) => {
      const fake = new FakeProcess(handlers)
      started.push(fake)
      return fake
    },
    settingsFor: (name) => ({ name, serverId: newId() }) as GatewaySettings,
    clock,
    random: { fraction: () => 1, bytes: () => Buffer.alloc(0) },
    log: createLog('silent'),
    metrics,
    onServerGone: (serverId) => gone.push(serverId),
    onRefusals: (entries) => refused.push(...entries.map(({ id }) => id)),
  })
  const text = async (name: string) => {
    const { values } = (await metrics.registry.getSingleMetric(name)!.get()) as {
      values: { labels: Record<string, string>; value: number }[]
    }
    return Object.fromEntries(
      values.map(({ labels, value }) => [Object.values(labels).join(), value] as const),
    )
  }
  const come = async () => {
    const starting = supervisor.start()
    for (const fake of started) fake.comeUp()
    await starting
  }
  return {
    clock,
    metrics,
    started,
    gone,
    refused,
    supervisor,
    come,
    states: () => text('beacon_gateway_processes'),
    listening: async () => (await text('beacon_gateway_processes_listening'))[''],
    exits: () => text('beacon_gateway_process_exits_total'),
  }
}

describe('starting', () => {
  test('waits for all, and gives each its own name and server', async () => {
    const { supervisor, started, states } = scene()
    let done = false
    const starting = supervisor.start().then(() => {
      done = true
    })
    expect(started).toHaveLength(3)
    expect(await states()).toEqual({ waiting: 0, starting: 3, ready: 0, draining: 0 })
    started[0]!.comeUp()
    started[1]!.comeUp()
    await Promise.resolve()
    expect([done, supervisor.ready]).toEqual([false, 2])
    started[2]!.comeUp()
    await starting
    expect(started.map(({ settings }) => settings.name)).toEqual(['gateway-1', 'gateway-2', 'gateway-3'])
    expect(new Set(supervisor.serverIds).size).toBe(3)
    expect(supervisor.serverIds).toEqual(started.map(({ settings }) => settings.serverId))
  })

  test.each<[string, (fake: FakeProcess) => void, string | undefined]>([
    [
      'says why it cannot',
      (fake) => fake.say({ type: 'failed', message: 'taken', code: 'EADDRINUSE' }),
      'EADDRINUSE',
    ],
    ['ends without a word', (fake) => fake.exit('SIGSEGV'), undefined],
  ])('is given up when one %s, and nothing is left running', async (_, fail, code) => {
    const { supervisor, started } = scene()
    const outcome = supervisor.start().catch((error: unknown) => error)
    started[0]!.comeUp()
    fail(started[1]!)
    await Promise.resolve()
    await Promise.resolve()
    expect(started[0]!.count('drain')).toBe(1)
    started.forEach((fake, index) => {
      if (index !== 1 || code) fake.exit('exit code 0')
    })
    const error = await outcome
    expect(error).toBeInstanceOf(GatewayStartError)
    expect((error as GatewayStartError).code).toBe(code)
    expect(started).toHaveLength(3)
  })
})

describe('a process that ends', () => {
  test('is counted and replaced at once by a server of its own; the others are left alone', async () => {
    const { supervisor, started, come, gone, exits, states } = scene()
    await come()
    // They may open as many sessions as all three together meanwhile.
    const told = () => started.slice(1, 3).map((fake) => fake.told.length - fake.count('rate'))
    const before = told()
    const { serverId, name } = started[0]!.settings
    started[0]!.exit()
    expect(gone).toEqual([serverId])
    expect(started).toHaveLength(4)
    started[3]!.comeUp()
    expect(started[3]!.settings.name).toBe(name)
    expect(started[3]!.settings.serverId).not.toBe(serverId)
    expect(supervisor.ready).toBe(3)
    expect(await exits()).toEqual({ crash: 1 })
    expect(await states()).toEqual({ waiting: 0, starting: 0, ready: 3, draining: 0 })
    expect(told()).toEqual(before)
  })

  test('again and again is started more and more rarely', async () => {
    const { clock, started, come, exits } = scene(1)
    await come()
    const minute = (): number => {
      const before = started.length
      for (let second = 0; second < 120; second += 1) {
        started.at(-1)!.exit()
        clock.advance(500)
      }
      return started.length - before
    }
    expect(minute()).toBeGreaterThan(4)
    minute()
    expect(minute()).toBeLessThanOrEqual(3)
    expect((await exits()).start).toBeGreaterThan(5)
  })

  test('is not believed what it says afterwards', async () => {
    const { supervisor, started, come } = scene(2)
    await come()
    started[0]!.exit()
    started[0]!.say({ type: 'ready' })
    expect(supervisor.ready).toBe(1)
  })
})

describe('a process that hangs', () => {
  test('is killed and replaced while those that answer go on', async () => {
    const { clock, started, come, exits } = scene(2)
    await come()
    for (let second = 0; second < 20; second += 0.5) {
      clock.advance(500)
      started[1]!.say({ type: 'pong' })
    }
    expect(started.map(({ killed }) => killed)).toEqual([true, false])
    started[0]!.exit()
    expect(started).toHaveLength(3)
    expect(await exits()).toEqual({ hang: 1 })
  })

  test('is not taken for one when it was the supervisor who stood still', async () => {
    const { clock, started, come } = scene(1)
    await come()
    // Asked, and then the whole machine sleeps for an hour: one late tick follows.
    clock.advance(3_000)
    expect(started[0]!.count('ping')).toBe(1)
    const slept = clock.monotonic
    clock.monotonic = () => slept.call(clock) + 3_600_000
    clock.advance(1_000)
    expect(started[0]!.killed).toBe(false)
  })
})

describe('the shared port', () => {
  const full = { type: 'room', hasRoom: false } as const
  /** Whether it is to be on the port: from the start, until it is told otherwise. */
  const listens = (fake: FakeProcess) => {
    const told = fake.told.findLast((message) => message.type === 'port')
    return told?.type === 'port' ? told.listen : true
  }
  const knowsOfRoom = (fake: FakeProcess) => {
    const told = fake.told.findLast((message) => message.type === 'port')
    return told?.type === 'port' && told.elsewhere
  }
  /** Does what it was told last, and says so. */
  const follow = (fake: FakeProcess) => fake.say({ type: 'listening', listening: listens(fake) })

  test('is left by processes without room, but for the last one', async () => {
    const { started, come, listening } = scene()
    await come()
    expect(await listening()).toBe(3)
    for (const fake of started) fake.say(full)
    expect(started.map(listens)).toEqual([false, false, true])
    started.slice(0, 2).forEach(follow)
    expect(await listening()).toBe(1)
    // One that has room again takes it over.
    started[0]!.say({ type: 'room', hasRoom: true })
    expect(started.map(listens)).toEqual([true, false, true])
    follow(started[0]!)
    expect(started.map(listens)).toEqual([true, false, false])
    follow(started[2]!)
    expect(await listening()).toBe(1)
  })

  test('has the replacement of one that died at once, and somebody full until then', async () => {
    const { started, come, listening } = scene()
    await come()
    for (const fake of started) expect(knowsOfRoom(fake)).toBe(true)
    for (const fake of started) fake.say(full)
    started.slice(0, 2).forEach(follow)
    for (const fake of started.slice(0, 2)) expect(knowsOfRoom(fake)).toBe(false)
    started[2]!.exit()
    // Robots that it turns away meanwhile are to come again soon.
    for (const fake of started.slice(0, 2)) expect(knowsOfRoom(fake)).toBe(true)
    expect(started.slice(0, 2).map(listens)).toEqual([true, false])
    follow(started[0]!)
    expect(await listening()).toBe(1)
    started[3]!.comeUp()
    expect(started.slice(0, 2).map(listens)).toEqual([false, false])
    expect(listens(started[3]!)).toBe(true)
    follow(started[0]!)
    expect(await listening()).toBe(1)
  })

  test('has all that were there while all send their robots away', async () => {
    const { supervisor, started, come, listening } = scene()
    await come()
    started[1]!.say(full)
    follow(started[1]!)
    const stopped = supervisor.stop()
    expect(started.map(listens)).toEqual([true, false, true])
    for (const fake of started) fake.exit('exit code 0')
    await stopped
    expect(await listening()).toBe(0)
  })

  test('is nothing that a single process leaves', async () => {
    const { started, come } = scene(1)
    await come()
    started[0]!.say(full)
    expect(listens(started[0]!)).toBe(true)
  })
})

describe('the rate at which sessions are opened', () => {
  const rates = (fake: FakeProcess) =>
    fake.told.flatMap((message) => (message.type === 'rate' ? [message.sessionsPerSecond] : []))

  test('is shared by those on the port, whoever leaves and comes', async () => {
    const { started, come } = scene()
    await come()
    expect(started.map(rates)).toEqual([[], [], []])
    const [first, second, third] = started as [FakeProcess, FakeProcess, FakeProcess]
    for (const fake of [first, second]) {
      fake.say({ type: 'room', hasRoom: false })
      fake.say({ type: 'listening', listening: false })
    }
    expect(rates(third)).toEqual([300, 600])
    first.say({ type: 'room', hasRoom: true })
    first.say({ type: 'listening', listening: true })
    expect(rates(third)).toEqual([300, 600, 300])
    expect(rates(first).at(-1)).toBe(300)
  })
})

describe('servers that are gone', () => {
  test('are told to all that run, and to those that come later', async () => {
    const { supervisor, started, come } = scene(2)
    supervisor.setGoneServers(['a'])
    await come()
    expect(started[0]!.settings.goneServers).toEqual(['a'])
    supervisor.setGoneServers(['a', 'b'])
    for (const { told } of started)
      expect(told.at(-1)).toEqual({ type: 'servers_gone', serverIds: ['a', 'b'] })
    started[0]!.exit()
    started[2]!.comeUp()
    expect(started[2]!.settings.goneServers).toEqual(['a', 'b'])
  })
})

describe('how many robots may come back at once', () => {
  test('is told to all that run, and to those that come later', async () => {
    const { supervisor, started, come } = scene(2)
    supervisor.setExpectedRobots(7)
    await come()
    expect(started[0]!.settings.expectedRobots).toBe(7)
    supervisor.setExpectedRobots(9)
    for (const { told } of started) expect(told.at(-1)).toEqual({ type: 'expected_robots', robots: 9 })
    started[0]!.exit()
    started[2]!.comeUp()
    expect(started[2]!.settings.expectedRobots).toBe(9)
  })
})

describe('reports', () => {
  const series = async (sessions: number) => {
    const own = createMetrics()
    own.sessionsOpened.inc(sessions)
    own.sessions.set(sessions)
    return own.registry.getMetricsAsJSON()
  }
  const valueIn = (text: string, name: string) =>
    Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'm').exec(text)?.[1])

  test('are summed, with what is of each process apart', async () => {
    const { supervisor, started, come, metrics } = scene(2)
    await come()
    const asked = supervisor.seriesText(metrics.registry, 'server')
    for (const [index, fake] of started.entries()) {
      const question = fake.told.find((message) => message.type === 'report')!
      if (question.type === 'report')
        fake.say({ type: 'report', question: question.question, series: await series(index + 1) })
    }
    const text = await asked
    expect(valueIn(text, 'beacon_sessions_opened_total')).toBe(3)
    expect(valueIn(text, 'beacon_sessions')).toBe(3)
    for (const process of ['server', 'gateway-1', 'gateway-2'])
      expect(text).toContain(`beacon_process_resident_memory_bytes{process="${process}"}`)
    expect(text.match(/^# TYPE beacon_sessions gauge$/gm)).toHaveLength(1)
  })

  test('of one that does not answer are left out and counted, and what it had counted is not taken back', async () => {
    const { supervisor, started, come, metrics, clock } = scene(2)
    await come()
    const ask = async (answering: FakeProcess[], sessions: number) => {
      const asked = supervisor.seriesText(metrics.registry, 'server')
      for (const fake of answering) {
        const question = fake.told.findLast((message) => message.type === 'report')!
        if (question.type === 'report')
          fake.say({ type: 'report', question: question.question, series: await series(sessions) })
      }
      clock.advance(1_000)
      return asked
    }
    await ask(started, 5)
    const late = await ask([started[0]!], 6)
    expect(valueIn(late, 'beacon_sessions')).toBe(6)
    expect(valueIn(late, 'beacon_sessions_opened_total')).toBe(11)
    expect(late).not.toContain('process="gateway-2"')
    expect((await metrics.gatewayReportsMissed.get()).values[0]!.value).toBe(1)

    started[1]!.exit()
    started[2]!.comeUp()
    const after = await ask([started[0]!, started[2]!], 7)
    expect(valueIn(after, 'beacon_sessions')).toBe(14)
    expect(valueIn(after, 'beacon_sessions_opened_total')).toBe(5 + 7 + 7)
  })

  test('that are asked for at the same time hold everybody who answered, each of them', async () => {
    const { supervisor, started, come, metrics } = scene(2)
    await come()
    const answer = async (fake: FakeProcess, question: number) =>
      fake.say({ type: 'report', question, series: await series(1) })
    const first = supervisor.seriesText(metrics.registry, 'server')
    await answer(started[0]!, 1)
    const second = supervisor.seriesText(metrics.registry, 'server')
    await answer(started[1]!, 1)
    expect(valueIn(await first, 'beacon_sessions')).toBe(2)
    for (const fake of started) await answer(fake, 2)
    expect(valueIn(await second, 'beacon_sessions')).toBe(2)
  })
})

describe('stopping', () => {
  test('drains all and waits for each', async () => {
    const { supervisor, started, come, exits, gone } = scene()
    await come()
    let over = false
    const stopped = supervisor.stop().then(() => {
      over = true
    })
    for (const fake of started) expect(fake.count('drain')).toBe(1)
    started[0]!.exit('exit code 0')
    started[1]!.exit('exit code 0')
    await Promise.resolve()
    expect(over).toBe(false)
    started[2]!.exit('exit code 0')
    await stopped
    expect(await exits()).toEqual({})
    expect(gone).toEqual([])
    expect(started).toHaveLength(3)
  })

  test('kills whoever is not done in time, and says so', async () => {
    const { supervisor, started, come, exits, clock } = scene(2)
    await come()
    const stopped = supervisor.stop()
    started[0]!.exit('exit code 0')
    clock.advance(60_000)
    expect(started[1]!.killed).toBe(true)
    started[1]!.exit()
    await stopped
    expect(await exits()).toEqual({ drain: 1 })
  })

  test('hands on what was refused', async () => {
    const { started, come, refused } = scene(1)
    await come()
    const id = newId()
    started[0]!.say({ type: 'refusals', entries: [{ id } as never] })
    expect(refused).toEqual([id])
  })
})
