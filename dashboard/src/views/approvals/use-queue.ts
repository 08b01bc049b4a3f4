import { useComputed } from '@preact/signals'
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import type { WaitingRobot } from '../../api/types.ts'
import { type Freshness, follow, type LiveRobot, NOT_YET } from '../../live/feed.ts'
import { now } from '../../ui/clock.ts'
import { type Pages, usePages } from '../../ui/pages.ts'
import { type QueueFilter, queryOf, settled } from './filters.ts'

const PAGE = 100
/** Steps in which the time goes on that robots have waited since before. */
const STEP_MS = 300_000
/** Robots come and go in crowds: the list is loaded once for those of this time. */
const GATHERED_MS = 700

export interface Queue {
  readonly pages: Pages<WaitingRobot>
  readonly rows: readonly WaitingRobot[] | undefined
  /** Rows that are still shown, and wait no longer. */
  readonly gone: ReadonlySet<string>
  readonly live: Freshness
  /** The filter as the REST interface was asked by it. */
  readonly query: Readonly<Record<string, string | undefined>>
}

/**
 * The robots that wait, those first that have waited longest, kept as they are now. `isHeld`: no row may move, but for
 * those that the viewer `decided` about.
 */
export function useQueue(filter: QueueFilter, isHeld: boolean, decided: ReadonlySet<string>): Queue {
  const key = JSON.stringify(filter)
  const { waited } = filter
  const step = useComputed(() => Math.floor(now.value / STEP_MS))
  const asOf = waited === undefined ? 0 : step.value * STEP_MS
  const query = useMemo(() => queryOf(JSON.parse(key) as QueueFilter, asOf), [key, asOf])
  const pages = usePages<WaitingRobot>('/api/approvals', { ...query, limit: PAGE })
  const [live, setLive] = useState(NOT_YET)
  const [connections, setConnections] = useState<ReadonlyMap<string, LiveRobot['connection']>>(new Map())
  const newest = useRef(pages)
  newest.current = pages

  useEffect(() => {
    const { q, site, fleet, credential, label } = JSON.parse(key) as QueueFilter
    let timer: ReturnType<typeof setTimeout> | undefined
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = undefined
        // Let it come first: who asks anew whenever something changes may never be answered.
        if (newest.current.isLoading) soon()
        else newest.current.reload()
      }, GATHERED_MS)
    }
    let waiting = new Set<string>()
    const stop = follow(
      { q, site, fleet, credential, label, lifecycle: 'pending', detail: 'status' },
      {
        onSnapshot: (robots) => {
          waiting = new Set(robots.map(({ id }) => id))
          setConnections(new Map(robots.map(({ id, connection }) => [id, connection])))
          soon()
        },
        onDelta: (changed, removed) => {
          setConnections((old) => {
            const next = new Map(old)
            for (const { id, connection } of changed) next.set(id, connection)
            for (const id of removed) next.delete(id)
            return next
          })
          if (removed.length > 0 || changed.some(({ id }) => !waiting.has(id))) soon()
          for (const { id } of changed) waiting.add(id)
          for (const id of removed) waiting.delete(id)
        },
        onLive: setLive,
      },
    )
    return () => {
      clearTimeout(timer)
      stop()
    }
  }, [key])

  const before = useRef<{ key: string; rows: readonly WaitingRobot[] }>({ key, rows: [] })
  const { value } = pages
  const known = (before.current.key === key ? before.current.rows : []).filter(({ id }) => !decided.has(id))
  const { rows, gone } = settled(known, value ?? known, isHeld)
  if (value) before.current = { key, rows }
  const shown = rows.map((row) => {
    const connection = connections.get(row.id)
    return connection && connection !== row.connection ? { ...row, connection } : row
  })
  return { pages, rows: value || known.length > 0 ? shown : undefined, gone, live, query }
}
