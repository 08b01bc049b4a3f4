import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EventQueue } from '../../../agent/events.ts'
import { FaultFile, type FaultStore, type KeptFault } from '../../../agent/local/fault-store.ts'
import { DEFAULT_TTL_S, LOCAL_LIMITS, type LocalLimits } from '../../../agent/local/limits.ts'
import { RobotSoftware } from '../../../agent/local/software.ts'
import { systemRandom } from '../../../agent/runtime.ts'
import { heartbeatBodySchema, robotEventSchema } from '../../../src/protocol/frames.ts'
import { ManualClock } from '../../support/clock.ts'
import { temporaryFolder } from '../support/agent-process.ts'
import { serverTimeFor } from '../support/server-time.ts'
import { silentLog } from '../support/silent-log.ts'

class MemoryFaults implements FaultStore {
  writes: (readonly KeptFault[])[] = []
  read = () => this.writes.at(-1) ?? []
  write = (faults: readonly KeptFault[]) => void this.writes.push(faults)
}

/** No bound on lines, so that the others are what a test meets. */
const UNHURRIED: LocalLimits = { ...LOCAL_LIMITS, allLines: { perSecond: 1e9, burst: 1e9 } }

function softwareWith(limits: LocalLimits = UNHURRIED) {
  const clock = new ManualClock()
  const events = new EventQueue(clock)
  const faults = new MemoryFaults()
  const serverTime = serverTimeFor(clock)
  const software = new RobotSoftware({
    clock,
    serverTime,
    random: systemRandom,
    events,
    faultStore: faults,
    limits,
  })
  const say = (request: unknown) => software.accept(JSON.stringify(request))
  return { clock, events, faults, software, say }
}

function sent(events: EventQueue) {
  const texts: string[] = []
  events.pump((text) => texts.push(text) > 0)
  return texts.map((text) => robotEventSchema.parse(JSON.parse(text)))
}

describe('values', () => {
  test('stand until they are set anew, taken back, or their time is up', () => {
    const { clock, software, say } = softwareWith()
    expect(say({ metric: { arm_load: 0.5, trips: 3 }, mode: 'auto', battery: { charge: 0.8 } })).toEqual({
      ok: true,
    })
    expect(say({ pose: { lat: 53.5, lon: 10 }, activity: 'picking', estop: false, ttl_s: 5 })).toEqual({
      ok: true,
    })
    expect(software.read()).toEqual({
      metrics: { arm_load: 0.5, trips: 3 },
      mode: 'auto',
      battery: { charge: 0.8 },
      pose: { lat: 53.5, lon: 10 },
      activity: 'picking',
      estop: false,
    })

    expect(say({ metric: { trips: null }, mode: null })).toEqual({ ok: true })
    clock.advance(5_000)
    expect(software.read()).toEqual({ metrics: { arm_load: 0.5 }, battery: { charge: 0.8 } })

    clock.advance(DEFAULT_TTL_S * 1_000 - 5_001)
    expect(say({ metric: { arm_load: 0.6 } })).toEqual({ ok: true })
    clock.advance(1)
    expect(software.read()).toEqual({ metrics: { arm_load: 0.6 } })
    expect(say({ get: 'values' })).toEqual({ ok: true, values: { metrics: { arm_load: 0.6 } } })
    clock.advance(DEFAULT_TTL_S * 1_000)
    expect(software.read()).toEqual({})
  })

  test('a robot has no more metrics than a heartbeat holds, and a refused line changes nothing', () => {
    const { software, say } = softwareWith()
    const many = Object.fromEntries(Array.from({ length: 64 }, (_, index) => [`m${index}`, index]))
    expect(say({ metric: many }).ok).toBe(true)
    expect(say({ metric: { m0: 100, another: 1 }, mode: 'manual' })).toEqual({
      ok: false,
      error: expect.stringContaining('at most 64 metrics'),
    })
    expect(software.read()).toEqual({ metrics: many })
    expect(say({ metric: { m1: null, another: 1 } }).ok).toBe(true)
    expect(Object.keys(software.read().metrics!)).toHaveLength(64)
    expect(software.refusals.metrics).toBe(1)
  })
})

