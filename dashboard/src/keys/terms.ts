import type { Kind } from './kinds.ts'

/** Labels as people type them: one to a line, `name=value` or `name`. */
export function labelsOf(text: string): Record<string, string> {
  return Object.fromEntries(
    linesOf(text).map((line) => {
      const equals = line.indexOf('=')
      return equals < 0 ? [line, ''] : [line.slice(0, equals).trim(), line.slice(equals + 1).trim()]
    }),
  )
}

/** Addresses and ranges as people type them: between line breaks, spaces or commas. */
export function cidrsOf(text: string): string[] {
  return [...new Set(text.split(/[\s,;]+/).filter((part) => part !== ''))]
}

function linesOf(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

export const HOURS = [
  { value: '1', text: '1 hour' },
  { value: '24', text: '1 day' },
  { value: '168', text: '7 days' },
  { value: '720', text: '30 days' },
  { value: '2160', text: '90 days' },
  { value: '8760', text: '1 year' },
  { value: '', text: 'Until it is revoked' },
] as const

/** What a form says of a new key, as the REST interface takes it. */
export function newKeyOf(
  kind: Kind,
  fleet: { readonly id: string; readonly site_id: string },
  texts: Readonly<Record<string, string>>,
): Record<string, unknown> {
  const hours = texts.hours === '' ? null : Number(texts.hours)
  const policies = {
    name: texts.key_name,
    fleet_id: fleet.id,
    labels: labelsOf(texts.labels ?? ''),
    allowed_cidrs: cidrsOf(texts.allowed_cidrs ?? ''),
    require_approval: texts.approval === 'on',
    on_existing: texts.on_existing ?? 'rebind',
  }
  if (kind === 'enrollment')
    return {
      ...policies,
      site_id: fleet.site_id,
      max_uses: Number(texts.max_uses),
      expires_in_hours: hours,
      retrievable: texts.retrievable === 'on',
    }
  return {
    ...policies,
    expires_in_days: hours === null ? null : hours / 24,
    single_use: texts.single_use === 'on',
  }
}
