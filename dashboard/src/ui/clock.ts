import { signal } from '@preact/signals'

/** The time now, by the second; it stands still while nobody looks. */
export const now = signal(Date.now())

export function startClock(): () => void {
  const tick = () => {
    if (!document.hidden) now.value = Date.now()
  }
  const timer = setInterval(tick, 1_000)
  document.addEventListener('visibilitychange', tick)
  return () => {
    clearInterval(timer)
    document.removeEventListener('visibilitychange', tick)
  }
}
