import { useState } from 'preact/hooks'
import { api } from '../api/client.ts'
import type { EnrollmentKey, NewProvisioningToken } from '../api/types.ts'
import { Field } from '../ui/field.tsx'
import { Form } from '../ui/form.tsx'
import type { Places } from '../ui/places.ts'
import { FleetFields, useFleetChoice } from './fleet-choice.tsx'
import { KINDS, type Kind, type MadeKey, madeOf, ON_EXISTING_SAYS } from './kinds.ts'
import { HOURS, newKeyOf } from './terms.ts'
import './keys.css'

/** Fields that stand under "More": it opens when the server finds something wrong with one. */
const MORE = ['labels', 'allowed_cidrs', 'on_existing', 'retrievable']

/** Makes a key: what everybody has to say first, the rest under "More". */
export function NewKey({
  kind,
  places,
  fleetId,
  name = '',
  onMade,
  onCancel,
}: {
  kind: Kind
  places: Places
  /** Chosen to begin with. */
  fleetId?: string | undefined
  name?: string
  onMade: (made: MadeKey) => void
  onCancel?: () => void
}) {
  const choice = useFleetChoice(places, 'enrollment-keys:write', fleetId)
  const isKey = kind === 'enrollment'
  const [isOpen, setOpen] = useState(false)
  return (
    <Form
      action={isKey ? 'Make the key' : 'Make the token'}
      {...(onCancel ? { onCancel } : {})}
      onSubmit={async (texts) => {
        // Should the rest fail, a new fleet is there and is not made once more.
        const fleet = await choice.resolve(texts)
        choice.set(fleet.id)
        const answer = await api.post<EnrollmentKey | NewProvisioningToken>(
          KINDS[kind].path,
          newKeyOf(kind, fleet, texts),
        )
        onMade(madeOf(answer))
      }}
    >
      {(wrong) => (
        <>
          <FleetFields choice={choice} wrong={wrong} />
          <Field
            name={isKey ? 'Name of the key' : 'Name of the token'}
            hint="Tells batches apart later."
            wrong={wrong('name')}
          >
            <input name="key_name" required maxLength={128} defaultValue={name} autocomplete="off" />
          </Field>
          <div class="pair">
            {isKey && (
              <Field name="Robots" hint="How many it lets in." wrong={wrong('max_uses')}>
                <input
                  name="max_uses"
                  type="number"
                  min={1}
                  max={1_000_000}
                  required
                  defaultValue="100"
                  inputMode="numeric"
                />
              </Field>
            )}
            <Field
              name="Good for"
              hint="Robots that came stay."
              wrong={wrong('expires_in_hours') ?? wrong('expires_in_days')}
            >
              <select name="hours">
                {HOURS.map(({ value, text }) => (
                  <option key={value} value={value} selected={value === (isKey ? '24' : '720')}>
                    {text}
                  </option>
                ))}
              </select>
            </Field>
          </div>
          {!isKey && (
            <label class="check">
              <input type="checkbox" name="single_use" />
              For one robot: it revokes itself once that came
            </label>
          )}
          <label class="check">
            <input type="checkbox" name="approval" />
            Each robot waits until somebody approves it
          </label>
          <details
            class="more"
            open={isOpen || MORE.some((field) => wrong(field) !== undefined)}
            onToggle={(event) => setOpen(event.currentTarget.open)}
          >
            <summary>More</summary>
            <div class="stack">
              <Field
                name="Labels"
                hint="Given to the robots it lets in. One to a line: name=value"
                wrong={wrong('labels')}
              >
                <textarea name="labels" rows={3} placeholder="role=mover" spellcheck={false} />
              </Field>
              <Field
                name="From these addresses alone"
                hint="Addresses or ranges; none: from anywhere."
                wrong={wrong('allowed_cidrs')}
              >
                <textarea name="allowed_cidrs" rows={2} placeholder="10.20.0.0/16" spellcheck={false} />
              </Field>
              <Field name="A machine that is enrolled already" wrong={wrong('on_existing')}>
                <select name="on_existing">
                  {Object.entries(ON_EXISTING_SAYS).map(([value, says]) => (
                    <option key={value} value={value}>
                      {says}
                    </option>
                  ))}
                </select>
              </Field>
              {isKey && (
                <label class="check">
                  <input type="checkbox" name="retrievable" defaultChecked />
                  Can be shown again later, to whoever may read keys
                </label>
              )}
            </div>
          </details>
        </>
      )}
    </Form>
  )
}
