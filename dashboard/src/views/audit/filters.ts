import { addressWith, partsOf } from '../../ui/query.ts'

/** Which lines of the audit log are shown, as it stands in the address; times as `2026-01-31T09:30:00.000Z`. */
const NAMES = [
  'action',
  'actor',
  'user',
  'target',
  'outcome',
  'site',
  'fleet',
  'address',
  'request_id',
  'q',
  'from',
  'to',
] as const

export type AuditFilter = { readonly [Name in (typeof NAMES)[number]]?: string }

const ACTION = /^[a-z_]+\.([a-z_]+)?$/

export function auditFilterOf(url: string): AuditFilter {
  const { action, outcome, from, to, ...rest } = partsOf(url, NAMES)
  return {
    ...rest,
    ...(action && ACTION.test(action) ? { action } : {}),
    ...(outcome === 'ok' || outcome === 'refused' ? { outcome } : {}),
    ...(isInstant(from) ? { from } : {}),
    ...(isInstant(to) ? { to } : {}),
  }
}

function isInstant(text: string | undefined): text is string {
  return (
    text !== undefined &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(text) &&
    !Number.isNaN(Date.parse(text))
  )
}

export const auditAddressOf = (filter: AuditFilter): string => addressWith('/audit', filter)

/** With parts changed; undefined takes one away. A fleet of another site goes with the site. */
export function withParts(
  filter: AuditFilter,
  parts: { [Name in keyof AuditFilter]: string | undefined },
): AuditFilter {
  const next: Record<string, string | undefined> = { ...filter, ...parts }
  if ('site' in parts && parts.site !== filter.site) delete next.fleet
  return Object.fromEntries(Object.entries(next).filter(([, value]) => value))
}

export const isNarrowed = (filter: AuditFilter): boolean => Object.keys(filter).length > 0

/** Where all lines that pass the filter are downloaded. */
export const exportAddressOf = (filter: AuditFilter, format: 'ndjson' | 'csv'): string =>
  addressWith('/api/audit/export', { ...filter, format })

/** An instant as a date-and-time box has it, where the person is. */
export function localOf(instant: string | undefined): string {
  if (!isInstant(instant)) return ''
  const at = new Date(instant)
  const two = (part: number) => String(part).padStart(2, '0')
  const day = `${String(at.getFullYear()).padStart(4, '0')}-${two(at.getMonth() + 1)}-${two(at.getDate())}`
  return `${day}T${two(at.getHours())}:${two(at.getMinutes())}`
}

/** The instant of what a date-and-time box has; undefined: nothing that is one. */
export function instantOf(local: string): string | undefined {
  const at = new Date(local)
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(local) || Number.isNaN(at.getTime())) return undefined
  return at.toISOString()
}
