import type { LiveRobot } from '../../live/feed.ts'
import { type Camera, type Point, type Size, type Spot, scaleBar, toWindow } from './geometry.ts'

export interface Placed {
  readonly robot: LiveRobot
  readonly spot: Spot
  readonly trail: readonly Point[]
}

const COLOURS = ['ok', 'warn', 'error', 'idle', 'text', 'text-soft', 'line', 'accent', 'surface'] as const
export type Colours = Readonly<Record<(typeof COLOURS)[number], string>>

/** The page's colours as they are now, light or dark. */
export function coloursOf(element: Element): Colours {
  const probe = document.createElement('span')
  element.append(probe)
  const entries = COLOURS.map((name) => {
    probe.style.color = `var(--${name})`
    return [name, getComputedStyle(probe).color]
  })
  probe.remove()
  return Object.fromEntries(entries) as Colours
}

/** What a robot is drawn as: by its health, where it is heard of; a form each, for colours alone tell too few. */
export function lookOf(robot: Pick<LiveRobot, 'connection' | 'health'>): 'ok' | 'warn' | 'error' | 'idle' {
  if (robot.connection !== 'online') return 'idle'
  return robot.health === 'unknown' ? 'ok' : robot.health
}

const URGENCY = ['ok', 'idle', 'warn', 'error'] as const
const RADIUS = 6
/** With more in the window than this, names would hide them. */
const NAMED = 60

export function draw(
  context: CanvasRenderingContext2D,
  size: Size,
  camera: Camera,
  robots: readonly Placed[],
  chosenId: string | undefined,
  colours: Colours,
): void {
  context.clearRect(0, 0, size.width, size.height)
  drawGrid(context, size, camera, colours)
  const shown = robots
    .filter(({ spot }) => {
      const { x, y } = toWindow(spot, camera, size)
      return x > -20 && y > -20 && x < size.width + 20 && y < size.height + 20
    })
    // Whoever needs somebody is not hidden by the others.
    .sort((a, b) => URGENCY.indexOf(lookOf(a.robot)) - URGENCY.indexOf(lookOf(b.robot)))
  context.lineWidth = 2
  for (const { robot, trail, spot } of shown) {
    if (trail.length < 2) continue
    context.strokeStyle = colours[lookOf(robot)]
    context.globalAlpha = robot.id === chosenId ? 0.9 : 0.35
    context.beginPath()
    for (const step of [...trail, spot]) {
      const { x, y } = toWindow(step, camera, size)
      context.lineTo(x, y)
    }
    context.stroke()
  }
  context.globalAlpha = 1
  for (const { robot, spot } of shown)
    drawRobot(context, robot, toWindow(spot, camera, size), spot, chosenId, colours)
  if (shown.length <= NAMED) {
    context.fillStyle = colours.text
    context.font = '12px system-ui, sans-serif'
    for (const { robot, spot } of shown) {
      const { x, y } = toWindow(spot, camera, size)
      context.fillText(robot.name, x + RADIUS + 4, y - RADIUS)
    }
  }
  drawScale(context, size, camera, colours)
}

function drawRobot(
  context: CanvasRenderingContext2D,
  robot: LiveRobot,
  { x, y }: Point,
  { theta }: Spot,
  chosenId: string | undefined,
  colours: Colours,
): void {
  const look = lookOf(robot)
  const r = RADIUS
  context.fillStyle = colours[look]
  context.strokeStyle = colours.surface
  context.lineWidth = 1.5
  context.beginPath()
  if (look === 'error') context.rect(x - r, y - r, 2 * r, 2 * r)
  else if (look === 'warn') {
    context.moveTo(x, y - r - 2)
    context.lineTo(x + r + 2, y)
    context.lineTo(x, y + r + 2)
    context.lineTo(x - r - 2, y)
    context.closePath()
  } else context.arc(x, y, r, 0, 2 * Math.PI)
  if (look === 'idle') {
    context.strokeStyle = colours.idle
    context.lineWidth = 2
    context.stroke()
  } else {
    context.fill()
    context.stroke()
  }
  if (theta !== undefined) {
    context.strokeStyle = colours.text
    context.lineWidth = 2
    context.beginPath()
    context.moveTo(x + Math.cos(theta) * r, y - Math.sin(theta) * r)
    context.lineTo(x + Math.cos(theta) * (r + 6), y - Math.sin(theta) * (r + 6))
    context.stroke()
  }
  if (robot.id === chosenId) {
    context.strokeStyle = colours.accent
    context.lineWidth = 3
    context.beginPath()
    context.arc(x, y, r + 7, 0, 2 * Math.PI)
    context.stroke()
  }
}

function drawGrid(context: CanvasRenderingContext2D, size: Size, camera: Camera, colours: Colours): void {
  const step = scaleBar(camera.scale, 120) * camera.scale
  const origin = toWindow({ x: 0, y: 0 }, camera, size)
  context.strokeStyle = colours.line
  context.lineWidth = 1
  context.beginPath()
  for (let x = ((origin.x % step) + step) % step; x < size.width; x += step) {
    context.moveTo(Math.round(x) + 0.5, 0)
    context.lineTo(Math.round(x) + 0.5, size.height)
  }
  for (let y = ((origin.y % step) + step) % step; y < size.height; y += step) {
    context.moveTo(0, Math.round(y) + 0.5)
    context.lineTo(size.width, Math.round(y) + 0.5)
  }
  context.stroke()
}

function drawScale(context: CanvasRenderingContext2D, size: Size, camera: Camera, colours: Colours): void {
  const metres = scaleBar(camera.scale, 120)
  const width = metres * camera.scale
  const y = size.height - 14
  context.strokeStyle = colours['text-soft']
  context.fillStyle = colours['text-soft']
  context.lineWidth = 2
  context.beginPath()
  context.moveTo(14, y - 5)
  context.lineTo(14, y)
  context.lineTo(14 + width, y)
  context.lineTo(14 + width, y - 5)
  context.stroke()
  context.font = '12px system-ui, sans-serif'
  context.fillText(metres >= 1_000 ? `${metres / 1_000} km` : `${metres} m`, 20, y - 6)
}
