import { expect, test, vi } from 'vitest'
import { StormGarbage } from '../../src/gateway/storm-garbage.ts'

const TICK_MS = 250

/** Lets sessions be opened, so many in each tick. */
function gateway() {
  const collect = vi.fn()
  const garbage = new StormGarbage(collect)
  let [opened, now] = [0, 0]
  const pass = (ms: number, perTick: number) => {
    for (const end = now + ms; now < end; now += TICK_MS) {
      opened += perTick
      garbage.tick(opened, now)
    }
  }
  return { collect, pass }
}

test('garbage is collected twice when a storm is over, and not while it goes on', () => {
  const { collect, pass } = gateway()
  pass(10_000, 500)
  expect(collect).not.toHaveBeenCalled()
  pass(1_500, 3)
  expect(collect).not.toHaveBeenCalled()
  pass(1_000, 3)
  expect(collect).toHaveBeenCalledTimes(1)
  pass(1_000, 3)
  expect(collect).toHaveBeenCalledTimes(2)
  pass(600_000, 3)
  expect(collect).toHaveBeenCalledTimes(2)
})

test('it is collected after the next storm, too, but once a minute at the most', () => {
  const { collect, pass } = gateway()
  pass(2_000, 500)
  pass(4_000, 0)
  expect(collect).toHaveBeenCalledTimes(2)
  pass(2_000, 500)
  pass(4_000, 0)
  pass(2_000, 500)
  pass(4_000, 0)
  expect(collect).toHaveBeenCalledTimes(2)
  pass(60_000, 0)
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
  const garbage = new StormGarbage()
  const dead = new WeakRef({ size: new Array(1_000).fill(0) })
  return new Promise<void>((resolve) => {
    setImmediate(() => {
      garbage.tick(5_000, 0)
      garbage.tick(5_000, 2_000)
      expect(dead.deref()).toBeUndefined()
      resolve()
    })
  })
})
