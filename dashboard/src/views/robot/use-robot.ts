import { useCallback, useEffect, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import { againAfterMs, Problem } from '../../api/problem.ts'
import type { Fleet, Info, Robot, Site } from '../../api/types.ts'
import { type Freshness, follow, NOT_YET } from '../../live/feed.ts'
import { useLoaded } from '../../ui/loaded.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { hear, type Said } from './said.ts'

export interface FollowedRobot {
  readonly robot: Robot | undefined
  /** What it said last of each part, also of those that its latest heartbeat leaves out. */
  readonly said: Said
  /** Why there is no robot to show. */
  readonly error: unknown
  readonly live: Freshness
  /** It was there, and is no longer: deleted, or out of the viewer's reach. */
  readonly isGone: boolean
  /** Takes what a change answered, before the feed tells it. */
  readonly take: (robot: Robot) => void
  readonly reload: () => void
}

interface Known {
  readonly robot: Robot
  readonly said: Said
}

/** A robot as it is now, for as long as somebody looks. */
export function useRobot(id: string): FollowedRobot {
  const [known, setKnown] = useState<Known>()
  const [error, setError] = useState<unknown>()
  const [live, setLive] = useState(NOT_YET)
  const [isGone, setGone] = useState(false)
  const [round, setRound] = useState(0)

  const take = useCallback((robot: Robot) => {
    setKnown((old) => ({ robot, said: hear(old?.said ?? {}, robot.heartbeat) }))
    setGone(false)
  }, [])

  useEffect(() => {
    const ending = new AbortController()
    let stop: (() => void) | undefined
    setError(undefined)
    api.get<Robot>(`/api/robots/${encodeURIComponent(id)}`, {}, { signal: ending.signal }).then(
      (robot) => {
        if (ending.signal.aborted) return
        take(robot)
        stop = follow(
          { id: [robot.id], detail: 'full' },
          {
            onSnapshot: ([found]) => (found ? take(found as Robot) : setGone(true)),
            onDelta: ([found], removed) => {
              if (found) take(found as Robot)
              if (removed.includes(robot.id)) setGone(true)
            },
            onLive: setLive,
          },
        )
      },
      (reason: unknown) => {
        if (!ending.signal.aborted) setError(reason)
      },
    )
    return () => {
      ending.abort()
      stop?.()
    }
  }, [id, round, take])

  const reload = useCallback(() => setRound((count) => count + 1), [])
  useRepeated(reload, againAfterMs(error))

  return {
    robot: known?.robot,
    said: known?.said ?? {},
    error,
    live,
    isGone,
    take,
    reload,
  }
}

export interface Place {
  readonly site: Site | undefined
  readonly fleet: Fleet | undefined
  /** What robots are asked for where their fleet says nothing else. */
  readonly heartbeatMs: number
}

const USUAL_HEARTBEAT_MS = 10_000

/** What is there and within the viewer's reach: somebody may see a robot and not all that it belongs to. */
export async function ifSeen<Value>(loading: Promise<Value>): Promise<Value | undefined> {
  try {
    return await loading
  } catch (error) {
    if (error instanceof Problem && (error.status === 403 || error.status === 404)) return undefined
    throw error
  }
}

/** Where a robot belongs, and how often robots report there. */
export function usePlace(robot: Robot | undefined): Place {
  const { value } = useLoaded<Place | undefined>(
    async (signal) => {
      if (!robot) return undefined
      const [site, fleet, info] = await Promise.all([
        ifSeen(api.get<Site>(`/api/sites/${robot.site_id}`, {}, { signal })),
        ifSeen(api.get<Fleet>(`/api/fleets/${robot.fleet_id}`, {}, { signal })),
        api.get<Info>('/api/info', {}, { signal }),
      ])
      return { site, fleet, heartbeatMs: fleet?.heartbeat_interval_ms ?? info.heartbeat_interval_ms }
    },
    [robot?.site_id, robot?.fleet_id],
  )
  return value ?? { site: undefined, fleet: undefined, heartbeatMs: USUAL_HEARTBEAT_MS }
}
