import { useEffect, useRef } from 'preact/hooks'

/** Does something again and again while somebody looks, and at once when somebody looks again. Undefined: rests. */
export function useRepeated(deed: () => void, everyMs: number | undefined): void {
  const newest = useRef(deed)
  newest.current = deed
  useEffect(() => {
    if (everyMs === undefined) return
    const run = () => {
      if (!document.hidden) newest.current()
    }
    const timer = setInterval(run, everyMs)
    document.addEventListener('visibilitychange', run)
    return () => {
      clearInterval(timer)
      document.removeEventListener('visibilitychange', run)
    }
  }, [everyMs])
}
