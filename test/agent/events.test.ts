import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { EventQueue } from '../../agent/events.ts'
import { KeptFile } from '../../agent/kept-file.ts'
import type { RobotEventFrame } from '../../src/protocol/frames.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'
import { silentLog } from './support/silent-log.ts'

function event(id: string, message = ''): RobotEventFrame {
  return { type: 'event', id, at: '2026-01-01T00:00:00Z', level: 'info', code: 'test', message }
}

function idsSent(queue: EventQueue, most = Infinity): string[] {
  const ids: string[] = []
  queue.pump((text) => {
    if (ids.length >= most) return false
    ids.push(JSON.parse(text).id)
    return true
  })
  return ids
}

describe('events that wait', () => {
  test('are sent once in a session, oldest first, and again in the next until they are acknowledged', () => {
    const queue = new EventQueue(new ManualClock())
    for (const id of ['a', 'b', 'c']) queue.keepEvent(event(id))
    expect(idsSent(queue, 2)).toEqual(['a', 'b'])
    expect(idsSent(queue)).toEqual(['c'])
    expect(idsSent(queue)).toEqual([])
    queue.acknowledge(['b', 'unknown'])
    queue.startOver()
    expect(idsSent(queue)).toEqual(['a', 'c'])
    queue.acknowledge(['a', 'c'])
    queue.startOver()
    expect(idsSent(queue)).toEqual([])
    expect(queue.waitingEvents).toBe(0)
  })

  test('are sent again in the same session when nobody acknowledges them for a minute', () => {
    const clock = new ManualClock()
    const queue = new EventQueue(clock)
    queue.keepEvent(event('a'))
    expect(idsSent(queue)).toEqual(['a'])
    clock.advance(59_999)
    expect(idsSent(queue)).toEqual([])
    clock.advance(1)
    expect(idsSent(queue)).toEqual(['a'])
  })

  test('go out twenty at a time', () => {
    const queue = new EventQueue(new ManualClock())
    for (let number = 0; number < 50; number++) queue.keepEvent(event(`e${number}`))
    const first = idsSent(queue)
    expect(first).toHaveLength(20)
    queue.acknowledge(first.slice(0, 5))
    expect(idsSent(queue)).toEqual(['e20', 'e21', 'e22', 'e23', 'e24'])
  })

  test('are bounded by number and by size, and the newest is refused, not an older one lost', () => {
    const queue = new EventQueue(new ManualClock(), { entries: 3, bytes: 1_000 })
    expect([1, 2, 3, 4].map((number) => queue.keepEvent(event(`e${number}`)))).toEqual([
      true,
      true,
      true,
      false,
    ])
    queue.acknowledge(['e1', 'e2'])
    expect(queue.keepEvent(event('large', 'x'.repeat(900)))).toBe(false)
    expect(queue.keepEvent(event('small', 'x'.repeat(100)))).toBe(true)
    expect(idsSent(queue)).toEqual(['e3', 'small'])
  })

  test('tell that they are there', () => {
    const queue = new EventQueue(new ManualClock(), { entries: 1, bytes: 1_000 })
    let told = 0
    queue.whenKept(() => told++)
    queue.keepEvent(event('a'))
    queue.keepEvent(event('a'))
    queue.keepEvent(event('b'))
    expect(told).toBe(1)
  })
})

describe('events in a file', () => {
  test('are there after a restart, without those that were acknowledged, and the file is written seldom', () => {
    const clock = new ManualClock()
    const path = join(temporaryFolder(), 'events')
    const open = () => new EventQueue(clock, undefined, new KeptFile(path, clock, silentLog))
    const queue = open()
    queue.keepEvent(event('a', 'first'))
    expect(idsSent(open())).toEqual(['a'])
    const written = readFileSync(path, 'utf8')
    for (let number = 0; number < 10; number++) queue.keepEvent(event(`e${number}`))
    queue.acknowledge(['a', 'e0'])
    expect(readFileSync(path, 'utf8')).toBe(written)
    clock.advance(2_000)
    expect(idsSent(open())).toEqual(['e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7', 'e8', 'e9'])
    queue.clear()
    queue.stop()
    expect(idsSent(open())).toEqual([])
  })

  test('that is damaged, or holds something else, costs what cannot be read', () => {
    const clock = new ManualClock()
    const path = join(temporaryFolder(), 'events')
    for (const text of ['', '{', '{}', 'null', '[1, {"type":"event"}]']) {
      writeFileSync(path, text)
      expect(new EventQueue(clock, undefined, new KeptFile(path, clock, silentLog)).waitingEvents).toBe(0)
    }
    writeFileSync(path, JSON.stringify([7, event('a')]))
    expect(idsSent(new EventQueue(clock, undefined, new KeptFile(path, clock, silentLog)))).toEqual(['a'])
  })
})
