import { signal } from '@preact/signals'

/** The time now by the server's clock, by the second; it stands still while nobody looks. */
export const now = signal(Date.now())

/** How far the server's clock is ahead of this machine's, as far as whole seconds can tell. */
let aheadMs = 0
const UNTOLD_MS = 2_000

/** The time now by the server's clock, whoever looks. */
export function serverNow(): number {
  return Date.now() + aheadMs
}

/** Ages are told by the clock that the times are from. `date`: what an answer's header says. */
export function hearServerTime(date: string | null): void {
  const ahead = Date.parse(date ?? '') + 500 - Date.now()
  if (Number.isNaN(ahead) || Math.abs(ahead - aheadMs) < UNTOLD_MS) return
  aheadMs = Math.abs(ahead) < UNTOLD_MS ? 0 : ahead
  now.value = serverNow()
}

export function startClock(): () => void {
  const tick = () => {
    if (!document.hidden) now.value = serverNow()
  }
  const timer = setInterval(tick, 1_000)
  document.addEventListener('visibilitychange', tick)
  return () => {
    clearInterval(timer)
    document.removeEventListener('visibilitychange', tick)
  }
}
