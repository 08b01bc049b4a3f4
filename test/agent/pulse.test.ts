import { expect, test } from 'vitest'
import { Pulse } from '../../agent/pulse.ts'
import { ManualClock } from '../support/clock.ts'

function beating(intervalMs: number) {
  const clock = new ManualClock()
  const beats: number[] = []
  const pulse = new Pulse(clock, intervalMs, async () => {
    beats.push(clock.monotonic())
  })
  return { clock, beats, pulse }
}

test('beats at once and then every interval', async () => {
  const { clock, beats, pulse } = beating(1_000)
  pulse.start()
  await clock.pass(3_500, 100)
  expect(beats).toEqual([0, 1_000, 2_000, 3_000])
  pulse.stop()
  await clock.pass(3_000)
  expect(beats).toHaveLength(4)
})

test('a new interval counts from the last beat', async () => {
  const { clock, beats, pulse } = beating(10_000)
  pulse.start()
  await clock.pass(300, 100)
  pulse.setInterval(1_000)
  await clock.pass(1_800, 100)
  expect(beats).toEqual([0, 1_000, 2_000])
})

test('a beat that hangs is not joined by others', async () => {
  const clock = new ManualClock()
  let begun = 0
  let finish = () => {}
  const pulse = new Pulse(clock, 1_000, () => {
    begun++
    return new Promise((resolve) => {
      finish = resolve
    })
  })
  pulse.start()
  await clock.pass(5_000, 500)
  expect(begun).toBe(1)
  finish()
  await clock.pass(1_000, 500)
  expect(begun).toBe(2)
})

test('shifted, the next beat comes after its share of the interval, and the others keep to its measure', async () => {
  const { clock, beats, pulse } = beating(1_000)
  pulse.start()
  await clock.pass(500, 100)
  pulse.shift(0.2)
  await clock.pass(2_500, 100)
  expect(beats).toEqual([0, 700, 1_700, 2_700])
})

test('shifted by a whole interval, it does not beat twice', async () => {
  const { clock, beats, pulse } = beating(1_000)
  pulse.start()
  await clock.pass(300, 100)
  pulse.shift(1)
  await clock.pass(2_000, 100)
  expect(beats).toEqual([0, 1_300, 2_300])
})

test('shifting a pulse that does not run starts nothing', async () => {
  const { clock, beats, pulse } = beating(1_000)
  pulse.shift(0.5)
  await clock.pass(3_000, 100)
  expect(beats).toEqual([])
})

test('a new interval after a shift counts from the moment that was shifted to', async () => {
  const { clock, beats, pulse } = beating(10_000)
  pulse.start()
  pulse.shift(0.5)
  pulse.setInterval(1_000)
  await clock.pass(1_500, 100)
  expect(beats).toEqual([0, 1_000])
})
