import { expect, test } from 'vitest'
import { Diagnostics, MAX_TOLD, MORE_FAULTS } from '../../../agent/ros2/diagnostics.ts'
import { ManualClock } from '../../support/clock.ts'
import { diagnosticArray, status } from './fake-ros.ts'

function known() {
  const clock = new ManualClock()
  const diagnostics = new Diagnostics({ clock, staleMs: 30_000 })
  const hear = (...statuses: unknown[]) => diagnostics.take(diagnosticArray(...statuses))
  return { clock, diagnostics, hear }
}

test('statuses that are not OK are faults until they are OK again', () => {
  const { diagnostics, hear } = known()
  hear(
    status(0, 'a'),
    status(1, 'b', 'slow'),
    status(2, 'c', 'dead'),
    status(3, 'd', 'no data'),
    status(1, 'e'),
  )
  expect(diagnostics.faults).toEqual([
    { code: 'ros2:c', level: 'error', message: 'dead' },
    { code: 'ros2:d', level: 'error', message: 'stale: no data' },
    { code: 'ros2:b', level: 'warn', message: 'slow' },
    { code: 'ros2:e', level: 'warn', message: 'e' },
  ])
  hear(status(0, 'b'), status(0, 'c', 'OK'), status(0, 'd'))
  expect(diagnostics.faults).toMatchObject([{ code: 'ros2:e' }])
})

test('a message of one node says nothing of the others', () => {
  const { diagnostics, hear } = known()
  hear(status(2, 'a'))
  hear(status(0, 'b'))
  expect(diagnostics.faults).toMatchObject([{ code: 'ros2:a' }])
})

test('what is not reported any more is a fault, and is forgotten after an hour', () => {
  const { clock, diagnostics, hear } = known()
  hear(status(0, 'lidar', 'fine'), status(2, 'arm', 'jammed'), status(0, 'alive'))
  clock.advance(29_999)
  expect(diagnostics.faults).toHaveLength(1)
  expect(diagnostics.current).toHaveLength(3)
  clock.advance(1)
  hear(status(0, 'alive'))
  expect(diagnostics.faults).toEqual([
    { code: 'ros2:arm', level: 'error', message: 'not reported any more; the last report was error: jammed' },
    { code: 'ros2:lidar', level: 'warn', message: 'not reported any more; the last report was ok: fine' },
  ])
  expect(diagnostics.current).toHaveLength(1)
  for (let second = 0; second < 3_600; second += 20) {
    clock.advance(20_000)
    hear(status(0, 'alive'))
  }
  expect(diagnostics.faults).toEqual([])
})

test('one that is reported again is what it says', () => {
  const { clock, diagnostics, hear } = known()
  hear(status(0, 'lidar'))
  clock.advance(40_000)
  expect(diagnostics.faults).toHaveLength(1)
  hear(status(0, 'lidar'))
  expect(diagnostics.faults).toEqual([])
})

test('where staleness is off, silence means nothing', () => {
  const clock = new ManualClock()
  const diagnostics = new Diagnostics({ clock, staleMs: undefined })
  diagnostics.take(diagnosticArray(status(0, 'a'), status(1, 'b')))
  clock.advance(1e9)
  expect(diagnostics.faults).toEqual([{ code: 'ros2:b', level: 'warn', message: 'b' }])
})

test('the gravest are told, of these the oldest, and how many there are more', () => {
  const { clock, diagnostics, hear } = known()
  hear(status(1, 'old warning'))
  clock.advance(1_000)
  hear(...Array.from({ length: MAX_TOLD }, (_, number) => status(2, `error ${10 + number}`)))
  clock.advance(1_000)
  hear(status(2, 'newest error'))
  const { faults } = diagnostics
  expect(faults).toHaveLength(MAX_TOLD)
  expect(faults[0]!.code).toBe('ros2:error 10')
  expect(faults.at(-1)).toEqual({
    code: MORE_FAULTS,
    level: 'error',
    message: '3 more are not OK in diagnostics',
  })
})

test('a robot that invents names holds no more than so many', () => {
  const { diagnostics, hear } = known()
  for (let message = 0; message < 5; message++)
    hear(...Array.from({ length: 400 }, (_, number) => status(1, `s${message}-${number}`)))
  expect(diagnostics.current).toHaveLength(1_000)
  expect(diagnostics.malformed).toBe(1_000)
  expect(diagnostics.faults.at(-1)!.message).toBe(`${1_000 - MAX_TOLD + 1} more are not OK in diagnostics`)
})
