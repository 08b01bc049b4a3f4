import type { Counts } from '../../live/feed.ts'

/** What the fleet view is about, as it stands in the address. */
export interface FleetFilter {
  readonly q?: string
  readonly site?: string
  readonly fleet?: string
  readonly label?: string
  readonly connection?: string
  readonly health?: string
  readonly lifecycle?: string
  readonly faults?: 'true'
  readonly sort?: string
}

const NAMES = ['q', 'site', 'fleet', 'label', 'connection', 'health', 'lifecycle', 'faults', 'sort'] as const
/** What people choose by the status bar and the boxes beside it; the rest says which robots they choose among. */
const STATES = ['connection', 'health', 'lifecycle', 'faults'] as const

/** The filter of an address; what it does not know is left out. */
export function filterOf(url: string): FleetFilter {
  const search = new URLSearchParams(url.split('?')[1]?.split('#')[0] ?? '')
  return Object.fromEntries(
    NAMES.flatMap((name) => {
      const value = search.get(name)?.trim()
      return value && (name !== 'faults' || value === 'true') ? [[name, value]] : []
    }),
  )
}

export function addressOf(filter: FleetFilter): string {
  const search = new URLSearchParams()
  for (const name of NAMES) if (filter[name]) search.set(name, filter[name])
  const text = search.toString()
  return text === '' ? '/' : `/?${text}`
}

/** With one part changed; undefined takes it away. A fleet of another site goes with the site. */
export function withPart(
  filter: FleetFilter,
  part: Partial<Record<keyof FleetFilter, string | undefined>>,
): FleetFilter {
  const changed: Record<string, string | undefined> = { ...filter, ...part }
  if ('site' in part && part.site !== filter.site) delete changed.fleet
  return Object.fromEntries(Object.entries(changed).filter(([, value]) => value)) as FleetFilter
}

/** The part that says among which robots one chooses, without what is chosen. */
export function baseOf(filter: FleetFilter): FleetFilter {
  const { sort: _, ...rest } = filter
  return Object.fromEntries(
    Object.entries(rest).filter(([name]) => !(STATES as readonly string[]).includes(name)),
  )
}

/** Robots that were retired are shown to whoever asks for them alone: nobody waits for them, and the counts leave them out. */
const IN_USE = ['pending', 'active', 'maintenance']

/** What the list is asked for. */
export function listQueryOf(filter: FleetFilter): Readonly<Record<string, string | readonly string[]>> {
  return { lifecycle: IN_USE, ...filter }
}

/** How many robots pass the filter, where the counts tell: they do not say how many are two things at once. */
export function totalOf(filter: FleetFilter, counts: Counts | undefined): number | undefined {
  if (!counts) return undefined
  const chosen = STATES.filter((name) => filter[name] !== undefined)
  const [state] = chosen
  if (chosen.length > 1) return undefined
  if (state === undefined) return counts.robots
  if (state === 'faults') return counts.faults
  const tally: Readonly<Record<string, number>> = counts[state]
  return tally[filter[state]!]
}

export function isNarrowed(filter: FleetFilter): boolean {
  return NAMES.some((name) => name !== 'sort' && filter[name] !== undefined)
}

interface State {
  readonly connection: string
  readonly health: string
  readonly lifecycle: string
  readonly heartbeat?: { readonly faults?: readonly unknown[] | undefined } | null
}

/**
 * Whether a robot that passed the filter still does, as far as states go. Faults only where the heartbeat is known.
 */
export function isStillIn(filter: FleetFilter, robot: State): boolean {
  const fits = (wanted: string | undefined, is: string) => wanted === undefined || wanted === is
  return (
    fits(filter.connection, robot.connection) &&
    fits(filter.health, robot.health) &&
    (filter.lifecycle === undefined
      ? IN_USE.includes(robot.lifecycle)
      : filter.lifecycle === robot.lifecycle) &&
    (filter.faults === undefined ||
      robot.heartbeat === undefined ||
      (robot.heartbeat?.faults?.length ?? 0) > 0)
  )
}

/** What the list is sorted by unless something else is asked for. */
export const USUAL_SORT = 'name'

/** The sort that a click on a column's head asks for: by it, then the other way round, then as usual. */
export function nextSort(sort: string | undefined, column: string): string | undefined {
  const now = sort ?? USUAL_SORT
  if (now === column) return `-${column}`
  if (now === `-${column}` || column === USUAL_SORT) return undefined
  return column
}
