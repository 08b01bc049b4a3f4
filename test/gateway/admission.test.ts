import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ADMISSION_TICK_MS, AdmissionQueue, type Passage } from '../../src/gateway/admission.ts'
import { Overloaded } from '../../src/gateway/overload.ts'
import { LONGEST_RETURN_S, ReturnTimes, SHORTEST_RETURN_S } from '../../src/gateway/return-times.ts'
import { ManualClock } from '../support/clock.ts'
import { seededRandom } from '../support/random.ts'

const settle = () => new Promise((resolve) => setImmediate(resolve))

/** The queue with everything that happens to those who come, in order. */
class Door {
  readonly clock = new ManualClock(0)
  readonly queue: AdmissionQueue
  readonly passed: { id: number; at: number }[] = []
  readonly gone: number[] = []
  readonly refused: { id: number; reason: string; retryAfter: number; at: number }[] = []
  room = Number.POSITIVE_INFINITY
  #next = 0
  readonly hungUp = new Set<number>()
  /** When each was last asked whether it is still there: the moment of its turn. */
  readonly #turns = new Map<number, number>()

  constructor(perSecond: number, seed = 1) {
    this.queue = new AdmissionQueue({
      clock: this.clock,
      random: seededRandom(seed),
      perSecond,
      room: () => this.room,
    })
  }

