import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  Alarm,
  BOUNDS,
  COUNT_DESCRIPTORS_EVERY_MS,
  OverloadGuard,
  reservedDescriptors,
  roomMargin,
  SAMPLE_EVERY_MS,
  SAMPLES_IN_A_ROW,
} from '../../src/gateway/overload.ts'
import type { Resources } from '../../src/gateway/resources.ts'
import { createLog } from '../../src/observe/log.ts'
import { createMetrics } from '../../src/observe/metrics.ts'
import { ManualClock } from '../support/clock.ts'
import { seededRandom } from '../support/random.ts'

/** A machine whose values the test turns. */
class Machine implements Resources {
  descriptorLimit: number | undefined = 20_000
  /** Descriptors that are not robots'. */
  others = 100
  sockets = 0
  heap = 0.3
  memory = 0.3
  loopMs = 1
  countsCheaply = false
  counted = 0
  stopped = 0

  openDescriptors(): number | undefined {
    this.counted += 1
    return this.sockets + this.others
  }
  heapShare(): number {
    return this.heap
  }
  memoryShare(): number {
    return this.memory
  }
  eventLoopDelayMs(): number {
    return this.loopMs
  }
  stop(): void {
    this.stopped += 1
  }
}

function guarded(machine = new Machine()) {
  const clock = new ManualClock(0)
  const metrics = createMetrics()
  const told: boolean[] = []
  const gone: boolean[] = []
  const guard = new OverloadGuard({
    clock,
    random: seededRandom(3),
    log: createLog('silent'),
    metrics,
    resources: machine,
    sockets: () => machine.sockets,
    onRoomChanged: (hasRoom) => told.push(hasRoom),
    onDescriptorsGone: (areGone) => {
      if (areGone !== (gone.at(-1) ?? false)) gone.push(areGone)
    },
  })
  guard.start()
  const sampled = (times = SAMPLES_IN_A_ROW) => clock.advance(times * SAMPLE_EVERY_MS)
  const shown = async (reason: string) =>
    (await metrics.overloaded.get()).values.find((value) => value.labels.reason === reason)?.value
  return { clock, guard, machine, sampled, shown, told, gone }
}

test('a machine with plenty of everything turns nobody away', () => {
  const { guard, sampled } = guarded()
  sampled(100)
  expect(guard.lacks).toBeUndefined()
  expect(guard.refusal(() => 100)).toBeUndefined()
})

test.each([
  ['memory', { heap: 0.91 }, { heap: 0.79 }],
  ['memory', { memory: 0.96 }, { memory: 0.91 }],
  ['event_loop', { loopMs: 260 }, { loopMs: 90 }],
] as const)(
  '%s that stays short turns new robots away, until it is better for good',
  async (reason, worse, better) => {
    const { guard, machine, sampled, shown } = guarded()
    Object.assign(machine, worse)
    sampled(SAMPLES_IN_A_ROW - 1)
    expect(guard.lacks).toBeUndefined()
    sampled(1)
    expect(guard.lacks).toBe(reason)
    expect(await shown(reason)).toBe(1)
    Object.assign(machine, better)
    sampled(SAMPLES_IN_A_ROW - 1)
    expect(guard.lacks).toBe(reason)
    sampled(1)
    expect(guard.lacks).toBeUndefined()
    expect(await shown(reason)).toBe(0)
  },
)

test('one pause of the event loop turns nobody away, also where it stands in two samples', () => {
  const { clock, guard, machine, sampled } = guarded()
  const monotonic = clock.monotonic.bind(clock)
  let stoodStill = 0
  clock.monotonic = () => monotonic() + stoodStill
  for (let times = 0; times < 10; times++) {
    stoodStill += 30_000
    sampled(1)
    machine.loopMs = 1_200
    sampled(1)
    machine.loopMs = 1
    sampled(1)
    expect(guard.lacks).toBeUndefined()
  }
})

test('a loop that never runs in time is told by how late the samples are', () => {
  const { clock, guard } = guarded()
  const monotonic = clock.monotonic.bind(clock)
  let behind = 0
  clock.monotonic = () => monotonic() + behind
  for (let times = 0; times < SAMPLES_IN_A_ROW; times++) {
    behind += 400
    clock.advance(SAMPLE_EVERY_MS)
  }
  expect(guard.lacks).toBe('event_loop')
})

test('descriptors end before the last one, at once, without waiting for a sample', () => {
  const { guard, machine } = guarded()
  const most = 20_000 - 800 - 100
  machine.sockets = most - 1
  expect(guard.lacks).toBeUndefined()
  machine.sockets = most
  expect(guard.lacks).toBe('descriptors')
  // Some have to leave before others are taken: one that goes does not open the door.
  machine.sockets = most - 1
  expect(guard.lacks).toBe('descriptors')
  machine.sockets = most - 800 / 8 - 1
  expect(guard.lacks).toBeUndefined()
})

test('there is no room a little before robots are turned away, and there is again well below', () => {
  const { guard, machine, sampled, told } = guarded()
  const most = 20_000 - 800 - 100
  machine.sockets = most - roomMargin(most) - 1
  expect(guard.refusal(() => 0)).toBeUndefined()
  expect(told).toEqual([])
  machine.sockets += 1
  // Nobody waits for a sample while robots come by the hundred.
  expect(guard.refusal(() => 0)).toBeUndefined()
  expect(told).toEqual([false])
  machine.sockets = most - 3 * roomMargin(most)
  sampled()
  expect(told).toEqual([false])
  machine.sockets -= 1
  sampled(1)
  expect(told).toEqual([false, true])
})

