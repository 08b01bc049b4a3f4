import { useEffect, useRef, useState } from 'preact/hooks'
import type { Trail } from '../../api/types.ts'
import { type Freshness, follow, type LiveRobot, NOT_YET } from '../../live/feed.ts'
import { now } from '../../ui/clock.ts'
import type { Placed } from './draw.ts'
import { frameOf, type Point, type Pose, spotOf } from './geometry.ts'
import { loadTrails } from './past.ts'
import { type Step, Trails } from './trails.ts'

const TRAIL_MS = 5 * 60_000
/** Deltas of a large site come in bursts; the floor is drawn so often at the most. */
const DRAW_MS = 250

export interface FloorRobots {
  /** Frames that robots of the site are in, those with most of them first. */
  readonly frames: readonly { readonly name: string; readonly robots: number }[]
  readonly placed: readonly Placed[]
  /** Robots of the site that never said where they are. */
  readonly unplaced: number
  readonly live: Freshness
  readonly isKnown: boolean
}

/** The robots of a site where they are, in one frame; without `frame` in the one most of them are in. */
export function useFloor(site: string | undefined, frame: string | undefined): FloorRobots {
  const robots = useRef(new Map<string, LiveRobot>())
  const trails = useRef(new Trails(TRAIL_MS))
  /** Of the first robot that said its own: degrees become metres around one latitude, or trails would not fit. */
  const latitude = useRef<number>()
  const [, drawAgain] = useState(0)
  const [live, setLive] = useState(NOT_YET)
  const [knownSite, setKnownSite] = useState<string>()

  useEffect(() => {
    robots.current = new Map()
    trails.current = new Trails(TRAIL_MS)
    latitude.current = undefined
    if (site === undefined) return
    let timer: ReturnType<typeof setTimeout> | undefined
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = undefined
        drawAgain((count) => count + 1)
      }, DRAW_MS)
    }
    /** One, or none where the pose says no place. */
    const stepsOf = (pose: Pose, at: string): Step[] => {
      const frame = frameOf(pose)
      const spot = spotOf(pose, latitude.current ?? 0)
      return frame && spot ? [{ ...spot, frame, at: Date.parse(at) }] : []
    }
    const take = (robot: LiveRobot) => {
      if (robot.lifecycle === 'retired') return void robots.current.delete(robot.id)
      robots.current.set(robot.id, robot)
      const { heartbeat } = robot
      if (!heartbeat?.pose) return
      if ('lat' in heartbeat.pose) latitude.current ??= heartbeat.pose.lat
      for (const step of stepsOf(heartbeat.pose, heartbeat.received_at)) trails.current.add(robot.id, step)
    }
    let past = new AbortController()
    const takePast = ({ robot_id, steps }: Trail) => {
      if (!robots.current.has(robot_id)) return
      trails.current.addBefore(
        robot_id,
        steps.flatMap(({ at, pose }) => stepsOf(pose, at)),
      )
    }
    const stop = follow(
      { site, detail: 'full' },
      {
        onSnapshot: (all) => {
          robots.current = new Map()
          for (const robot of all) take(robot)
          setKnownSite(site)
          soon()
          past.abort()
          past = new AbortController()
          const online = all.filter(({ connection, heartbeat }) => connection === 'online' && heartbeat?.pose)
          void loadTrails(
            online.map(({ id }) => id),
            past.signal,
            (found) => {
              for (const trail of found) takePast(trail)
              soon()
            },
          )
        },
        onDelta: (changed, removed) => {
          for (const robot of changed) take(robot)
          for (const id of removed) {
            robots.current.delete(id)
            trails.current.forget(id)
          }
          soon()
        },
        onLive: setLive,
      },
    )
    return () => {
      past.abort()
      stop()
      clearTimeout(timer)
    }
  }, [site])

  const counted = new Map<string, number>()
  let unplaced = 0
  for (const { heartbeat } of robots.current.values()) {
    const name = frameOf(heartbeat?.pose)
    if (name === undefined) unplaced++
    else counted.set(name, (counted.get(name) ?? 0) + 1)
  }
  const frames = [...counted]
    .map(([name, count]) => ({ name, robots: count }))
    .sort((a, b) => b.robots - a.robots || a.name.localeCompare(b.name))
  const shown = frame ?? frames[0]?.name
  const inFrame = [...robots.current.values()].filter(({ heartbeat }) => frameOf(heartbeat?.pose) === shown)
  const placed = inFrame.flatMap((robot): Placed[] => {
    const spot = spotOf(robot.heartbeat!.pose!, latitude.current ?? 0)
    if (!spot) return []
    const trail: readonly Point[] = trails.current.of(robot.id, now.peek())
    return [{ robot, spot, trail }]
  })
  return { frames, placed, unplaced, live, isKnown: knownSite === site && site !== undefined }
}
