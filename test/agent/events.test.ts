import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { EventQueue, marked } from '../../agent/events.ts'
import { KeptFile } from '../../agent/kept-file.ts'
import type { ServerTime } from '../../agent/server-time.ts'
import type { RobotEventFrame } from '../../src/protocol/frames.ts'
import { ManualClock } from '../support/clock.ts'
import { temporaryFolder } from './support/agent-process.ts'
import { serverTimeFor } from './support/server-time.ts'
import { silentLog } from './support/silent-log.ts'

function event(id: string, message = ''): RobotEventFrame {
  return { type: 'event', id, at: '2026-01-01T00:00:00Z', level: 'info', code: 'test', message }
}

function framesSent(queue: EventQueue): RobotEventFrame[] {
  const frames: RobotEventFrame[] = []
  queue.pump((text) => frames.push(JSON.parse(text)) > 0)
  return frames
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
    for (const text of ['', '{', '{}', 'null', '[1]', '{"events":[1,{"frame":{"type":"event"}}]}']) {
      writeFileSync(path, text)
      expect(new EventQueue(clock, undefined, new KeptFile(path, clock, silentLog)).waitingEvents).toBe(0)
    }
    writeFileSync(path, JSON.stringify({ events: [7, { frame: event('a') }] }))
    expect(idsSent(new EventQueue(clock, undefined, new KeptFile(path, clock, silentLog)))).toEqual(['a'])
  })
})

describe('events of a clock that is wrong', () => {
  const YEARS_MS = 5 * 365 * 86_400_000
  const wrong = (clock: ManualClock) => ({ ...clockOf(clock), now: () => clock.now() - YEARS_MS })
  const clockOf = (clock: ManualClock) => ({
    monotonic: () => clock.monotonic(),
    after: (delayMs: number, call: () => void) => clock.after(delayMs, call),
    sleep: (delayMs: number) => clock.sleep(delayMs),
  })

  test('made before the first welcome are put right and marked before they are first sent, also after a restart', () => {
    const clock = new ManualClock('2026-05-01T00:00:00Z')
    const path = join(temporaryFolder(), 'events')
    const open = (serverTime: ServerTime) =>
      new EventQueue(clock, undefined, new KeptFile(path, clock, silentLog), serverTime)
    const first = serverTimeFor(wrong(clock))
    const { at, moment } = first.stamp()
    const queue = open(first)
    queue.keepEvent({ ...event('early'), at }, moment)
    queue.stop()
    clock.advance(60_000)

    const second = serverTimeFor(wrong(clock))
    const again = open(second)
    const told = second.stamp()
    again.keepEvent({ ...event('later'), at: told.at }, told.moment)
    second.learn(new Date(clock.now()).toISOString(), 0)
    const now = second.stamp()
    again.keepEvent({ ...event('now'), ...marked(now) }, now.moment)
    expect(framesSent(again)).toMatchObject([
      { id: 'early', at: '2026-05-01T00:00:00.000Z', clock_offset_ms: -YEARS_MS },
      { id: 'later', at: '2026-05-01T00:01:00.000Z', clock_offset_ms: -YEARS_MS },
      { id: 'now', at: '2026-05-01T00:01:00.000Z', clock_offset_ms: -YEARS_MS },
    ])
    again.stop()
    // Of a start of which nothing was learnt.
    const third = serverTimeFor(wrong(clock), undefined, 'boot-2')
    const { moment: other } = serverTimeFor(wrong(clock), undefined, 'boot-1').stamp()
    const queue3 = open(third)
    queue3.keepEvent(event('lost'), other)
    const frames = framesSent(queue3)
    expect(frames.slice(0, 3)).toMatchObject([{ clock_offset_ms: -YEARS_MS }, {}, {}])
    expect(frames[3]).toMatchObject({ id: 'lost', at: other!.own, clock_unsure: true })
  })
})

describe('events that found no room', () => {
  test('are counted, also over a restart, and told of as one event once there is room', () => {
    const clock = new ManualClock()
    const path = join(temporaryFolder(), 'events')
    const open = () =>
      new EventQueue(
        clock,
        { entries: 4, bytes: 10_000 },
        new KeptFile(path, clock, silentLog),
        serverTimeFor(clock),
      )
    const queue = open()
    for (const id of ['a', 'b', 'c', 'd', 'x1']) queue.keepEvent(event(id))
    queue.keepEvent({ ...event('x2'), at: '2026-01-01T00:05:00Z' })
    expect(queue.refusedEvents).toBe(2)
    queue.acknowledge(['a'])
    // One refused more is no reason for one event more.
    expect(queue.refusedEvents).toBe(2)
    queue.stop()

    const again = open()
    expect(again.refusedEvents).toBe(2)
    again.acknowledge(['b'])
    expect(again.refusedEvents).toBe(0)
    const [, , told] = framesSent(again)
    expect(told).toMatchObject({
      id: 'x1-refused',
      level: 'warn',
      code: 'agent.events_dropped',
      data: { dropped: 2, from: '2026-01-01T00:00:00Z', to: '2026-01-01T00:05:00Z' },
    })
    // As a killed process leaves it: what may have been sent is on the disk.
    const killed = open()
    expect(killed.refusedEvents).toBe(0)
    expect(idsSent(killed)).toEqual(['c', 'd', 'x1-refused'])
    killed.acknowledge(['x1-refused'])
    killed.stop()
    expect(idsSent(open())).toEqual(['c', 'd'])
  })

  test('do not keep out what the agent itself has to tell', () => {
    const queue = new EventQueue(new ManualClock(), { entries: 1, bytes: 1_000 })
    queue.keepEvent(event('a'))
    for (let round = 0; round < 2; round++) queue.keepOwn(event('own'))
    expect(idsSent(queue)).toEqual(['a', 'own'])
  })
})
