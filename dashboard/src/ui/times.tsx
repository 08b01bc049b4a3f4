import { now } from './clock.ts'
import { duration } from './duration.ts'

const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

export function moment(time: string): string {
  return FULL.format(new Date(time))
}

/** How long something has lasted, going on by itself: `3 min`; since when on pointing. */
export function Lasting({ since }: { since: string | null | undefined }) {
  if (!since) return null
  return (
    <time class="numbers" dateTime={since} title={`since ${moment(since)}`}>
      {duration((now.value - Date.parse(since)) / 1_000)}
    </time>
  )
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
