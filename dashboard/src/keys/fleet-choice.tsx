import { useState } from 'preact/hooks'
import type { Scope } from '../../../src/access/scopes.ts'
import { api } from '../api/client.ts'
import type { Fleet, Site } from '../api/types.ts'
import { may } from '../session/session.ts'
import { Field } from '../ui/field.tsx'
import type { Places } from '../ui/places.ts'

const NEW = 'new'

export interface FleetChoice {
  readonly places: Places
  /** Fleets that can be chosen. */
  readonly usable: readonly Fleet[]
  readonly mayMake: boolean
  readonly value: string
  readonly set: (value: string) => void
  /** The chosen fleet, made with its site when it is new. `texts`: what the form holds. */
  readonly resolve: (texts: Readonly<Record<string, string>>) => Promise<{ id: string; site_id: string }>
}

/** A choice among the fleets where the viewer may do something, or of a new one where they may make fleets. */
export function useFleetChoice(places: Places, scope: Scope, preset?: string): FleetChoice {
  const usable = places.fleets.filter(({ id, site_id }) => may(scope, { site_id, fleet_id: id }))
  const [chosen, set] = useState(preset)
  const known = usable.find(({ id }) => id === chosen)
  const value = chosen === NEW ? NEW : (known?.id ?? usable[0]?.id ?? NEW)
  return {
    places,
    usable,
    mayMake: may('robots:write'),
    value,
    set,
    resolve: async (texts) => {
      const fleet = usable.find(({ id }) => id === value)
      if (fleet) return fleet
      const site =
        places.sites.find(({ name }) => name === texts.site_name) ??
        (await api.post<Site>('/api/sites', { name: texts.site_name }))
      return api.post<Fleet>('/api/fleets', { site_id: site.id, name: texts.fleet_name })
    },
  }
}

/** The fields of that choice. */
export function FleetFields({
  choice,
  wrong,
}: {
  choice: FleetChoice
  wrong: (field: string) => string | undefined
}) {
  const { places, usable, mayMake, value, set } = choice
  const siteNames = new Map(places.sites.map(({ id, name }) => [id, name]))
  return (
    <>
      {usable.length > 0 && (
        <Field
          name="Fleet"
          hint="Where the robots belong. They can be moved later."
          wrong={wrong('fleet_id') ?? wrong('site_id')}
        >
          <select value={value} onChange={(event) => set(event.currentTarget.value)}>
            {usable.map(({ id, name, site_id }) => (
              <option key={id} value={id}>
                {siteNames.get(site_id) ?? 'site'} · {name}
              </option>
            ))}
            {mayMake && <option value={NEW}>A new fleet…</option>}
          </select>
        </Field>
      )}
      {value === NEW && (
        <div class="pair">
          <Field name="Site" hint="Where they are." wrong={wrong('site_id')}>
            <input
              name="site_name"
              required
              maxLength={128}
              list="site-names"
              defaultValue={places.sites[0]?.name ?? 'Main site'}
            />
          </Field>
          <Field name="Fleet" hint="What they are." wrong={wrong('fleet_id')}>
            <input name="fleet_name" required maxLength={128} defaultValue="Robots" />
          </Field>
          <datalist id="site-names">
            {places.sites.map(({ id, name }) => (
              <option key={id} value={name} />
            ))}
          </datalist>
        </div>
      )}
    </>
  )
}
