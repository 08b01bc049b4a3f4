import { expect } from 'vitest'
import type { Answer, Json } from '../api.ts'
import { type About, may, type Place, type Scope, type Subject, sees } from './rules.ts'
import { FLEETS, SITES, siteOf, type World } from './world.ts'

/** One call of a route, about one thing. */
export interface Cell extends About {
  readonly what: string
  readonly url: string
  readonly body?: Json
  /** What somebody who is allowed is answered; a success unless told. */
  readonly status?: number
  /** Of a list: everything that it may hold, with where each is. */
  readonly items?: readonly { readonly id: string; readonly at: Place }[]
  /** Makes the world fit for somebody who is allowed; gone with the call. */
  readonly prepare?: (world: World) => Promise<unknown>
  /** What else has to be true of the answer to somebody who is allowed. */
  readonly check?: (answer: Answer, subject: Subject) => void
  /** The thing that changes; undefined where nothing does, or where it is a new one. */
  readonly target?: string
}

type Cells = (world: World) => readonly Cell[]

const once =
  (url: string, cell: Partial<Cell> = {}): Cells =>
  () => [{ what: 'it', url, ...cell }]

/** The same of each site, fleet or robot. */
function forEach<At extends Place>(
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

const ofSites = (make: Parameters<typeof forEach<'A' | 'B'>>[2]) =>
  forEach(SITES, (world) => world.sites, make)
const ofFleets = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.fleets, make)
const ofRobots = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.robots, make)
const ofKeys = (make: Parameters<typeof forEach<'A1' | 'A2' | 'B1'>>[2]) =>
  forEach(FLEETS, (world) => world.keys, make)

const together =
  (...lists: readonly Cells[]): Cells =>
  (world) =>
    lists.flatMap((cells) => cells(world))

function itemsOf(ids: Readonly<Partial<Record<Place, string>>>): NonNullable<Cell['items']> {
  return Object.entries(ids).map(([at, id]) => ({ at: at as Place, id: id! }))
}