  arrive(): number {
    const id = this.#next++
    const settled = (passage: Passage) => {
      if (passage === 'gone') this.gone.push(id)
      else this.passed.push({ id, at: this.#turns.get(id) ?? this.clock.monotonic() })
    }
    const refused = (error: unknown) => {
      if (!(error instanceof Overloaded)) throw error
      const { reason, retryAfterSeconds } = error
      this.refused.push({ id, reason, retryAfter: retryAfterSeconds!, at: this.clock.monotonic() })
    }
    try {
      const isGone = () => {
        this.#turns.set(id, this.clock.monotonic())
        return this.hungUp.has(id)
      }
      const turn = this.queue.enter({ isGone })
      if (turn) turn.then(settled, refused)
      else settled('admitted')
    } catch (error) {
      refused(error)
    }
    return id
  }

  arriveMany(count: number): void {
    for (let index = 0; index < count; index++) this.arrive()
  }

  /** Lets time pass, with what is settled in each step recorded at its own time. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= ADMISSION_TICK_MS) {
      this.clock.advance(Math.min(left, ADMISSION_TICK_MS))
      await settle()
    }
  }
}

/** Whether a bucket of this size, filled at this rate, gives all of it: the same as every window being within the rate. */
function expectWithinRate(times: readonly number[], perSecond: number, burst: number): void {
  let level = burst
  let last = 0
  for (const at of times) {
    level = Math.min(burst, level + ((at - last) * perSecond) / 1000) - 1
    last = at
    if (level < -1e-6) throw new Error(`above ${perSecond}/s at ${at} ms`)
  }
}

describe('an upgrade', () => {
  test('that finds the door open passes at once, without a promise or a timer', () => {
    const door = new Door(1_000)
    expect(door.queue.enter({})).toBeUndefined()
    expect(door.clock.pending).toBe(0)
  })

  test('above the rate waits, and one timer serves all that do', async () => {
    const door = new Door(1_000)
    door.arriveMany(1_050)
    expect(door.passed).toHaveLength(50)
    expect(door.queue.waiting).toBe(1_000)
    expect(door.clock.pending).toBe(1)
    await door.pass(1_000)
    expect(door.passed.map(({ id }) => id)).toEqual(Array.from({ length: 1_050 }, (_, index) => index))
    expect(door.clock.pending).toBe(0)
  })

  test('that comes while others wait overtakes nobody, whatever is free between two turns', async () => {
    const door = new Door(1_000)
    door.arriveMany(60)
    await door.pass(ADMISSION_TICK_MS / 2)
    door.arriveMany(5)
    expect(door.passed.map(({ id }) => id)).not.toContain(60)
    await door.pass(100)
    expect(door.passed.map(({ id }) => id)).toEqual(Array.from({ length: 65 }, (_, index) => index))
  })

  test('that finds the queue full is refused at once', () => {
    const door = new Door(1_000)
    door.arriveMany(50 + 2_500)
    expect(door.refused).toEqual([])
    door.arriveMany(3)
    expect(door.refused.map(({ reason, at }) => [reason, at])).toEqual([
      ['queue_full', 0],
      ['queue_full', 0],
      ['queue_full', 0],
    ])
  })

  test('whose client has gone is skipped and costs nobody a place', async () => {
    const door = new Door(100)
    door.arriveMany(5 + 250)
    for (let id = 5; id < 205; id++) door.hungUp.add(id)
    await door.pass(520)
    expect(door.gone).toHaveLength(200)
    expect(door.passed).toHaveLength(55)
  })

  test('waits while too many are on their way to a session, and is refused in the end', async () => {
    const door = new Door(1_000)
    door.room = 0
    door.arriveMany(100)
    await door.pass(5_000)
    expect([door.passed, door.refused]).toEqual([[], []])
    door.room = 10
    await door.pass(ADMISSION_TICK_MS)
    expect(door.passed).toHaveLength(10)
    door.room = 0
    await door.pass(3_000)
    expect(door.refused.map(({ reason }) => reason)).toEqual(Array(90).fill('waited_too_long'))
    expect(door.clock.pending).toBe(0)
  })

  test('is never let through in a heap after the event loop was held up', async () => {
    const door = new Door(1_000)
    door.arriveMany(2_000)
    const before = door.passed.length
    door.clock.advance(ADMISSION_TICK_MS)
    await settle()
    const tick = door.passed.length - before
    expect(tick).toBeLessThanOrEqual(10)
    // A clock that jumps calls the timer late, once: what was missed is not made up for.
    const held = new Door(1_000)
    held.arriveMany(2_000)
    const late = held.passed.length
    const { clock } = held
    const monotonic = clock.monotonic.bind(clock)
    clock.monotonic = () => monotonic() + 3_000
    clock.advance(ADMISSION_TICK_MS)
    await settle()
    expect(held.passed.length - late).toBe(50)
  })

  test('without a rate passes as long as there is room', () => {
    const door = new Door(0)
    door.arriveMany(100_000)
    expect(door.passed).toHaveLength(100_000)
    door.room = 0
    door.arriveMany(1)
    expect(door.queue.waiting).toBe(1)
  })

  test('that waits when the door is shut is turned away with the reason of the moment', async () => {
    const door = new Door(10)
    door.arriveMany(1)
    const turn = door.queue.enter({})
    door.queue.clear(() => new Error('shut'))
    await expect(turn).rejects.toThrow('shut')
    expect([door.queue.waiting, door.clock.pending]).toEqual([0, 0])
  })
})

test('whatever comes: within the rate, in order, bounded, and everybody gets an answer', async () => {
  const happenings = fc.array(
    fc.oneof(
      fc.record({ kind: fc.constant('arrive' as const), count: fc.integer({ min: 1, max: 400 }) }),
      fc.record({ kind: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 1_500 }) }),
      fc.record({ kind: fc.constant('hang up' as const), id: fc.nat({ max: 2_000 }) }),
      fc.record({ kind: fc.constant('room' as const), room: fc.constantFrom(0, 1, 7, 100_000) }),
    ),
    { maxLength: 25 },
  )
  await fc.assert(
    fc.asyncProperty(happenings, fc.integer({ min: 1, max: 2_000 }), async (list, perSecond) => {
      const door = new Door(perSecond)
      let arrived = 0
      for (const happening of list) {
        if (happening.kind === 'arrive') {
          door.arriveMany(happening.count)
          arrived += happening.count
        } else if (happening.kind === 'pass') await door.pass(happening.ms)
        else if (happening.kind === 'room') door.room = happening.room
        else door.hungUp.add(happening.id)
        expect(door.queue.waiting).toBeLessThanOrEqual(door.queue.capacity)
        expect(door.clock.pending).toBe(door.queue.waiting > 0 ? 1 : 0)
      }
      // Longer than anybody waits.
      await door.pass(10_000)
      expect(door.queue.waiting).toBe(0)
      expect(door.passed.length + door.gone.length + door.refused.length).toBe(arrived)
      const order = door.passed.map(({ id }) => id)
      expect(order).toEqual(order.toSorted((one, other) => one - other))
      expectWithinRate(
        door.passed.map(({ at }) => at),
        perSecond,
        Math.max(1, perSecond / 20),
      )
      for (const { retryAfter } of door.refused) {
        expect(Number.isInteger(retryAfter)).toBe(true)
        expect(retryAfter).toBeGreaterThanOrEqual(SHORTEST_RETURN_S)
        expect(retryAfter).toBeLessThanOrEqual(LONGEST_RETURN_S)
      }
    }),
    { numRuns: 40 },
  )
})

describe('a rate that changes', () => {
  test('holds for those that wait already', async () => {
    const door = new Door(100)
    door.arriveMany(205)
    expect(door.passed).toHaveLength(5)
    await door.pass(1_000)
    expect(door.passed).toHaveLength(105)
    door.queue.setRate(400)
    await door.pass(250)
    expect(door.passed).toHaveLength(205)
    expect(door.refused).toEqual([])
  })

  test('makes the queue longer or shorter for those that come', () => {
    const door = new Door(100)
    door.queue.setRate(10)
    door.arriveMany(40)
    expect(door.queue.capacity).toBe(25)
    expect(door.queue.waiting).toBe(25)
    expect(door.passed.length + door.refused.length).toBe(15)
  })

  test('may be no rate any more, and again', async () => {
    const door = new Door(10)
    door.queue.setRate(0)
    door.arriveMany(500)
    expect(door.passed).toHaveLength(500)
    door.queue.setRate(10)
    door.arriveMany(20)
    expect(door.passed.length).toBeLessThanOrEqual(501)
  })
})

describe('times of return', () => {
  function perSecondOf(count: number, rate: number, waiting: number): number[] {
    const returns = new ReturnTimes(rate)
    const random = seededRandom(7)
    const seconds = new Array<number>(LONGEST_RETURN_S + 1).fill(0)
    for (let index = 0; index < count; index++) seconds[returns.next(0, waiting, random.fraction())]! += 1
    return seconds
  }

  test('fill the time that it takes to serve all before, evenly', () => {
    // 1,000 wait: until second 2 there is no place. 10,000 more at 500 a second: until second 22.
    const seconds = perSecondOf(10_000, 500, 1_000)
    expect(seconds.slice(0, 2)).toEqual([0, 0])
    for (const count of seconds.slice(3, 22)) {
      expect(count).toBeGreaterThan(425)
      expect(count).toBeLessThan(575)
    }
    expect(seconds.slice(23).every((count) => count === 0)).toBe(true)
  })

  test('are drawn from all of two minutes when there are more than can be served in them', () => {
    const seconds = perSecondOf(240_000, 100, 0)
    const tens = Array.from({ length: 12 }, (_, ten) =>
      seconds.slice(1 + ten * 10, 11 + ten * 10).reduce((sum, count) => sum + count, 0),
    )
    // 12,000 have places of their own, all others any.
    for (const count of tens) {
      expect(count).toBeGreaterThan(18_500)
      expect(count).toBeLessThan(21_500)
    }
  })

  test('are near again once those turned away have had their time', () => {
    const returns = new ReturnTimes(100)
    for (let index = 0; index < 5_000; index++) returns.next(0, 0, 0.5)
    expect(returns.next(0, 0, 0.5)).toBe(50)
    expect(returns.next(30_000, 0, 0.5)).toBe(20)
    expect(returns.next(60_000, 0, 0.5)).toBe(SHORTEST_RETURN_S)
  })

  test('are whole seconds within the bounds, whatever the rate and the moment', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0.01, max: 1e6, noNaN: true }),
        fc.array(
          fc.tuple(
            fc.nat({ max: 10_000_000 }),
            fc.nat({ max: 1_000_000 }),
            fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
          ),
          { maxLength: 50 },
        ),
        (rate, asked) => {
          const returns = new ReturnTimes(rate)
          for (const [now, waiting, fraction] of asked.toSorted(([one], [other]) => one - other)) {
            const seconds = returns.next(now, waiting, fraction)
            expect(Number.isInteger(seconds)).toBe(true)
            expect(seconds >= SHORTEST_RETURN_S && seconds <= LONGEST_RETURN_S).toBe(true)
          }
        },
      ),
    )
  })
})

