import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  chosenOf,
  formatNumber,
  inOrder,
  MOST_CHOSEN,
  numbersIn,
  usualOf,
} from '../../dashboard/src/views/robot/fields.ts'
import {
  fitted,
  isLive,
  LASTS,
  type Range,
  rangeOf,
  setRange,
  shifted,
  spanOf,
  stepFor,
  zoomed,
} from '../../dashboard/src/views/robot/ranges.ts'
import {
  type Bucket,
  columnsOf,
  type Health,
  healthShares,
  healthSpans,
  historyOf,
  lonelyOf,
  rowsOf,
  silenceMs,
  totalOf,
  withBeat,
  within,
} from '../../dashboard/src/views/robot/series.ts'

const NOW = Date.UTC(2026, 10, 22, 12)
const HOUR = 3_600_000
const DAY = 24 * HOUR
const BEAT = 10_000

describe('the range of an address', () => {
  test('is the last hour, unless the address says another', () => {
    expect(rangeOf(new URLSearchParams())).toMatchObject({ last: '1h', lengthMs: HOUR })
    expect(rangeOf(new URLSearchParams('range=7d'))).toMatchObject({ last: '7d', lengthMs: 7 * DAY })
    expect(rangeOf(new URLSearchParams('range=__proto__'))).toMatchObject({ last: '1h' })
  })

  test('is the last hour where two times make none', () => {
    const at = (text: string) => encodeURIComponent(text)
    for (const [from, to] of [
      ['2026-01-02T00:00:00Z', '2026-01-01T00:00:00Z'],
      ['2026-01-01T00:00:00Z', '2026-01-01T00:00:01Z'],
      ['2020-01-01T00:00:00Z', '2026-01-01T00:00:00Z'],
      ['1960-01-01T00:00:00Z', '1960-02-01T00:00:00Z'],
      ['soon', 'later'],
    ])
      expect(rangeOf(new URLSearchParams(`from=${at(from!)}&to=${at(to!)}`))).toMatchObject({ last: '1h' })
  })

  test('comes back from the address as it was put there, beside what else stands there', () => {
    const ranges: Range[] = [...LASTS, { from: NOW - 5 * HOUR, to: NOW - 2 * HOUR }]
    for (const range of ranges) {
      const search = new URLSearchParams('range=24h&fields=system.cpu')
      setRange(search, range)
      expect(spanOf(rangeOf(search), NOW)).toEqual(spanOf(range, NOW))
      expect(isLive(rangeOf(search))).toBe(isLive(range))
      expect(search.get('fields')).toBe('system.cpu')
    }
  })
})

describe('another stretch', () => {
  const span = { from: NOW - 2 * HOUR, to: NOW - HOUR }

  test('is nearer, wider, earlier or later', () => {
    expect(zoomed(span, 0.5, NOW)).toEqual({ from: NOW - 1.75 * HOUR, to: NOW - 1.25 * HOUR })
    expect(zoomed(span, 2, NOW)).toEqual({ from: NOW - 2.5 * HOUR, to: NOW - 0.5 * HOUR })
    expect(shifted(span, -0.5, NOW)).toEqual({ from: NOW - 2.5 * HOUR, to: NOW - 1.5 * HOUR })
  })

  test('never reaches beyond now, and is always one that the address can hold', () => {
    const time = fc.integer({ min: 0, max: NOW + 10 * DAY })
    fc.assert(
      fc.property(time, time, (one, other) => {
        const found = fitted({ from: Math.min(one, other), to: Math.max(one, other) }, NOW)
        expect(found.to).toBeLessThanOrEqual(NOW)
        expect(found.from).toBeGreaterThanOrEqual(0)
        if (found.to < 60_000) return
        const search = new URLSearchParams()
        setRange(search, found)
        expect(rangeOf(search)).toEqual(found)
      }),
    )
  })
})

describe('the step', () => {
  test('makes at most 400 points, and is never finer than robots report', () => {
    expect(stepFor(spanOf(LASTS[0], NOW), BEAT)).toBe(10_000)
    expect(stepFor(spanOf(LASTS[2], NOW), BEAT)).toBe(300_000)
    expect(stepFor(spanOf(LASTS[4], NOW), BEAT)).toBe(2 * HOUR)
    expect(stepFor({ from: NOW - 60_000, to: NOW }, BEAT)).toBe(10_000)
    expect(stepFor({ from: NOW - 60_000, to: NOW }, 500)).toBe(1_000)
    fc.assert(
      fc.property(
        fc.integer({ min: 60_000, max: 366 * DAY }),
        fc.integer({ min: 500, max: HOUR }),
        (length, beat) => {
          const step = stepFor({ from: NOW - length, to: NOW }, beat)
          expect(length / step).toBeLessThanOrEqual(400)
          expect(step).toBeGreaterThanOrEqual(beat)
        },
      ),
    )
  })
})

