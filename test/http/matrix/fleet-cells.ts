import { expect } from 'vitest'
import type { Json } from '../api.ts'
import {
  type Cell,
  type Cells,
  type CellTable,
  itemsOf,
  lists,
  ofFleets,
  ofRobots,
  ofSites,
  once,
  together,
} from './cells.ts'
import { may, type Scope, sees } from './rules.ts'
import { FLEETS, SITES, siteOf } from './world.ts'

const SITE_NAMES = { scope: 'robots:write', at: 'deployment' } as const
const fleetNames = (at: 'A1' | 'A2' | 'B1') => ({ scope: 'robots:write' as Scope, at: siteOf(at) })
const emptied =
  (at: 'A1' | 'A2' | 'B1'): NonNullable<Cell['prepare']> =>
  ({ db, fleets }) =>
    db.query('DELETE FROM robots WHERE fleet_id = $1', [fleets[at]])

const waiting =
  (id: string): NonNullable<Cell['prepare']> =>
  ({ db }) =>
    db.query("UPDATE robots SET lifecycle = 'pending', pending_since = now() WHERE id = $1", [id])
const allWaiting: NonNullable<Cell['prepare']> = ({ db }) =>
  db.query("UPDATE robots SET lifecycle = 'pending', pending_since = now()")

/** All that wait, and each by itself. */
const decisions =
  (decision: 'approve' | 'deny'): Cells =>
  ({ robots }) => {
    const items = itemsOf(robots)
    const cell = { url: `/api/approvals/${decision}`, prepare: allWaiting }
    return [
      { what: 'all', ...cell, body: { filter: {} }, items },
      { what: 'all, to see', ...cell, body: { filter: {}, dry_run: true }, items },
      ...FLEETS.map((at) => ({
        what: `in ${at}`,
        ...cell,
        body: { ids: [robots[at]] },
        items: items.filter((item) => item.at === at),
      })),
    ]
  }

/** Calls about the server itself, sites, fleets and robots. */
export const FLEET_CELLS: CellTable = {
  'GET /install.sh': once('/install.sh'),
  'GET /install/{file}': once('/install/SHA256SUMS'),
  'GET /healthz': once('/healthz'),
  'GET /readyz': once('/readyz'),
  'GET /api/info': once('/api/info'),
  'GET /openapi.json': once('/openapi.json'),
  'GET /agent/ws': once('/agent/ws', { status: 426 }),
  'GET /agent/check': once('/agent/check'),
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

  'GET /api/prometheus/sd': () => [
    {
      what: 'all',
      url: '/api/prometheus/sd?shards=2',
      check: ({ body }, subject) => {
        const paths = body.map(({ labels }: Json) => labels.__metrics_path__)
        const whole = may(subject, 'metrics:read', 'deployment') ? ['/metrics'] : []
        expect(paths).toEqual([...whole, '/metrics/robots', '/metrics/robots'])
      },
    },
  ],

  'GET /api/live': ({ robots, fleets }) =>
    ['', '?detail=status', `?fleet=${fleets.A1}&fleet=${fleets.B1}`].map((query) => ({
      what: query || 'all',
      url: `/api/live${query}`,
      check: ({ text }, subject) => {
        const shown = FLEETS.filter((at) => text.includes(robots[at]))
        const wanted = FLEETS.filter((at) => !query.includes('fleet') || query.includes(fleets[at]))
        expect(shown).toEqual(wanted.filter((at) => may(subject, 'robots:read', at)))
        const { counts } = JSON.parse(/^data: (.*"done":true.*)$/m.exec(text)![1]!)
        expect(counts.robots).toBe(shown.length)
      },
    })),

  'GET /api/trails': ({ robots }) => [
    {
      what: 'all',
      url: `/api/trails?${FLEETS.map((at) => `id=${robots[at]}`).join('&')}`,
      check: ({ body }, subject) => {
        const shown = new Set(body.items.map((item: Json) => item.robot_id))
        const due = FLEETS.filter((at) => may(subject, 'robots:read', at))
        expect(shown).toEqual(new Set(due.map((at) => robots[at])))
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
    prepare: waiting(id),
  })),
  'POST /api/robots/{id}/deny': ofRobots((id) => ({
    url: `/api/robots/${id}/deny`,
    prepare: waiting(id),
  })),
  'DELETE /api/robots/{id}': ofRobots((id) => ({
    url: `/api/robots/${id}`,
    prepare: ({ db }) =>
      db.query("UPDATE robots SET lifecycle = 'retired', retired_at = now() WHERE id = $1", [id]),
  })),
  'GET /api/approvals': (world, caller) =>
    lists('/api/approvals', ({ robots }) => robots, ['site', 'fleet'])(world, caller).map((cell) => ({
      ...cell,
      prepare: allWaiting,
    })),
  'POST /api/approvals/approve': decisions('approve'),
  'POST /api/approvals/deny': decisions('deny'),
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
        body: { ids: [world.robots[at]] },
        items: items.filter((item) => item.at === at),
      })),
    ]
  },
}
