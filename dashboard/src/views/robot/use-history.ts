import { useComputed } from '@preact/signals'
import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { api } from '../../api/client.ts'
import type { HeartbeatSummary, Page, Robot } from '../../api/types.ts'
import { now } from '../../ui/clock.ts'
import { useRepeated } from '../../ui/repeat.ts'
import { numbersIn } from './fields.ts'
import { isLive, type Range, refreshMs, type Span, spanOf, stepFor } from './ranges.ts'
import { type History, historyOf, withBeat, within } from './series.ts'

export interface LoadedHistory {
  readonly history: History | undefined
  readonly span: Span
  readonly isLoading: boolean
  readonly error: unknown
  readonly reload: () => void
}

/** The right edge moves by no less than about a pixel. */
const PIXELS = 600

/**
 * The numbers of a robot over a range. What was loaded before stays until the new is there; at the right edge what is
 * heard live is added, and all of it is loaded again now and then.
 */
export function useHistory(
  robot: Robot,
  range: Range,
  fields: readonly string[],
  heartbeatMs: number,
): LoadedHistory {
  const isMoving = isLive(range)
  const rangeKey = JSON.stringify(range)
  const tickMs = useRef(0)
  tickMs.current = isMoving ? Math.max(1_000, range.lengthMs / PIXELS) : Number.POSITIVE_INFINITY
  // Only says when to draw again.
  void useComputed(() => Math.floor(now.value / tickMs.current)).value
  const span = spanOf(range, now.peek())
  const stepMs = stepFor(span, heartbeatMs)
  const key = `${robot.id} ${rangeKey} ${fields.join()} ${stepMs}`

  const [history, setHistory] = useState<History>()
  const [isLoading, setLoading] = useState(false)
  const [error, setError] = useState<unknown>()
  const [round, setRound] = useState(0)
  const newest = useRef({ fields, span })
  newest.current = { fields, span }

  useEffect(() => {
    const { fields, span } = newest.current
    if (fields.length === 0) return setHistory(undefined)
    const ending = new AbortController()
    setLoading(true)
    const query = {
      from: new Date(span.from).toISOString(),
      to: new Date(span.to).toISOString(),
      step: `${stepMs / 1_000}s`,
      fields: fields.join(),
    }
    api
      .get<Page<HeartbeatSummary>>(`/api/robots/${robot.id}/heartbeats`, query, { signal: ending.signal })
      .then(
        ({ items }) => {
          if (ending.signal.aborted) return
          setHistory(historyOf(items, stepMs))
          setError(undefined)
          setLoading(false)
        },
        (reason: unknown) => {
          if (ending.signal.aborted) return
          setError(reason)
          setLoading(false)
        },
      )
    return () => ending.abort()
  }, [key, round])

  const reload = useCallback(() => setRound((count) => count + 1), [])
  useRepeated(reload, isMoving ? refreshMs(stepMs) : undefined)

  const { heartbeat } = robot
  useEffect(() => {
    if (!isMoving || !heartbeat) return
    const at = Date.parse(heartbeat.at)
    const { fields, span } = newest.current
    if (at >= span.from && at < span.to + heartbeatMs)
      setHistory(
        (old) =>
          old &&
          within(withBeat(old, at, numbersIn(heartbeat), fields, heartbeat.health), {
            ...span,
            to: span.to + heartbeatMs,
          }),
      )
  }, [heartbeat?.seq, heartbeat?.at, isMoving])

  return { history, span, isLoading, error, reload }
}