describe('fields', () => {
  test('are the numbers of a heartbeat, by their paths', () => {
    const heartbeat = {
      seq: 7,
      health: 'ok',
      battery: { charge: 0.5, charging: true },
      system: { cpu: 0.1, load_1m: Number.NaN },
      network: { signal_dbm: -58, links: { wlan0: { mtu: 1500 } }, 'a b': 1, list: [1, 2] },
      metrics: { speed: 2 },
    }
    expect([...numbersIn(heartbeat)]).toEqual([
      ['battery.charge', 0.5],
      ['system.cpu', 0.1],
      ['network.signal_dbm', -58],
      ['network.links.wlan0.mtu', 1500],
      ['metrics.speed', 2],
    ])
  })

  test('come in an order that people know', () => {
    expect(
      inOrder(['metrics.b', 'network.x', 'system.cpu', 'metrics.a', 'battery.charge', 'system.cpu']),
    ).toEqual(['battery.charge', 'system.cpu', 'metrics.a', 'metrics.b', 'network.x'])
    expect(usualOf(['battery.charge', 'battery.voltage', 'system.cpu', 'metrics.a'])).toEqual([
      'battery.charge',
      'system.cpu',
      'metrics.a',
    ])
  })

  test('of an address are those that can be asked for', () => {
    expect(chosenOf(new URLSearchParams())).toBeUndefined()
    expect(chosenOf(new URLSearchParams('fields='))).toEqual([])
    expect(chosenOf(new URLSearchParams('fields=system.cpu,<b>,a..b,metrics.x,system.cpu'))).toEqual([
      'system.cpu',
      'metrics.x',
    ])
    const many = Array.from({ length: 99 }, (_, index) => `metrics.m${index}`).join()
    expect(chosenOf(new URLSearchParams({ fields: many }))).toHaveLength(MOST_CHOSEN)
  })

  test('are written as people read them', () => {
    expect(formatNumber('battery.charge', 0.714)).toBe('71 %')
    expect(formatNumber('system.temperature_c', 51.26)).toBe(`${(51.3).toLocaleString()} °C`)
    expect(formatNumber('metrics.tiny', 1e-9)).toBe('1.00e-9')
    expect(formatNumber('metrics.constructor', 3)).toBe('3')
    expect(formatNumber('metrics.huge', 1e300)).toBe('1.00e+300')
  })
})

const bucket = (at: number, value: number): Bucket => ({ at, count: 1, min: value, avg: value, max: value })

describe('what is drawn', () => {
  const silence = silenceMs(BEAT, BEAT)

  test('has a gap where a robot was silent for as long as makes it offline, and none before', () => {
    const options = { stepMs: BEAT, silence, factor: 1 }
    const [, , , joined] = columnsOf([bucket(0, 1), bucket(40_000, 2)], options)
    expect(joined).toEqual([1, 2])
    const [times, min, max, avg] = columnsOf([bucket(0, 1), bucket(50_000, 2)], options)
    expect(times).toEqual([5, 30, 55])
    for (const values of [min, max, avg]) expect(values).toEqual([1, null, 2])
  })

  test('has a gap for every step of hours in which nothing came', () => {
    const options = { stepMs: HOUR, silence: silenceMs(HOUR, BEAT), factor: 100 }
    const [, , , avg] = columnsOf([bucket(0, 0.1), bucket(HOUR, 0.2), bucket(3 * HOUR, 0.3)], options)
    expect(avg).toEqual([10, 20, null, 30])
  })

  test('is in order of time, whatever came', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 10_000 })), (steps) => {
        const buckets = steps.sort((one, other) => one - other).map((step) => bucket(step * BEAT, step))
        const [times, ...values] = columnsOf(buckets, { stepMs: BEAT, silence, factor: 1 })
        expect(times).toEqual([...times].sort((one, other) => one - other))
        for (const column of values) expect(column).toHaveLength(times.length)
        expect(values[2]!.filter((value) => value !== null)).toHaveLength(buckets.length)
      }),
    )
  })

  test('shows points that stand alone', () => {
    expect(lonelyOf([1, null, 2, 3, null, 4])).toEqual([0, 5])
    expect(lonelyOf([1, 2, null])).toEqual([])
    expect(lonelyOf([])).toEqual([])
  })
})

