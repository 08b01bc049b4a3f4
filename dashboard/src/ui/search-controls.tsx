import { useEffect, useRef, useState } from 'preact/hooks'

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

export const words = (...values: string[]): Option[] => values.map((value) => ({ value, text: value }))