describe('what is no request is refused by name', () => {
  const cases: [line: string, error: RegExp][] = [
    ['', /not JSON/],
    ['{', /not JSON/],
    ['[]', /one JSON object/],
    ['{}', /asks for nothing/],
    ['{"ttl_s":5}', /asks for nothing/],
    ['{"metrik":{"a":1}}', /metrik/],
    ['{"metric":{"Bad Name":1}}', /lower-case letters/],
    ['{"metric":{"beacon_refused":1}}', /agent's own/],
    ['{"metric":{"a":"1"}}', /metric\.a/],
    ['{"metric":{"a":1e999}}', /metric\.a/],
    ['{"event":{"message":"x"}}', /event\.code/],
    ['{"event":{"code":"x","level":"loud"}}', /event\.level/],
    ['{"fault":{"raise":{"code":"x","level":"warn","massage":"y"}}}', /massage/],
    ['{"fault":{"clear":""}}', /fault/],
    ['{"battery":{"charge":80}}', /battery\.charge/],
    ['{"battery":{"charge":1,"volt":3}}', /volt/],
    ['{"mode":"\\u0000"}', /mode/],
    ['{"mode":"x","ttl_s":0}', /ttl_s/],
    ['{"__proto__":{"mode":"x"}}', /__proto__|nothing/],
  ]
  for (const [line, error] of cases)
    test(line || 'an empty line', () => {
      const { software } = softwareWith()
      expect(software.accept(line)).toEqual({ ok: false, error: expect.stringMatching(error) })
      expect(software.read()).toEqual({})
      expect(software.refusals.malformed).toBe(1)
    })
})

describe('faults', () => {
  test('keep their beginning while they are raised again, and end when they are cleared or their time is up', () => {
    const { clock, software, say, faults } = softwareWith()
    say({ fault: { raise: { code: 'gripper', message: 'no air', level: 'warn' } } })
    const since = new Date(clock.now()).toISOString()
    clock.advance(60_000)
    say({ fault: { raise: { code: 'gripper', message: 'no air at all' } } })
    say({ fault: { raise: { code: 'brief', level: 'info', ttl_s: 10 } } })
    expect(software.read().faults).toEqual([
      { code: 'gripper', level: 'error', message: 'no air at all', since },
      { code: 'brief', level: 'info', message: '', since: new Date(clock.now()).toISOString() },
    ])
    clock.advance(10_000)
    expect(say({ get: 'faults' })).toEqual({
      ok: true,
      faults: [{ code: 'gripper', level: 'error', message: 'no air at all', since }],
    })
    expect(say({ fault: { clear: 'gripper' } })).toEqual({ ok: true })
    expect(say({ fault: { clear: 'gripper' } })).toEqual({ ok: true })
    expect(software.read()).toEqual({})
    expect(faults.read()).toEqual([])
  })

  test('are written down when they change, and not when they are raised again in the same words', () => {
    const { clock, faults, say } = softwareWith()
    for (let count = 0; count < 5; count++) {
      say({ fault: { raise: { code: 'gripper', message: 'no air' } } })
      clock.advance(1_000)
    }
    expect(faults.writes).toHaveLength(1)
  })

  test('are bounded, and those that stand can still be changed', () => {
    const { software, say } = softwareWith()
    for (let number = 0; number < 24; number++)
      expect(say({ fault: { raise: { code: `f${number}` } } }).ok).toBe(true)
    expect(say({ fault: { raise: { code: 'one_more' } } })).toEqual({
      ok: false,
      error: expect.stringMatching(/24 faults/),
    })
    expect(say({ fault: { raise: { code: 'f3', message: 'worse' } } }).ok).toBe(true)
    expect(software.read().faults).toHaveLength(24)
    expect(software.refusals.faults).toBe(1)
  })

  test('outlive the agent, but not the start of the machine they were raised on', () => {
    const clock = new ManualClock()
    const path = join(temporaryFolder(), 'agent.toml.faults')
    const open = (bootId: string) => new FaultFile(path, bootId, clock, silentLog)
    const start = (file: FaultFile) =>
      new RobotSoftware({
        clock,
        serverTime: serverTimeFor(clock),
        random: systemRandom,
        events: new EventQueue(clock),
        faultStore: file,
      })
    const first = open('boot-1')
    const before = start(first)
    before.accept('{"fault":{"raise":{"code":"gripper","message":"no air"}}}')
    before.accept('{"fault":{"raise":{"code":"arm","message":"stuck","ttl_s":30}}}')
    first.stop()

    clock.advance(5_000)
    const after = start(open('boot-1'))
    expect(after.read().faults).toEqual(before.read().faults)
    clock.advance(30_000)
    expect(after.read().faults).toMatchObject([{ code: 'gripper' }])
    expect(start(open('boot-2')).read()).toEqual({})
    expect(clock.pending).toBe(1)
  })
})

describe('events', () => {
  test('go out as the protocol wants them, each with an id of its own', () => {
    const { clock, events, say } = softwareWith()
    expect(say({ event: { code: 'door', level: 'warn', message: 'open', data: { door: 3 } } })).toEqual({
      ok: true,
    })
    expect(say({ event: { code: 'door' } })).toEqual({ ok: true })
    const [first, second] = sent(events)
    expect(first).toMatchObject({ code: 'door', level: 'warn', message: 'open', data: { door: 3 } })
    expect(first!.at).toBe(new Date(clock.now()).toISOString())
    expect(second).toMatchObject({ level: 'info', message: '' })
    expect(second!.id).not.toBe(first!.id)
  })

  test('are sixty a minute, and what is over is refused and counted', () => {
    const { clock, say, software, events } = softwareWith()
    const answers = Array.from({ length: 100 }, () => say({ event: { code: 'loop' } }))
    expect(answers.filter((answer) => answer.ok)).toHaveLength(60)
    expect(answers.at(-1)).toEqual({ ok: false, error: 'too many events: 60 a minute' })
    expect(software.refusals.events).toBe(40)
    expect(events.waitingEvents).toBe(60)
    clock.advance(1_000)
    expect(say({ event: { code: 'loop' } }).ok).toBe(true)
    expect(say({ event: { code: 'loop' } }).ok).toBe(false)
  })

  test('that grow beyond a frame as they are written anew are refused', () => {
    const { events, software } = softwareWith()
    const line = `{"event":{"code":"x","data":{"list":[${Array(1_500).fill('1e20').join(',')}]}}}`
    expect(Buffer.byteLength(line)).toBeLessThan(LOCAL_LIMITS.lineBytes)
    expect(software.accept(line)).toEqual({ ok: false, error: expect.stringMatching(/16320 bytes/) })
    expect(events.waitingEvents).toBe(0)
  })
})

test('a fault that was raised before the first welcome has its true time from then on, also after a restart', () => {
  const YEARS_MS = 6 * 365 * 86_400_000
  const clock = new ManualClock('2026-05-01T00:00:00Z')
  const wrong = { now: () => clock.now() - YEARS_MS, monotonic: () => clock.monotonic() }
  const faults = new MemoryFaults()
  const start = () => {
    const serverTime = serverTimeFor({ ...wrong, after: clock.after, sleep: clock.sleep })
    const events = new EventQueue(clock)
    const parts = { clock, serverTime, random: systemRandom, events, faultStore: faults }
    return { serverTime, software: new RobotSoftware(parts) }
  }
  const since = (software: RobotSoftware) => software.read().faults?.map((fault) => fault.since)
  const first = start()
  first.software.accept('{"fault":{"raise":{"code":"gripper"}}}')
  expect(since(first.software)).toEqual(['2020-05-02T00:00:00.000Z'])
  clock.advance(60_000)
  const second = start()
  expect(since(second.software)).toEqual(['2020-05-02T00:00:00.000Z'])
  second.serverTime.learn(new Date(clock.now()).toISOString(), 0)
  expect(since(second.software)).toEqual(['2026-05-01T00:00:00.000Z'])
})

test('lines from all programs together have a bound of their own', () => {
  const { clock, software } = softwareWith(LOCAL_LIMITS)
  const say = () => software.accept('{"metric":{"a":1}}').ok
  expect(Array.from({ length: 1_000 }, say).filter((ok) => ok)).toHaveLength(300)
  clock.advance(1_000)
  expect(Array.from({ length: 1_000 }, say).filter((ok) => ok)).toHaveLength(100)
  expect(software.refusals.lines).toBe(1_600)
})

test('whatever it is told, what it holds fits a heartbeat by number and by shape', () => {
  const name = fc.oneof(fc.constantFrom('a', 'b', 'c_1'), fc.stringMatching(/^[a-z][a-z0-9_]{0,8}$/))
  const request = fc.oneof(
    fc.record({ metric: fc.dictionary(name, fc.oneof(fc.double(), fc.constant(null)), { maxKeys: 70 }) }),
    fc.record({
      fault: fc.oneof(
        fc.record({ clear: name }),
        fc.record({ raise: fc.record({ code: name, message: fc.string({ unit: 'binary' }) }) }),
      ),
    }),
    fc.record({ mode: fc.oneof(fc.string({ unit: 'binary' }), fc.constant(null)), ttl_s: fc.double() }),
    fc.record({ battery: fc.record({ charge: fc.double() }) }),
    fc.record({ event: fc.record({ code: name, data: fc.dictionary(fc.string(), fc.jsonValue()) }) }),
    fc.jsonValue(),
  )
  const steps = fc.array(fc.record({ request, pass: fc.nat(400_000) }), { maxLength: 60 })
  fc.assert(
    fc.property(steps, (all) => {
      const { clock, software, say, events } = softwareWith()
      for (const { request: line, pass } of all) {
        const before = software.read()
        const answer = say(line)
        if (!answer.ok) expect(software.read()).toEqual(before)
        const reading = software.read()
        expect(heartbeatBodySchema.safeParse(reading).error).toBeUndefined()
        expect((reading.faults ?? []).length).toBeLessThanOrEqual(24)
        clock.advance(pass)
      }
      for (const event of sent(events)) expect(event.type).toBe('event')
    }),
    { numRuns: 200 },
  )
})
