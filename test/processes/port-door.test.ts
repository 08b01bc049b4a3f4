import { expect, test } from 'vitest'
import { createLog } from '../../src/observe/log.ts'
import { PortDoor } from '../../src/processes/port-door.ts'
import { ManualClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'

function scene() {
  const clock = new ManualClock()
  const done: string[] = []
  const told: boolean[] = []
  let failures = 0
  let held: Promise<void> | undefined
  const door = new PortDoor({
    listener: {
      pause: () => void done.push('pause'),
      async resume() {
        await held
        done.push('resume')
        if (failures === 0) return
        failures -= 1
        throw Object.assign(new Error('listen EADDRINUSE'), { code: 'EADDRINUSE' })
      },
    },
    clock,
    log: createLog('silent'),
    tell: (listening) => told.push(listening),
  })
  return {
    clock,
    done,
    told,
    door,
    failNext: (times: number) => {
      failures = times
    },
    holdUntil: (promise: Promise<void>) => {
      held = promise
    },
  }
}

test('leaves the port and comes back, and says so', async () => {
  const { door, done, told } = scene()
  door.set(true)
  door.set(false)
  door.set(false)
  door.set(true)
  await eventually(() => told.length === 2)
  expect(done).toEqual(['pause', 'resume'])
  expect(told).toEqual([false, true])
})

test('tries again every second where it cannot come back', async () => {
  const { door, done, told, clock, failNext } = scene()
  failNext(2)
  door.set(false)
  door.set(true)
  for (const tries of [1, 2]) {
    await eventually(() => clock.pending === 1)
    expect(done.filter((what) => what === 'resume')).toHaveLength(tries)
    expect(told).toEqual([false])
    clock.advance(1_000)
  }
  await eventually(() => told.length === 2)
  expect(told).toEqual([false, true])
  expect(clock.pending).toBe(0)
})

test('forgets about it when it is not to come back any more, or is stopped', async () => {
  const { door, done, told, clock, failNext } = scene()
  failNext(2)
  door.set(false)
  door.set(true)
  await eventually(() => clock.pending === 1)
  door.set(false)
  expect(clock.pending).toBe(0)
  door.set(true)
  await eventually(() => clock.pending === 1)
  door.stop()
  door.set(true)
  clock.advance(10_000)
  expect([done, told]).toEqual([['pause', 'resume', 'resume'], [false]])
})

test('leaves again when it was told so while it came back', async () => {
  const { door, done, told, holdUntil } = scene()
  let go = () => {}
  holdUntil(
    new Promise((resolve) => {
      go = resolve
    }),
  )
  door.set(false)
  door.set(true)
  door.set(false)
  go()
  await eventually(() => told.length === 3)
  expect(done).toEqual(['pause', 'resume', 'pause'])
  expect(told).toEqual([false, true, false])
})

test('is not there while it is shut, whatever it is told, and is as it was told when it is opened', async () => {
  const { door, done, told } = scene()
  door.shut(true)
  door.set(false)
  door.set(true)
  expect(done).toEqual(['pause'])
  door.shut(false)
  await eventually(() => told.length === 2)
  expect(done).toEqual(['pause', 'resume'])
  door.set(false)
  door.shut(true)
  door.shut(false)
  await eventually(() => told.length === 3)
  expect(told).toEqual([false, true, false])
})
