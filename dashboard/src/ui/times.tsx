import { now } from './clock.ts'

const UNITS = [
  ['d', 86_400],
  ['h', 3_600],
  ['min', 60],
  ['s', 1],
] as const

/** `3 min`, `2 h 5 min`; seconds. */
export function duration(seconds: number): string {
  const rest = Math.max(0, Math.floor(seconds))
  const at = UNITS.findIndex(([, size]) => rest >= size)
  if (at < 0) return '0 s'
  const [unit, size] = UNITS[at]!
  const next = UNITS[at + 1]
  const left = next && unit !== 'min' ? Math.floor((rest % size) / next[1]) : 0
  return `${Math.floor(rest / size)} ${unit}${left > 0 ? ` ${left} ${next![0]}` : ''}`
}

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

export function moment(time: string): string {
  return FULL.format(new Date(time))
}

/** How long ago something was, going on by itself; the time itself on pointing. */
export function Ago({ time, never = 'never' }: { time: string | null | undefined; never?: string }) {
  if (!time) return <span class="soft">{never}</span>
  const seconds = (now.value - Date.parse(time)) / 1_000
  const text = seconds > -2 ? `${duration(seconds)} ago` : `in ${duration(-seconds)}`
  return (
    <time class="numbers" dateTime={time} title={moment(time)}>
      {text}
    </time>
  )
}