describe('a storm', () => {
  /** Robots that obey Retry-After, and add up to a second of their own. Answers with when each was let in, and its tries. */
  async function weather(robots: number, perSecond: number, arriveWithinMs: number, seed: number) {
    const clock = new ManualClock(0)
    const random = seededRandom(seed)
    const queue = new AdmissionQueue({
      clock,
      random,
      perSecond,
      room: () => Number.POSITIVE_INFINITY,
    })
    const servedAt: number[] = []
    const tries = new Array<number>(robots).fill(0)
    const due: number[][] = []
    const dueAt = (robot: number, at: number) => {
      const tick = Math.max(Math.ceil(at / ADMISSION_TICK_MS), clock.monotonic() / ADMISSION_TICK_MS)
      due[tick] ??= []
      due[tick].push(robot)
    }
    const comeBack = (robot: number, error: unknown) => {
      if (!(error instanceof Overloaded)) throw error
      dueAt(robot, clock.monotonic() + error.retryAfterSeconds! * 1000 + random.fraction() * 1000)
    }
    for (let robot = 0; robot < robots; robot++) dueAt(robot, random.fraction() * arriveWithinMs)
    for (let tick = 0; servedAt.length < robots && tick < 100_000; tick++) {
      for (const robot of due[tick] ?? []) {
        tries[robot]! += 1
        try {
          const turn = queue.enter({})
          if (turn)
            turn.then(
              () => servedAt.push(clock.monotonic()),
              (error) => comeBack(robot, error),
            )
          else servedAt.push(clock.monotonic())
        } catch (error) {
          comeBack(robot, error)
        }
      }
      clock.advance(ADMISSION_TICK_MS)
      await settle()
    }
    return { servedAt, tries }
  }

  test.each([
    ['all in one moment', 0],
    ['within a second', 1_000],
    ['over ten seconds', 10_000],
  ])('of 20,000 robots, %s, is over in little more than the time that serving them takes', async (_, ms) => {
    const { servedAt, tries } = await weather(20_000, 1_000, ms, 42)
    expect(servedAt).toHaveLength(20_000)
    expect(servedAt.at(-1)!).toBeLessThan(20_000 * 1.5)
    expectWithinRate(servedAt, 1_000, 50)
    const average = tries.reduce((sum, count) => sum + count, 0) / tries.length
    expect(average).toBeLessThan(2.5)
    expect(Math.max(...tries)).toBeLessThanOrEqual(5)
  })

  test('of more robots than can be told a time within two minutes ends, too', async () => {
    const { servedAt, tries } = await weather(20_000, 80, 1_000, 42)
    expect(servedAt).toHaveLength(20_000)
    expect(servedAt.at(-1)!).toBeLessThan(250_000 * 1.5)
    expect(tries.reduce((sum, count) => sum + count, 0) / tries.length).toBeLessThan(5)
  })
})
