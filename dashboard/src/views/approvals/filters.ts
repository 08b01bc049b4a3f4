import { addressWith, partsOf } from '../../ui/query.ts'

/** Which of the waiting robots, as it stands in the address. */
export interface QueueFilter {
  readonly q?: string
  readonly site?: string
  readonly fleet?: string
  readonly credential?: string
  readonly label?: string
  /** For longer than this many hours. */
  readonly waited?: string
}

const NAMES = ['q', 'site', 'fleet', 'credential', 'label', 'waited'] as const
const HOUR_MS = 3_600_000

export const WAITED = [
  { value: '1', text: 'for over an hour' },
  { value: '24', text: 'for over a day' },
  { value: '48', text: 'for over two days' },
] as const

export function queueFilterOf(url: string): QueueFilter {
  const { waited, ...rest } = partsOf(url, NAMES)
  return waited !== undefined && Number(waited) > 0 ? { ...rest, waited } : rest
}

export function addressOf(filter: QueueFilter): string {
  return addressWith('/approvals', { ...filter })
}

/** With one part changed; undefined takes it away. A fleet of another site goes with the site. */
export function withPart(
  filter: QueueFilter,
  part: Partial<Record<keyof QueueFilter, string | undefined>>,
): QueueFilter {
  const changed: Record<string, string | undefined> = { ...filter, ...part }
  if ('site' in part && part.site !== filter.site) delete changed.fleet
  return Object.fromEntries(Object.entries(changed).filter(([, value]) => value)) as QueueFilter
}

export function isNarrowed(filter: QueueFilter): boolean {
  return Object.keys(filter).length > 0
}

/** What the REST interface is asked by; `now` in milliseconds. */
export function queryOf({ waited, ...rest }: QueueFilter, now: number): Record<string, string | undefined> {
  return {
    ...rest,
    ...(waited === undefined ? {} : { older_than: new Date(now - Number(waited) * HOUR_MS).toISOString() }),
  }
}

/** The same, where many are decided about with one request: there labels are a list. */
export function bodyOf(query: Readonly<Record<string, string | undefined>>): Record<string, unknown> {
  const { label, ...rest } = query
  return { ...rest, ...(label === undefined ? {} : { label: [label] }) }
}

interface Row {
  readonly id: string
}

/**
 * What to show once the list was loaded anew. While somebody points at the rows or has chosen some, those that are gone
 * stay where they are and new ones come at the end, so that nothing moves under the pointer.
 */
export function settled<Item extends Row>(
  shown: readonly Item[],
  fresh: readonly Item[],
  isHeld: boolean,
): { readonly rows: readonly Item[]; readonly gone: ReadonlySet<string> } {
  if (!isHeld) return { rows: fresh, gone: new Set() }
  const byId = new Map(fresh.map((row) => [row.id, row]))
  const known = new Set(shown.map(({ id }) => id))
  return {
    rows: [...shown.map((row) => byId.get(row.id) ?? row), ...fresh.filter(({ id }) => !known.has(id))],
    gone: new Set(shown.filter(({ id }) => !byId.has(id)).map(({ id }) => id)),
  }
}
