import { useEffect, useRef, useState } from 'preact/hooks'
import { Button } from '../../ui/button.tsx'
import { coloursOf, draw, type Placed } from './draw.ts'
import {
  type Bounds,
  type Camera,
  fitted,
  nearest,
  type Point,
  pushed,
  type Size,
  toWindow,
  zoomed,
} from './geometry.ts'

const REACH = 16
const ZOOM = 1.4
const STEP = 60

/** Two or more fingers, or one pointer, on the floor. */
type Pointers = Map<number, Point>

interface Props {
  readonly robots: readonly Placed[]
  /** What the floor is fitted to until somebody moves it. */
  readonly bounds: Bounds | undefined
  readonly chosenId: string | undefined
  readonly onChoose: (id: string | undefined) => void
}

/** The floor, to be moved and zoomed with pointer, fingers or keys. What it shows is in the list beside it, too. */
export function FloorMap({ robots, bounds, chosenId, onChoose }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const [size, setSize] = useState<Size>({ width: 0, height: 0 })
  const [moved, setMoved] = useState<Camera>()
  const pointers = useRef<Pointers>(new Map())
  const pressed = useRef<{ at: Point; isClick: boolean }>()
  const camera = moved ?? (bounds && size.width > 0 ? fitted(bounds, size) : undefined)
  const now = useRef({ camera, size })
  now.current = { camera, size }

  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => {
      const { width, height } = entry!.contentRect
      setSize({ width, height })
    })
    observer.observe(canvas.current!)
    return () => observer.disconnect()
  }, [])

  useEffect(() => {
    const element = canvas.current
    const context = element?.getContext('2d')
    if (!element || !context || !camera || size.width === 0) return
    const frame = requestAnimationFrame(() => {
      const ratio = window.devicePixelRatio || 1
      element.width = Math.round(size.width * ratio)
      element.height = Math.round(size.height * ratio)
      context.setTransform(ratio, 0, 0, ratio, 0, 0)
      draw(context, size, camera, robots, chosenId, coloursOf(element.parentElement!))
    })
    return () => cancelAnimationFrame(frame)
  })

  useEffect(() => {
    const element = canvas.current!
    // By hand: Preact's are passive, and the page would scroll.
    const onWheel = (event: WheelEvent) => {
      const { camera, size } = now.current
      if (!camera) return
      event.preventDefault()
      const point = { x: event.offsetX, y: event.offsetY }
      setMoved(zoomed(camera, Math.exp(-event.deltaY / 400), point, size))
    }
    element.addEventListener('wheel', onWheel, { passive: false })
    return () => element.removeEventListener('wheel', onWheel)
  }, [])

  // Who is chosen in the list is to be seen.
  useEffect(() => {
    const { camera, size } = now.current
    const spot = robots.find(({ robot }) => robot.id === chosenId)?.spot
    if (!camera || !spot) return
    const { x, y } = toWindow(spot, camera, size)
    if (x < 0 || y < 0 || x > size.width || y > size.height) setMoved({ ...camera, x: spot.x, y: spot.y })
  }, [chosenId])

  const middle = { x: size.width / 2, y: size.height / 2 }
  const zoom = (factor: number) => camera && setMoved(zoomed(camera, factor, middle, size))
  const push = (right: number, down: number) => camera && setMoved(pushed(camera, right, down))

  const onPointerMove = (event: PointerEvent) => {
    const before = pointers.current.get(event.pointerId)
    if (!before || !camera) return
    const point = { x: event.offsetX, y: event.offsetY }
    const others = [...pointers.current].filter(([id]) => id !== event.pointerId)
    pointers.current.set(event.pointerId, point)
    const start = pressed.current
    if (start && Math.hypot(point.x - start.at.x, point.y - start.at.y) > 4) start.isClick = false
    if (start?.isClick) return
    const other = others[0]?.[1]
    if (!other) return setMoved(pushed(camera, point.x - before.x, point.y - before.y))
    const spread = Math.hypot(point.x - other.x, point.y - other.y)
    const was = Math.hypot(before.x - other.x, before.y - other.y)
    if (was > 0) setMoved(zoomed(camera, spread / was, other, size))
  }

  const onPointerUp = (event: PointerEvent) => {
    pointers.current.delete(event.pointerId)
    const start = pressed.current
    pressed.current = undefined
    if (!start?.isClick || !camera) return
    const items = robots.map(({ robot, spot }) => [robot.id, spot] as const)
    onChoose(nearest(items, { x: event.offsetX, y: event.offsetY }, REACH, camera, size))
  }

  const KEYS: Readonly<Record<string, () => unknown>> = {
    ArrowLeft: () => push(STEP, 0),
    ArrowRight: () => push(-STEP, 0),
    ArrowUp: () => push(0, STEP),
    ArrowDown: () => push(0, -STEP),
    '+': () => zoom(ZOOM),
    '=': () => zoom(ZOOM),
    '-': () => zoom(1 / ZOOM),
    '0': () => setMoved(undefined),
    Escape: () => onChoose(undefined),
  }

  const onKeyDown = (event: KeyboardEvent) => {
    const act = KEYS[event.key]
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    act()
  }

  return (
    <div
      class="floor-map"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: it is moved by keys.
      tabIndex={0}
      role="application"
      aria-label="Floor. Arrow keys move it, plus and minus zoom, 0 shows all. The robots are in the list beside it."
      onKeyDown={onKeyDown}
    >
      <canvas
        ref={canvas}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId)
          const at = { x: event.offsetX, y: event.offsetY }
          pointers.current.set(event.pointerId, at)
          pressed.current = { at, isClick: pointers.current.size === 1 }
        }}
        onPointerMove={onPointerMove}
        onPointerUp={onPointerUp}
        onPointerCancel={(event) => pointers.current.delete(event.pointerId)}
      />
      <div class="map-buttons">
        <Button size="small" label="Zoom in" onClick={() => zoom(ZOOM)}>
          +
        </Button>
        <Button size="small" label="Zoom out" onClick={() => zoom(1 / ZOOM)}>
          −
        </Button>
        <Button size="small" disabled={!moved} onClick={() => setMoved(undefined)}>
          Show all
        </Button>
      </div>
    </div>
  )
}
