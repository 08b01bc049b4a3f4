import type { Client } from './client.ts'
import { CliError } from './failure.ts'
import { connect, type OperatorOptions, printJson, printLines } from './operator.ts'
import { printTable } from './print-table.ts'
import type { Fleet, Site } from './shapes.ts'
import type { Terminal } from './terminal.ts'
import { printable, secondsOf, when } from './text.ts'

/** Finds what a person named, by its id or else by its name. */
function pick<Place extends Site | Fleet>(
  kind: string,
  places: readonly Place[],
  wanted: string,
): Place | undefined {
  const found = places.find(({ id }) => id === wanted)
  if (found) return found
  const named = places.filter(({ name }) => name === wanted)
  if (named.length > 1)
    throw new CliError(
      `several ${kind}s are called "${wanted}"; name one by its id: ${named.map(({ id }) => id).join(', ')}`,
    )
  return named[0]
}

async function siteNamed(client: Client, wanted: string): Promise<Site | undefined> {
  return pick('site', (await client.list<Site>('/api/sites')).items, wanted)
}

async function fleetNamed(client: Client, wanted: string, siteId?: string): Promise<Fleet | undefined> {
  return pick('fleet', (await client.list<Fleet>('/api/fleets', { site: siteId })).items, wanted)
}

/** The site with this id or name. */
export async function findSite(client: Client, wanted: string): Promise<Site> {
  const site = await siteNamed(client, wanted)
  if (!site) throw new CliError(`there is no site "${wanted}"`)
  return site
}

/** The fleet with this id or name, within a site when one is given. */
export async function findFleet(client: Client, wanted: string, site?: Site): Promise<Fleet> {
  const fleet = await fleetNamed(client, wanted, site?.id)
  if (!fleet) throw new CliError(`there is no fleet "${wanted}"${site ? ` in the site "${site.name}"` : ''}`)
  return fleet
}

/** Finds a site and a fleet in it, and makes whichever is missing. */
export async function ensurePlaces(client: Client, wanted: { site: string; fleet: string }) {
  const site =
    (await siteNamed(client, wanted.site)) ?? (await client.post<Site>('/api/sites', { name: wanted.site }))
  const fleet =
    (await fleetNamed(client, wanted.fleet, site.id)) ??
    (await client.post<Fleet>('/api/fleets', { site_id: site.id, name: wanted.fleet }))
  return { site, fleet }
}

export async function listSites(terminal: Terminal, options: OperatorOptions): Promise<void> {
  const sites = await connect(options, terminal).list<Site>('/api/sites')
  if (options.json) return printJson(terminal, sites)
  printTable(terminal, sites.items, 'There are no sites yet. Make one with: beacon sites create <name>', [
    { title: 'NAME', cell: (site) => printable(site.name), minWidth: 8 },
    { title: 'ID', cell: (site) => site.id },
    { title: 'CREATED', cell: (site) => when(site.created_at), dropOrder: 1 },
  ])
}

export async function createSite(terminal: Terminal, name: string, options: OperatorOptions): Promise<void> {
  const site = await connect(options, terminal).post<Site>('/api/sites', { name })
  if (options.json) return printJson(terminal, site)
  printLines(terminal, [`site "${printable(site.name)}" is there: ${site.id}`])
}

interface FleetListOptions extends OperatorOptions {
  readonly site?: string
}

export async function listFleets(terminal: Terminal, options: FleetListOptions): Promise<void> {
  const client = connect(options, terminal)
  const { items: sites } = await client.list<Site>('/api/sites')
  const site = options.site === undefined ? undefined : await findSite(client, options.site)
  const fleets = await client.list<Fleet>('/api/fleets', { site: site?.id })
  if (options.json) return printJson(terminal, fleets)
  const siteNames = new Map(sites.map(({ id, name }) => [id, name]))
  printTable(
    terminal,
    fleets.items,
    'There are no fleets yet. Make one with: beacon fleets create <name> --site <site>',
    [
      {
        title: 'SITE',
        cell: (fleet) => printable(siteNames.get(fleet.site_id) ?? fleet.site_id),
        minWidth: 8,
      },
      { title: 'NAME', cell: (fleet) => printable(fleet.name), minWidth: 8 },
      { title: 'ID', cell: (fleet) => fleet.id },
      {
        title: 'HEARTBEAT',
        cell: (fleet) =>
          fleet.heartbeat_interval_ms ? `${fleet.heartbeat_interval_ms / 1000} s` : 'default',
        align: 'right',
        dropOrder: 1,
      },
    ],
  )
}

interface FleetCreateOptions extends OperatorOptions {
  readonly site: string
  readonly heartbeatSeconds?: string
}

export async function createFleet(
  terminal: Terminal,
  name: string,
  options: FleetCreateOptions,
): Promise<void> {
  const seconds = options.heartbeatSeconds === undefined ? undefined : secondsOf(options.heartbeatSeconds)
  const client = connect(options, terminal)
  const site = await findSite(client, options.site)
  const fleet = await client.post<Fleet>('/api/fleets', {
    site_id: site.id,
    name,
    ...(seconds === undefined ? {} : { heartbeat_interval_ms: Math.round(seconds * 1000) }),
  })
  if (options.json) return printJson(terminal, fleet)
  printLines(terminal, [`fleet "${printable(fleet.name)}" is in "${printable(site.name)}": ${fleet.id}`])
}
