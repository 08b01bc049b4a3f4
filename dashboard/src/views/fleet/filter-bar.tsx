import { useEffect, useRef, useState } from 'preact/hooks'
import type { Fleet, Site } from '../../api/types.ts'
import { Button } from '../../ui/button.tsx'
import { type FleetFilter, isNarrowed, withPart } from './filters.ts'

const TYPING_MS = 250

/** What is typed, told once it rests. */
function Typed({
  name,
  value,
  placeholder,
  onValue,
}: {
  name: string
  value: string
  placeholder: string
  onValue: (value: string) => void
}) {
  const [text, setText] = useState(value)
  const timer = useRef<ReturnType<typeof setTimeout>>()
  useEffect(() => setText(value), [value])
  useEffect(() => () => clearTimeout(timer.current), [])
  return (
    <input
      type="search"
      aria-label={name}
      placeholder={placeholder}
      value={text}
      onInput={(event) => {
        const typed = event.currentTarget.value
        setText(typed)
        clearTimeout(timer.current)
        timer.current = setTimeout(() => onValue(typed.trim()), TYPING_MS)
      }}
    />
  )
}

function Choice({
  name,
  value,
  options,
  onValue,
}: {
  name: string
  value: string | undefined
  options: readonly { readonly value: string; readonly text: string }[]
  onValue: (value: string | undefined) => void
}) {
  return (
    <select
      aria-label={name}
      value={value ?? ''}
      onChange={(event) => onValue(event.currentTarget.value || undefined)}
    >
      <option value="">{name}: any</option>
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.text}
        </option>
      ))}
    </select>
  )
}

const words = (...values: string[]) => values.map((value) => ({ value, text: value }))

export function FilterBar({
  filter,
  sites,
  fleets,
  onFilter,
}: {
  filter: FleetFilter
  sites: readonly Site[]
  fleets: readonly Fleet[]
  onFilter: (filter: FleetFilter) => void
}) {
  const set = (name: keyof FleetFilter) => (value: string | undefined) =>
    onFilter(withPart(filter, { [name]: value || undefined }))
  return (
    // biome-ignore lint/a11y/useSemanticElements: the element is not known to screen readers everywhere yet.
    <div class="filters" role="search" aria-label="Filter the robots">
      <Typed name="Name or id" placeholder="Name or id" value={filter.q ?? ''} onValue={set('q')} />
      <Typed
        name="Label"
        placeholder="Label or label=value"
        value={filter.label ?? ''}
        onValue={set('label')}
      />
      <Choice
        name="Site"
        value={filter.site}
        options={sites.map(({ id, name }) => ({ value: id, text: name }))}
        onValue={set('site')}
      />
      <Choice
        name="Fleet"
        value={filter.fleet}
        options={fleets
          .filter(({ site_id }) => !filter.site || site_id === filter.site)
          .map(({ id, name }) => ({ value: id, text: name }))}
        onValue={set('fleet')}
      />
      <Choice
        name="Health"
        value={filter.health}
        options={words('ok', 'warn', 'error', 'unknown')}
        onValue={set('health')}
      />
      <Choice
        name="Lifecycle"
        value={filter.lifecycle}
        options={words('active', 'maintenance', 'pending', 'retired')}
        onValue={set('lifecycle')}
      />
      {isNarrowed(filter) && (
        <Button kind="quiet" onClick={() => onFilter(filter.sort ? { sort: filter.sort } : {})}>
          Show all
        </Button>
      )}
    </div>
  )
}
