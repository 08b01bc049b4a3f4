import { gunzipSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { Coding } from '../../src/live/coding.ts'
import { Tally } from '../../src/live/counts.ts'
import { PageCache } from '../../src/live/page-cache.ts'
import { Reader, type Sink } from '../../src/live/reader.ts'
import { LiveStore } from '../../src/live/store.ts'
import { View } from '../../src/live/view.ts'
import { ManualClock } from '../support/clock.ts'
import { entry } from './entries.ts'

/** Takes nothing before it is told to. */
function makeSink() {
  const written: string[] = []
  const sent: Buffer[] = []
  const waiting: (() => void)[] = []
  const state = { ended: undefined as string | undefined, isDestroyed: false }
  const sink: Sink = {
    write(bytes, taken) {
      written.push(String(bytes))
      sent.push(bytes)
      waiting.push(taken)
    },
    end(bytes) {
      state.ended = String(bytes)
      sent.push(bytes)
    },
    destroy() {
      state.isDestroyed = true
    },
  }
  return { sink, written, sent, state, take: () => waiting.shift()!(), owed: () => waiting.length }
}

function begin(coding: Coding = 'identity') {
  const clock = new ManualClock()
  const store = new LiveStore('0123456789ab', { ticks: 5, changes: 1_000 })
  const tally = new Tally(store, () => true)
  const view = new View(store, tally, new PageCache(1_000_000), {
    filter: {},
    reach: 'everything',
    detail: 'full',
    coding,
  })
  const out = makeSink()
  const idle: Reader[] = []
  const events: number[] = []
  let bytes = 0
  const reader = new Reader(view, {
    sink: out.sink,
    clock,
    store,
    onIdle: (one) => idle.push(one),
    onEvent: (count) => events.push(count),
    onWritten: (count) => {
      bytes += count
    },
  })
  let beat = 0
  const apply = (...ids: string[]) => {
    beat += 1
    const tick = store.apply(
      ids.map((id) => entry(id, {}, beat)),
      [],
      beat,
    )
    if (!tick) return
    tally.take(tick)
    view.take(tick.number)
  }
  const said = () => out.written.join('')
  return { clock, store, view, reader, apply, said, idle, events, bytes: () => bytes, ...out }
}

const seqs = (text: string) => [...text.matchAll(/"seq":(\d+)/g)].map(([, seq]) => Number(seq))

describe('a reader', () => {
  test('is told one thing at a time, and of what changes meanwhile only how it is then', () => {
    const { reader, apply, said, take, owed, written } = begin()
    apply('a')
    reader.restart()
    reader.tellNext()
    expect(reader.isBusy).toBe(true)
    for (let index = 0; index < 3; index += 1) apply('a')
    expect([owed(), written.length]).toEqual([1, 1])
    take()
    expect(reader.isBusy).toBe(false)
    reader.tellNext()
    expect(seqs(said())).toEqual([1, 4])
    take()
    expect(reader.tellNext()).toBe(false)
  })

  test('gets a large event in pieces, the next once it has taken the one before', () => {
    const { reader, apply, said, take, written, idle, events, bytes } = begin()
    apply(...Array.from({ length: 100 }, (_, index) => `${index}-${'x'.repeat(1_000)}`))
    reader.restart()
    reader.tellNext()
    expect(written.length).toBe(1)
    // What the whole will take is said before.
    expect(events).toHaveLength(1)
    while (idle.length === 0) take()
    expect(written.length).toBeGreaterThan(3)
    expect(Math.max(...written.map((piece) => piece.length))).toBe(64 * 1024)
    expect(JSON.parse(/^data: (.*)$/m.exec(said())![1]!).items).toHaveLength(100)
    expect([bytes(), events[0]]).toEqual([said().length, said().length])
  })

  test('goes on where it was, and hears so even where nothing is new', () => {
    const { reader, apply, said, take } = begin()
    apply('a')
    apply('a')
    expect(reader.resume(1)).toBe(true)
    reader.tellNext()
    take()
    expect(seqs(said())).toEqual([2])
    const again = begin()
    again.apply('a')
    expect(again.reader.resume(1)).toBe(true)
    expect(again.reader.tellNext()).toBe(true)
    expect(again.said()).toContain('"changed":[],"removed":[]')
    again.take()
    expect(again.reader.tellNext()).toBe(false)
    expect(again.reader.resume(2)).toBe(false)
  })

  test('begins anew when more has changed than is kept', () => {
    const { reader, apply, said, take } = begin()
    apply('a')
    reader.restart()
    reader.tellNext()
    for (let index = 0; index < 10; index += 1) apply('a')
    take()
    reader.tellNext()
    expect(said()).toMatch(/event: reset\nid:\ndata: {"reason":"too_old"}\n\n$/)
    take()
    reader.tellNext()
    expect(seqs(said())).toEqual([1, 11])
  })

  test('hears comments with its place when it has been told everything, and not in the middle of something', () => {
    const { reader, apply, take, written, view } = begin()
    apply('a')
    reader.restart()
    reader.comment()
    expect(written).toEqual([': still here\n\n'])
    reader.comment()
    expect(written).toHaveLength(1)
    take()
    reader.tellNext()
    reader.comment()
    expect(written).toHaveLength(2)
    take()
    reader.comment()
    expect(written[2]).toBe(`: still here\nid: 0123456789ab-1-${view.name}\n\n`)
    take()
    apply('a')
    reader.comment()
    expect(written[3]).toBe(': still here\n\n')
  })

  test('is stuck for as long as it takes nothing, however much it was sent', () => {
    const { reader, apply, clock, take } = begin()
    apply(...Array.from({ length: 100 }, (_, index) => `${index}-${'x'.repeat(1_000)}`))
    reader.restart()
    expect(reader.stuckMs()).toBe(0)
    reader.tellNext()
    clock.advance(20_000)
    take()
    clock.advance(20_000)
    expect(reader.stuckMs()).toBe(20_000)
  })

  test('is told why it ends where that can be said', () => {
    const between = begin()
    between.apply('a')
    between.reader.restart()
    between.reader.tellNext()
    expect(between.reader.end({ code: 'token_revoked', message: 'it was' })).toBe(true)
    expect(between.state).toEqual({
      ended: 'event: end\ndata: {"code":"token_revoked","message":"it was"}\n\n',
      isDestroyed: false,
    })
    between.take()
    expect(between.owed()).toBe(0)
    expect(between.idle).toEqual([])

    const inside = begin()
    inside.apply(...Array.from({ length: 100 }, (_, index) => `${index}-${'x'.repeat(1_000)}`))
    inside.reader.restart()
    inside.reader.tellNext()
    expect(inside.reader.end({ code: 'token_revoked', message: 'it was' })).toBe(false)
    expect(inside.state).toEqual({ ended: undefined, isDestroyed: true })
    inside.take()
    expect(inside.owed()).toBe(0)
  })

  test('has one gzip stream from the beginning to the end, whoever else was told its parts', () => {
    const { reader, apply, take, sent, state } = begin('gzip')
    apply(...Array.from({ length: 100 }, (_, index) => `${index}-${'x'.repeat(1_000)}`))
    reader.sayFirst('retry: 3000\n\n')
    reader.restart()
    for (let index = 0; index < 3; index += 1) {
      while (reader.tellNext()) while (reader.isBusy) take()
      reader.comment()
      take()
      apply('a')
    }
    while (reader.tellNext()) while (reader.isBusy) take()
    expect(reader.end({ code: 'token_revoked', message: 'it was' })).toBe(true)
    expect(state.isDestroyed).toBe(false)
    // Throws where the length or the sum at the end is another.
    const text = String(gunzipSync(Buffer.concat(sent)))
    expect(text).toMatch(/^retry: 3000\n\nevent: snapshot\n.*\nevent: end\n/s)
    expect(text.match(/^event: \w+|^:/gm)).toEqual([
      'event: snapshot',
      ':',
      'event: delta',
      ':',
      'event: delta',
      ':',
      'event: delta',
      'event: end',
    ])
  })

  test('costs what it takes to encode, and once others have paid for that, what it takes to send', () => {
    const { reader, apply, take, events, view, sent } = begin('gzip')
    view.readers = 2
    apply(...Array.from({ length: 100 }, (_, index) => `${index}-${'x'.repeat(1_000)}`))
    const { event } = view.snapshot().page(0)
    reader.restart()
    reader.tellNext()
    while (reader.isBusy) take()
    expect(events).toEqual([event.bytes.length])
    expect(event.bytes.length * 10).toBeLessThan(event.textBytes)
    expect(Buffer.concat(sent).subarray(-event.bytes.length)).toEqual(event.bytes)
  })
})
