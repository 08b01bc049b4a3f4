import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  boundsOf,
  fitted,
  frameOf,
  nearest,
  pushed,
  scaleBar,
  spotOf,
  toFloor,
  toWindow,
  zoomed,
} from '../../dashboard/src/views/floor/geometry.ts'
import { Trails } from '../../dashboard/src/views/floor/trails.ts'

const metres = fc.double({ min: -1e5, max: 1e5, noNaN: true })
const spot = fc.record({ x: metres, y: metres, theta: fc.constant(undefined) })
const size = fc.record({
  width: fc.integer({ min: 200, max: 4000 }),
  height: fc.integer({ min: 200, max: 3000 }),
})

describe('the floor', () => {
  test('fits all robots into the window', () => {
    fc.assert(
      fc.property(fc.array(spot, { minLength: 1, maxLength: 30 }), size, (spots, window) => {
        const camera = fitted(boundsOf(spots)!, window)
        for (const each of spots) {
          const { x, y } = toWindow(each, camera, window)
          expect(x).toBeGreaterThanOrEqual(0)
          expect(x).toBeLessThanOrEqual(window.width)
          expect(y).toBeGreaterThanOrEqual(0)
          expect(y).toBeLessThanOrEqual(window.height)
        }
      }),
    )
  })

  test('has no bounds without robots, and some room around a single one', () => {
    expect(boundsOf([])).toBeUndefined()
    expect(boundsOf([{ x: 3, y: 4, theta: 0 }])).toEqual({ left: -2, right: 8, bottom: -1, top: 9 })
  })

  test('zooms around the pointer, and goes where it is pushed', () => {
    const point = fc.record({ x: fc.integer({ min: 0, max: 4000 }), y: fc.integer({ min: 0, max: 3000 }) })
    const camera = fc.record({ scale: fc.double({ min: 0.01, max: 100, noNaN: true }), x: metres, y: metres })
    fc.assert(
      fc.property(
        camera,
        point,
        size,
        fc.double({ min: 0.1, max: 10, noNaN: true }),
        (before, at, window, factor) => {
          const kept = toFloor(at, zoomed(before, factor, at, window), window)
          const was = toFloor(at, before, window)
          expect(kept.x).toBeCloseTo(was.x, 3)
          expect(kept.y).toBeCloseTo(was.y, 3)
          const moved = toWindow(was, pushed(before, 30, -20), window)
          expect(moved.x).toBeCloseTo(at.x + 30, 2)
          expect(moved.y).toBeCloseTo(at.y - 20, 2)
        },
      ),
    )
  })

  test('up is up', () => {
    const window = { width: 100, height: 100 }
    const camera = { scale: 1, x: 0, y: 0 }
    expect(toWindow({ x: 10, y: 10 }, camera, window)).toEqual({ x: 60, y: 40 })
  })

  test('finds the robot under the pointer, and none where there is none', () => {
    const window = { width: 100, height: 100 }
    const camera = { scale: 1, x: 0, y: 0 }
    const robots = [
      ['near', { x: 3, y: 0, theta: undefined }],
      ['nearer', { x: 1, y: 0, theta: undefined }],
      ['far', { x: 40, y: 0, theta: undefined }],
    ] as const
    expect(nearest(robots, { x: 50, y: 50 }, 10, camera, window)).toBe('nearer')
    expect(nearest(robots, { x: 50, y: 90 }, 10, camera, window)).toBeUndefined()
  })

  test('knows the frame of each kind of pose', () => {
    expect(frameOf({ frame: 'hall', x: 1, y: 2, theta: 0 })).toBe('hall')
    expect(frameOf({ lat: 52, lon: 10 })).toBe('GPS')
    expect(frameOf(undefined)).toBeUndefined()
    expect(frameOf({ lat: 52 })).toBeUndefined()
  })

  test('measures degrees in metres', () => {
    const a = spotOf({ lat: 52, lon: 10 }, 52)!
    const north = spotOf({ lat: 52.001, lon: 10 }, 52)!
    const east = spotOf({ lat: 52, lon: 10.001 }, 52)!
    expect(north.y - a.y).toBeCloseTo(111.3, 0)
    expect(east.x - a.x).toBeCloseTo(68.5, 0)
  })

  test('has a scale of a round length', () => {
    fc.assert(
      fc.property(fc.double({ min: 1e-5, max: 400, noNaN: true }), (scale) => {
        const length = scaleBar(scale, 120)
        expect(length * scale).toBeLessThanOrEqual(120.001)
        expect(length * scale).toBeGreaterThan(40)
        expect(['1', '2', '5']).toContain(length.toExponential().charAt(0))
      }),
    )
  })
})

describe('trails', () => {
  const step = (x: number, at: number, frame = 'hall') => ({ x, y: 0, theta: undefined, frame, at })

  test('keep the last minutes, in order, and standing costs one step', () => {
    const trails = new Trails(60_000)
    trails.add('a', step(0, 1_000))
    trails.add('a', step(1, 11_000))
    trails.add('a', step(1, 21_000))
    trails.add('a', step(5, 15_000))
    expect(trails.of('a', 21_000).map(({ x, at }) => [x, at])).toEqual([
      [0, 1_000],
      [1, 21_000],
    ])
    trails.add('a', step(2, 75_000))
    expect(trails.of('a', 75_000).map(({ x }) => x)).toEqual([1, 2])
    expect(trails.of('a', 200_000)).toEqual([])
    trails.forget('a')
    expect(trails.of('a', 75_000)).toEqual([])
  })

  test('begin with what was before somebody looked, and that changes nothing of what was seen', () => {
    const trails = new Trails(60_000)
    trails.add('a', step(5, 30_000))
    trails.add('a', step(6, 40_000))
    const past = [1, 2, 2, 9, 9].map((x, index) => step(x, index * 10_000))
    trails.addBefore('a', past)
    trails.addBefore('a', past)
    expect(trails.of('a', 40_000).map(({ x, at }) => [x, at])).toEqual([
      [1, 0],
      [2, 20_000],
      [5, 30_000],
      [6, 40_000],
    ])
    trails.addBefore('b', past)
    expect(trails.of('b', 40_000).map(({ x }) => x)).toEqual([1, 2, 9])
  })

  test('do not lead from one frame into another', () => {
    const trails = new Trails(60_000)
    trails.add('a', step(1, 10_000))
    trails.add('a', step(1, 20_000, 'yard'))
    trails.add('a', step(2, 30_000, 'yard'))
    expect(trails.of('a', 30_000).map(({ at }) => at)).toEqual([20_000, 30_000])
    trails.addBefore('a', [step(0, 0, 'yard'), step(1, 5_000), step(1, 9_000, 'yard')])
    expect(trails.of('a', 30_000).map(({ at }) => at)).toEqual([20_000, 30_000])
    trails.add('b', step(5, 30_000))
    trails.addBefore('b', [step(0, 0), step(1, 5_000, 'yard'), step(2, 9_000), step(3, 12_000)])
    expect(trails.of('b', 30_000).map(({ x }) => x)).toEqual([2, 3, 5])
  })

  test('of a robot that never rests are bounded', () => {
    const trails = new Trails(3_600_000)
    for (let x = 0; x < 10_000; x++) trails.add('a', step(x, x * 100))
    const kept = trails.of('a', 1_000_000)
    expect(kept.length).toBeLessThanOrEqual(120)
    expect(kept.at(-1)!.x).toBe(9_999)
  })
})
