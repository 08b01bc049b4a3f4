import { expect, test, vi } from 'vitest'
import { StormGarbage } from '../../src/gateway/storm-garbage.ts'

const TICK_MS = 250

/** Lets sessions be opened, so many in each tick. `chance`: what chance says, from 0 up to 1. */
function gateway(chance = 0) {
  const collect = vi.fn()
  const garbage = new StormGarbage({ fraction: () => chance }, collect)
  let [opened, now] = [0, 0]
  const pass = (ms: number, perTick: number) => {
    for (const end = now + ms; now < end; now += TICK_MS) {
      opened += perTick
      garbage.tick(opened, now)
    }
  }
  return { collect, pass }
}

test('garbage is collected twice when a storm is well over, and not while it goes on', () => {
  const { collect, pass } = gateway()
  pass(30_000, 500)
  expect(collect).not.toHaveBeenCalled()
  pass(9_500, 3)
  expect(collect).not.toHaveBeenCalled()
  pass(1_000, 3)
  expect(collect).toHaveBeenCalledTimes(1)
  pass(1_000, 3)
  expect(collect).toHaveBeenCalledTimes(2)
  pass(600_000, 3)
  expect(collect).toHaveBeenCalledTimes(2)
})

test('processes that were in the same storm collect theirs at different moments, up to ten seconds apart', () => {
  const moments = [0, 0.25, 0.5, 0.75, 0.99].map((chance) => {
    const { collect, pass } = gateway(chance)
    pass(10_000, 500)
    let waited = 0
    for (; collect.mock.calls.length === 0; waited += TICK_MS) pass(TICK_MS, 0)
    return waited
  })
  expect(moments).toEqual([10_000, 12_500, 15_000, 17_500, 20_000])
})

test('it is collected after the next storm, too, and after storms without a rest in between once', () => {
  const { collect, pass } = gateway()
  pass(2_000, 500)
  pass(12_000, 0)
  expect(collect).toHaveBeenCalledTimes(2)
  for (let storms = 0; storms < 10; storms++) {
    pass(2_000, 500)
    pass(9_000, 0)
  }
  expect(collect).toHaveBeenCalledTimes(2)
  pass(12_000, 0)
  expect(collect).toHaveBeenCalledTimes(4)
})

test('robots that come and go as they always do are no storm, and neither are a few at once', () => {
  const { collect, pass } = gateway()
  pass(3_600_000, 20)
  expect(collect).not.toHaveBeenCalled()
  pass(TICK_MS, 1_900)
  pass(60_000, 0)
  expect(collect).not.toHaveBeenCalled()
})

test('a collection by V8 is to be had in a process that was not started for it', () => {
  const garbage = new StormGarbage({ fraction: () => 0 })
  const dead = new WeakRef({ size: new Array(1_000).fill(0) })
  return new Promise<void>((resolve) => {
    setImmediate(() => {
      garbage.tick(5_000, 0)
      garbage.tick(5_000, 10_000)
      expect(dead.deref()).toBeUndefined()
      resolve()
    })
  })
})