test('robots that find room elsewhere are to come again soon, but not where the loop is slow', () => {
  const { guard, machine, sampled } = guarded()
  const latest = () =>
    Math.max(...Array.from({ length: 200 }, () => guard.refusal(() => 0)!.retryAfterSeconds!))
  machine.memory = 0.96
  sampled()
  expect(latest()).toBeGreaterThan(40)
  guard.roomElsewhere = true
  expect(latest()).toBeLessThanOrEqual(10)
  Object.assign(machine, { memory: 0.3, loopMs: 1_000 })
  sampled()
  expect(latest()).toBeGreaterThan(10)
})

test('there is no room without memory, but there is on a slow event loop', () => {
  const { machine, sampled, told } = guarded()
  machine.loopMs = 1_000
  sampled(10)
  expect(told).toEqual([])
  machine.memory = 0.96
  sampled()
  expect(told).toEqual([false])
  machine.memory = 0.9
  sampled()
  expect(told).toEqual([false, true])
})

test('there is no room from the start where the limit leaves none', () => {
  const machine = new Machine()
  machine.descriptorLimit = 100
  expect(guarded(machine).told).toEqual([false])
})

test('descriptors of others are counted rarely, and counted in', () => {
  const { guard, machine, sampled } = guarded()
  expect(machine.counted).toBe(1)
  machine.others = 15_000
  machine.sockets = 5_000
  expect(guard.lacks).toBeUndefined()
  sampled(COUNT_DESCRIPTORS_EVERY_MS / SAMPLE_EVERY_MS)
  expect(machine.counted).toBe(2)
  expect(guard.lacks).toBe('descriptors')
  sampled(100)
  expect(machine.counted).toBe(7)
})

test('where nothing is known of descriptors they stop nobody', () => {
  const unknown = new Machine()
  unknown.descriptorLimit = undefined
  const { guard, machine } = guarded(unknown)
  machine.sockets = 1_000_000
  expect(guard.lacks).toBeUndefined()
  const uncounted = new Machine()
  uncounted.openDescriptors = () => undefined
  expect(guarded(uncounted).guard.lacks).toBeUndefined()
})

test('at least 64 descriptors are kept free, and of many one in twenty', () => {
  expect([100, 1_024, 1_280, 20_000, 1_048_576].map(reservedDescriptors)).toEqual([64, 64, 64, 800, 41_944])
})

test('a refusal is 503, says what is short, and comes with times spread over the span', () => {
  const { guard, machine, sampled } = guarded()
  machine.memory = 1
  sampled()
  const seconds = Array.from({ length: 2_000 }, () => {
    const refusal = guard.refusal(() => 1)!
    expect(refusal).toMatchObject({ code: 'overloaded', status: 503, reason: 'memory' })
    expect(refusal.detail).toContain('memory')
    return refusal.retryAfterSeconds!
  })
  for (let from = 10; from <= 60; from++) expect(seconds).toContain(from)
  expect([Math.min(...seconds), Math.max(...seconds)]).toEqual([10, 60])
  // No earlier than there is a place in any case.
  expect(guard.refusal(() => 118)!.retryAfterSeconds).toBe(118)
})

test('stopping ends the timer and the measuring', () => {
  const { clock, guard, machine } = guarded()
  expect(clock.pending).toBe(1)
  guard.stop()
  expect([clock.pending, machine.stopped]).toEqual([0, 1])
})

test('an alarm flaps with no value that goes up and down within its bounds or from one sample to the next', () => {
  const { high, low } = BOUNDS.eventLoopMs
  fc.assert(
    fc.property(fc.array(fc.integer({ min: low, max: high - 1 })), (values) => {
      const alarm = new Alarm(BOUNDS.eventLoopMs)
      for (const value of values) alarm.observe(value)
      expect(alarm.isOn).toBe(false)
      for (let times = 0; times < SAMPLES_IN_A_ROW; times++) alarm.observe(high)
      expect(alarm.isOn).toBe(true)
      for (const value of values) alarm.observe(value)
      expect(alarm.isOn).toBe(true)
      for (let times = 0; times < 20; times++) alarm.observe(times % SAMPLES_IN_A_ROW ? 0 : high)
      expect(alarm.isOn).toBe(true)
    }),
  )
})

test('connections that ask for nothing count as soon as they are there, where counting costs nothing', () => {
  const machine = Object.assign(new Machine(), { countsCheaply: true })
  const { guard, sampled, gone } = guarded(machine)
  machine.sockets = 10_000
  sampled(1)
  expect(guard.lacks).toBeUndefined()
  machine.others += 20_000 - reservedDescriptors(20_000) - 10_100
  sampled(1)
  expect(guard.lacks).toBe('descriptors')
  expect(gone).toEqual([])
})

test('the port is shut while half of the reserve is taken, and opened when there is a distance to that', () => {
  const machine = Object.assign(new Machine(), { countsCheaply: true })
  const { sampled, gone } = guarded(machine)
  const open = (count: number) => {
    machine.others = count
    sampled(1)
    return gone.at(-1)
  }
  expect(open(19_599)).toBeUndefined()
  expect(open(19_600)).toBe(true)
  expect(open(20_000)).toBe(true)
  expect(open(19_400)).toBe(true)
  expect(open(19_399)).toBe(false)
  expect(open(19_599)).toBe(false)
  expect(gone).toEqual([true, false])
})
