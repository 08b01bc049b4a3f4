import type { Counts } from '../../live/feed.ts'
import type { Tone } from '../../ui/badge.tsx'
import { type FleetFilter, withPart } from './filters.ts'

interface Item {
  readonly name: string
  readonly tone: Tone
  readonly part: Partial<Record<keyof FleetFilter, string>>
  readonly count: (counts: Counts) => number
}

const ITEMS: readonly Item[] = [
  {
    name: 'Online',
    tone: 'ok',
    part: { connection: 'online' },
    count: ({ connection }) => connection.online,
  },
  { name: 'Stale', tone: 'warn', part: { connection: 'stale' }, count: ({ connection }) => connection.stale },
  {
    name: 'Offline',
    tone: 'error',
    part: { connection: 'offline' },
    count: ({ connection }) => connection.offline,
  },
  {
    name: 'Never seen',
    tone: 'idle',
    part: { connection: 'unseen' },
    count: ({ connection }) => connection.unseen,
  },
  {
    name: 'Pending',
    tone: 'wait',
    part: { lifecycle: 'pending' },
    count: ({ lifecycle }) => lifecycle.pending,
  },
  { name: 'With faults', tone: 'error', part: { faults: 'true' }, count: ({ faults }) => faults },
]

/** How many robots are how; a click shows those alone, another all of them again. */
export function StatusBar({
  counts,
  filter,
  onFilter,
}: {
  counts: Counts | undefined
  filter: FleetFilter
  onFilter: (filter: FleetFilter) => void
}) {
  return (
    <fieldset class="status-bar">
      <legend class="visually-hidden">Show robots that are</legend>
      {ITEMS.map(({ name, tone, part, count }) => {
        const [key, value] = Object.entries(part)[0]! as [keyof FleetFilter, string]
        const isChosen = filter[key] === value
        return (
          <button
            key={name}
            type="button"
            class="status"
            data-tone={tone}
            data-empty={counts !== undefined && count(counts) === 0}
            aria-pressed={isChosen}
            onClick={() => onFilter(withPart(filter, { [key]: isChosen ? undefined : value }))}
          >
            <span class="count numbers">{counts ? count(counts).toLocaleString() : '–'}</span>
            <span class="name">{name}</span>
          </button>
        )
      })}
    </fieldset>
  )
}
