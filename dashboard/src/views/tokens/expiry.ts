/** When something that is made now ends, as a person chooses it. */
export const EXPIRIES = [
  { value: '30', text: '30 days' },
  { value: '90', text: '90 days' },
  { value: '365', text: '1 year' },
  { value: 'date', text: 'A day of my choice' },
  { value: 'never', text: 'Never' },
] as const

export type Expiry =
  | { readonly expires_in_days: number | null }
  | { readonly expires_at: string }
  | Readonly<Record<string, never>>

/** What the server is asked for. `day` is `2027-01-31`: through to its end, where the person is. */
export function expiryOf(choice: string, day: string): Expiry {
  if (choice === 'never') return { expires_in_days: null }
  if (choice === 'date') {
    const end = new Date(`${day}T23:59:59`)
    if (Number.isNaN(end.getTime())) throw new Error('Choose the day on which it ends')
    return { expires_at: end.toISOString() }
  }
  const days = Number(choice)
  return choice !== '' && Number.isInteger(days) && days > 0 ? { expires_in_days: days } : {}
}

/** A day as a date box has it, some days from `from`, where the person is. */
export function dayAfter(from: Date, days: number): string {
  const day = new Date(from.getFullYear(), from.getMonth(), from.getDate() + days)
  const two = (part: number) => String(part).padStart(2, '0')
  return `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}`
}

/** Addresses and ranges as people type them: one a line, or with commas. */
export function rangesOf(text: string): string[] {
  return text.split(/[\s,;]+/).filter((range) => range !== '')
}

/** How long a token that was replaced still works. */
export const OVERLAPS = [
  { value: '0', text: 'Not at all: it ends at once' },
  { value: '3600', text: 'One more hour' },
  { value: '86400', text: 'One more day' },
  { value: '604800', text: 'Seven more days' },
  { value: '2592000', text: '30 more days' },
] as const