describe('what is heard live', () => {
  const items = [
    {
      at: new Date(NOW).toISOString(),
      heartbeats: 1,
      health: { ok: 1 },
      values: { 'system.cpu': { count: 1, min: 0.2, avg: 0.2, max: 0.2 } },
    },
  ]
  const loaded = historyOf(items, 60_000)

  test('goes into the step that it lies in, or begins one', () => {
    const more = withBeat(loaded, NOW + 30_000, new Map([['system.cpu', 0.4]]), ['system.cpu'])
    const [last] = more.fields.get('system.cpu')!
    expect(last).toMatchObject({ at: NOW, count: 2, min: 0.2, max: 0.4 })
    expect(last!.avg).toBeCloseTo(0.3)
    const next = withBeat(more, NOW + 60_000, new Map([['system.cpu', 1]]), ['system.cpu', 'metrics.x'])
    expect(next.fields.get('system.cpu')!.map(({ at }) => at)).toEqual([NOW, NOW + 60_000])
    expect(loaded.fields.get('system.cpu')).toHaveLength(1)
  })

  test('is left out where it is older than what is there, or nobody asked for it', () => {
    const old = withBeat(loaded, NOW - 1, new Map([['system.cpu', 1]]), ['system.cpu'])
    expect(old.fields.get('system.cpu')).toEqual(loaded.fields.get('system.cpu'))
    expect(withBeat(loaded, NOW, new Map([['metrics.x', 1]]), []).fields.has('metrics.x')).toBe(false)
  })

  test('does not grow without end: what left the window is forgotten', () => {
    let history = loaded
    for (let minute = 0; minute < 1_000; minute++) {
      const at = NOW + minute * 60_000
      history = withBeat(history, at, new Map([['system.cpu', 0.5]]), ['system.cpu'])
      history = within(history, { from: at - HOUR, to: at + 1 })
    }
    expect(history.fields.get('system.cpu')!.length).toBeLessThanOrEqual(62)
  })
})

test('all buckets come to one, each as heavy as its heartbeats', () => {
  expect(totalOf([])).toBeUndefined()
  expect(
    totalOf([
      { at: 0, count: 3, min: 1, avg: 2, max: 3 },
      { at: 1, count: 1, min: 6, avg: 6, max: 6 },
    ]),
  ).toEqual({ count: 4, min: 1, avg: 3, max: 6, last: 6 })
})

test('the table has a row for each step in which something was told, newest first', () => {
  const history = {
    stepMs: BEAT,
    health: [],
    fields: new Map([
      ['a', [bucket(0, 1), bucket(BEAT, 2)]],
      ['b', [bucket(BEAT, 3)]],
    ]),
  }
  expect(rowsOf(history, ['b', 'a', 'c'])).toEqual([
    { at: BEAT, values: [bucket(BEAT, 3), bucket(BEAT, 2), undefined] },
    { at: 0, values: [undefined, bucket(0, 1), undefined] },
  ])
})

describe('health over time', () => {
  const spansOf = (steps: readonly [at: number, health: Health][], shown = { from: 0, to: HOUR }) =>
    healthSpans(
      {
        stepMs: BEAT,
        fields: new Map(),
        health: steps.map(([at, health]) => ({ at, counts: { [health]: 1 } })),
      },
      silenceMs(BEAT, BEAT),
      shown,
    ).map(({ from, to, health }) => [from / 1_000, to / 1_000, health])

  test('is the worst of each step, and steps of one health are one', () => {
    const at = (ms: number) => new Date(ms).toISOString()
    const items = [
      { at: at(0), heartbeats: 6, health: { ok: 5, error: 1 }, values: {} },
      { at: at(BEAT), heartbeats: 2, health: { unknown: 1, ok: 1 }, values: {} },
      { at: at(2 * BEAT), heartbeats: 1, health: {}, values: {} },
    ]
    const history = historyOf(items, BEAT)
    const shown = healthSpans(history, silenceMs(BEAT, BEAT), { from: 0, to: HOUR })
    expect(shown.map(({ health }) => health)).toEqual(['error', 'ok', 'unknown'])
    expect(healthShares(history)).toEqual([
      { health: 'error', share: 1 / 8 },
      { health: 'ok', share: 6 / 8 },
      { health: 'unknown', share: 1 / 8 },
    ])
    expect(healthShares({ ...history, health: [] })).toEqual([])
    expect(
      spansOf([
        [0, 'ok'],
        [10_000, 'ok'],
        [30_000, 'ok'],
        [40_000, 'warn'],
        [50_000, 'ok'],
      ]),
    ).toEqual([
      [0, 40, 'ok'],
      [40, 50, 'warn'],
      [50, 60, 'ok'],
    ])
  })

  test('is not made up for the time of a silence, nor for what is not shown', () => {
    expect(
      spansOf([
        [0, 'ok'],
        [60_000, 'ok'],
      ]),
    ).toEqual([
      [0, 10, 'ok'],
      [60, 70, 'ok'],
    ])
    expect(
      spansOf(
        [
          [0, 'ok'],
          [10_000, 'error'],
          [20_000, 'ok'],
        ],
        { from: 5_000, to: 15_000 },
      ),
    ).toEqual([
      [5, 10, 'ok'],
      [10, 15, 'error'],
    ])
  })

  test('grows with what is heard live, and a step that was bad stays so', () => {
    const none = { stepMs: BEAT, fields: new Map(), health: [] }
    let history = withBeat(none, 1_000, new Map(), [], 'error')
    history = withBeat(history, 5_000, new Map(), [], 'ok')
    history = withBeat(history, 12_000, new Map(), [], 'ok')
    history = withBeat(history, 9_000, new Map(), [], 'warn')
    expect(history.health).toEqual([
      { at: 0, counts: { error: 1, ok: 1 } },
      { at: BEAT, counts: { ok: 1 } },
    ])
  })
})