/** The list as it is, and asked for what is in each site and each fleet. */
function lists(
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

/** Only those who may reveal a key read its value. */
const revealed =
  (at: Place): NonNullable<Cell['check']> =>
  ({ body }, subject) =>
    expect(typeof body.key_value).toBe(may(subject, 'enrollment-keys:reveal', at) ? 'string' : 'object')

const SITE_NAMES = { scope: 'robots:write', at: 'deployment' } as const
const fleetNames = (at: 'A1' | 'A2' | 'B1') => ({ scope: 'robots:write' as Scope, at: siteOf(at) })
const emptied =
  (at: 'A1' | 'A2' | 'B1'): NonNullable<Cell['prepare']> =>
  ({ db, fleets }) =>
    db.query('DELETE FROM robots WHERE fleet_id = $1', [fleets[at]])

/** The calls of every route. */
export const CELLS: Readonly<Record<string, Cells>> = {
  'GET /healthz': once('/healthz'),
  'GET /readyz': once('/readyz'),
  'GET /api/info': once('/api/info'),
  'GET /openapi.json': once('/openapi.json'),
  'GET /agent/ws': once('/agent/ws', { status: 426 }),
  'POST /agent/enroll': once('/agent/enroll', { body: { fingerprint: {} } }),

  'GET /metrics': once('/metrics'),
  'GET /metrics/robots': (world) => [
    {
      what: 'all',
      url: '/metrics/robots',
      check: ({ text }, subject) => {
        const shown = FLEETS.filter((at) => text.includes(world.robots[at]))
        expect(shown).toEqual(FLEETS.filter((at) => may(subject, 'metrics:read', at)))
      },
    },
  ],

  'GET /api/sites': (world) => [
    {
      what: 'all',
      url: '/api/sites',
      check: ({ body }, subject) =>
        expect(body.items.map((item: Json) => item.id)).toEqual(
          SITES.filter((at) => sees(subject, 'robots:read', at)).map((at) => world.sites[at]),
        ),
    },
  ],
  'POST /api/sites': together(
    once('/api/sites', { body: { name: 'a new site' } }),
    once('/api/sites', { what: 'of a taken name', body: { name: 'site in-B.' }, status: 409 }),
  ),
  'GET /api/sites/{id}': ofSites((id) => ({ url: `/api/sites/${id}` })),
  'PATCH /api/sites/{id}': ofSites((id) => ({
    url: `/api/sites/${id}`,
    body: { name: 'renamed' },
    also: SITE_NAMES,
  })),
  'DELETE /api/sites/{id}': ofSites((id) => ({
    url: `/api/sites/${id}`,
    also: SITE_NAMES,
    prepare: async ({ db }) => {
      await db.query('DELETE FROM robots WHERE site_id = $1', [id])
      await db.query('DELETE FROM fleets WHERE site_id = $1', [id])
    },
  })),

  'GET /api/fleets': lists('/api/fleets', (world) => world.fleets, ['site']),
  'POST /api/fleets': (world) =>
    SITES.map((at) => ({
      what: `in ${at}`,
      at,
      url: '/api/fleets',
      body: { site_id: world.sites[at], name: 'a new fleet' },
    })),
  'GET /api/fleets/{id}': ofFleets((id) => ({ url: `/api/fleets/${id}` })),
  'PATCH /api/fleets/{id}': together(
    ofFleets((id) => ({ url: `/api/fleets/${id}`, body: { heartbeat_interval_ms: 5000 } })),
    ofFleets((id, at) => ({
      what: `the name of ${at}`,
      url: `/api/fleets/${id}`,
      body: { name: 'renamed' },
      also: fleetNames(at),
    })),
  ),
  'DELETE /api/fleets/{id}': together(
    ofFleets((id, at) => ({ url: `/api/fleets/${id}`, also: fleetNames(at), prepare: emptied(at) })),
    ofFleets((id, at) => ({
      what: `in ${at}, with robots`,
      url: `/api/fleets/${id}`,
      also: fleetNames(at),
      status: 409,
    })),
  ),

  'GET /api/robots': together(
    lists('/api/robots', (world) => world.robots, ['site', 'fleet']),
    lists('/api/robots?q=in-&sort=-last_seen_at', (world) => world.robots),
  ),
  'POST /api/robots': (world) =>
    FLEETS.map((at) => ({
      what: `in ${at}`,
      at,
      url: '/api/robots',
      body: { fleet_id: world.fleets[at], name: 'a new robot' },
    })),
  'GET /api/robots/{id}': ofRobots((id) => ({ url: `/api/robots/${id}` })),
  'PATCH /api/robots/{id}': together(
    ofRobots((id) => ({ url: `/api/robots/${id}`, body: { name: 'renamed', labels: { a: 'b' } } })),
    (world) =>
      FLEETS.flatMap((at) =>
        FLEETS.filter((to) => to !== at).map((to) => ({
          what: `from ${at} to ${to}`,
          at,
          to,
          url: `/api/robots/${world.robots[at]}`,
          body: { fleet_id: world.fleets[to] },
          target: world.robots[at],
        })),
      ),
  ),
  'GET /api/robots/{id}/heartbeats': ofRobots((id) => ({ url: `/api/robots/${id}/heartbeats` })),
  'GET /api/robots/{id}/events': ofRobots((id) => ({ url: `/api/robots/${id}/events` })),
  'POST /api/robots/{id}/revoke-token': ofRobots((id) => ({ url: `/api/robots/${id}/revoke-token` })),
  'POST /api/robots/{id}/approve': ofRobots((id) => ({
    url: `/api/robots/${id}/approve`,
    prepare: ({ db }) =>
      db.query("UPDATE robots SET lifecycle = 'pending', pending_since = now() WHERE id = $1", [id]),
  })),
  'POST /api/robots/{id}/retire': ofRobots((id) => ({ url: `/api/robots/${id}/retire` })),

  'POST /api/robots/{id}/rotate-token': ofRobots((id) => ({ url: `/api/robots/${id}/rotate-token` })),
  'POST /api/robots/rotate-tokens': (world) => {
    const url = '/api/robots/rotate-tokens'
    const items = itemsOf(world.robots)
    return [
      { what: 'all', url, body: { filter: {} }, items },
      { what: 'all, to see', url, body: { filter: {}, dry_run: true }, items },
      ...FLEETS.map((at) => ({
        what: `in ${at}`,
        url,
        body: { filter: { robot_ids: [world.robots[at]] } },
        items: items.filter((item) => item.at === at),
      })),
    ]
  },

  'GET /api/enrollment-keys': lists('/api/enrollment-keys', (world) => world.keys, ['site', 'fleet']),
  'POST /api/enrollment-keys': (world) =>
    FLEETS.map((at) => ({
      what: `in ${at}`,
      at,
      url: '/api/enrollment-keys',
      body: { site_id: world.sites[siteOf(at)], fleet_id: world.fleets[at], name: 'a new key' },
    })),
  'GET /api/enrollment-keys/{id}': ofKeys((id, at) => ({
    url: `/api/enrollment-keys/${id}`,
    check: revealed(at),
  })),
  'POST /api/enrollment-keys/{id}/revoke': ofKeys((id) => ({
    url: `/api/enrollment-keys/${id}/revoke`,
    body: {},
  })),

  'GET /api/secrets': once('/api/secrets'),
  'POST /api/secrets/rotate': once('/api/secrets/rotate', { status: 409 }),
}
