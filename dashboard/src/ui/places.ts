import { all } from '../api/client.ts'
import type { Fleet, Site } from '../api/types.ts'
import { maySomewhere } from '../session/session.ts'
import { type Loaded, useLoaded } from './loaded.ts'

export interface Places {
  readonly sites: readonly Site[]
  readonly fleets: readonly Fleet[]
}

interface At {
  readonly site_id: string | null
  readonly fleet_id: string | null
}

/** The sites and fleets within the viewer's reach. */
export function usePlaces(): Loaded<Places> {
  return useLoaded(async () => {
    if (!maySomewhere('robots:read')) return { sites: [], fleets: [] }
    const [sites, fleets] = await Promise.all([all<Site>('/api/sites'), all<Fleet>('/api/fleets')])
    return { sites, fleets }
  }, [])
}

/** A place in words; one that is out of reach or gone by its id. */
export function placeName({ sites, fleets }: Places, { site_id, fleet_id }: At): string {
  if (fleet_id !== null) {
    const fleet = fleets.find(({ id }) => id === fleet_id)
    const site = sites.find(({ id }) => id === fleet?.site_id)
    return fleet ? `${fleet.name}${site ? `, ${site.name}` : ''}` : `fleet ${fleet_id}`
  }
  if (site_id !== null) return sites.find(({ id }) => id === site_id)?.name ?? `site ${site_id}`
  return 'the whole deployment'
}
