import { useState } from 'preact/hooks'
import { Field } from '../../ui/field.tsx'
import { dayAfter, EXPIRIES } from './expiry.ts'

const MOST_DAYS = 3_650

/** Asks when something ends; the form holds `expiry` and `expiry_day`, for `expiryOf`. */
export function ExpiryField({ wrong, asBefore = false }: { wrong: string | undefined; asBefore?: boolean }) {
  const [choice, setChoice] = useState(asBefore ? '' : '90')
  const today = new Date()
  return (
    <>
      <Field
        name="Ends after"
        wrong={choice === 'date' ? undefined : wrong}
        hint={
          choice === 'never'
            ? 'It works until somebody revokes it: keep it where nobody finds it.'
            : undefined
        }
      >
        <select name="expiry" value={choice} onChange={(event) => setChoice(event.currentTarget.value)}>
          {asBefore && <option value="">As long as the old one was made for</option>}
          {EXPIRIES.map(({ value, text }) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      </Field>
      {choice === 'date' && (
        <Field name="Last day" wrong={wrong}>
          <input
            name="expiry_day"
            type="date"
            required
            min={dayAfter(today, 0)}
            max={dayAfter(today, MOST_DAYS - 1)}
            defaultValue={dayAfter(today, 180)}
          />
        </Field>
      )}
    </>
  )
}
