import type { Fleet, Site } from '../../api/types.ts'
import { Button } from '../../ui/button.tsx'
import { Choice, PlaceChoices, Typed, words } from '../../ui/search-controls.tsx'
import { type FleetFilter, isNarrowed, withPart } from './filters.ts'

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
      <Typed name="Label" placeholder="Label[=value]" value={filter.label ?? ''} onValue={set('label')} />
      <PlaceChoices filter={filter} places={{ sites, fleets }} onPlace={(place, id) => set(place)(id)} />
      <Choice
        name="Health"
        value={filter.health}
        options={words('ok', 'warn', 'error', 'unknown')}
        onValue={set('health')}
      />
      <Choice
        name="Lifecycle"
        any="in use"
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
