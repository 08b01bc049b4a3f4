/** Where a robot is on the floor, in metres; y grows upwards. Theta in radians, counter-clockwise from x. */
export interface Spot {
  readonly x: number
  readonly y: number
  readonly theta: number | undefined
}

export interface Pose {
  readonly frame?: string | undefined
  readonly x?: number | undefined
  readonly y?: number | undefined
  readonly theta?: number | undefined
  readonly lat?: number | undefined
  readonly lon?: number | undefined
}

/** The frame of poses that are degrees on the earth. */
const EARTH = 'GPS'

/** The frame that a pose is in; undefined where it says no place. */
export function frameOf(pose: Pose | undefined | null): string | undefined {
  if (!pose) return undefined
  if (pose.x !== undefined && pose.y !== undefined) return pose.frame ?? 'map'
  return pose.lat !== undefined && pose.lon !== undefined ? EARTH : undefined
}

const METRES_PER_DEGREE = 111_320

/**
 * The spot of a pose in its frame. Degrees become metres around `latitude`, which is exact enough for a site of some
 * kilometres.
 */
export function spotOf(pose: Pose, latitude: number): Spot | undefined {
  if (pose.x !== undefined && pose.y !== undefined) return { x: pose.x, y: pose.y, theta: pose.theta }
  if (pose.lat === undefined || pose.lon === undefined) return undefined
  return {
    x: pose.lon * METRES_PER_DEGREE * Math.cos((latitude * Math.PI) / 180),
    y: pose.lat * METRES_PER_DEGREE,
    theta: pose.theta,
  }
}

export interface Bounds {
  readonly left: number
  readonly right: number
  readonly bottom: number
  readonly top: number
}

/** The least a floor is taken to measure, in metres, so that one robot does not fill the window. */
const LEAST = 10

/** What holds all spots; undefined without any. */
export function boundsOf(spots: Iterable<Spot>): Bounds | undefined {
  let bounds: { left: number; right: number; bottom: number; top: number } | undefined
  for (const { x, y } of spots) {
    bounds ??= { left: x, right: x, bottom: y, top: y }
    bounds.left = Math.min(bounds.left, x)
    bounds.right = Math.max(bounds.right, x)
    bounds.bottom = Math.min(bounds.bottom, y)
    bounds.top = Math.max(bounds.top, y)
  }
  if (!bounds) return undefined
  const widen = (least: number, from: number, to: number) => Math.max(0, (least - (to - from)) / 2)
  const x = widen(LEAST, bounds.left, bounds.right)
  const y = widen(LEAST, bounds.bottom, bounds.top)
  return { left: bounds.left - x, right: bounds.right + x, bottom: bounds.bottom - y, top: bounds.top + y }
}

/** How the floor lies in a window: `scale` pixels for a metre, and what is in the middle. */
export interface Camera {
  readonly scale: number
  readonly x: number
  readonly y: number
}

export interface Size {
  readonly width: number
  readonly height: number
}

const MARGIN = 36
const MOST_SCALE = 400
const LEAST_SCALE = 0.000_01

export function fitted(bounds: Bounds, { width, height }: Size): Camera {
  const across = Math.max(1, width - 2 * MARGIN) / (bounds.right - bounds.left)
  const along = Math.max(1, height - 2 * MARGIN) / (bounds.top - bounds.bottom)
  return {
    scale: within(Math.min(across, along)),
    x: (bounds.left + bounds.right) / 2,
    y: (bounds.bottom + bounds.top) / 2,
  }
}

const within = (scale: number) => Math.min(MOST_SCALE, Math.max(LEAST_SCALE, scale))

export interface Point {
  readonly x: number
  readonly y: number
}

/** Where a spot is in the window, in pixels from its upper left corner. */
export function toWindow({ x, y }: Point, camera: Camera, { width, height }: Size): Point {
  return { x: width / 2 + (x - camera.x) * camera.scale, y: height / 2 - (y - camera.y) * camera.scale }
}

export function toFloor({ x, y }: Point, camera: Camera, { width, height }: Size): Point {
  return { x: camera.x + (x - width / 2) / camera.scale, y: camera.y - (y - height / 2) / camera.scale }
}

/** The camera after zooming by `factor`, with what is at `point` of the window staying there. */
export function zoomed(camera: Camera, factor: number, point: Point, size: Size): Camera {
  const before = toFloor(point, camera, size)
  const scale = within(camera.scale * factor)
  const moved = { ...camera, scale }
  const after = toFloor(point, moved, size)
  return { scale, x: camera.x + before.x - after.x, y: camera.y + before.y - after.y }
}

/** The camera after the floor was pushed by so many pixels. */
export function pushed(camera: Camera, right: number, down: number): Camera {
  return { ...camera, x: camera.x - right / camera.scale, y: camera.y + down / camera.scale }
}

/** The one nearest to `point` of the window, if any is within `reach` pixels. */
export function nearest<Item>(
  items: Iterable<readonly [Item, Spot]>,
  point: Point,
  reach: number,
  camera: Camera,
  size: Size,
): Item | undefined {
  let found: Item | undefined
  let least = reach * reach
  for (const [item, spot] of items) {
    const at = toWindow(spot, camera, size)
    const distance = (at.x - point.x) ** 2 + (at.y - point.y) ** 2
    if (distance > least) continue
    least = distance
    found = item
  }
  return found
}

/** A length in metres for a scale bar of at most `pixels`: 1, 2 or 5 times a power of ten. */
export function scaleBar(scale: number, pixels: number): number {
  const most = pixels / scale
  const power = 10 ** Math.floor(Math.log10(most))
  return [5, 2, 1].map((step) => step * power).find((length) => length <= most) ?? power
}
