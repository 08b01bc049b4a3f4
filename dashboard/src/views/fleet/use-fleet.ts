import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import { againAfterMs } from '../../api/problem.ts'
import type { Page, Robot } from '../../api/types.ts'
import { type Counts, type Freshness, follow, type LiveRobot, NOT_YET } from '../../live/feed.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { baseOf, type FleetFilter, isStillIn, listQueryOf } from './filters.ts'

const PAGE = 200
/** How often what heartbeats say of the rows in view is looked at. */
const VALUES_MS = 5_000

export interface FleetRows {
  /** In the order that the server gave; rows stay where they are until the list is loaded anew. */
  readonly robots: readonly Robot[]
  readonly isLoading: boolean
  readonly error: unknown
  /** There are more than were loaded. */
  readonly hasMore: boolean
  readonly loadMore: () => void
  /** Loads all that pass the filter; answers with their ids, or undefined when the filter changed meanwhile. */
  readonly loadAll: () => Promise<readonly string[] | undefined>
  readonly reload: () => void
  /** Robots that came, left, or are sorted elsewhere since the list was loaded. */
  readonly moved: number
  /** Robots in the list that no longer pass the filter. */
  readonly left: ReadonlySet<string>
  readonly counts: Counts | undefined
  readonly live: Freshness
  /** Which rows people see; theirs are kept fresh. */
  readonly setVisible: (ids: readonly string[]) => void
}

interface Listed {
  readonly robots: readonly Robot[]
  readonly next: string | null
}

const EMPTY: Listed = { robots: [], next: null }

/** The robots of a filter, sorted by the server, loaded as they are needed, and kept as they are now. */
export function useFleet(filter: FleetFilter): FleetRows {
  const key = JSON.stringify(filter)
  const baseKey = JSON.stringify(baseOf(filter))
  const [listed, setListed] = useState<Listed>(EMPTY)
  const [isLoading, setLoading] = useState(true)
  const [error, setError] = useState<unknown>()
  const [round, setRound] = useState(0)
  const [counts, setCounts] = useState<Counts>()
  const [live, setLive] = useState(NOT_YET)
  const [came, setCame] = useState<ReadonlySet<string>>(new Set())
  const [gone, setGone] = useState<ReadonlySet<string>>(new Set())
  const current = useRef({ filter, listed })
  current.current = { filter, listed }
  const loading = useRef<AbortController>()
  const visible = useRef<readonly string[]>([])

  const load = useCallback((after: Listed | undefined) => {
    loading.current?.abort()
    const ending = new AbortController()
    loading.current = ending
    setLoading(true)
    setError(undefined)
    const { filter } = current.current
    api
      .get<Page<Robot>>(
        '/api/robots',
        { ...listQueryOf(filter), limit: PAGE, cursor: after?.next },
        { signal: ending.signal },
      )
      .then(
        ({ items, next_cursor }) => {
          if (ending.signal.aborted) return
          loading.current = undefined
          // A robot that was renamed meanwhile can come again on a later page.
          const known = new Set(after?.robots.map(({ id }) => id))
          const fresh = items.filter(({ id }) => !known.has(id))
          setListed({ robots: [...(after?.robots ?? []), ...fresh], next: next_cursor })
          if (!after) {
            setCame(new Set())
            setGone(new Set())
          }
          setLoading(false)
        },
        (reason: unknown) => {
          if (ending.signal.aborted) return
          loading.current = undefined
          setError(reason)
          setLoading(false)
        },
      )
  }, [])

  const before = useRef(key)
  useEffect(() => {
    if (before.current !== key) setListed(EMPTY)
    before.current = key
    load(undefined)
    return () => loading.current?.abort()
  }, [key, round, load])

  const loadMore = useCallback(() => {
    const { listed } = current.current
    if (listed.next !== null && !loading.current) load(listed)
  }, [load])
  const loadAll = useCallback(async () => {
    const { filter } = current.current
    loading.current?.abort()
    loading.current = undefined
    let robots = current.current.listed.robots
    for (let next = current.current.listed.next; next !== null; ) {
      const page: Page<Robot> = await api.get('/api/robots', {
        ...listQueryOf(filter),
        limit: PAGE,
        cursor: next,
      })
      if (current.current.filter !== filter) return undefined
      const known = new Set(robots.map(({ id }) => id))
      robots = [...robots, ...page.items.filter(({ id }) => !known.has(id))]
      next = page.next_cursor
      setListed({ robots, next })
    }
    setLoading(false)
    return robots.map(({ id }) => id)
  }, [])
  const reload = useCallback(() => setRound((count) => count + 1), [])
  useRepeated(reload, againAfterMs(error))

  useEffect(() => {
    const base = JSON.parse(baseKey) as Record<string, string>
    const merge = (changed: readonly LiveRobot[], removed: readonly string[]) => {
      const { filter, listed } = current.current
      const byId = new Map(changed.map((robot) => [robot.id, robot]))
      const shown = new Set(listed.robots.map(({ id }) => id))
      if (listed.robots.some(({ id }) => byId.has(id)))
        setListed((old) => ({
          ...old,
          robots: old.robots.map((robot) => {
            const news = byId.get(robot.id)
            return news ? { ...robot, ...news } : robot
          }),
        }))
      // Only what was loaded whole can lack a robot that fits.
      const arrived =
        listed.next === null && filter.faults === undefined
          ? changed.filter((robot) => !shown.has(robot.id) && isStillIn(filter, robot)).map(({ id }) => id)
          : []
      if (arrived.length > 0) setCame((old) => new Set([...old, ...arrived]))
      const lost = removed.filter((id) => shown.has(id))
      if (lost.length > 0) setGone((old) => new Set([...old, ...lost]))
    }
    return follow(
      { ...base, detail: 'status' },
      {
        onSnapshot: (robots, counts) => {
          setCounts(counts)
          merge(robots, [])
        },
        onDelta: (changed, removed, counts) => {
          setCounts(counts)
          merge(changed, removed)
        },
        onLive: setLive,
      },
    )
  }, [baseKey])

  useEffect(() => {
    let ending: AbortController | undefined
    const refresh = async () => {
      const ids = visible.current
      if (document.hidden || ending || ids.length === 0) return
      ending = new AbortController()
      try {
        const query = { id: ids.slice(0, PAGE), limit: PAGE }
        const { items } = await api.get<Page<Robot>>('/api/robots', query, { signal: ending.signal })
        const fresh = new Map(items.map((robot) => [robot.id, robot]))
        setListed((old) => ({ ...old, robots: old.robots.map((robot) => fresh.get(robot.id) ?? robot) }))
      } catch {
        // The next time will do; the feed says when nothing can be reached.
      } finally {
        ending = undefined
      }
    }
    const timer = setInterval(refresh, VALUES_MS)
    return () => {
      clearInterval(timer)
      ending?.abort()
    }
  }, [])

  const left = useMemo(() => {
    const { filter } = current.current
    const out = listed.robots.filter((robot) => gone.has(robot.id) || !isStillIn(filter, robot))
    return new Set(out.map(({ id }) => id))
  }, [listed, gone])

  const setVisible = useCallback((ids: readonly string[]) => {
    visible.current = ids
  }, [])

  return {
    robots: listed.robots,
    isLoading,
    error,
    hasMore: listed.next !== null,
    loadMore,
    loadAll,
    reload,
    moved: came.size + left.size,
    left,
    counts,
    live,
    setVisible,
  }
}
