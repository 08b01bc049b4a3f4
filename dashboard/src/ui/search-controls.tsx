import { useEffect, useRef, useState } from 'preact/hooks'
import type { Fleet, Site } from '../api/types.ts'

const TYPING_MS = 250

/** What is typed, told once it rests. */
export function Typed({
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

export interface Option {
  readonly value: string
  readonly text: string
}

export function Choice({
  name,
  value,
  options,
  any = 'any',
  onValue,
}: {
  name: string
  value: string | undefined
  options: readonly Option[]
  /** What stands for no choice. */
  any?: string
  onValue: (value: string | undefined) => void
}) {
  return (
    <select
      aria-label={name}
      value={value ?? ''}
      onChange={(event) => onValue(event.currentTarget.value || undefined)}
    >
      <option value="">
        {name}: {any}
      </option>
      {options.map((option) => (
        <option key={option.value} value={option.value}>
          {option.text}
        </option>
      ))}
    </select>
  )
}

/** The choice of a site, and of a fleet of it. */
export function PlaceChoices({
  filter,
  places: { sites, fleets },
  onPlace,
}: {
  filter: { readonly site?: string | undefined; readonly fleet?: string | undefined }
  places: { readonly sites: readonly Site[]; readonly fleets: readonly Fleet[] }
  onPlace: (place: 'site' | 'fleet', id: string | undefined) => void
}) {
  return (
    <>
      <Choice
        name="Site"
        value={filter.site}
        options={sites.map(({ id, name }) => ({ value: id, text: name }))}
        onValue={(id) => onPlace('site', id)}
      />
      <Choice
        name="Fleet"
        value={filter.fleet}
        options={fleets
          .filter(({ site_id }) => !filter.site || site_id === filter.site)
          .map(({ id, name }) => ({ value: id, text: name }))}
        onValue={(id) => onPlace('fleet', id)}
      />
    </>
  )
}

export const words = (...values: string[]): Option[] => values.map((value) => ({ value, text: value }))
