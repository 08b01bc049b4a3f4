import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { Page, RobotEvent } from '../../api/types.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { failed } from '../../ui/toasts.tsx'
import { withNewest } from './happenings.ts'

const PAGE = 50
/** What robots tell of themselves is looked for this often; of what the server does, the robot's state tells at once. */
const LOOK_MS = 15_000
const SETTLE_MS = 1_200

export interface TimelineQuery {
  readonly level?: readonly string[]
  readonly code?: readonly string[]
}

export interface LoadedTimeline {
  readonly events: readonly RobotEvent[] | undefined
  readonly error: unknown
  readonly reload: () => void
  readonly more: (() => Promise<void>) | undefined
}

interface Known {
  readonly key: string
  readonly events: readonly RobotEvent[]
  readonly next: string | null
}

/** What happened to a robot, newest first; what is new comes on top. `news` changes when something may have happened. */
export function useTimeline(robotId: string, query: TimelineQuery, news: string): LoadedTimeline {
  const key = JSON.stringify([robotId, query])
  const [known, setKnown] = useState<Known>()
  const [error, setError] = useState<unknown>()
  const [round, setRound] = useState(0)
  const path = `/api/robots/${robotId}/events`
  const load = useRef(async (_: AbortSignal) => {})
  load.current = async (signal) => {
    try {
      const page = await api.get<Page<RobotEvent>>(path, { ...query, limit: PAGE }, { signal })
      if (signal.aborted) return
      setError(undefined)
      setKnown((old) => {
        const first = { key, events: page.items, next: page.next_cursor }
        if (old?.key !== key) return first
        const { events, hasGap } = withNewest(old.events, page.items, page.next_cursor === null)
        return hasGap ? first : { ...old, events }
      })
    } catch (reason) {
      if (!signal.aborted) setError(reason)
    }
  }

  const loading = useRef<AbortController>()
  const look = () => {
    loading.current?.abort()
    loading.current = new AbortController()
    void load.current(loading.current.signal)
  }
  useEffect(() => {
    look()
    return () => loading.current?.abort()
  }, [key, round])
  useRepeated(look, LOOK_MS)

  const isFirst = useRef(true)
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false
      return
    }
    // What is told of a change may be written a moment after it.
    const timer = setTimeout(look, SETTLE_MS)
    return () => clearTimeout(timer)
  }, [news])

  const fits = known?.key === key ? known : undefined
  const more = async () => {
    if (!fits?.next) return
    try {
      const page = await api.get<Page<RobotEvent>>(path, { ...query, limit: PAGE, cursor: fits.next })
      setKnown((old) =>
        old?.key === key && old.next === fits.next
          ? { key, events: [...old.events, ...page.items], next: page.next_cursor }
          : old,
      )
    } catch (reason) {
      failed(reason)
    }
  }
  return {
    events: fits?.events,
    error,
    reload: useCallback(() => setRound((count) => count + 1), []),
    more: fits?.next ? more : undefined,
  }
}
