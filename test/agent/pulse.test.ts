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
