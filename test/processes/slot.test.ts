import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  EMPTY_SLOT,
  HANG_MS,
  PING_EVERY_MS,
  type Slot,
  type SlotEffect,
  type SlotEvent,
  STABLE_AFTER_MS,
  START_WITHIN_MS,
  step,
} from '../../src/processes/slot.ts'

/** A place and the time there. */
class Place {
  slot: Slot = EMPTY_SLOT
  now = 0

  do(event: SlotEvent): readonly SlotEffect[] {
    const { slot, effects } = step(this.slot, event, this.now)
    this.slot = slot
    return effects
  }

  /** Ticks until the time is over; answers with everything that was to be done, and when. */
  pass(ms: number, everyMs = 500): { at: number; effect: SlotEffect }[] {
    const done: { at: number; effect: SlotEffect }[] = []
    for (const end = this.now + ms; this.now < end; ) {
      this.now += everyMs
      for (const effect of this.do({ type: 'tick' })) done.push({ at: this.now, effect })
    }
    return done
  }

  static ready(): Place {
    const place = new Place()
    expect(place.do({ type: 'tick' })).toEqual([{ type: 'start' }])
    place.do({ type: 'ready' })
    expect(place.slot.mode).toBe('ready')
    return place
  }
}

const exit: SlotEvent = { type: 'exited', fraction: 1 }

describe('a process that answers', () => {
  test('is asked now and then, and left alone', () => {
    const place = Place.ready()
    for (let round = 0; round < 50; round += 1) {
      expect(place.pass(PING_EVERY_MS).map(({ effect }) => effect)).toEqual([{ type: 'ping' }])
      place.do({ type: 'pong' })
    }
    expect(place.slot.mode).toBe('ready')
  })
})

describe('a process that does not answer', () => {
  test('is killed once its oldest question is old enough, and counted as a hang', () => {
    const place = Place.ready()
    const kills = place.pass(60_000).filter(({ effect }) => effect.type === 'kill')
    expect(kills).toEqual([{ at: PING_EVERY_MS + HANG_MS, effect: { type: 'kill', reason: 'hang' } }])
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'hang', pauseMs: 0 }])
  })

  test('is not killed when it answers late', () => {
    const place = Place.ready()
    place.pass(PING_EVERY_MS + HANG_MS - 500)
    place.do({ type: 'pong' })
    expect(place.pass(HANG_MS).filter(({ effect }) => effect.type === 'kill')).toEqual([])
  })

  test('is not brought back by an answer that comes after it was killed', () => {
    const place = Place.ready()
    place.pass(PING_EVERY_MS + HANG_MS)
    place.do({ type: 'pong' })
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'hang', pauseMs: 0 }])
  })
})

describe('a process that ends', () => {
  test('is replaced at once', () => {
    const place = Place.ready()
    place.now += STABLE_AFTER_MS
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'crash', pauseMs: 0 }])
    expect(place.do({ type: 'tick' })).toEqual([{ type: 'start' }])
  })

  test('is replaced after growing pauses when it lives shortly, and at once again when it has lived', () => {
    const place = new Place()
    const pauses: number[] = []
    for (let round = 0; round < 9; round += 1) {
      expect(place.do({ type: 'tick' })).toEqual([{ type: 'start' }])
      place.do({ type: 'ready' })
      place.now += 100
      const [lost] = place.do(exit) as [Extract<SlotEffect, { type: 'lost' }>]
      pauses.push(lost.pauseMs)
      if (lost.pauseMs > 0) {
        place.now += lost.pauseMs - 1
        expect(place.do({ type: 'tick' })).toEqual([])
        place.now += 1
      }
    }
    expect(pauses).toEqual([0, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000])
    place.do({ type: 'tick' })
    place.do({ type: 'ready' })
    place.now += STABLE_AFTER_MS
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'crash', pauseMs: 0 }])
  })

  test('before it took robots never started', () => {
    const place = new Place()
    place.do({ type: 'tick' })
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'start', pauseMs: 0 }])
  })

  test('is killed when it does not come to take robots', () => {
    const place = new Place()
    place.do({ type: 'tick' })
    const kills = place.pass(2 * START_WITHIN_MS)
    expect(kills).toEqual([{ at: START_WITHIN_MS, effect: { type: 'kill', reason: 'start' } }])
    // What it says between the signal and its end changes nothing.
    place.do({ type: 'ready' })
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'start', pauseMs: 0 }])
  })
})

describe('draining', () => {
  test('tells it, and nothing follows its end', () => {
    const place = Place.ready()
    expect(place.do({ type: 'drain', withinMs: 5_000 })).toEqual([{ type: 'drain' }])
    expect(place.do({ type: 'drain', withinMs: 5_000 })).toEqual([])
    expect(place.do(exit)).toEqual([])
    expect(place.pass(100_000)).toEqual([])
    expect(place.slot.mode).toBe('over')
  })

  test('kills it when it takes too long', () => {
    const place = Place.ready()
    place.do({ type: 'drain', withinMs: 5_000 })
    expect(place.pass(20_000)).toEqual([{ at: 5_000, effect: { type: 'kill', reason: 'drain' } }])
    expect(place.do(exit)).toEqual([{ type: 'lost', reason: 'drain', pauseMs: 0 }])
    expect(place.slot.mode).toBe('over')
  })

  test('starts nothing where nobody runs', () => {
    const place = new Place()
    expect(place.do({ type: 'drain', withinMs: 5_000 })).toEqual([])
    expect(place.slot.mode).toBe('over')
  })
})

test('whatever happens, at most one process runs, and every one that is started ends once or goes on', () => {
  const events = fc.oneof(
    fc.constantFrom<SlotEvent['type'][]>(['tick'], ['ready'], ['pong'], ['exited']),
    fc.constant<SlotEvent['type'][]>(['tick', 'tick', 'tick']),
  )
  fc.assert(
    fc.property(
      fc.array(fc.tuple(events, fc.nat(40_000)), { maxLength: 60 }),
      fc.boolean(),
      (script, drains) => {
        const place = new Place()
        let running = false
        const apply = (event: SlotEvent) => {
          // Only who runs can say something, or end.
          if (!running && event.type !== 'tick' && event.type !== 'drain') return
          if (event.type === 'exited') running = false
          for (const effect of place.do(event)) {
            if (effect.type === 'start') {
              expect(running).toBe(false)
              running = true
            }
            if (effect.type === 'kill' || effect.type === 'ping') expect(running).toBe(true)
          }
          const mode = place.slot.mode
          expect(running).toBe(mode === 'starting' || mode === 'ready' || mode === 'draining')
        }
        for (const [types, pause] of script) {
          for (const type of types) apply(type === 'exited' ? exit : ({ type } as SlotEvent))
          place.now += pause
        }
        if (!drains) return
        apply({ type: 'drain', withinMs: 1_000 })
        place.now += 1_000
        apply({ type: 'tick' })
        apply(exit)
        expect(place.slot.mode).toBe('over')
      },
    ),
  )
})
