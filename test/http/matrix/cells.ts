import type { Answer, Json } from '../api.ts'
import type { About, Place, Subject } from './rules.ts'
import { type Caller, FLEETS, SITES, type World } from './world.ts'

/** One call of a route, about one thing. */
export interface Cell extends About {
  readonly what: string
  readonly url: string
  readonly body?: Json
  /** What somebody who is allowed is answered; a success unless told. */
  readonly status?: number
  /** The refusal that only those hear who are let in, where nobody can succeed here. */
  readonly refusal?: string
  readonly headers?: Readonly<Record<string, string>>
  /** Of a list: everything that it may hold, with where each is. */
  readonly items?: readonly { readonly id: string; readonly at: Place }[]
  /** Makes the world fit for somebody who is allowed; gone with the call. */
  readonly prepare?: (world: World) => Promise<unknown>
  /** What else has to be true of the answer to somebody who is allowed. */
  readonly check?: (answer: Answer, subject: Subject) => void
  /** The thing that changes; undefined where nothing does, or where it is a new one. */
  readonly target?: string | undefined
}

export type Cells = (world: World, caller: Caller) => readonly Cell[]

export const once =
  (url: string, cell: Partial<Cell> = {}): Cells =>
  () => [{ what: 'it', url, ...cell }]

/** The same of each site, fleet or robot. */
export function forEach<At extends Place>(
  places: readonly At[],
  ids: (world: World) => Readonly<Record<At, string>>,
  make: (id: string, at: At, world: World) => Omit<Cell, 'what' | 'at'> & { what?: string },
): Cells {
  return (world) =>
    places.map((at) => {
      const id = ids(world)[at]
      return { what: `in ${at}`, at, target: id, ...make(id, at, world) }
    })
}

export const ofSites = (make: Parameters<typeof forEach<'A' | 'B'>>[2]) =>
  forEach(SITES, (world) => world.sites, make)
export const ofFleets = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.fleets, make)
export const ofRobots = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.robots, make)
export const ofKeys = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.keys, make)

export const ofProvisioningTokens = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.provisioningTokens, make)

export const together =
  (...lists: readonly Cells[]): Cells =>
  (world, caller) =>
    lists.flatMap((cells) => cells(world, caller))

export function itemsOf(ids: Readonly<Partial<Record<Place, string>>>): NonNullable<Cell['items']> {
  return Object.entries(ids).map(([at, id]) => ({ at: at as Place, id: id! }))
}

/** The list as it is, and asked for what is in each site and each fleet. */
export function lists(
  path: string,
  ids: (world: World) => Readonly<Partial<Record<Place, string>>>,
  filters: readonly ('site' | 'fleet')[] = [],
): Cells {
  return (world) => {
    const items = itemsOf(ids(world))
    const bySite = SITES.map((at) => ({
      what: `of site ${at}`,
      url: `${path}?site=${world.sites[at]}`,
      items: items.filter((item) => item.at[0] === at),
    }))
    const byFleet = FLEETS.map((at) => ({
      what: `of fleet ${at}`,
      url: `${path}?fleet=${world.fleets[at]}`,
      items: items.filter((item) => item.at === at),
    }))
    return [
      { what: 'all', url: path, items },
      ...(filters.includes('site') ? bySite : []),
      ...(filters.includes('fleet') ? byFleet : []),
    ]
  }
}

export type CellTable = Readonly<Record<string, Cells>>
