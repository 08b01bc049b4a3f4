import { useCallback, useEffect, useRef, useState } from 'preact/hooks'
import { againAfterMs } from '../api/problem.ts'
import { useRepeated } from './repeat.ts'

export interface Loaded<Value> {
  /** What was loaded last; stays while it is loaded again, and when that fails. */
  readonly value: Value | undefined
  readonly error: unknown
  readonly isLoading: boolean
  readonly reload: () => void
}

/** Loads something when the component appears and whenever `inputs` change; an answer that came too late is left alone. */
export function useLoaded<Value>(
  load: (signal: AbortSignal) => Promise<Value>,
  inputs: readonly unknown[],
): Loaded<Value> {
  const [state, setState] = useState<Omit<Loaded<Value>, 'reload'>>({
    value: undefined,
    error: undefined,
    isLoading: true,
  })
  const [round, setRound] = useState(0)
  const newest = useRef(load)
  newest.current = load
  const key = JSON.stringify(inputs)
  const before = useRef(key)
  useEffect(() => {
    const ending = new AbortController()
    // What belongs to other inputs is not shown for these.
    const keep = before.current === key
    before.current = key
    setState((old) => ({ ...(keep ? old : { value: undefined, error: undefined }), isLoading: true }))
    newest.current(ending.signal).then(
      (value) => {
        if (!ending.signal.aborted) setState({ value, error: undefined, isLoading: false })
      },
      (error: unknown) => {
        if (!ending.signal.aborted) setState((old) => ({ ...old, error, isLoading: false }))
      },
    )
    return () => ending.abort()
  }, [key, round])
  const reload = useCallback(() => setRound((count) => count + 1), [])
  // A page that nobody touches comes back by itself.
  useRepeated(reload, againAfterMs(state.error))
  return { ...state, reload }
}
