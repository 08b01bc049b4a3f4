import type { Client, Query } from './client.ts'
import { CliError, EXIT } from './failure.ts'
import { findFleet, findSite } from './places.ts'
import { hoursOf, printable } from './text.ts'

export interface AuditFilters {
  readonly action?: readonly string[]
  readonly outcome?: string
  readonly actor?: string
  readonly user?: string
  readonly target?: string
  readonly site?: string
  readonly fleet?: string
  readonly address?: string
  readonly from?: string
  readonly to?: string
  readonly query?: string
  readonly request?: string
}

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const HOUR_MS = 3_600_000

/** A time as the server takes it: given as such, or as how long ago. */
function timeOf(text: string | undefined, now: number): string | undefined {
  if (text === undefined) return undefined
  if (/^\d{4}-/.test(text)) {
    if (Number.isNaN(Date.parse(text)))
      throw new CliError(`"${printable(text)}" is not a time like 2026-03-01T12:00:00Z`, EXIT.usage)
    return new Date(text).toISOString()
  }
  const hours = hoursOf(text)
  if (hours === null) throw new CliError(`"${printable(text)}" is not a time`, EXIT.usage)
  return new Date(now - hours * HOUR_MS).toISOString()
}

/** The filters as the server takes them. */
export async function auditQuery(client: Client, filters: AuditFilters, now: number): Promise<Query> {
  const { action, outcome, actor, user, target, address } = filters
  const [from, to] = [timeOf(filters.from, now), timeOf(filters.to, now)]
  // An id may be that of a place which is gone: the log outlives it.
  const siteNamed =
    filters.site === undefined || ID.test(filters.site) ? undefined : await findSite(client, filters.site)
  const site = siteNamed?.id ?? filters.site
  const fleet =
    filters.fleet === undefined || ID.test(filters.fleet)
      ? filters.fleet
      : (await findFleet(client, filters.fleet, siteNamed)).id
  return {
    action,
    outcome,
    actor,
    user,
    target,
    site,
    fleet,
    address,
    from,
    to,
    q: filters.query,
    request_id: filters.request,
  }
}
